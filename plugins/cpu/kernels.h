// The micro-kernel family: one table of functions with uniform signatures per instruction set.
//
// All of them work on fp32 in NHWC. A "row" is one pixel (or Winograd tile): its K input values are contiguous, and its
// position is a float offset, so gathered, strided and dense rows cost the same.
#pragma once

#include <cstddef>
#include <cstdint>

namespace laudc {
namespace cpu {

constexpr int kMaxPanel = 64;  // columns of the widest weight panel

// Memory that will be read soon: a stretch, then rows of some matrices. Kernels fetch it bit by bit between
// multiplications, because weights stream from memory far slower than they are used once they are in cache.
struct Prefetch {
  const char* next = nullptr;
  const char* end = nullptr;
  const char* base = nullptr;
  int64_t row_bytes = 0, matrix_bytes = 0;
  int matrices = 0;
  const int32_t* rows = nullptr;
  int row_count = 0;
  int row = 0;
  int chunks_per_step = 1;

  int64_t left() const { return (end - next) + (static_cast<int64_t>(matrices) * row_count - row) * row_bytes; }

  static constexpr int kChunk = 256;  // bytes per step
  static constexpr int kFetchDistance =
      64;  // every line: not all hardware completes pairs by itself (measured on Zen 4)
};

constexpr int kPrefetchInterval = 8;  // k steps of a tile between two prefetches

// One weight panel applied to a list of rows:
//   acc[m, n] = bias[class(m), n] + sum_t sum_k a[a_rows[m] + tap_offsets[t] + k] * b[t * k_count + k, n]
struct GemmArgs {
  const float* a;
  const int32_t* a_rows;
  const int32_t* tap_offsets;
  int taps;
  int k_count;
  const float* b;  // [taps * k_count][ldb]
  int ldb;
  const float* bias;         // [classes][bias_stride]
  const uint8_t* row_class;  // per row; null: every row has class 0
  int64_t bias_stride;
  const float* lo;  // [lanes]: lower clamp; null: none
  float* c;
  const int32_t* c_rows;
  int lanes;        // columns that are computed and written, 1..kMaxPanel
  Prefetch* ahead;  // may be null
  float* sums;      // gemm_add_relu: [lanes], increased by the sum over rows of what is written; may be null
  const int64_t* b_taps = nullptr;  // where in b each tap begins; null: one after another
};

// Turns selected rows of a matrix with one row per output channel into a panel with one column per output channel.
struct PackArgs {
  const float* src;
  int64_t src_stride;        // floats between source rows
  const int32_t* lane_rows;  // source row of every packed column; null: 0, 1, 2, ...
  int lanes;
  const int32_t* k_kept;  // ascending; null: all
  int k_count;            // entries of k_kept, or values per source row
  float* dst;  // [k_count][ldd]; columns beyond `lanes` up to the next multiple of 16 are undefined but finite
  int ldd;
};

// Selected rows of a panel one after another.
struct CopyRowsArgs {
  const float* src;
  const int32_t* rows;
  int count;
  int width;  // floats of a row, a multiple of 16; also the distance between rows on both sides
  float* dst;
};

// Filters g of [9][tap_stride] to G g G' of [16][point_stride], `count` of them.
struct WinogradFilterArgs {
  const float* src;
  int64_t tap_stride;  // floats
  int64_t count;       // a multiple of 16
  float* dst;
  int64_t point_stride;
};

struct WinogradInputArgs {
  const float* src;        // zero-padded map
  const int32_t* origins;  // per tile: offset of the top-left input pixel of its 4x4 window
  int tile_begin, tile_end;
  int64_t row_stride, pixel_stride;  // floats
  int channels;
  float* dst;  // [16][point_stride]; tile i of the call at i * ldd
  int64_t point_stride;
  int64_t ldd;
};

struct WinogradOutputArgs {
  const float* src;  // [16][point_stride], tile i at i * lds
  int64_t point_stride;
  int64_t lds;
  int tile_begin, tile_end;
  const int32_t* out_rows;     // per tile 4 offsets into dst (row-major 2x2), -1: not wanted
  const uint8_t* out_classes;  // per tile 4 border classes; null: all 0
  const float* bias;           // [classes][bias_stride]
  int64_t bias_stride;
  const float* lo;
  float* dst;
  int lanes;
};

struct KernelTable {
  const char* name;
  int panel;  // the panel width this instruction set likes best

  // c = max(acc, lo), rows [begin, end)
  void (*gemm_store)(const GemmArgs&, int begin, int end);
  // c = max(c + acc, 0)
  void (*gemm_add_relu)(const GemmArgs&, int begin, int end);
  void (*pack)(const PackArgs&);
  void (*copy_rows)(const CopyRowsArgs&);
  void (*winograd_filters)(const WinogradFilterArgs&);
  void (*winograd_input)(const WinogradInputArgs&);
  void (*winograd_output)(const WinogradOutputArgs&);
  // sums[c] = sum over rows of a[rows[i] + c]
  void (*column_sums)(const float* a, const int32_t* rows, int begin, int end, int channels, float* sums);
  // out[i] = sum_c a[rows[i] + c] * w[c], i in [begin, end)
  void (*row_dots)(const float* a, const int32_t* rows, int begin, int end, int channels, const float* w, float* out);
  // 3x3 stride 2 maximum: up to 3 input rows of `width` pixels, `pixel` floats apart, into `wout` pixels of `channels`.
  // Input pixels are readable in whole vectors.
  void (*max_pool_row)(const float* const* rows, int row_count, int width, int pixel, int channels, int wout,
                       float* out);
};

const KernelTable& portable_kernels();
#if defined(LAUDC_HAVE_X86_KERNELS)
const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels();
#endif
#if defined(LAUDC_HAVE_NEON_KERNELS)
const KernelTable& neon_kernels();
#endif

// The best table this CPU runs. LAUDC_ISA=portable, or on x86-64 avx2, in the environment asks for a lesser one.
const KernelTable& kernels();

}  // namespace cpu
}  // namespace laudc
