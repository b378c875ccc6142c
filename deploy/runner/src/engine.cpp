#include "engine.h"

#include <cstring>
#include <map>

#include "compatibility.h"
#include "error.h"

namespace laudc {
namespace runner {

namespace {

bool has_prefix(const std::string& text, const char* prefix) {
  return text.compare(0, std::strlen(prefix), prefix) == 0;
}

// Outputs of one kind in the order of their runs: "laudc.counts.10" comes after "laudc.counts.9".
std::vector<const Output*> in_run_order(const std::vector<Output>& outputs, const char* prefix) {
  std::map<long, const Output*> sorted;
  for (const Output& output : outputs) {
    if (has_prefix(output.name, prefix)) sorted[std::atol(output.name.c_str() + std::strlen(prefix))] = &output;
  }
  std::vector<const Output*> found;
  for (const auto& entry : sorted) found.push_back(entry.second);
  return found;
}

}  // namespace

Engine::Engine(const std::string& path, const Options& options, bool graph)
    : bundle_(path), manifest_(bundle_), device_(open_device()) {
  if (!manifest_.compiled) {
    throw Error(path + " is not compiled yet", "TensorRT engines are compiled on the device they run on",
                "Compile it: laudc-runner build " + path + " -o FINISHED.laudc");
  }
  plugin_.reset(new PluginLibrary(options.get("plugin"), major_of(device_->tensorrt())));
  require_runs_here(path, manifest_, *device_, *plugin_);
  device_->load_plugins(*plugin_);
  session_ = device_->load(bundle_.read(kPlanMember), manifest_.input_name, graph);
}

Images Engine::load(const std::vector<std::string>& files) const {
  const Json* preprocess = bundle_.manifest().find("preprocess");
  return load_images(files, manifest_, preprocess != nullptr ? *preprocess : Json::object());
}

Results interpret(const std::vector<Output>& outputs, int64_t batch, int64_t used) {
  Results results;
  for (const Output& output : outputs) {
    if (has_prefix(output.name, "laudc.") || output.shape.empty() || output.shape[0] != batch || !output.counts.empty())
      continue;
    if (!results.logits.empty()) continue;
    const size_t per_image = output.values.size() / static_cast<size_t>(batch);
    results.logits.assign(output.values.begin(),
                          output.values.begin() + static_cast<long>(per_image * static_cast<size_t>(used)));
    results.logits_shape = output.shape;
    results.logits_shape[0] = used;
  }
  const std::vector<const Output*> counts = in_run_order(outputs, kCountsPrefix);
  for (const Output* run : counts) results.counted_blocks += run->shape.size() == 3 ? run->shape[1] : 0;
  for (int64_t image = 0; image < used; ++image) {
    for (const Output* run : counts) {
      const size_t per_image = run->counts.size() / static_cast<size_t>(batch);
      const auto start = run->counts.begin() + static_cast<long>(per_image * static_cast<size_t>(image));
      results.counts.insert(results.counts.end(), start, start + static_cast<long>(per_image));
    }
  }
  for (int64_t image = 0; image < used; ++image) {
    std::vector<float> row;
    for (const Output* run : in_run_order(outputs, kMarginsPrefix)) {
      const size_t per_image = run->values.size() / static_cast<size_t>(batch);
      const auto start = run->values.begin() + static_cast<long>(per_image * static_cast<size_t>(image));
      row.insert(row.end(), start, start + static_cast<long>(per_image));
    }
    results.margins.push_back(row);
  }
  return results;
}

}  // namespace runner
}  // namespace laudc
