// Entry points of the library: RegisterCustomOps for ONNX Runtime, laudc_abi for laudc's own checks.
#include <mutex>
#include <string>

#include "core/block_desc.h"
#include "cpu/kernels.h"
#include "onnxruntime/adapter.h"

#define LAUDC_EXPORT extern "C" __attribute__((visibility("default")))

namespace laudc {
namespace ort {
namespace {

// The version of OrtCustomOp that we fill in: older runtimes ignore what they do not know.
constexpr uint32_t kOpVersion = kMinApiVersion;

Api g_api;

struct Library {
  CustomOp ops[5];
  CustomOpDomain* domain = nullptr;
};

Status* make_library(Library* library) {
  library->ops[0] = bottleneck_run_op();
  library->ops[1] = stem_conv_pool_op();
  library->ops[2] = regnet_run_op();
  library->ops[3] = stem_conv_op();
  library->ops[4] = vit_run_op();
  if (Status* status = g_api.create_domain("ai.laudc", &library->domain)) return status;
  for (CustomOp& op : library->ops) {
    op.version = kOpVersion;
    if (Status* status = g_api.add_op(library->domain, &op)) return status;
  }
  return nullptr;
}

}  // namespace

const Api& api() { return g_api; }

// Any version of the table starts with CreateStatus, so even a runtime that is too old can be told why it is refused.
Status* refuse_old_runtime(const ApiBase* base) {
  const Api oldest(base->get_api(1));
  const std::string message = "laudc needs ONNX Runtime 1.17 or newer (C API 17); this is " +
                              std::string(base->get_version_string()) + ". Upgrade with: pip install -U onnxruntime";
  return oldest.create_status(kFail, message.c_str());
}

Status* register_into(SessionOptions* options, const ApiBase* base) {
  static std::mutex mutex;
  static Library library;  // lives as long as the process: sessions keep pointers into it
  std::lock_guard<std::mutex> lock(mutex);
  if (library.domain == nullptr) {
    const void* table = base->get_api(kMinApiVersion);
    if (table == nullptr) return refuse_old_runtime(base);
    g_api = Api(table);
    if (Status* status = make_library(&library)) return status;
  }
  return g_api.add_domain(options, library.domain);
}

}  // namespace ort
}  // namespace laudc

LAUDC_EXPORT laudc::ort::Status* RegisterCustomOps(laudc::ort::SessionOptions* options,
                                                   const laudc::ort::ApiBase* base) {
  return laudc::ort::register_into(options, base);
}

#if defined(LAUDC_HAVE_X86_KERNELS)
#define LAUDC_ISA_LIST "[\"avx512\", \"avx2\", \"portable\"]"
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
