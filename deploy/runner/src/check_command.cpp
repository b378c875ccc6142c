#include "commands.h"
#include "compatibility.h"
#include "error.h"

namespace laudc {
namespace runner {

int check_command(const Options& options, Console* console) {
  const std::string path = options.arguments[0];
  const Bundle bundle(path);
  const Manifest manifest(bundle);
  const std::unique_ptr<Device> device = open_device();
  const PluginLibrary plugin(options.get("plugin"), major_of(device->tensorrt()));
  const std::vector<Difference> found = differences(manifest, *device, plugin);
  const Gpu gpu = device->gpu();
  const std::string purpose = manifest.compiled ? "runs here" : "can be compiled here";
  console->say(path + ": intact, " + manifest.arch + " for " + manifest.device + ", " + manifest.precision + ", " +
               (manifest.compiled ? "compiled for " + manifest.gpu.name : "not compiled yet"));
  console->say("here: " + gpu.name + ", sm " + gpu.sm + ", driver for CUDA " + gpu.driver + ", TensorRT " +
               device->tensorrt() + ", plugins " + plugin.version() + " with ABI " + std::to_string(plugin.abi()));
  Json listed = Json::array();
  for (const Difference& difference : found) {
    console->say("differs: " + difference.field + " is " + difference.engine + ", here " + difference.here);
    Json record = Json::object();
    record.set("field", Json::string(difference.field));
    record.set("engine", Json::string(difference.engine));
    record.set("here", Json::string(difference.here));
    listed.push(record);
  }
  console->say(purpose + ": " + (found.empty() ? "yes" : "no"));
  Json result = Json::object();
  result.set("kind", Json::string("engine"));
  result.set("path", Json::string(path));
  result.set("compiled", Json::boolean(manifest.compiled));
  result.set("runs_here", Json::boolean(manifest.compiled && found.empty()));
  result.set("differences", listed);
  result.set("manifest", bundle.manifest());
  console->write(result);
  return found.empty() ? 0 : kExitCheckFailed;
}

int device_command(const Options&, Console* console) {
  const std::unique_ptr<Device> device = open_device();
  const Gpu gpu = device->gpu();
  const std::pair<const char*, std::string> facts[] = {
      {"name", gpu.name}, {"sm", gpu.sm}, {"cuda", gpu.cuda}, {"driver", gpu.driver}, {"tensorrt", device->tensorrt()}};
  Json result = Json::object();
  result.set("kind", Json::string("device"));
  for (const auto& fact : facts) {
    console->say(std::string(fact.first) + " " + fact.second);
    result.set(fact.first, Json::string(fact.second));
  }
  console->write(result);
  return 0;
}

}  // namespace runner
}  // namespace laudc
