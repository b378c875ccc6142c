#include "cpu/grid_conv_impl.h"

namespace laudc {
namespace cpu {
namespace {

void grid_conv(const GridConvArgs& g, int begin, int end) {
  // Half vectors where they do: processors that split the wide ones compute them at twice the rate.
  if (g.lanes <= 8) return rows_of<Vec8, 1, 14>(g, begin, end);
  if (g.lanes <= 16) return rows_of<Vec16, 1, 14>(g, begin, end);
  rows_of<Vec16, 2, 12>(g, begin, end);
}

}  // namespace

GridKernel avx512_grid_kernel() { return {grid_conv, 32}; }

}  // namespace cpu
}  // namespace laudc
