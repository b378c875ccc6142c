// The launches of one block.
#pragma once

#include <string>

#include "cuda/run.h"

namespace laudc {
namespace cuda {

// What the blocks of one call share.
struct CallContext {
  const Run* run;
  const laudc_cuda_io* io;
  const WorkspacePlan* plan;
  Stream stream;

  char* at(size_t offset) const { return static_cast<char*>(io->workspace) + offset; }
  template <class T>
  T* section(size_t offset) const {
    return reinterpret_cast<T*>(at(offset));
  }
};

class BlockCall {
 public:
  // `margin_at`: of the block's first decision among all of the run. `in` is the block's input, `out` its output; they
  // are the same memory if the block works in place.
  BlockCall(const CallContext& context, size_t index, int64_t margin_at, const void* in, void* out);

  // Queues everything; 0 or the first error.
  int launch() const;

 private:
  int decide() const;
  int hidden_map() const;
  int residual() const;
  int conv1() const;
  int conv2() const;
  int conv3() const;

  MaskerParams masker_params() const;
  GemmParams rows_over_input() const;
  GemmParams rows_over_output() const;
  void set_weights(const void* weights, int taps, int depth, int columns, GemmParams* p) const;
  void keep_outputs(GemmParams* p) const;
  void keep_inputs(GemmParams* p) const;
  int start(GemmKind kind, GemmParams* p) const;

  int64_t batch() const { return c_.io->batch; }
  int* counters(int which) const;
  const float* constants(int64_t offset) const { return c_.io->packed[index_] + offset; }
  const void* matrix(Matrix which) const { return c_.run->weights(*c_.io, index_, which); }
  int vector() const { return c_.run->half() ? 8 : 4; }
  int aligned(const void* memory, int64_t pixel) const;

  const CallContext& c_;
  const size_t index_;
  const BlockDesc& d_;
  const PackedLayout& l_;
  const int64_t margin_at_;
  const void* in_;
  void* out_;
};

}  // namespace cuda
}  // namespace laudc
