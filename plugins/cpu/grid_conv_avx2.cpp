#include "cpu/grid_conv_impl.h"

namespace laudc {
namespace cpu {
namespace {

void grid_conv(const GridConvArgs& g, int begin, int end) {
  if (g.lanes <= 8) return by_lines<OneLine<Vec8>, 1, 10, 8>(g, begin, end);
  // Sixteen registers do not hold the weights of three taps beside accumulators of two vectors.
  if (g.lanes <= 16) return by_taps<OneLine<Vec8>, 2, 6>(g, begin, end);
  by_taps<OneLine<Vec8>, 3, 4>(g, begin, end);
}

}  // namespace

GridKernel avx2_grid_kernel() { return {grid_conv, 24, nullptr, 0}; }

}  // namespace cpu
}  // namespace laudc
