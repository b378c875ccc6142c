#include "compatibility.h"

#include <cstdlib>

#include "error.h"

namespace laudc {
namespace runner {

namespace {

// The first three parts: Python's TensorRT says a fourth that the library itself does not.
std::string release_of(const std::string& version) {
  size_t at = 0;
  for (int dots = 0; at < version.size(); ++at) {
    if (version[at] == '.' && ++dots == 3) break;
  }
  return version.substr(0, at);
}

}  // namespace

int major_of(const std::string& version) { return std::atoi(version.c_str()); }

std::vector<Difference> differences(const Manifest& manifest, const Device& device, const PluginLibrary& plugin) {
  std::vector<Difference> found;
  const std::string here = device.tensorrt();
  const bool fits = manifest.compiled ? release_of(manifest.tensorrt) == release_of(here)
                                      : major_of(manifest.tensorrt) == major_of(here);
  if (!fits) found.push_back({"backend.version", manifest.tensorrt, here});
  if (manifest.compiled) {
    const Gpu gpu = device.gpu();
    if (manifest.gpu.sm != gpu.sm) found.push_back({"gpu.sm", manifest.gpu.sm, gpu.sm});
    if (manifest.gpu.name != gpu.name) found.push_back({"gpu.name", manifest.gpu.name, gpu.name});
    if (manifest.gpu.driver != gpu.driver) found.push_back({"gpu.driver", manifest.gpu.driver, gpu.driver});
  }
  if (manifest.abi != plugin.abi()) {
    found.push_back({"native_library.abi", std::to_string(manifest.abi), std::to_string(plugin.abi())});
  }
  return found;
}

void require_runs_here(const std::string& path, const Manifest& manifest, const Device& device,
                       const PluginLibrary& plugin) {
  if (!manifest.compiled) {
    throw Error(path + " is not compiled yet", "TensorRT engines are compiled on the device they run on",
                "Compile it: laudc-runner build " + path + " -o FINISHED.laudc");
  }
  plugin.require_abi(manifest.abi, path);
  const std::vector<Difference> found = differences(manifest, device, plugin);
  if (found.empty()) return;
  const bool other_major = major_of(manifest.tensorrt) != major_of(device.tensorrt());
  throw Error(path + " was built for another machine or another installation",
              "field '" + found[0].field + "': the engine has " + found[0].engine + ", here it is " + found[0].here,
              other_major ? "Write the engine again for this TensorRT with laudc build-engine"
                          : "Build it here: " + rebuild_command(path));
}

void require_precision(const std::string& precision, const Gpu& gpu) {
  if (precision != "fp32" && precision != "tf32" && precision != "fp16") {
    throw Error("the precision '" + precision + "' cannot be built on " + gpu.name,
                "the plugins compute in fp32, tf32 or fp16",
                "Build the bundle again with laudc build-engine --precision fp16");
  }
  if (precision == "fp16" && (gpu.sm == "5.0" || gpu.sm == "5.2")) {
    throw Error("the precision 'fp16' cannot be built on " + gpu.name,
                "compute capability " + gpu.sm + " has no fp16 arithmetic",
                "Build the bundle again with laudc build-engine --precision fp32");
  }
}

}  // namespace runner
}  // namespace laudc
