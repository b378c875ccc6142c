// A run of bottleneck blocks: from records to the launches that execute them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/block_desc.h"
#include "core/packed_layout.h"
#include "cuda/laudc_cuda.h"
#include "cuda/launch.h"
#include "cuda/workspace.h"

namespace laudc {
namespace cuda {

enum class Precision : int { kFp32 = LAUDC_CUDA_FP32, kTf32 = LAUDC_CUDA_TF32, kFp16 = LAUDC_CUDA_FP16 };

enum class Matrix : int { kConv1, kConv2, kConv3, kProjection, kCount };

// A convolution's weights: where they are packed, and how.
struct MatrixPlace {
  int64_t packed_at;    // floats from the start of the block's initializer
  int64_t elements;     // in panels
  bool rows;            // packed as [columns][depth]
  int depth, columns;   // if rows
  int64_t prepared_at;  // elements from the start of the prepared weights; -1: read where they are packed
};

class Run {
 public:
  // Null and a sentence in `error` if the records are not for a GPU.
  static std::unique_ptr<Run> create(const int64_t* records, size_t count, int precision,
                                     const laudc_cuda_device& device, std::string* error);

  const std::vector<BlockDesc>& blocks() const { return blocks_; }
  int64_t packed_floats(size_t block) const { return layouts_[block].total; }
  int64_t total_margins() const;
  size_t workspace_bytes(int64_t batch) const;
  size_t prepared_bytes() const;

  // Both return false and a sentence in `error` if something could not be queued.
  bool prepare(const float* const* packed, void* prepared, Stream stream, std::string* error) const;
  bool enqueue(const laudc_cuda_io& io, Stream stream, std::string* error) const;

  bool half() const { return precision_ == Precision::kFp16; }
  GemmKind kind() const { return kind_; }
  const laudc_cuda_device& device() const { return device_; }
  const PackedLayout& layout(size_t block) const { return layouts_[block]; }
  // Where kernels read a matrix of weights: in the prepared weights, or where it was packed.
  const void* weights(const laudc_cuda_io& io, size_t block, Matrix matrix) const;

 private:
  Run() = default;
  size_t element() const { return half() ? sizeof(Half) : sizeof(float); }
  WorkspaceTraits traits() const { return {element(), device_.multiprocessors}; }
  void place_matrices();

  std::vector<BlockDesc> blocks_;
  std::vector<PackedLayout> layouts_;
  std::vector<MatrixPlace> matrices_;  // [block][Matrix]
  int64_t prepared_elements_ = 0;
  Precision precision_;
  GemmKind kind_;
  laudc_cuda_device device_;
};

}  // namespace cuda
}  // namespace laudc
