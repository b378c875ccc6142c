// AVX2 + FMA: 16 registers of 8 floats; a 6x16 tile leaves room for two weight vectors and one broadcast.
#define LAUDC_LANES 8
#define LAUDC_TILE_VECTORS 2
#define LAUDC_MAX_ROWS(nv) ((nv) == 1 ? 10 : 6)
#include "cpu/kernels_impl.h"

namespace laudc {
namespace cpu {
namespace {
void pack(const PackArgs& p, const PackMove*, int) { pack_by_lane(p); }
}  // namespace

const KernelTable& avx2_kernels() {
  static const KernelTable table = {"avx2",          16,          gemm<StoreClamped>, gemm<AddRelu>, pack, winograd_input,
                                    winograd_output, column_sums, row_dots,           max_pool_row};
  return table;
}

}  // namespace cpu
}  // namespace laudc
