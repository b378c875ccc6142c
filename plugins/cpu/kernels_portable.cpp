// Any CPU: 4-float vectors, which GCC and Clang lower to SSE2, NEON or scalar code.
#define LAUDC_LANES 4
#define LAUDC_TILE_VECTORS 2
#define LAUDC_MAX_ROWS(nv) ((nv) == 1 ? 6 : 4)
#include "cpu/kernels_impl.h"
#include "cpu/token_kernels_impl.h"

namespace laudc {
namespace cpu {

const KernelTable& portable_kernels() {
  static const KernelTable table = make_table("portable", 16);
  return table;
}

const TokenKernels& portable_token_kernels() {
  static const TokenKernels table = make_token_kernels();
  return table;
}

}  // namespace cpu
}  // namespace laudc
