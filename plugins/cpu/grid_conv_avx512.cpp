#include "cpu/grid_conv_impl.h"

namespace laudc {
namespace cpu {
namespace {

void grid_conv(const GridConvArgs& g, int begin, int end) {
  // Half vectors where they do: processors that split the wide ones compute them at twice the rate.
  if (g.lanes <= 8) return by_lines<Vec8, 1, 14, 10>(g, begin, end);
  if (g.lanes <= 16) return by_lines<Vec16, 1, 14, 10>(g, begin, end);
  by_lines<Vec16, 2, 10, 10>(g, begin, end);
}

typedef int Index __attribute__((vector_size(64), aligned(4)));

// One shuffle per row, of one or two vectors of it.
void compact(const CompactArgs& p) {
  Index low, high;
  for (int i = 0; i < 16; ++i) {
    low[i] = i < p.count ? p.kept[i] : 0;
    high[i] = i + 16 < p.count ? p.kept[i + 16] : 0;
  }
  float* dst = p.dst;
  for (int t = 0; t < p.taps; ++t) {
    for (int k = 0; k < p.count; ++k) {
      const float* row = p.src + (static_cast<int64_t>(t) * p.group_width + p.kept[k]) * p.src_ld;
      const Vec16 a = load<Vec16>(row);
      const Vec16 b = p.group_width > 16 ? load<Vec16>(row + 16) : a;
      const Vec16 first = __builtin_shuffle(a, b, low);
      std::memcpy(dst, &first, sizeof(first));
      if (p.count > 16) {
        const Vec16 second = __builtin_shuffle(a, b, high);
        std::memcpy(dst + 16, &second, sizeof(second));
      }
      dst += p.dst_ld;
    }
  }
}

}  // namespace

GridKernel avx512_grid_kernel() { return {grid_conv, 32, compact, 32}; }

}  // namespace cpu
}  // namespace laudc
