// The ResNet stem: 7x7 stride 2 convolution, ReLU, 3x3 stride 2 max pool; image in NCHW, features out in NHWC.
#pragma once

#include <cstdint>
#include <string>

#include "core/packed_layout.h"
#include "cpu/phases.h"

namespace laudc {
namespace cpu {

struct StemDesc {
  int cout;
  int panel;

  static constexpr int kKernel = 7, kChannels = 3;
  // Weights: 7 kernel rows (taps) of 7 * 3 values, then the bias.
  int64_t weight_floats() const { return round_up(panel_floats(kKernel * kKernel * kChannels, cout, panel), kAlign); }
  int64_t packed_floats() const { return weight_floats() + round_up(cout, kAlign) + 64; }
  static int conv_size(int side) { return (side - 1) / 2 + 1; }
  static int pool_size(int side) { return (conv_size(side) - 1) / 2 + 1; }
};

class Stem {
 public:
  Stem(StemDesc desc, const float* packed) : desc_(desc), packed_(packed) {}
  const StemDesc& desc() const { return desc_; }

  // x: [batch][3][h][w]; y: [batch][pool_size(h)][pool_size(w)][cout]. Safe to call from several threads at once.
  void execute(const float* x, int64_t batch, int h, int w, const Parallel& parallel, float* y) const;

 private:
  struct Workspace {
    Buffer image;  // zero-bordered NHWC
    int image_h = 0, image_w = 0;
    Pool<TaskScratch> tasks;
  };
  void pad_image(const float* x, int h, int w, const Parallel& parallel, float* image) const;

  StemDesc desc_;
  const float* packed_;
  mutable Pool<Workspace> workspaces_;
};

}  // namespace cpu
}  // namespace laudc
