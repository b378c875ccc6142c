// Entry points of the CUDA library: RegisterCustomOps for ONNX Runtime, laudc_abi for laudc's own checks.
#include <string>

#include "core/block_desc.h"
#include "onnxruntime/cuda_run_op.h"
#include "onnxruntime/registration.h"

#define LAUDC_EXPORT extern "C" __attribute__((visibility("default")))
#define LAUDC_TEXT(...) LAUDC_TEXT_OF(__VA_ARGS__)
#define LAUDC_TEXT_OF(...) #__VA_ARGS__

LAUDC_EXPORT laudc::ort::Status* RegisterCustomOps(laudc::ort::SessionOptions* options,
                                                   const laudc::ort::ApiBase* base) {
  return laudc::ort::register_ops(laudc::ort::cuda_run_ops(), options, base);
}

// JSON about this build. The string lives as long as the library.
LAUDC_EXPORT const char* laudc_abi() {
  static const std::string text = "{\"abi\": " + std::to_string(laudc::kAbiVersion) +
                                  ", \"version\": \"" LAUDC_VERSION
                                  "\", \"api\": \"ort-cuda\", \"cuda\": \"" LAUDC_CUDA_VERSION
                                  "\", \"sm\": [" LAUDC_TEXT(LAUDC_CUDA_SM) "]}";
  return text.c_str();
}
