// The grid kernel, written once and compiled once per instruction set.
//
// As in kernels_impl.h, everything has internal linkage.
#include <cstring>

#include "cpu/grid_conv.h"

namespace laudc {
namespace cpu {
namespace {

typedef float Vec8 __attribute__((vector_size(32)));
typedef float Vec16 __attribute__((vector_size(64)));

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

// How a tile fills its vectors: with columns of the pixels of one line.
template <class V>
struct OneLine {
  typedef V Vec;
  static constexpr int kLines = 1, kColumns = sizeof(Vec) / 4;
  static inline Vec weights(const float* p) { return load<Vec>(p); }
  static inline Vec input(const float* p, int64_t) { return *p - Vec{}; }
  static inline void store(float* c, int64_t, Vec v, int lanes) { store_relu<Vec>(c, v, lanes); }
};

// Distance of the second line that a tile computes, if any: in the input, in the output.
struct Second {
  int64_t a, c;
};

// `Rows` neighbouring pixels times `Vectors` vectors of columns. `Taps` taps of a line are multiplied at a time, so
// that an input value is loaded once for all outputs that it reaches: tiles one vector wide would be bound by their
// loads. `Stride`: between the outputs, in input pixels of distance `s`.
template <class Lines, int Vectors, int Rows, int Taps, int Stride>
void tile(const GridConvArgs& g, const float* a, int64_t s, float* c, Second second) {
  typedef typename Lines::Vec Vec;
  constexpr int kLanes = Lines::kColumns;
  constexpr int kPixels = (Rows - 1) * Stride + Taps;
  constexpr int kQuads = (kPixels + 3) / 4;
  Vec acc[Rows][Vectors];
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) acc[m][n] = Lines::weights(g.bias + n * kLanes);
  }
  const int64_t ldb = g.ldb, tap = g.k_count * ldb, s3 = 3 * s;
  for (int t = 0; t < 9; t += Taps) {
    const float* b = g.b + t * tap;
    const float* line = a + t / 3 * g.in_row + t % 3 * g.in_pixel;
    // One address per four pixels: the others are at once, twice and three times the distance.
    const float* quad[kQuads];
#pragma GCC unroll 8
    for (int q = 0; q < kQuads; ++q) quad[q] = line + 4 * q * s;
    for (int k = 0; k < g.k_count; ++k) {
      Vec bv[Taps][Vectors];
#pragma GCC unroll 3
      for (int i = 0; i < Taps; ++i) {
#pragma GCC unroll 4
        for (int n = 0; n < Vectors; ++n) bv[i][n] = Lines::weights(b + i * tap + n * kLanes);
      }
#pragma GCC unroll 32
      for (int x = 0; x < kPixels; ++x) {
        const float* p = quad[x / 4];
        const int r = x % 4;
        const Vec av = Lines::input(r == 0 ? p : r == 1 ? p + s : r == 2 ? p + 2 * s : p + s3, second.a);
#pragma GCC unroll 3
        for (int i = 0; i < Taps; ++i) {
          const int from_first = x - i, m = from_first / Stride;
          if (from_first < 0 || from_first % Stride != 0 || m >= Rows) continue;
#pragma GCC unroll 4
          for (int n = 0; n < Vectors; ++n) acc[m][n] += av * bv[i][n];
        }
      }
#pragma GCC unroll 8
      for (int q = 0; q < kQuads; ++q) ++quad[q];
      b += ldb;
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n)
      Lines::store(c + m * g.c_pixel + n * kLanes, second.c, acc[m][n], g.lanes - n * kLanes);
  }
}

// Calls tile<Rows> for the Rows that equals `rows`.
template <class Lines, int Vectors, int Rows, int Taps, int Stride>
struct TileOf {
  static void call(const GridConvArgs& g, const float* a, int64_t s, float* c, Second second, int rows) {
    if (rows == Rows) {
      tile<Lines, Vectors, Rows, Taps, Stride>(g, a, s, c, second);
    } else {
      TileOf<Lines, Vectors, Rows - 1, Taps, Stride>::call(g, a, s, c, second, rows);
    }
  }
};

template <class Lines, int Vectors, int Taps, int Stride>
struct TileOf<Lines, Vectors, 0, Taps, Stride> {
  static void call(const GridConvArgs&, const float*, int64_t, float*, Second, int) {}
};

// Every line is cut into tiles of equal width.
template <class Lines, int Vectors, int MaxRows, int Taps, int Stride>
void tiles_of(const GridConvArgs& g, int64_t s, int begin, int end) {
  const int tiles = (g.width + MaxRows - 1) / MaxRows;
  for (int y = begin; y < end; y += Lines::kLines) {
    // Where no second line is left, the first is computed twice.
    const Second second = y + 1 < end ? Second{g.stride * g.in_row, g.c_row} : Second{0, 0};
    for (int i = 0; i < tiles; ++i) {
      const int from = g.width * i / tiles, to = g.width * (i + 1) / tiles;
      TileOf<Lines, Vectors, MaxRows, Taps, Stride>::call(g, g.a + (y * g.in_row + from * g.in_pixel) * g.stride, s,
                                                          g.c + y * g.c_row + from * g.c_pixel, second, to - from);
    }
  }
}

// Tap by tap, at any stride.
template <class Lines, int Vectors, int MaxRows>
void by_taps(const GridConvArgs& g, int begin, int end) {
  tiles_of<Lines, Vectors, MaxRows, 1, 1>(g, g.stride * g.in_pixel, begin, end);
}

// Three taps at a time, at strides 1 and 2; a tile of stride 2 needs more addresses, so it is at most `MaxRows2` wide.
template <class Lines, int Vectors, int MaxRows, int MaxRows2>
void by_lines(const GridConvArgs& g, int begin, int end) {
  if (g.stride == 1) return tiles_of<Lines, Vectors, MaxRows, 3, 1>(g, g.in_pixel, begin, end);
  if (g.stride == 2) return tiles_of<Lines, Vectors, MaxRows2, 3, 2>(g, g.in_pixel, begin, end);
  by_taps<Lines, Vectors, MaxRows>(g, begin, end);
}

}  // namespace
}  // namespace cpu
}  // namespace laudc
