// What the operator adapters share: errors as values, tensors with checked shapes, the runtime's thread pool.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cpu/parallel.h"
#include "onnxruntime/ort_abi.h"

namespace laudc {
namespace ort {

// Thrown inside the adapters only; guarded() turns it into an OrtStatus at the C boundary.
struct Failure {
  ErrorCode code;
  std::string message;
};

// Passes on a status of the runtime.
struct RuntimeFailure {
  Status* status;
};

inline void check(Status* status) {
  if (status != nullptr) throw RuntimeFailure{status};
}

// Runs `body`; no exception leaves it.
template <class Body>
Status* guarded(const Api& api, const char* op, Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const RuntimeFailure& failure) {
    return failure.status;
  } catch (const Failure& failure) {
    return api.create_status(failure.code, ("laudc " + std::string(op) + ": " + failure.message).c_str());
  } catch (const std::exception& error) {
    return api.create_status(kRuntimeException, ("laudc " + std::string(op) + ": " + error.what()).c_str());
  } catch (...) {
    return api.create_status(kRuntimeException, "laudc: unknown internal error");
  }
}

struct FloatTensor {
  const float* data;
  std::vector<int64_t> dims;
  int64_t count() const;
};

// A tensor of any element type; the data may be on a device.
struct AnyTensor {
  const void* data;
  int type;
  std::vector<int64_t> dims;
};

AnyTensor any_tensor(const Api& api, const Value* value);
FloatTensor float_tensor(const Api& api, const Value* value, const std::string& name);
FloatTensor context_input(const Api& api, const KernelContext* context, size_t index, const std::string& name);
// Refuses inputs that are not initializers: their packed layout is checked once, when the session is made.
FloatTensor constant_input(const Api& api, const KernelInfo* info, size_t index, const std::string& name);
int64_t int_attribute(const Api& api, const KernelInfo* info, const char* name);
std::vector<int64_t> ints_attribute(const Api& api, const KernelInfo* info, const char* name);
void require_abi(const Api& api, const KernelInfo* info);

template <class T>
T* output(const Api& api, KernelContext* context, size_t index, const std::vector<int64_t>& dims) {
  Value* value = nullptr;
  check(api.output(context, index, dims.data(), dims.size(), &value));
  if (value == nullptr) return nullptr;  // an optional output that nobody reads
  void* data = nullptr;
  check(api.tensor_data(value, &data));
  return static_cast<T*>(data);
}

// How many threads ONNX Runtime's pool gives a kernel. There is no call that tells, so the first runs count them.
class PoolWidth {
 public:
  int of(const Api& api, const KernelContext* context);

 private:
  static constexpr int kProbes = 3;
  std::atomic<int> probes_{0};
  std::atomic<int> width_{1};
};

// ONNX Runtime's intra-op pool.
class RuntimePool final : public cpu::Parallel {
 public:
  RuntimePool(const Api& api, const KernelContext* context, int width) : api_(api), context_(context), width_(width) {}
  int width() const override { return width_; }
  void run(size_t count, void (*task)(void*, size_t), void* data) const override;

 private:
  const Api& api_;
  const KernelContext* context_;
  const int width_;
};

// A kernel object as ONNX Runtime holds it.
template <class T>
struct Kernel {
  std::unique_ptr<T> work;
  PoolWidth width;
};

// The operators of this library, version filled in by the caller.
CustomOp bottleneck_run_op();
CustomOp regnet_run_op();
CustomOp vit_run_op();
CustomOp stem_conv_pool_op();
CustomOp stem_conv_op();

// Set once, when the library is registered.
const Api& api();

}  // namespace ort
}  // namespace laudc
