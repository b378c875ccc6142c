// The launches that the blocks of every family of residual networks have in common.
#pragma once

#include "core/packed_layout.h"
#include "cuda/conv_run.h"

namespace laudc {
namespace cuda {

class BlockCall {
 protected:
  BlockCall(const CallContext& context, const BlockPlace& place, const BlockDesc& desc, const MaskerLayout& maskers)
      : c_(context), place_(place), d_(desc), maskers_(maskers) {}

  // Makes the decisions and lists the rows that they leave.
  int decide() const;
  // Puts into the block's output what its last convolution adds to: the projection, or the input if it is elsewhere.
  int residual(const void* weights, int64_t bias) const;
  // The last convolution; `p` says its rows, which come from h2.
  int add_to_residual(const void* weights, int64_t bias, GemmParams* p) const;

  // What a family wants of the masker beyond that.
  virtual void extend(MaskerParams*) const {}

  // Rows of the first convolution: the input pixels that the second will read.
  GemmParams rows_over_input() const;
  // Rows of the last one: the output pixels that some mask group keeps.
  GemmParams rows_over_output() const;
  void set_weights(const void* weights, int taps, int depth, int columns, GemmParams* p) const;
  // Restrict a convolution to the output channels, or the input channels, that the sample keeps.
  void keep_outputs(GemmParams* p) const;
  void keep_inputs(GemmParams* p) const;
  int start(GemmParams* p) const { return start(c_.run->setting().kind, p); }
  int start(GemmKind kind, GemmParams* p) const;

  int64_t batch() const { return c_.io->batch; }
  bool half() const { return c_.run->setting().half(); }
  int multiprocessors() const { return c_.run->setting().device.multiprocessors; }
  int* counters(Counter which) const;
  const float* constants(int64_t offset) const { return c_.io->packed[place_.index] + offset; }
  const void* matrix(int which) const { return c_.run->weights(*c_.io, place_.index, which); }
  int aligned(const void* memory, int64_t pixel) const;

  const CallContext& c_;
  const BlockPlace& place_;
  const BlockDesc& d_;

 private:
  int hidden_map() const;
  MaskerParams masker_params() const;

  const MaskerLayout& maskers_;
};

}  // namespace cuda
}  // namespace laudc
