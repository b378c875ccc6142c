// Statistics of one repeated measurement, as laudc/profile/records.py defines them. Microseconds.
#pragma once

#include <vector>

#include "json.h"

namespace laudc {
namespace runner {

struct Timing {
  explicit Timing(std::vector<double> samples_us);  // at least one
  double median_us, p95_us, mean_us, min_us, max_us, cv;
  int64_t runs;
  Json to_json() const;
};

}  // namespace runner
}  // namespace laudc
