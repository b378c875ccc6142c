// AVX-512: 32 registers of 16 floats. 6x64 keeps 24 accumulators, 4 weight vectors and a broadcast: 10 loads per 24
// FMAs.
#define LAUDC_LANES 16
#define LAUDC_TILE_VECTORS 4
#define LAUDC_MAX_ROWS(nv) ((nv) == 1 ? 14 : (nv) == 2 ? 12 : (nv) == 3 ? 8 : 6)
#include "cpu/kernels_impl.h"
#include "cpu/token_kernels_impl.h"

namespace laudc {
namespace cpu {

const KernelTable& avx512_kernels() {
  static const KernelTable table = make_table("avx512", 64);
  return table;
}

const TokenKernels& avx512_token_kernels() {
  static const TokenKernels table = make_token_kernels();
  return table;
}

}  // namespace cpu
}  // namespace laudc
