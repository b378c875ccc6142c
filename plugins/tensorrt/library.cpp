// What the library exports. Nothing is registered behind anybody's back, and nothing of libnvinfer is linked: the
// registry that loads the library asks it for its creators.
#include <memory>
#include <string>
#include <vector>

#include "core/block_desc.h"
#include "tensorrt/messages.h"
#include "tensorrt/names.h"

#if NV_TENSORRT_MAJOR == 8
#include "tensorrt/plugin_v2.h"
#else
#include "tensorrt/plugin_v3.h"
#endif

#ifndef LAUDC_VERSION
#define LAUDC_VERSION "unknown"
#endif
#ifndef LAUDC_CUDA_VERSION
#define LAUDC_CUDA_VERSION "none"
#endif
#ifndef LAUDC_CUDA_SM
#define LAUDC_CUDA_SM
#endif
#define LAUDC_EXPORT extern "C" __attribute__((visibility("default")))
#define LAUDC_TEXT(...) LAUDC_TEXT_OF(__VA_ARGS__)
#define LAUDC_TEXT_OF(...) #__VA_ARGS__
#define LAUDC_TENSORRT LAUDC_TEXT(NV_TENSORRT_MAJOR) "." LAUDC_TEXT(NV_TENSORRT_MINOR) "." LAUDC_TEXT(NV_TENSORRT_PATCH)

LAUDC_EXPORT const char* laudc_abi() {
  static const std::string text =
      "{\"abi\": " + std::to_string(laudc::kAbiVersion) +
      ", \"version\": \"" LAUDC_VERSION
      "\", \"api\": \"trt" LAUDC_TEXT(NV_TENSORRT_MAJOR) "\", \"tensorrt\": \"" LAUDC_TENSORRT
                                                         "\", \"cuda\": \"" LAUDC_CUDA_VERSION
                                                         "\", \"sm\": [" LAUDC_TEXT(LAUDC_CUDA_SM) "]}";
  return text.c_str();
}

LAUDC_EXPORT const char* laudc_trt_last_error() { return laudc::trt::last_error(); }

// Registries look for this symbol before they take a library.
#if LAUDC_HAS_LOGGER_FINDER
LAUDC_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { laudc::trt::set_logger_finder(finder); }
#else
LAUDC_EXPORT void setLoggerFinder(void*) {}
#endif

namespace {

#if NV_TENSORRT_MAJOR == 8
typedef nvinfer1::IPluginCreator Creator;
typedef laudc::trt::RunCreatorV2 RunCreator;
#else
typedef nvinfer1::IPluginCreatorInterface Creator;
typedef laudc::trt::RunCreatorV3 RunCreator;
#endif

const std::vector<Creator*>& creators() {
  static const std::vector<std::unique_ptr<RunCreator>> owned = [] {
    std::vector<std::unique_ptr<RunCreator>> made;
    for (const char* name : laudc::trt::kPluginNames) made.emplace_back(new RunCreator(name));
    return made;
  }();
  static const std::vector<Creator*> all = [] {
    std::vector<Creator*> pointers;
    for (const auto& one : owned) pointers.push_back(one.get());
    return pointers;
  }();
  return all;
}

}  // namespace

#if NV_TENSORRT_MAJOR == 8

LAUDC_EXPORT Creator* const* getPluginCreators(int32_t& count) {
  count = static_cast<int32_t>(creators().size());
  return creators().data();
}

// For 8.2 to 8.5, whose registries cannot load libraries.
LAUDC_EXPORT bool laudc_trt_register(void* registry) {
  bool taken = true;
  for (Creator* one : creators()) {
    taken =
        static_cast<nvinfer1::IPluginRegistry*>(registry)->registerCreator(*one, laudc::trt::kPluginNamespace) && taken;
  }
  return taken;
}

#else

LAUDC_EXPORT Creator* const* getCreators(int32_t& count) {
  count = static_cast<int32_t>(creators().size());
  return creators().data();
}

#endif
