// A run of blocks: from records to the launches that execute them. This is what all families of networks share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/laudc_cuda.h"
#include "cuda/launch.h"

namespace laudc {
namespace cuda {

enum class Precision : int { kFp32 = LAUDC_CUDA_FP32, kTf32 = LAUDC_CUDA_TF32, kFp16 = LAUDC_CUDA_FP16 };

// How a run computes, and on what.
struct Setting {
  Precision precision;
  GemmKind kind;
  laudc_cuda_device device;

  bool half() const { return precision == Precision::kFp16; }
  size_t element() const { return half() ? sizeof(Half) : sizeof(float); }
};

// A matrix of weights: where it is packed, and how.
struct MatrixPlace {
  int64_t packed_at;    // floats from the start of the block's initializer
  int64_t elements;     // in panels; 0: the block has no such matrix
  bool rows;            // packed as [columns][depth]
  int depth, columns;   // if rows
  int panel;            // if rows
  int64_t prepared_at;  // elements from the start of the prepared weights; -1: read where they are packed
};

class Run {
 public:
  virtual ~Run() = default;

  virtual int64_t block_count() const = 0;
  virtual int64_t packed_floats(size_t block) const = 0;
  virtual int64_t total_margins() const = 0;
  virtual laudc_cuda_shape x_shape() const = 0;
  virtual laudc_cuda_shape y_shape() const = 0;
  virtual size_t workspace_bytes(int64_t batch) const = 0;
  size_t prepared_bytes() const;

  // Both return false and a sentence in `error` if something could not be queued.
  bool prepare(const float* const* packed, void* prepared, Stream stream, std::string* error) const;
  bool enqueue(const laudc_cuda_io& io, Stream stream, std::string* error) const;

  const Setting& setting() const { return setting_; }
  // Where kernels read matrix number `matrix` of a block: in the prepared weights, or where it was packed.
  const void* weights(const laudc_cuda_io& io, size_t block, int matrix) const;

 protected:
  explicit Run(const Setting& setting) : setting_(setting) {}
  // The matrices of the next block, the same number for every block. Kernels read panels of their own type: in fp16
  // that takes a copy of everything, in fp32 only of what is packed by output channel.
  void place_matrices(std::vector<MatrixPlace> places);
  // Queues all launches; 0 or the first error. The workspace is large enough and the batch is not empty.
  virtual int launch(const laudc_cuda_io& io, Stream stream) const = 0;

 private:
  std::string complaint_about_call(const laudc_cuda_io& io) const;
  std::string complaint_about_packed(const float* const* packed) const;

  const Setting setting_;
  std::vector<std::vector<MatrixPlace>> matrices_;  // [block][matrix]
  int64_t prepared_elements_ = 0;
};

// The run of the scheduled op `op`. Null and a sentence in `error` if there is no such op, or if the records are not
// for a GPU.
std::unique_ptr<Run> make_run(const char* op, const int64_t* records, size_t count, int precision,
                              const laudc_cuda_device& device, std::string* error);

// Elements of one matrix are counted in 32 bits.
constexpr int64_t kMaxMatrixElements = INT64_C(1) << 31;

}  // namespace cuda
}  // namespace laudc
