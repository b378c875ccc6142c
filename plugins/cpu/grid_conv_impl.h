// The grid kernel, written once and compiled once per instruction set.
//
// As in kernels_impl.h, everything has internal linkage.
#include <cstring>

#include "cpu/grid_conv.h"

namespace laudc {
namespace cpu {
namespace {

typedef float Vec8 __attribute__((vector_size(32), aligned(4)));
typedef float Vec16 __attribute__((vector_size(64), aligned(4)));

template <class Vec>
inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <class Vec>
inline void store_relu(float* p, Vec v, int lanes) {
  const Vec zero = {};
  v = v < zero ? zero : v;  // NaN survives, as in PyTorch's relu
  constexpr int kLanes = sizeof(Vec) / 4;
  if (lanes >= kLanes) {
    std::memcpy(p, &v, sizeof(v));
    return;
  }
  for (int i = 0; i < lanes; ++i) p[i] = v[i];
}

// `Rows` neighbouring pixels times `Vectors` vectors of columns.
template <class Vec, int Vectors, int Rows>
void tile(const GridConvArgs& g, const float* a, float* c) {
  constexpr int kLanes = sizeof(Vec) / 4;
  constexpr int kQuads = (Rows + 3) / 4;
  Vec acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) acc[m][n] = load<Vec>(g.bias + n * kLanes);
  }
  const float* b = g.b;
  const int64_t ldb = g.ldb, s = g.pixel_stride, s3 = 3 * g.pixel_stride;
  for (int t = 0; t < 9; ++t) {
    // One address per four pixels: the others are at once, twice and three times the distance.
    const float* quad[kQuads];
#pragma GCC unroll 4
    for (int q = 0; q < kQuads; ++q) quad[q] = a + g.tap_offsets[t] + 4 * q * s;
    for (int k = 0; k < g.k_count; ++k) {
      Vec bv[Vectors];
#pragma GCC unroll 4
      for (int n = 0; n < Vectors; ++n) bv[n] = load<Vec>(b + n * kLanes);
#pragma GCC unroll 16
      for (int m = 0; m < Rows; ++m) {
        const float* p = quad[m / 4];
        const int r = m % 4;
        const Vec av = (r == 0 ? *p : r == 1 ? p[s] : r == 2 ? p[2 * s] : p[s3]) - Vec{};
#pragma GCC unroll 4
        for (int n = 0; n < Vectors; ++n) acc[m][n] += av * bv[n];
      }
#pragma GCC unroll 4
      for (int q = 0; q < kQuads; ++q) ++quad[q];
      b += ldb;
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) store_relu<Vec>(c + m * g.c_pixel + n * kLanes, acc[m][n], g.lanes - n * kLanes);
  }
}

// Calls tile<Rows> for the Rows that equals `rows`.
template <class Vec, int Vectors, int Rows>
struct TileOf {
  static void call(const GridConvArgs& g, const float* a, float* c, int rows) {
    if (rows == Rows) {
      tile<Vec, Vectors, Rows>(g, a, c);
    } else {
      TileOf<Vec, Vectors, Rows - 1>::call(g, a, c, rows);
    }
  }
};

template <class Vec, int Vectors>
struct TileOf<Vec, Vectors, 0> {
  static void call(const GridConvArgs&, const float*, float*, int) {}
};

// Every row is cut into tiles of equal width.
template <class Vec, int Vectors, int MaxRows>
void rows_of(const GridConvArgs& g, int begin, int end) {
  const int tiles = (g.width + MaxRows - 1) / MaxRows;
  for (int y = begin; y < end; ++y) {
    for (int i = 0; i < tiles; ++i) {
      const int from = g.width * i / tiles, to = g.width * (i + 1) / tiles;
      TileOf<Vec, Vectors, MaxRows>::call(g, g.a + y * g.row_stride + from * g.pixel_stride,
                                          g.c + y * g.c_row + from * g.c_pixel, to - from);
    }
  }
}

}  // namespace
}  // namespace cpu
}  // namespace laudc
