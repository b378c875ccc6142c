#include "onnxruntime/adapter.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>

#include "core/block_desc.h"

namespace laudc {
namespace ort {
namespace {

class InfoGuard {
 public:
  InfoGuard(const Api& api, const Value* value) : api_(api) { check(api.tensor_info(value, &info_)); }
  ~InfoGuard() {
    if (info_ != nullptr) api_.release(info_);
  }
  const TensorInfo* get() const { return info_; }

 private:
  const Api& api_;
  TensorInfo* info_ = nullptr;
};

// A task that throws (out of memory) must not unwind through the runtime's threads.
struct GuardedTask {
  void (*task)(void*, size_t);
  void* data;
  std::atomic<bool> failed{false};
  std::exception_ptr error;

  static void call(void* self, size_t i) noexcept {
    GuardedTask* me = static_cast<GuardedTask*>(self);
    try {
      me->task(me->data, i);
    } catch (...) {
      if (!me->failed.exchange(true)) me->error = std::current_exception();
    }
  }
};

}  // namespace

int64_t FloatTensor::count() const {
  int64_t product = 1;
  for (const int64_t d : dims) product *= d;
  return product;
}

AnyTensor any_tensor(const Api& api, const Value* value) {
  const InfoGuard info(api, value);
  AnyTensor tensor;
  check(api.element_type(info.get(), &tensor.type));
  size_t rank = 0;
  check(api.rank(info.get(), &rank));
  tensor.dims.resize(rank);
  check(api.dimensions(info.get(), tensor.dims.data(), rank));
  void* data = nullptr;
  check(api.tensor_data(const_cast<Value*>(value), &data));
  tensor.data = data;
  return tensor;
}

FloatTensor float_tensor(const Api& api, const Value* value, const std::string& name) {
  AnyTensor tensor = any_tensor(api, value);
  if (tensor.type != kFloat) throw Failure{kInvalidArgument, name + " is not a float32 tensor"};
  return {static_cast<const float*>(tensor.data), std::move(tensor.dims)};
}

FloatTensor context_input(const Api& api, const KernelContext* context, size_t index, const std::string& name) {
  const Value* value = nullptr;
  check(api.input(context, index, &value));
  if (value == nullptr) throw Failure{kInvalidArgument, name + " is missing"};
  return float_tensor(api, value, name);
}

FloatTensor constant_input(const Api& api, const KernelInfo* info, size_t index, const std::string& name) {
  int is_constant = 0;
  const Value* value = nullptr;
  check(api.constant_input(info, index, &is_constant, &value));
  if (is_constant == 0 || value == nullptr) throw Failure{kInvalidGraph, name + " must be an initializer"};
  return float_tensor(api, value, name);
}

namespace {

// ONNX Runtime's own words for a missing attribute name neither the operator nor a way out.
void check_attribute(const Api& api, const char* name, Status* status) {
  if (status == nullptr) return;
  api.release(status);
  throw Failure{kInvalidGraph, std::string("attribute '") + name +
                                   "' is missing or of another type: laudc build-engine did not write this model"};
}

}  // namespace

int64_t int_attribute(const Api& api, const KernelInfo* info, const char* name) {
  int64_t value = 0;
  check_attribute(api, name, api.attribute(info, name, &value));
  return value;
}

std::vector<int64_t> ints_attribute(const Api& api, const KernelInfo* info, const char* name) {
  size_t count = 0;
  check_attribute(api, name, api.attribute_array(info, name, nullptr, &count));
  std::vector<int64_t> values(count);
  if (count > 0) check(api.attribute_array(info, name, values.data(), &count));
  return values;
}

void require_abi(const Api& api, const KernelInfo* info) {
  const int64_t abi = int_attribute(api, info, "abi");
  if (abi == kAbiVersion) return;
  throw Failure{kInvalidGraph, "the model was scheduled for laudc ABI " + std::to_string(abi) +
                                   ", this library has ABI " + std::to_string(kAbiVersion) +
                                   "; run laudc build-engine again"};
}

namespace {

// Every thread that takes a task holds it until the deadline, so that all threads of the pool come to take one: waking
// up may take a sleeping thread a good part of a millisecond on a busy machine, and a thread that is missed here would
// stay unused for the life of the session.
struct Probe {
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
  std::atomic<int> threads{0};
  std::thread::id owners[64];

  static void call(void* self, size_t) noexcept {
    Probe* me = static_cast<Probe*>(self);
    const std::thread::id id = std::this_thread::get_id();
    const int known = std::min(me->threads.load(), 64);
    bool seen = false;
    for (int i = 0; i < known; ++i) seen = seen || me->owners[i] == id;
    if (!seen) {
      const int slot = me->threads.fetch_add(1);
      if (slot < 64) me->owners[slot] = id;
    }
    while (std::chrono::steady_clock::now() < me->deadline) {
    }
  }
};

}  // namespace

int PoolWidth::of(const Api& api, const KernelContext* context) {
  if (probes_.load() >= kProbes) return width_.load();
  Probe probe;
  const size_t tasks = 2 * std::max(1u, std::min(64u, std::thread::hardware_concurrency()));
  check(api.parallel_for(context, &Probe::call, tasks, tasks, &probe));
  const int found = std::min(probe.threads.load(), 64);
  int known = width_.load();
  while (found > known && !width_.compare_exchange_weak(known, found)) {
  }
  probes_.fetch_add(1);
  return width_.load();
}

void RuntimePool::run(size_t count, void (*task)(void*, size_t), void* data) const {
  GuardedTask guarded = {task, data, {false}, nullptr};
  // One batch per task: threads then take tasks as they become free.
  check(api_.parallel_for(context_, &GuardedTask::call, count, count, &guarded));
  if (guarded.failed) std::rethrow_exception(guarded.error);
}

}  // namespace ort
}  // namespace laudc
