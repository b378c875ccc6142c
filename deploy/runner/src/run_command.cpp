#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "commands.h"
#include "engine.h"
#include "error.h"
#include "files.h"

namespace laudc {
namespace runner {

namespace {

// Softmax over one image's logits, the largest `top` classes first.
std::vector<std::pair<size_t, double>> best(const float* logits, size_t classes, size_t top) {
  const float largest = *std::max_element(logits, logits + classes);
  double sum = 0.0;
  for (size_t i = 0; i < classes; ++i) sum += std::exp(static_cast<double>(logits[i]) - largest);
  std::vector<size_t> order(classes);
  std::iota(order.begin(), order.end(), size_t{0});
  top = std::min(top, classes);
  std::partial_sort(order.begin(), order.begin() + static_cast<long>(top), order.end(),
                    [logits](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  std::vector<std::pair<size_t, double>> found;
  for (size_t i = 0; i < top; ++i) {
    found.emplace_back(order[i], std::exp(static_cast<double>(logits[order[i]]) - largest) / sum);
  }
  return found;
}

}  // namespace

int run_command(const Options& options, Console* console) {
  const std::string path = options.arguments[0];
  const int64_t top = options.number("top", 5, 1);
  console->progress("loading " + path);
  Engine engine(path, options, false);
  const Manifest& manifest = engine.manifest();
  const Images images = engine.load({options.arguments.begin() + 1, options.arguments.end()});
  std::vector<float> logits;
  std::vector<int64_t> shape;
  Json listed = Json::array();
  for (int64_t first = 0; first < images.count; first += manifest.batch[2]) {
    const int64_t used = std::min(manifest.batch[2], images.count - first);
    const int64_t batch = std::max(used, manifest.batch[0]);
    engine.session().set_input(batch_of(images, first, batch, manifest.values_per_image()), batch);
    const Results results = interpret(engine.session().run(), batch, used);
    if (results.logits.empty()) {
      throw Error(path + " gives no class scores", "none of its outputs is one row of numbers per image",
                  "Build the engine again");
    }
    logits.insert(logits.end(), results.logits.begin(), results.logits.end());
    shape = results.logits_shape;
  }
  shape[0] = images.count;
  const size_t classes = logits.size() / static_cast<size_t>(images.count);
  console->clear();
  for (int64_t image = 0; image < images.count; ++image) {
    Json found = Json::array();
    std::string line = "image " + std::to_string(image) + ":";
    for (const auto& entry :
         best(logits.data() + static_cast<size_t>(image) * classes, classes, static_cast<size_t>(top))) {
      char text[64];
      std::snprintf(text, sizeof text, "  class %zu %.1f %%", entry.first, 100.0 * entry.second);
      line += text;
      Json record = Json::object();
      record.set("class", Json::integer(static_cast<int64_t>(entry.first)));
      record.set("probability", Json::number(entry.second));
      found.push(record);
    }
    console->say(line);
    Json record = Json::object();
    record.set("top", found);
    listed.push(record);
  }
  if (options.has("output")) {
    const std::vector<char> bytes = encode_npy(logits, shape);
    write_file(options.get("output"), bytes.data(), bytes.size());
  }
  Json result = Json::object();
  result.set("kind", Json::string("run"));
  result.set("images", listed);
  console->write(result);
  return 0;
}

}  // namespace runner
}  // namespace laudc
