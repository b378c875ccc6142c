// Entry points of the library: RegisterCustomOps for ONNX Runtime, laudc_abi for laudc's own checks.
#include <string>

#include "core/block_desc.h"
#include "cpu/kernels.h"
#include "onnxruntime/adapter.h"
#include "onnxruntime/registration.h"

#define LAUDC_EXPORT extern "C" __attribute__((visibility("default")))

LAUDC_EXPORT laudc::ort::Status* RegisterCustomOps(laudc::ort::SessionOptions* options,
                                                   const laudc::ort::ApiBase* base) {
  return laudc::ort::register_ops({laudc::ort::bottleneck_run_op(), laudc::ort::stem_conv_pool_op(),
                                   laudc::ort::regnet_run_op(), laudc::ort::stem_conv_op(), laudc::ort::vit_run_op()},
                                  options, base);
}

#if defined(LAUDC_HAVE_X86_KERNELS)
#define LAUDC_ISA_LIST "[\"avx512\", \"avx2\", \"portable\"]"
#elif defined(LAUDC_HAVE_NEON_KERNELS)
#define LAUDC_ISA_LIST "[\"neon\", \"portable\"]"
#else
#define LAUDC_ISA_LIST "[\"portable\"]"
#endif

// JSON about this build and this CPU: record and layout version, kernel families built in, the one in use here, and the
// panel width it likes best. The string lives as long as the library.
LAUDC_EXPORT const char* laudc_abi() {
  static const std::string text = "{\"abi\": " + std::to_string(laudc::kAbiVersion) +
                                  ", \"version\": \"" LAUDC_VERSION "\", \"isa\": " LAUDC_ISA_LIST ", \"active\": \"" +
                                  laudc::cpu::kernels().name +
                                  "\", \"panel\": " + std::to_string(laudc::cpu::kernels().panel) + "}";
  return text.c_str();
}
