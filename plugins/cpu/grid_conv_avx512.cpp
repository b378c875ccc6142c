#include "cpu/grid_conv_impl.h"

namespace laudc {
namespace cpu {
namespace {

typedef int Index __attribute__((vector_size(64)));

// Eight columns of two lines: as wide as one vector, where half of it would be padding.
struct TwoLines {
  typedef Vec16 Vec;
  static constexpr int kLines = 2, kColumns = 8;
  static inline Vec weights(const float* p) {
    const Vec8 v = load<Vec8>(p);
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
  }
  static inline Vec input(const float* p, int64_t second) {
    const Index in_second = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
    return in_second ? p[second] - Vec{} : p[0] - Vec{};
  }
  static inline void store(float* c, int64_t second, Vec v, int lanes) {
    store_relu<Vec8>(c, __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), lanes);
    store_relu<Vec8>(c + second, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15), lanes);
  }
};

// The columns from `first` on.
GridConvArgs columns_from(GridConvArgs g, int first) {
  g.b += first;
  g.bias += first;
  g.c += first;
  g.lanes -= first;
  return g;
}

void grid_conv(const GridConvArgs& g, int begin, int end) {
  if (g.lanes <= 8) return by_lines<TwoLines, 1, 14, 10>(g, begin, end);
  if (g.lanes > 24) return by_lines<OneLine<Vec16>, 2, 10, 10>(g, begin, end);
  by_lines<OneLine<Vec16>, 1, 14, 10>(g, begin, end);
  if (g.lanes > 16) by_lines<TwoLines, 1, 14, 10>(columns_from(g, 16), begin, end);
}

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
