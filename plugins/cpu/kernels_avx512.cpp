// AVX-512: 32 registers of 16 floats. 6x64 keeps 24 accumulators, 4 weight vectors and a broadcast: 10 loads per 24 FMAs.
#include <immintrin.h>

#define LAUDC_LANES 16
#define LAUDC_TILE_VECTORS 4
#define LAUDC_MAX_ROWS(nv) ((nv) == 1 ? 14 : (nv) == 2 ? 12 : (nv) == 3 ? 8 : 6)
#include "cpu/kernels_impl.h"

namespace laudc {
namespace cpu {
namespace {

// Whole vectors are stored; what a move writes beyond its own lanes the next move, or the next row, overwrites.
void pack(const PackArgs& p, const PackMove* moves, int move_count) {
  for (int r = 0; r < p.row_count; ++r) {
    const int64_t row = p.rows == nullptr ? r : p.rows[r];
    const float* src = p.src + row * p.src_panel;
    float* dst = p.dst + static_cast<int64_t>(r) * p.ldd;
    for (int i = 0; i < move_count; ++i) {
      const PackMove& m = moves[i];
      _mm512_storeu_ps(dst + m.lane, _mm512_maskz_compress_ps(m.mask, _mm512_loadu_ps(src + m.src)));
    }
  }
}

}  // namespace

const KernelTable& avx512_kernels() {
  static const KernelTable table = {"avx512",        64,          gemm<StoreClamped>, gemm<AddRelu>, pack, winograd_input,
                                    winograd_output, column_sums, row_dots,           max_pool_row};
  return table;
}

}  // namespace cpu
}  // namespace laudc
