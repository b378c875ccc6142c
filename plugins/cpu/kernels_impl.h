// The kernels themselves, written once over a GCC vector type and compiled once per instruction set.
//
// Including file defines LAUDC_LANES (floats per vector), LAUDC_TILE_VECTORS (vectors a tile is wide at most) and
// LAUDC_MAX_ROWS(nv) (rows of a tile nv vectors wide, limited by the registers of the instruction set). Everything here
// has internal linkage and uses nothing from the standard library that could be emitted as a shared inline function:
// the linker must never keep an AVX-512 copy for the portable path.
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/prefetch.h"

namespace laudc {
namespace cpu {
namespace {

constexpr int kLanes = LAUDC_LANES;
typedef float Vec __attribute__((vector_size(LAUDC_LANES * 4)));
// Vectors in memory stand anywhere. Not memcpy: GCC 12 splits one of 32 bytes in two, through the stack, and then keeps
// every accumulator of a tile there.
typedef float VecInMemory __attribute__((vector_size(LAUDC_LANES * 4), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const VecInMemory*>(p); }

inline void store(float* p, Vec v) { *reinterpret_cast<VecInMemory*>(p) = v; }

inline Vec splat(float x) { return x - Vec{}; }

// NaN in `v` survives, as it does in PyTorch's relu.
inline Vec at_least(Vec v, Vec lo) { return v < lo ? lo : v; }

inline float sum_lanes(Vec v) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

struct StoreClamped {
  static constexpr bool kReadsC = false;
  static inline Vec apply(Vec acc, const float* lo, const float*) {
    return lo == nullptr ? acc : at_least(acc, load(lo));
  }
};

struct AddRelu {
  static constexpr bool kReadsC = true;
  static inline Vec apply(Vec acc, const float*, const float* old) { return at_least(acc + load(old), Vec{}); }
};

// Writes one vector of results at `c`, of which the first `lanes` are wanted; returns them, zero beyond.
template <class Epilogue>
inline Vec finish(Vec acc, const float* lo, float* c, int lanes) {
  if (lanes >= kLanes) {
    const Vec whole = Epilogue::apply(acc, lo, c);
    store(c, whole);
    return whole;
  }
  // Last, partial vector: stay inside `lanes` on both sides of the memory traffic.
  float old[kLanes] = {}, clamp[kLanes] = {};
  for (int i = 0; i < lanes; ++i) old[i] = c[i];
  if (lo != nullptr) {
    for (int i = 0; i < lanes; ++i) clamp[i] = lo[i];
  }
  Vec result = Epilogue::apply(acc, lo == nullptr ? nullptr : clamp, old);
  for (int i = 0; i < lanes; ++i) c[i] = result[i];
  for (int i = lanes; i < kLanes; ++i) result[i] = 0;
  return result;
}

// `Rows` rows times `Vectors` vectors of columns, starting at column n0.
template <class Epilogue, int Rows, int Vectors>
void tile(const GemmArgs& g, int row, int n0) {
  Vec acc[Rows][Vectors];
  const float* a[Rows];
#pragma GCC unroll 32
  for (int m = 0; m < Rows; ++m) {
    a[m] = g.a + g.a_rows[row + m];
    const int cls = g.row_class == nullptr ? 0 : g.row_class[row + m];
    const float* bias = g.bias + cls * g.bias_stride + n0;
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) acc[m][n] = load(bias + n * kLanes);
  }
  const float* b = g.b + n0;
  const int64_t ldb = g.ldb;
  for (int t = 0; t < g.taps; ++t) {
    const float* at[Rows];
#pragma GCC unroll 32
    for (int m = 0; m < Rows; ++m) at[m] = a[m] + g.tap_offsets[t];
    if (g.b_taps != nullptr) b = g.b + n0 + g.b_taps[t];
    for (int64_t k0 = 0; k0 < g.k_count; k0 += kPrefetchInterval) {
      prefetch_step(g.ahead);
      const int64_t k1 = k0 + kPrefetchInterval < g.k_count ? k0 + kPrefetchInterval : g.k_count;
      for (int64_t k = k0; k < k1; ++k) {
        Vec bv[Vectors];
#pragma GCC unroll 8
        for (int n = 0; n < Vectors; ++n) bv[n] = load(b + n * kLanes);
#pragma GCC unroll 32
        for (int m = 0; m < Rows; ++m) {
          const Vec av = splat(at[m][k]);
#pragma GCC unroll 8
          for (int n = 0; n < Vectors; ++n) acc[m][n] += av * bv[n];
        }
        b += ldb;
      }
    }
  }
  const float* lo = g.lo == nullptr ? nullptr : g.lo + n0;
  Vec sums[Vectors] = {};
#pragma GCC unroll 32
  for (int m = 0; m < Rows; ++m) {
    float* c = g.c + g.c_rows[row + m] + n0;
#pragma GCC unroll 8
    for (int n = 0; n < Vectors; ++n) {
      sums[n] += finish<Epilogue>(acc[m][n], lo == nullptr ? nullptr : lo + n * kLanes, c + n * kLanes,
                                  g.lanes - n0 - n * kLanes);
    }
  }
  if (!Epilogue::kReadsC || g.sums == nullptr) return;
#pragma GCC unroll 8
  for (int n = 0; n < Vectors; ++n) {
    float* to = g.sums + n0 + n * kLanes;
    store(to, load(to) + sums[n]);
  }
}

// Calls tile<Rows> for the Rows that equals `rows`.
template <class Epilogue, int Rows, int Vectors>
struct TileOf {
  static void call(const GemmArgs& g, int row, int rows, int n0) {
    if (rows == Rows) {
      tile<Epilogue, Rows, Vectors>(g, row, n0);
    } else {
      TileOf<Epilogue, Rows - 1, Vectors>::call(g, row, rows, n0);
    }
  }
};

template <class Epilogue, int Vectors>
struct TileOf<Epilogue, 0, Vectors> {
  static void call(const GemmArgs&, int, int, int) {}
};

// What the epilogue will read of rows [begin, end): the residual of wide maps lies in the outer caches.
template <int Vectors>
inline void fetch_residual(const GemmArgs& g, int begin, int end, int n0) {
  for (int m = begin; m < end; ++m) {
    const char* c = reinterpret_cast<const char*>(g.c + g.c_rows[m] + n0);
    for (int byte = 0; byte < Vectors * kLanes * 4; byte += 64) __builtin_prefetch(c + byte, 1, 3);
  }
}

// Tiles at the end of a strip that fetch the residual of as many at the beginning of the next columns. The hardware
// prefetcher of a thread that multiplies the rows before fetches these lines as well, and they are slow to get back.
constexpr int kTilesAhead = 3;

// Tiles of equal height (within one row): a short last tile would waste the registers it leaves empty.
template <class Epilogue, int Vectors>
void strip(const GemmArgs& g, int begin, int end, int n0) {
  constexpr int kRows = LAUDC_MAX_ROWS(Vectors);
  const int count = end - begin;
  const int tiles = (count + kRows - 1) / kRows;
  if (g.ahead != nullptr && g.ahead->left() > 0 && g.k_count > 0) {
    const int64_t calls =
        static_cast<int64_t>(tiles) * g.taps * ((g.k_count + kPrefetchInterval - 1) / kPrefetchInterval);
    g.ahead->chunks_per_step = static_cast<int>(g.ahead->left() / (calls * Prefetch::kChunk) + 1);
  }
  for (int i = 0; i < tiles; ++i) {
    const int from = begin + static_cast<int>(static_cast<int64_t>(count) * i / tiles);
    const int to = begin + static_cast<int>(static_cast<int64_t>(count) * (i + 1) / tiles);
    if (Epilogue::kReadsC) {
      const int next = begin + static_cast<int>(static_cast<int64_t>(count) * (i + 2 < tiles ? i + 2 : tiles) / tiles);
      fetch_residual<Vectors>(g, to, next, n0);
      const int first = i + kTilesAhead - tiles;
      if (first >= 0 && first < tiles) {
        const int64_t of = static_cast<int64_t>(count);
        fetch_residual<Vectors>(g, begin + static_cast<int>(of * first / tiles),
                                begin + static_cast<int>(of * (first + 1) / tiles), n0 + Vectors * kLanes);
      }
    }
    TileOf<Epilogue, kRows, Vectors>::call(g, from, to - from, n0);
  }
}

template <class Epilogue>
void gemm(const GemmArgs& g, int begin, int end) {
  if (end <= begin) return;
  constexpr int kStep = kLanes * LAUDC_TILE_VECTORS;
  for (int n0 = 0; n0 < g.lanes; n0 += kStep) {
    const int vectors = (g.lanes - n0 + kLanes - 1) / kLanes;
    switch (vectors < LAUDC_TILE_VECTORS ? vectors : LAUDC_TILE_VECTORS) {
      case 1:
        strip<Epilogue, 1>(g, begin, end, n0);
        break;
      case 2:
        strip<Epilogue, 2>(g, begin, end, n0);
        break;
#if LAUDC_TILE_VECTORS > 2
      case 3:
        strip<Epilogue, 3>(g, begin, end, n0);
        break;
      default:
        strip<Epilogue, 4>(g, begin, end, n0);
        break;
#endif
    }
  }
}

void copy_rows(const CopyRowsArgs& c) {
  float* to = c.dst;
  for (int i = 0; i < c.count; ++i) {
    const float* from = c.src + static_cast<int64_t>(c.rows[i]) * c.width;
    for (int n = 0; n < c.width; n += 16, to += 16, from += 16) {
#pragma GCC unroll 4
      for (int lane = 0; lane < 16; lane += kLanes) store(to + lane, load(from + lane));
    }
  }
}

// G of F(2x2, 3x3) applied to three taps: [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1].
inline void winograd_filter_column(Vec g0, Vec g1, Vec g2, Vec out[4]) {
  const Vec outer = (g0 + g2) * 0.5f, inner = g1 * 0.5f;
  out[0] = g0;
  out[1] = outer + inner;
  out[2] = outer - inner;
  out[3] = g2;
}

void winograd_filters(const WinogradFilterArgs& w) {
  for (int64_t i = 0; i < w.count; i += kLanes) {
    const float* g = w.src + i;
    Vec columns[3][4];
#pragma GCC unroll 3
    for (int x = 0; x < 3; ++x) {
      winograd_filter_column(load(g + x * w.tap_stride), load(g + (3 + x) * w.tap_stride),
                             load(g + (6 + x) * w.tap_stride), columns[x]);
    }
#pragma GCC unroll 4
    for (int y = 0; y < 4; ++y) {
      Vec row[4];
      winograd_filter_column(columns[0][y], columns[1][y], columns[2][y], row);
      float* out = w.dst + i + 4 * y * w.point_stride;
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x) store(out + x * w.point_stride, row[x]);
    }
  }
}

// B' d B for one 4x4 window, 2x2 outputs: B' = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1] (Winograd F(2x2, 3x3)).
inline void winograd_input_tile(const float* src, int64_t row_stride, int64_t pixel_stride, float* dst,
                                int64_t point_stride) {
  Vec d[4][4];
#pragma GCC unroll 4
  for (int x = 0; x < 4; ++x) {
    const float* p = src + x * pixel_stride;
    const Vec r0 = load(p), r1 = load(p + row_stride), r2 = load(p + 2 * row_stride), r3 = load(p + 3 * row_stride);
    d[0][x] = r0 - r2;
    d[1][x] = r1 + r2;
    d[2][x] = r2 - r1;
    d[3][x] = r1 - r3;
  }
#pragma GCC unroll 4
  for (int y = 0; y < 4; ++y) {
    float* out = dst + 4 * y * point_stride;
    store(out, d[y][0] - d[y][2]);
    store(out + point_stride, d[y][1] + d[y][2]);
    store(out + 2 * point_stride, d[y][2] - d[y][1]);
    store(out + 3 * point_stride, d[y][1] - d[y][3]);
  }
}

void winograd_input(const WinogradInputArgs& w) {
  for (int t = w.tile_begin; t < w.tile_end; ++t) {
    const float* src = w.src + w.origins[t];
    float* dst = w.dst + (t - w.tile_begin) * w.ldd;
    // Both sides are padded to whole vectors, so the last one needs no special care.
    for (int c = 0; c < w.channels; c += kLanes) {
      winograd_input_tile(src + c, w.row_stride, w.pixel_stride, dst + c, w.point_stride);
    }
  }
}

// A' m A for one tile, A' = [1 1 1 0; 0 1 -1 -1].
inline void winograd_output_tile(const float* src, int64_t point_stride, Vec y[4]) {
  Vec top[4], bottom[4];
#pragma GCC unroll 4
  for (int x = 0; x < 4; ++x) {
    const float* p = src + x * point_stride;
    const Vec m0 = load(p), m1 = load(p + 4 * point_stride), m2 = load(p + 8 * point_stride),
              m3 = load(p + 12 * point_stride);
    top[x] = m0 + m1 + m2;
    bottom[x] = m1 - m2 - m3;
  }
  y[0] = top[0] + top[1] + top[2];
  y[1] = top[1] - top[2] - top[3];
  y[2] = bottom[0] + bottom[1] + bottom[2];
  y[3] = bottom[1] - bottom[2] - bottom[3];
}

void winograd_output(const WinogradOutputArgs& w) {
  for (int t = w.tile_begin; t < w.tile_end; ++t) {
    const float* src = w.src + (t - w.tile_begin) * w.lds;
    const int32_t* rows = w.out_rows + 4 * static_cast<int64_t>(t);
    for (int n = 0; n < w.lanes; n += kLanes) {
      Vec y[4];
      winograd_output_tile(src + n, w.point_stride, y);
      for (int i = 0; i < 4; ++i) {
        if (rows[i] < 0) continue;
        const int cls = w.out_classes == nullptr ? 0 : w.out_classes[4 * static_cast<int64_t>(t) + i];
        const Vec value = y[i] + load(w.bias + cls * w.bias_stride + n);
        finish<StoreClamped>(value, w.lo + n, w.dst + rows[i] + n, w.lanes - n);
      }
    }
  }
}

void column_sums(const float* a, const int32_t* rows, int begin, int end, int channels, float* sums) {
  int c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) {
    Vec s0 = {}, s1 = {}, s2 = {}, s3 = {};
    for (int i = begin; i < end; ++i) {
      const float* p = a + rows[i] + c;
      s0 += load(p);
      s1 += load(p + kLanes);
      s2 += load(p + 2 * kLanes);
      s3 += load(p + 3 * kLanes);
    }
    store(sums + c, s0);
    store(sums + c + kLanes, s1);
    store(sums + c + 2 * kLanes, s2);
    store(sums + c + 3 * kLanes, s3);
  }
  for (; c + kLanes <= channels; c += kLanes) {
    Vec even = {}, odd = {};
    int i = begin;
    for (; i + 2 <= end; i += 2) {
      even += load(a + rows[i] + c);
      odd += load(a + rows[i + 1] + c);
    }
    if (i < end) even += load(a + rows[i] + c);
    store(sums + c, even + odd);
  }
  for (; c < channels; ++c) {
    float total = 0;
    for (int i = begin; i < end; ++i) total += a[rows[i] + c];
    sums[c] = total;
  }
}

float dot(const float* a, const float* w, int count) {
  Vec s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int c = 0;
  for (; c + 4 * kLanes <= count; c += 4 * kLanes) {
    s0 += load(a + c) * load(w + c);
    s1 += load(a + c + kLanes) * load(w + c + kLanes);
    s2 += load(a + c + 2 * kLanes) * load(w + c + 2 * kLanes);
    s3 += load(a + c + 3 * kLanes) * load(w + c + 3 * kLanes);
  }
  for (; c + kLanes <= count; c += kLanes) s0 += load(a + c) * load(w + c);
  float total = sum_lanes((s0 + s1) + (s2 + s3));
  for (; c < count; ++c) total += a[c] * w[c];
  return total;
}

void row_dots(const float* a, const int32_t* rows, int begin, int end, int channels, const float* w, float* out) {
  for (int i = begin; i < end; ++i) out[i] = dot(a + rows[i], w, channels);
}

void max_pool_row(const float* const* rows, int row_count, int width, int pixel, int channels, int wout, float* out) {
  for (int x = 0; x < wout; ++x) {
    const int from = 2 * x - 1 < 0 ? 0 : 2 * x - 1;
    const int to = 2 * x + 2 < width ? 2 * x + 2 : width;
    for (int c = 0; c < channels; c += kLanes) {
      Vec best = load(rows[0] + static_cast<int64_t>(from) * pixel + c);
      for (int r = 0; r < row_count; ++r) {
        for (int i = from; i < to; ++i) best = at_least(best, load(rows[r] + static_cast<int64_t>(i) * pixel + c));
      }
      finish<StoreClamped>(best, nullptr, out + static_cast<int64_t>(x) * channels + c, channels - c);
    }
  }
}

typedef int IntVec __attribute__((vector_size(LAUDC_LANES * 4)));

// Exchanges, for rows i and i + Step, the lanes whose index has the bit Step.
template <int Step>
inline void transpose_stage(Vec r[kLanes]) {
  IntVec low, high;
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes; ++lane) {
    low[lane] = (lane & Step) == 0 ? lane : kLanes + lane - Step;
    high[lane] = (lane & Step) == 0 ? lane + Step : kLanes + lane;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & Step) != 0) continue;
    const Vec a = r[i], b = r[i + Step];
    r[i] = __builtin_shuffle(a, b, low);
    r[i + Step] = __builtin_shuffle(a, b, high);
  }
}

inline void transpose(Vec r[kLanes]) {
#if LAUDC_LANES >= 16
  transpose_stage<8>(r);
#endif
#if LAUDC_LANES >= 8
  transpose_stage<4>(r);
#endif
  transpose_stage<2>(r);
  transpose_stage<1>(r);
}

// Rows are pages apart, so that the hardware sees many short streams: this far ahead (floats) they are fetched by hand.
constexpr int kPackFetchDistance = 128;

// The source rows of kLanes columns, and the floats of them that are read: [begin, end).
struct PackRows {
  const float* src[kLanes];
  int begin, end;

  int fetch_distance() const { return end - begin < kPackFetchDistance ? end - begin : kPackFetchDistance; }
};

inline PackRows pack_rows(const PackArgs& p, int first_lane) {
  PackRows rows;
  for (int n = 0; n < kLanes; ++n) {
    const int lane = first_lane + n < p.lanes ? first_lane + n : first_lane;
    rows.src[n] = p.src + (p.lane_rows == nullptr ? lane : p.lane_rows[lane]) * p.src_stride;
  }
  rows.begin = p.k_kept == nullptr ? 0 : p.k_kept[0] / kLanes * kLanes;
  rows.end = p.k_kept == nullptr ? p.k_count : p.k_kept[p.k_count - 1] + 1;
  return rows;
}

// The beginning of rows, all at once: one vector of each row after the other would wait for memory again and again.
inline void fetch_begin(const PackRows& rows) {
  for (int k = rows.begin; k < rows.begin + rows.fetch_distance(); k += 16) {
#pragma GCC unroll 16
    for (int n = 0; n < kLanes; ++n) __builtin_prefetch(rows.src[n] + k, 0, 2);
  }
}

// kLanes columns of the packed panel. Reads up to a vector past the end of a row, which the caller's slack allows.
// `next`: the rows that follow.
void pack_lanes(const PackArgs& p, const PackRows& rows, const PackRows& next, float* dst) {
  const int distance = rows.fetch_distance();
  int k = 0;
  while (k < p.k_count) {
    const int k0 = p.k_kept == nullptr ? k : p.k_kept[k] / kLanes * kLanes;
    const int ahead = k0 + distance;
    const PackRows& fetched = ahead < rows.end ? rows : next;
    const int at = ahead < rows.end ? ahead : next.begin + ahead - rows.end;
    Vec r[kLanes];
#pragma GCC unroll 16
    for (int n = 0; n < kLanes; ++n) {
      __builtin_prefetch(fetched.src[n] + at, 0, 2);
      r[n] = load(rows.src[n] + k0);
    }
    transpose(r);
    if (p.k_kept == nullptr && k + kLanes <= p.k_count) {
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(dst + static_cast<int64_t>(k + i) * p.ldd, r[i]);
      k += kLanes;
      continue;
    }
    for (; k < p.k_count; ++k) {
      const int i = (p.k_kept == nullptr ? k : p.k_kept[k]) - k0;
      if (i >= kLanes) break;
      store(dst + static_cast<int64_t>(k) * p.ldd, r[i]);
    }
  }
}

void pack(const PackArgs& p) {
  if (p.k_count == 0) return;
  PackRows rows = pack_rows(p, 0);
  fetch_begin(rows);
  for (int lane = 0; lane < p.lanes; lane += kLanes) {
    const PackRows next = lane + kLanes < p.lanes ? pack_rows(p, lane + kLanes) : rows;
    pack_lanes(p, rows, next, p.dst + lane);
    rows = next;
  }
}

KernelTable make_table(const char* name, int panel) {
  return {name,           panel,           gemm<StoreClamped>, gemm<AddRelu>, pack,        copy_rows, winograd_filters,
          winograd_input, winograd_output, column_sums,        row_dots,      max_pool_row};
}

}  // namespace
}  // namespace cpu
}  // namespace laudc
