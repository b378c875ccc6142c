// A run of residual convolution blocks: maps are NHWC, blocks without a projection work in place.
#pragma once

#include <vector>

#include "core/block_desc.h"
#include "cuda/run.h"
#include "cuda/workspace.h"

namespace laudc {
namespace cuda {

class ConvRun;

// What the blocks of one call share.
struct CallContext {
  const ConvRun* run;
  const laudc_cuda_io* io;
  const WorkspacePlan* plan;
  Stream stream;

  char* at(size_t offset) const { return static_cast<char*>(io->workspace) + offset; }
  template <class T>
  T* section(size_t offset) const {
    return reinterpret_cast<T*>(at(offset));
  }
};

// One block of a call. `margin_at`: of the block's first decision among all of the run. `in` is the block's input,
// `out` its output; they are the same memory if the block works in place.
struct BlockPlace {
  size_t index;
  int64_t margin_at;
  const void* in;
  void* out;
};

class ConvRun : public Run {
 public:
  const std::vector<BlockDesc>& blocks() const { return blocks_; }

  int64_t block_count() const override { return static_cast<int64_t>(blocks_.size()); }
  int64_t total_margins() const override;
  laudc_cuda_shape x_shape() const override;
  laudc_cuda_shape y_shape() const override;
  size_t workspace_bytes(int64_t batch) const override;

 protected:
  // `most_squeeze`: hidden channels of the largest squeeze-excitation; 0: there is none.
  ConvRun(const Setting& setting, std::vector<BlockDesc> blocks, int most_squeeze);
  int launch(const laudc_cuda_io& io, Stream stream) const override;
  // Queues one block; 0 or the first error.
  virtual int launch_block(const CallContext& context, const BlockPlace& place) const = 0;

 private:
  WorkspaceTraits traits() const { return {setting().element(), setting().device.multiprocessors, most_squeeze_}; }

  const std::vector<BlockDesc> blocks_;
  const int most_squeeze_;
};

}  // namespace cuda
}  // namespace laudc
