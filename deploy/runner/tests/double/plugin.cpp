// Double of the plugin library: says what it is, and registers nothing but the fact that it was asked to.
#include <NvInfer.h>

#include <cstdlib>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT const char* laudc_abi() {
  static std::string text;
  const char* abi = std::getenv("DOUBLE_ABI");
  text = std::string("{\"abi\": ") + (abi != nullptr ? abi : "1") + ", \"version\": \"0.1.0\", \"api\": \"trt" +
         std::to_string(NV_TENSORRT_MAJOR) + "\", \"tensorrt\": \"0\", \"cuda\": \"10.2\", \"sm\": [\"53\", \"62\"]}";
  return text.c_str();
}
EXPORT const char* laudc_trt_last_error() {
  const char* error = std::getenv("DOUBLE_PLUGIN_ERROR");
  return error != nullptr ? error : "";
}
EXPORT void setLoggerFinder(void*) {}
EXPORT void* getCreators(int* count) {
  *count = 0;
  return nullptr;
}
EXPORT bool laudc_trt_register(void* registry) {
  if (std::getenv("DOUBLE_PLUGIN_ERROR") == nullptr)
    static_cast<nvinfer1::IPluginRegistry*>(registry)->doubleRegister();
  return true;
}
