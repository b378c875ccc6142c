#include "cpu/grid_conv_impl.h"

namespace laudc {
namespace cpu {
namespace {

void grid_conv(const GridConvArgs& g, int begin, int end) {
  if (g.lanes <= 8) return rows_of<Vec8, 1, 12>(g, begin, end);
  if (g.lanes <= 16) return rows_of<Vec8, 2, 6>(g, begin, end);
  rows_of<Vec8, 3, 4>(g, begin, end);
}

}  // namespace

GridKernel avx2_grid_kernel() { return {grid_conv, 24, nullptr, 0}; }

}  // namespace cpu
}  // namespace laudc
