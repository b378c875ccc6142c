// AArch64: 32 registers of 4 floats; a 6x16 tile leaves room for its four weight vectors, and the compiler multiplies
// by a lane of a scalar load. The portable 4x8 tile has three loads for four multiplications, more than these cores
// make at a time.
#define LAUDC_LANES 4
#define LAUDC_TILE_VECTORS 4
#define LAUDC_MAX_ROWS(nv) ((nv) == 1 ? 16 : (nv) == 2 ? 10 : (nv) == 3 ? 8 : 6)
#include "cpu/kernels_impl.h"
#include "cpu/token_kernels_impl.h"

namespace laudc {
namespace cpu {

const KernelTable& neon_kernels() {
  static const KernelTable table = make_table("neon", 16);
  return table;
}

const TokenKernels& neon_token_kernels() {
  static const TokenKernels table = make_token_kernels();
  return table;
}

}  // namespace cpu
}  // namespace laudc
