#include "onnxruntime/registration.h"

#include <mutex>
#include <string>

#include "onnxruntime/adapter.h"

namespace laudc {
namespace ort {
namespace {

// The version of OrtCustomOp that we fill in: older runtimes ignore what they do not know.
constexpr uint32_t kOpVersion = kMinApiVersion;

Api g_api;

struct Library {
  std::vector<CustomOp> ops;
  CustomOpDomain* domain = nullptr;
};

Status* make_library(const std::vector<CustomOp>& ops, Library* library) {
  library->ops = ops;
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

Status* register_ops(const std::vector<CustomOp>& ops, SessionOptions* options, const ApiBase* base) {
  static std::mutex mutex;
  static Library library;  // lives as long as the process: sessions keep pointers into it
  std::lock_guard<std::mutex> lock(mutex);
  if (library.domain == nullptr) {
    const void* table = base->get_api(kMinApiVersion);
    if (table == nullptr) return refuse_old_runtime(base);
    g_api = Api(table);
    if (Status* status = make_library(ops, &library)) return status;
  }
  return g_api.add_domain(options, library.domain);
}

}  // namespace ort
}  // namespace laudc
