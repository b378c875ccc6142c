// Stems: a stride 2 convolution of the image and ReLU, for ResNet (7x7) followed by a 3x3 stride 2 max pool, for RegNet
// (3x3) by nothing. Image in NCHW, features out in NHWC.
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
  int kernel;  // 7 or 3; padded by half of it
  bool pool;

  static constexpr int kChannels = 3;
  static StemDesc resnet(int cout, int panel) { return {cout, panel, 7, true}; }
  static StemDesc regnet(int cout, int panel) { return {cout, panel, 3, false}; }

  int pad() const { return kernel / 2; }
  // Weights: kernel rows (taps) of kernel * 3 values, then the bias.
  int64_t weight_floats() const { return round_up(panel_floats(kernel * kernel * kChannels, cout, panel), kAlign); }
  int64_t packed_floats() const { return weight_floats() + round_up(cout, kAlign) + 64; }
  static int conv_size(int side) { return (side - 1) / 2 + 1; }
  static int pool_size(int side) { return (conv_size(side) - 1) / 2 + 1; }
  int out_size(int side) const { return pool ? pool_size(side) : conv_size(side); }
};

class Stem {
 public:
  Stem(StemDesc desc, const float* packed) : desc_(desc), packed_(packed) {}
  const StemDesc& desc() const { return desc_; }

  // x: [batch][3][h][w]; y: [batch][out_size(h)][out_size(w)][cout]. Safe to call from several threads at once.
  void execute(const float* x, int64_t batch, int h, int w, const Parallel& parallel, float* y) const;

 private:
  struct Workspace {
    Buffer image;  // zero-bordered NHWC
    int image_h = 0, image_w = 0;
    Pool<TaskScratch> tasks;
  };
  void pad_image(const float* x, int h, int w, const Parallel& parallel, float* image) const;
  void convolve(const float* image, int h, int w, const Parallel& parallel, Workspace* ws, float* y) const;
  void convolve_and_pool(const float* image, int h, int w, const Parallel& parallel, Workspace* ws, float* y) const;

  StemDesc desc_;
  const float* packed_;
  mutable Pool<Workspace> workspaces_;
};

}  // namespace cpu
}  // namespace laudc
