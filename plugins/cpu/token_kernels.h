// What transformer blocks need beside the GEMMs of kernels.h: other epilogues, layer normalisation, softmax.
#pragma once

#include <cstdint>

#include "cpu/kernels.h"

namespace laudc {
namespace cpu {

struct LayerNormArgs {
  const float* x;
  const int32_t* x_rows;  // offset of every row
  float* y;
  int64_t y_stride;  // row i of the call is written to y + i * y_stride
  int dim;
  const float* weight;
  const float* bias;
  float epsilon;
};

struct TokenKernels {
  // c = c + acc, rows [begin, end)
  void (*gemm_add)(const GemmArgs&, int begin, int end);
  // c = gelu(acc), the exact form with erf
  void (*gemm_gelu)(const GemmArgs&, int begin, int end);
  // Rows [begin, end).
  void (*layer_norm)(const LayerNormArgs&, int begin, int end);
  // In place on `rows` rows of `count` values, `stride` floats apart.
  void (*softmax)(float* values, int rows, int count, int64_t stride);
};

// Of the same instruction set as kernels().
const TokenKernels& token_kernels();

const TokenKernels& portable_token_kernels();
#if defined(LAUDC_HAVE_X86_KERNELS)
const TokenKernels& avx2_token_kernels();
const TokenKernels& avx512_token_kernels();
#endif
#if defined(LAUDC_HAVE_NEON_KERNELS)
const TokenKernels& neon_token_kernels();
#endif

}  // namespace cpu
}  // namespace laudc
