// Products of token rows with panels of weights, of which any may be left out.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace laudc {
namespace cpu {

// Columns [column, column + lanes) of the result.
struct PanelJob {
  const float* b;
  const float* bias;
  int column;
  int lanes;
};

// Which of the K values of a row are used: `taps` stretches of `k_count` values, at a_taps in a row and at b_taps in a
// panel (null: one after another).
struct Depth {
  int taps;
  int k_count;
  const int32_t* a_taps;
  const int64_t* b_taps;

  static Depth whole(int k_count);
  int64_t values() const { return static_cast<int64_t>(taps) * k_count; }
};

struct TokenRows {
  const float* a;
  const int32_t* a_rows;
  float* c;
  const int32_t* c_rows;
  int count;
};

using GemmFunction = void (*)(const GemmArgs&, int begin, int end);

// `panel`: width of the panels. `next`: `next_floats` floats of memory that will be read soon after.
void panel_gemm(const Parallel& parallel, GemmFunction gemm, const std::vector<PanelJob>& jobs, int panel,
                const Depth& depth, const TokenRows& rows, const float* next, int64_t next_floats);

}  // namespace cpu
}  // namespace laudc
