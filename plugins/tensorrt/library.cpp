// What the library exports. Nothing is registered behind anybody's back, and nothing of libnvinfer is linked: the
// registry that loads the library asks it for its creators.
#include "tensorrt/messages.h"

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

#if NV_TENSORRT_MAJOR == 8

namespace {
laudc::trt::RunCreatorV2& creator() {
  static laudc::trt::RunCreatorV2 one;
  return one;
}
}  // namespace

LAUDC_EXPORT nvinfer1::IPluginCreator* const* getPluginCreators(int32_t& count) {
  static nvinfer1::IPluginCreator* const creators[] = {&creator()};
  count = 1;
  return creators;
}

// For 8.2 to 8.5, whose registries cannot load libraries.
LAUDC_EXPORT bool laudc_trt_register(void* registry) {
  return static_cast<nvinfer1::IPluginRegistry*>(registry)->registerCreator(creator(), laudc::trt::kPluginNamespace);
}

#else

LAUDC_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static laudc::trt::RunCreatorV3 creator;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
  count = 1;
  return creators;
}

#endif
