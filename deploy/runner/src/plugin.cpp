#include "plugin.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <vector>

#include "error.h"
#include "files.h"
#include "json.h"

namespace laudc {
namespace runner {

namespace {

constexpr const char* kVariable = "LAUDC_TENSORRT_PLUGIN";

std::string own_folder() {
  char buffer[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", buffer, sizeof buffer);
  return size > 0 ? folder_of(std::string(buffer, static_cast<size_t>(size))) : ".";
}

std::string find_library(const std::string& asked, const std::string& name) {
  if (!asked.empty()) {
    if (file_exists(asked)) return asked;
    throw Error("the plugin library " + asked + " is missing", "there is no such file that can be read",
                "Correct --plugin, or build it from laudc's plugins folder");
  }
  std::vector<std::string> places;
  const char* variable = std::getenv(kVariable);
  if (variable != nullptr && *variable != '\0') places.push_back(variable);
  places.push_back(own_folder() + "/" + name);
  places.push_back(own_folder() + "/../lib/" + name);
  std::string searched;
  for (const std::string& place : places) {
    if (file_exists(place)) return place;
    searched += (searched.empty() ? "" : ", ") + place;
  }
  throw Error(
      "the plugin library " + name + " is missing", "looked for " + searched,
      "Build it from laudc's plugins folder for this TensorRT, or give it with --plugin or " + std::string(kVariable));
}

}  // namespace

PluginLibrary::PluginLibrary(const std::string& asked, int major) {
  path_ = find_library(asked, "liblaudc_trt" + std::to_string(major) + ".so");
  handle_ = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    const char* why = dlerror();
    throw Error("the plugin library " + path_ + " cannot be loaded",
                why != nullptr ? why : "the loader does not say why", "Build it on this device");
  }
  using Describe = const char* (*)();
  const Describe describe = reinterpret_cast<Describe>(symbol("laudc_abi"));
  try {
    if (describe == nullptr) throw JsonError("it does not export laudc_abi");
    description_ = describe();
    const Json about = Json::parse(description_);
    abi_ = about.get("abi").as_int();
    version_ = about.get("version").as_string();
    const std::string wanted = "trt" + std::to_string(major), api = about.get("api").as_string();
    if (api != wanted) {
      throw Error("the plugin library " + path_ + " is for another TensorRT",
                  "it is made for " + api + ", here it must be " + wanted, "Build it on this device");
    }
  } catch (const JsonError& error) {
    throw Error(path_ + " is not a usable laudc plugin library", error.what(), "Build it from laudc's plugins folder");
  }
}

PluginLibrary::~PluginLibrary() = default;  // TensorRT may hold creators from it until the process ends

void* PluginLibrary::symbol(const char* name) const { return dlsym(handle_, name); }

std::string PluginLibrary::last_error() const {
  using LastError = const char* (*)();
  const LastError last = reinterpret_cast<LastError>(symbol("laudc_trt_last_error"));
  const char* text = last != nullptr ? last() : nullptr;
  return text != nullptr ? text : "";
}

void PluginLibrary::require_abi(int64_t wanted, const std::string& engine) const {
  if (abi_ == wanted) return;
  throw Error(
      engine + " was built for another plugin library",
      "field 'native_library.abi': the engine has " + std::to_string(wanted) + ", " + path_ + " has " +
          std::to_string(abi_),
      "Build runner and plugins from the version of laudc that wrote the engine, or write the engine again with "
      "this one");
}

}  // namespace runner
}  // namespace laudc
