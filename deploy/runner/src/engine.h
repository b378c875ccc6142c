// An engine that has been checked and loaded, ready for images.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle.h"
#include "device.h"
#include "images.h"
#include "manifest.h"
#include "options.h"
#include "plugin.h"

namespace laudc {
namespace runner {

class Engine {
 public:
  // Opens, checks and loads. Throws Error naming the first thing that does not fit.
  Engine(const std::string& path, const Options& options, bool graph);

  const Bundle& bundle() const { return bundle_; }
  const Manifest& manifest() const { return manifest_; }
  const Device& device() const { return *device_; }
  const PluginLibrary& plugin() const { return *plugin_; }
  Session& session() { return *session_; }
  Images load(const std::vector<std::string>& files) const;

 private:
  Bundle bundle_;
  Manifest manifest_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<PluginLibrary> plugin_;
  std::unique_ptr<Session> session_;
};

// What one run of the network said.
struct Results {
  std::vector<float> logits;
  std::vector<int64_t> logits_shape;
  std::vector<int32_t> counts;              // images x sparse blocks x 4
  std::vector<std::vector<float>> margins;  // per image: all decisions, block after block
  int64_t counted_blocks = 0;
};

// Sorts outputs by what they are; `batch` images, of which the first `used` count.
Results interpret(const std::vector<Output>& outputs, int64_t batch, int64_t used);

}  // namespace runner
}  // namespace laudc
