// The parallel building blocks of a block: indexed GEMMs over panelled weights, direct and Winograd.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/row_sets.h"
#include "cpu/workspace.h"

namespace laudc {
namespace cpu {

// Panelled weights of K x N, possibly restricted to some of their rows (input channels) and columns (output channels).
struct Weights {
  const float* data;
  int k_count;  // rows per tap in memory
  int taps;
  int columns;
  int panel;
  const std::vector<int32_t>* k_kept;  // null: all
  const std::vector<int32_t>* n_kept;  // null: all

  int kept_rows_per_tap() const { return k_kept == nullptr ? k_count : static_cast<int>(k_kept->size()); }
  int kept_columns() const { return n_kept == nullptr ? columns : static_cast<int>(n_kept->size()); }
  bool whole() const { return k_kept == nullptr && n_kept == nullptr; }
  int64_t panel_stride() const { return static_cast<int64_t>(taps) * k_count * panel; }
};

// What a convolution does apart from its weights. Offsets as in GemmArgs.
struct Rows {
  const float* a;
  const int32_t* a_rows;
  const int32_t* tap_offsets;
  float* c;
  const int32_t* c_rows;
  const uint8_t* classes;
  SampleRange range;
};

struct Bias {
  const float* bias;
  int64_t class_stride;
  const float* lo;
};

enum class Epilogue { kStore, kAddRelu };

struct Context {
  const KernelTable* kernels;
  const Parallel* parallel;
  Pool<TaskScratch>* scratch;
};

void indexed_gemm(const Context& context, const Weights& weights, const Rows& rows, const Bias& bias, Epilogue epilogue);

struct Tiles {
  const float* src;  // zero-bordered map
  const int32_t* origins;
  const int32_t* out_rows;
  const uint8_t* out_classes;
  int64_t row_stride, pixel_stride;
  float* dst;
  SampleRange range;
};

// F(2x2, 3x3) over a list of tiles; `weights` are the 16 transformed matrices, one after another. `transformed` is shared
// memory for the inputs when the work is split by columns.
void winograd_conv(const Context& context, const Weights& weights, const Tiles& tiles, const Bias& bias,
                   Buffer* transformed);

}  // namespace cpu
}  // namespace laudc
