#include <cstring>

#include "cpu/token_kernels.h"

namespace laudc {
namespace cpu {
namespace {

const TokenKernels& choose() {
#if defined(LAUDC_HAVE_X86_KERNELS)
  if (std::strcmp(kernels().name, "avx512") == 0) return avx512_token_kernels();
  if (std::strcmp(kernels().name, "avx2") == 0) return avx2_token_kernels();
#endif
#if defined(LAUDC_HAVE_NEON_KERNELS)
  if (std::strcmp(kernels().name, "neon") == 0) return neon_token_kernels();
#endif
  return portable_token_kernels();
}

}  // namespace

const TokenKernels& token_kernels() {
  static const TokenKernels& table = choose();
  return table;
}

}  // namespace cpu
}  // namespace laudc
