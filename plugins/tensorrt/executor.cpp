#include "tensorrt/executor.h"

namespace laudc {
namespace trt {
namespace {

constexpr size_t kErrorSize = 512;

}  // namespace

std::unique_ptr<Executor> Executor::create(const RunState& state, std::string* error) {
  // Any GPU will do to find out whether the records make a run.
  const laudc_cuda_device some_device = {80, 1};
  char why[kErrorSize] = "";
  const std::unique_ptr<laudc_cuda_run, void (*)(laudc_cuda_run*)> trial(
      laudc_cuda_create(state.op.c_str(), state.records.data(), state.records.size(), state.precision, &some_device,
                        why, sizeof(why)),
      laudc_cuda_destroy);
  std::shared_ptr<Common> common = std::make_shared<Common>();
  if (trial == nullptr) {
    *error = why;
    return nullptr;
  }
  common->state = state;
  common->x = laudc_cuda_x_shape(trial.get());
  common->y = laudc_cuda_y_shape(trial.get());
  common->margins = laudc_cuda_margins(trial.get());
  for (int64_t i = 0; i < laudc_cuda_blocks(trial.get()); ++i) {
    common->packed_floats.push_back(laudc_cuda_packed_floats(trial.get(), i));
  }
  return std::unique_ptr<Executor>(new Executor(std::move(common)));
}

std::unique_ptr<Executor> Executor::clone() const { return std::unique_ptr<Executor>(new Executor(common_)); }

const laudc_cuda_run* Executor::run(std::string* error) const {
  const std::lock_guard<std::mutex> lock(common_->mutex);
  if (common_->run != nullptr) return common_->run.get();
  laudc_cuda_device device = {0, 0};
  char why[kErrorSize] = "";
  if (laudc_cuda_current_device(&device, why, sizeof(why)) != 0) {
    *error = std::string("no GPU can be used: ") + why;
    return nullptr;
  }
  const RunState& s = common_->state;
  common_->run.reset(
      laudc_cuda_create(s.op.c_str(), s.records.data(), s.records.size(), s.precision, &device, why, sizeof(why)));
  if (common_->run == nullptr) *error = why;
  return common_->run.get();
}

size_t Executor::workspace_bytes(int64_t batch, std::string* error) const {
  const laudc_cuda_run* known = run(error);
  if (known == nullptr) return 0;
  const size_t bytes = laudc_cuda_workspace_bytes(known, batch);
  if (bytes == 0) *error = "a batch of " + std::to_string(batch) + " is too large for this network";
  return bytes;
}

bool Executor::reserve(std::string* error) {
  const laudc_cuda_run* known = run(error);
  return known != nullptr && weights_.reserve(known, error);
}

bool Executor::enqueue(const CallTensors& tensors, void* stream, std::string* error) {
  const laudc_cuda_run* known = run(error);
  if (known == nullptr) return false;
  std::vector<const float*> packed;
  for (int i = 0; i < block_count(); ++i) packed.push_back(static_cast<const float*>(tensors.inputs[1 + i]));
  const void* prepared = nullptr;
  if (!weights_.get(known, packed, stream, &prepared, error)) return false;
  const size_t workspace = laudc_cuda_workspace_bytes(known, tensors.batch);
  const laudc_cuda_io io = {tensors.inputs[0],
                            packed.data(),
                            prepared,
                            tensors.outputs[kY],
                            static_cast<int32_t*>(tensors.outputs[kCounts]),
                            static_cast<float*>(tensors.outputs[kMargins]),
                            margin_columns(),
                            tensors.workspace,
                            workspace,
                            tensors.batch};
  char why[kErrorSize] = "";
  if (laudc_cuda_enqueue(known, &io, stream, why, sizeof(why)) == 0) return true;
  *error = why;
  return false;
}

}  // namespace trt
}  // namespace laudc
