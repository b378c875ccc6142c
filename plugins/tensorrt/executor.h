// A plugin instance without TensorRT: shapes, workspace, and the call.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/laudc_cuda.h"
#include "cuda/prepared_weights.h"
#include "tensorrt/run_state.h"

namespace laudc {
namespace trt {

enum Output : int { kY, kCounts, kMargins, kOutputs };
constexpr int kCountsPerBlock = 4;

struct CallTensors {
  const void* const* inputs;  // X, then the packed weights
  void* const* outputs;       // Y, counts, margins
  void* workspace;
  int64_t batch;
};

class Executor {
 public:
  // Checks everything that can be checked without a GPU.
  static std::unique_ptr<Executor> create(const RunState& state, std::string* error);
  // For another context: shares what never changes, has weights of its own.
  std::unique_ptr<Executor> clone() const;

  const RunState& state() const { return common_->state; }
  // Behind the batch.
  const laudc_cuda_shape& x_shape() const { return common_->x; }
  const laudc_cuda_shape& y_shape() const { return common_->y; }
  int block_count() const { return static_cast<int>(common_->packed_floats.size()); }
  int input_count() const { return 1 + block_count(); }
  bool half() const { return state().precision == LAUDC_CUDA_FP16; }
  int64_t packed_floats(int block) const { return common_->packed_floats[static_cast<size_t>(block)]; }
  // Columns of the margins output; TensorRT is not given empty tensors.
  int64_t margin_columns() const { return common_->margins > 0 ? common_->margins : 1; }

  // These look at the calling thread's GPU. 0 or false: a sentence in `error`.
  size_t workspace_bytes(int64_t batch, std::string* error) const;
  bool reserve(std::string* error);
  bool enqueue(const CallTensors& tensors, void* stream, std::string* error);

 private:
  struct Common {
    RunState state;
    laudc_cuda_shape x = laudc_cuda_shape(), y = laudc_cuda_shape();
    std::vector<int64_t> packed_floats;
    int64_t margins = 0;
    std::mutex mutex;
    std::unique_ptr<laudc_cuda_run, void (*)(laudc_cuda_run*)> run{nullptr, laudc_cuda_destroy};
  };
  explicit Executor(std::shared_ptr<Common> common) : common_(std::move(common)) {}
  const laudc_cuda_run* run(std::string* error) const;

  std::shared_ptr<Common> common_;
  cuda::PreparedWeights weights_;
};

}  // namespace trt
}  // namespace laudc
