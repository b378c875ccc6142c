// The library with our TensorRT plugins: found, asked what it is, and only then loaded into TensorRT.
#pragma once

#include <cstdint>
#include <string>

namespace laudc {
namespace runner {

class PluginLibrary {
 public:
  // Opens the library. `path` empty: $LAUDC_TENSORRT_PLUGIN, beside the runner, then the loader's search path.
  // Throws Error: not found, not ours, for another TensorRT major.
  PluginLibrary(const std::string& path, int tensorrt_major);
  ~PluginLibrary();
  PluginLibrary(const PluginLibrary&) = delete;
  PluginLibrary& operator=(const PluginLibrary&) = delete;

  const std::string& path() const { return path_; }
  int64_t abi() const { return abi_; }
  const std::string& version() const { return version_; }
  const std::string& description() const { return description_; }  // JSON, what laudc_abi says
  void* symbol(const char* name) const;                            // null when there is none
  std::string last_error() const;  // why a creation or deserialisation was refused; empty if none was
  void require_abi(int64_t wanted, const std::string& engine) const;  // throws Error

 private:
  std::string path_, version_, description_;
  int64_t abi_ = 0;
  void* handle_ = nullptr;
};

}  // namespace runner
}  // namespace laudc
