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
  int lanes;  // columns that are computed and written, 1..kMaxPanel
};

// Copies selected columns (and rows) of panelled weights into one panel.
struct PackArgs {
  const float* src;       // [panel][k_total][src_panel]
  const int32_t* rows;    // source row of every packed row; null: 0, 1, 2, ...
  int row_count;
  int src_panel;             // floats between source rows
  const int32_t* lane_src;   // per packed lane: offset of its column from `src`
  int lanes;
  float* dst;  // [row_count][ldd]; lanes beyond `lanes` up to the next multiple of 16 are undefined but finite
  int ldd;
};

// Which 16 (or fewer) source columns feed consecutive packed lanes: used by instruction sets that can compress.
struct PackMove {
  int32_t src;      // offset of the 16-column group from `src`
  uint16_t mask;    // columns taken
  uint16_t lane;    // first packed lane
};

struct WinogradInputArgs {
  const float* src;        // zero-padded map
  const int32_t* origins;  // per tile: offset of the top-left input pixel of its 4x4 window
  int tile_begin, tile_end;
  int64_t row_stride, pixel_stride;  // floats
  int channels;
  float* dst;                          // [16][point_stride]; tile i of the call at i * ldd
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
  void (*pack)(const PackArgs&, const PackMove* moves, int move_count);
  void (*winograd_input)(const WinogradInputArgs&);
  void (*winograd_output)(const WinogradOutputArgs&);
  // sums[c] = sum over rows of a[rows[i] + c]
  void (*column_sums)(const float* a, const int32_t* rows, int begin, int end, int channels, float* sums);
  // out[i] = sum_c a[rows[i] + c] * w[c], i in [begin, end)
  void (*row_dots)(const float* a, const int32_t* rows, int begin, int end, int channels, const float* w, float* out);
  // one channel-wise 3x3 stride 2 maximum over `count` output pixels of a row; see stem.cpp
  void (*max_pool_row)(const float* const* rows, int row_count, int width, int channels, int wout, float* out);
};

const KernelTable& portable_kernels();
#if defined(LAUDC_HAVE_X86_KERNELS)
const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels();
#endif

// The best table this CPU runs. LAUDC_ISA=portable|avx2|avx512 in the environment asks for a lesser one.
const KernelTable& kernels();

}  // namespace cpu
}  // namespace laudc
