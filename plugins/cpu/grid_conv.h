// 3x3 convolution of a few input channels over whole rows of a grid of pixels: the kernel of grouped_conv() where every
// pixel is computed. Pixels lie at equal distances, so a tile needs a handful of addresses instead of one per pixel,
// which is what keeps the general kernel (an address list) from its peak when tiles are one vector wide.
#pragma once

#include <cstdint>

#include "cpu/kernels.h"

namespace laudc {
namespace cpu {

struct GridConvArgs {
  const float* a;            // top left input pixel of the window of output pixel (0, 0)
  int64_t in_row, in_pixel;  // floats between neighbouring input pixels
  int stride;                // input pixels between the windows of neighbouring output pixels
  int k_count;               // input channels
  const float* b;            // [9 * k_count][ldb]
  int ldb;
  const float* bias;  // [lanes], readable in whole vectors
  float* c;           // output pixel (0, 0)
  int64_t c_row, c_pixel;
  int width;  // output pixels per row
  int lanes;  // columns that are computed and written; multiples of 8 are written fastest
};

// Picks rows and columns out of a panel.
struct CompactArgs {
  const float* src;  // [taps][group_width][src_ld]
  int taps, group_width, src_ld;
  const int32_t* kept;  // ascending, the same rows (of every tap) and columns
  int count;
  float* dst;  // [taps * count][dst_ld]
  int dst_ld;  // a multiple of 16
};

struct GridKernel {
  // c = max(acc + bias, 0) for the rows [begin, end); null: there is none. Likewise compact.
  void (*run)(const GridConvArgs&, int begin, int end);
  int max_lanes;  // most columns that it takes
  void (*compact)(const CompactArgs&);
  int max_group_width;  // widest group that compact() takes
};

// The grid kernel of the instruction set that `table` is for.
GridKernel grid_kernel(const KernelTable& table);

#if defined(LAUDC_HAVE_X86_KERNELS)
GridKernel avx2_grid_kernel();
GridKernel avx512_grid_kernel();
#endif

}  // namespace cpu
}  // namespace laudc
