// What the commands want from a GPU and its runtime. The only code that knows TensorRT and CUDA is behind it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "manifest.h"
#include "plugin.h"

namespace laudc {
namespace runner {

// Names of what each run of blocks reports, followed by its number: laudc/schedule/lower.py.
constexpr const char* kCountsPrefix = "laudc.counts.";
constexpr const char* kMarginsPrefix = "laudc.margins.";

using Progress = std::function<void(const std::string& step)>;

struct Layer {
  std::string name;
  bool plugin = false;
  std::string types;  // of its outputs, as the engine says them; empty when it does not
};

struct BuildInput {
  std::string model_path;
  std::string input_name;
  std::array<int64_t, 3> image{}, batch{};
  int64_t workspace_mib = 0;
  std::string precision;
  std::vector<char> timing_cache;  // empty: none
};

struct BuildOutput {
  std::vector<char> plan;
  std::vector<char> timing_cache;
  int64_t plugin_layers = 0;  // that the parser made
  std::vector<Layer> layers;  // of the compiled engine
  bool cache_used = false;
};

struct Output {
  std::string name;
  std::vector<int64_t> shape;   // batch first
  std::vector<float> values;    // of a float tensor
  std::vector<int32_t> counts;  // of an int32 tensor
};

struct LayerTime {
  std::string name;
  std::vector<double> samples_us;
};

// A loaded engine.
class Session {
 public:
  virtual ~Session() = default;
  // Makes `batch` images the input of the following calls. Host to device, not timed.
  virtual void set_input(const std::vector<float>& images, int64_t batch) = 0;
  // Runs once and fetches everything.
  virtual std::vector<Output> run() = 0;
  // GPU time of one run between two CUDA events, microseconds; replays a CUDA graph if `uses_graph`.
  virtual double time_us() = 0;
  virtual bool uses_graph() const = 0;
  // Time of each layer in `runs` runs, from TensorRT's profiler: a pass of its own, without CUDA graph.
  virtual std::vector<LayerTime> layer_times(int64_t runs) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual Gpu gpu() const = 0;
  virtual std::string tensorrt() const = 0;  // "8.2.1"
  // Our plugins become known to TensorRT; the library must outlive the device.
  virtual void load_plugins(const PluginLibrary& library) = 0;
  virtual BuildOutput build(const BuildInput& input, const Progress& progress) = 0;
  virtual std::unique_ptr<Session> load(const std::vector<char>& plan, const std::string& input_name, bool graph) = 0;
  // What TensorRT complained about since it was last asked.
  virtual std::string complaints() = 0;
};

// The GPU of this machine. Throws Error when there is none.
std::unique_ptr<Device> open_device();

}  // namespace runner
}  // namespace laudc
