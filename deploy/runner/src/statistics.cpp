#include "statistics.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace laudc {
namespace runner {

Timing::Timing(std::vector<double> samples) {
  if (samples.empty()) throw std::logic_error("no samples");
  std::sort(samples.begin(), samples.end());
  const size_t n = samples.size();
  double sum = 0.0;
  for (double s : samples) sum += s;
  mean_us = sum / static_cast<double>(n);
  double squares = 0.0;
  for (double s : samples) squares += (s - mean_us) * (s - mean_us);
  const double spread = n > 1 ? std::sqrt(squares / static_cast<double>(n - 1)) : 0.0;
  median_us = n % 2 == 1 ? samples[n / 2] : (samples[n / 2 - 1] + samples[n / 2]) / 2;
  // Nearest rank: a value that was really measured. In whole numbers, since 0.95 has no exact double.
  p95_us = samples[(95 * n + 99) / 100 - 1];
  min_us = samples.front();
  max_us = samples.back();
  cv = mean_us != 0.0 ? spread / mean_us : 0.0;
  runs = static_cast<int64_t>(n);
}

Json Timing::to_json() const {
  Json json = Json::object();
  json.set("median_us", Json::number(median_us));
  json.set("p95_us", Json::number(p95_us));
  json.set("mean_us", Json::number(mean_us));
  json.set("min_us", Json::number(min_us));
  json.set("max_us", Json::number(max_us));
  json.set("cv", Json::number(cv));
  json.set("runs", Json::integer(runs));
  return json;
}

}  // namespace runner
}  // namespace laudc
