#include <cstdlib>

#include "bundle.h"
#include "checksums.h"
#include "commands.h"
#include "compatibility.h"
#include "device.h"
#include "error.h"
#include "files.h"
#include "manifest.h"
#include "plugin.h"

namespace laudc {
namespace runner {

namespace {

std::string default_cache(const Device& device) {
  const char* base = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  std::string folder;
  if (base != nullptr && *base != '\0') {
    folder = base;
  } else if (home != nullptr && *home != '\0') {
    folder = std::string(home) + "/.cache";
  } else {
    return "";
  }
  return folder + "/laudc/timing-trt" + device.tensorrt() + "-sm" + device.gpu().sm + ".cache";
}

std::string cache_path(const Options& options, const Device& device) {
  const std::string asked = options.get("timing-cache", default_cache(device));
  return asked == "none" ? "" : asked;
}

// TensorRT writes what it built, not what it was asked for: an engine that ignored fp16 would only be slow.
void require_half(const BuildOutput& output, Console* console) {
  bool known = false;
  for (const Layer& layer : output.layers) {
    if (layer.types.empty()) continue;
    known = true;
    if (layer.types.find("FP16") != std::string::npos || layer.types.find("Half") != std::string::npos) return;
  }
  if (!known) {
    console->warn("TensorRT does not say its layers' types, so fp16 could not be checked");
    return;
  }
  throw Error(
      "the engine is not fp16", "TensorRT compiled every layer in another precision although fp16 was asked for",
      "Build the bundle again with laudc build-engine for exactly this TensorRT version, or with --precision fp32");
}

Json finished_manifest(const Bundle& bundle, const Device& device, const PluginLibrary& plugin, int64_t workspace_mib) {
  Json manifest = bundle.manifest();
  const Gpu gpu = device.gpu();
  Json record = Json::object();
  record.set("name", Json::string(gpu.name));
  record.set("sm", Json::string(gpu.sm));
  record.set("cuda", Json::string(gpu.cuda));
  record.set("driver", Json::string(gpu.driver));
  manifest.set("gpu", record);
  Json backend = manifest.get("backend");
  backend.set("version", Json::string(device.tensorrt()));
  manifest.set("backend", backend);
  Json native = manifest.get("native_library");
  native.set("sha256", Json::string(sha256_of_file(plugin.path())));
  native.set("version", Json::string(plugin.version()));
  Json architectures = Json::array();
  const Json described = Json::parse(plugin.description());
  if (const Json* list = described.find("sm")) {
    for (const Json& sm : list->items()) {
      architectures.push(sm.kind() == Json::Kind::kString ? sm : Json::string(sm.dump(-1)));
    }
  }
  native.set("isa", architectures);
  manifest.set("native_library", native);
  Json request = manifest.get("request");
  request.set("workspace_mib", Json::integer(workspace_mib));
  manifest.set("request", request);
  manifest.set("compiled", Json::boolean(true));
  return manifest;
}

BuildOutput compile(const Bundle& bundle, const Manifest& manifest, const std::string& output, int64_t workspace,
                    const std::string& cache, Device* device, Console* console) {
  ScratchFolder scratch(output);
  BuildInput input;
  input.model_path = scratch.file(kModelMember);
  // The graph refers to its weights by this name; TensorRT opens the file beside the model itself.
  for (const char* member : {kModelMember, kWeightsMember}) {
    const std::vector<char> bytes = bundle.read(member);
    write_file(scratch.file(member), bytes.data(), bytes.size());
  }
  input.input_name = manifest.input_name;
  input.image = manifest.image;
  input.batch = manifest.batch;
  input.workspace_mib = workspace;
  input.precision = manifest.precision;
  if (!cache.empty() && file_exists(cache)) input.timing_cache = read_file(cache);
  return device->build(input, [console](const std::string& step) { console->progress(step); });
}

void keep_timing_cache(const std::string& path, const BuildOutput& built, Console* console) {
  if (path.empty() || built.timing_cache.empty()) return;
  try {
    make_folders(folder_of(path));
    write_file(path, built.timing_cache.data(), built.timing_cache.size());
  } catch (const Error& error) {
    console->warn(std::string("the timing cache is not kept: ") + error.what());  // the engine is what was asked for
  }
}

}  // namespace

int build_command(const Options& options, Console* console) {
  const std::string source = options.arguments[0], output = options.get("output");
  if (output.empty()) {
    throw Error("there is nowhere to write the engine", "-o is missing", "Give the file to write: -o FINISHED.laudc");
  }
  console->progress("checking " + source);
  const Bundle bundle(source);
  const Manifest manifest(bundle);
  // Opened before the long work: an output that cannot be written, or is being written, shows at once.
  AtomicFile file(output);
  const std::unique_ptr<Device> device = open_device();
  require_precision(manifest.precision, device->gpu());
  if (major_of(manifest.tensorrt) != major_of(device->tensorrt())) {
    throw Error(
        source + " was written for another TensorRT",
        "field 'backend.version': the engine is meant for " + manifest.tensorrt + ", here it is " + device->tensorrt(),
        "Write it again for this device with laudc build-engine");
  }
  const PluginLibrary plugin(options.get("plugin"), major_of(device->tensorrt()));
  plugin.require_abi(manifest.abi, source);
  device->load_plugins(plugin);
  const std::string cache = cache_path(options, *device);
  const int64_t workspace = options.number("workspace", manifest.workspace_mib, 1);
  BuildOutput built = compile(bundle, manifest, output, workspace, cache, device.get(), console);
  if (manifest.precision == "fp16") require_half(built, console);
  // Kept first: when the disk is too full for the engine, the next try is at least fast.
  keep_timing_cache(cache, built, console);
  console->progress("writing " + output);
  std::map<std::string, std::vector<char>> contents;
  for (const auto& member : bundle.members()) {
    if (member.first != kManifestMember && member.first != kPlanMember)
      contents[member.first] = bundle.read(member.first);
  }
  contents[kPlanMember] = std::move(built.plan);
  Json finished = finished_manifest(bundle, *device, plugin, workspace);
  write_bundle(&file, output, finished, contents);
  file.finish();
  const Bundle written(output);  // read back: a disk that lies is found out now
  console->clear();
  const Gpu gpu = device->gpu();
  console->say(output + ": " + manifest.arch + " for " + gpu.name + " (sm " + gpu.sm + ", TensorRT " +
               device->tensorrt() + ", " + manifest.precision + "), " + std::to_string(manifest.sparse_blocks()) +
               " of " + std::to_string(manifest.blocks.size()) + " blocks skip work in " +
               std::to_string(built.plugin_layers) + " plugin layers");
  Json result = Json::object();
  result.set("kind", Json::string("build-engine"));
  result.set("output", Json::string(output));
  result.set("manifest", written.manifest());
  result.set("plugin_layers", Json::integer(built.plugin_layers));
  result.set("timing_cache_used", Json::boolean(built.cache_used));
  console->write(result);
  return 0;
}

}  // namespace runner
}  // namespace laudc
