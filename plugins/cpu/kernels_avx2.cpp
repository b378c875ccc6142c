// AVX2 + FMA: 16 registers of 8 floats; a 6x16 tile leaves room for two weight vectors and one broadcast.
#define LAUDC_LANES 8
#define LAUDC_TILE_VECTORS 2
#define LAUDC_MAX_ROWS(nv) ((nv) == 1 ? 10 : 6)
#include "cpu/kernels_impl.h"
#include "cpu/token_kernels_impl.h"

namespace laudc {
namespace cpu {

const KernelTable& avx2_kernels() {
  static const KernelTable table = make_table("avx2", 16);
  return table;
}

const TokenKernels& avx2_token_kernels() {
  static const TokenKernels table = make_token_kernels();
  return table;
}

}  // namespace cpu
}  // namespace laudc
