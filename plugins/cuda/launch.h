// Starting kernels, without naming CUDA: kernels.cu does it on a GPU, plugins/tests on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/laudc_cuda.h"
#include "cuda/params.h"
#include "cuda/token_params.h"

namespace laudc {
namespace cuda {

typedef void* Stream;

// Operand types and arithmetic of a GEMM.
enum class GemmKind {
  kFloat,       // fp32 everything
  kHalf,        // fp16 operands, fp32 multiply-adds
  kHalfFloat,   // fp16 map, fp32 weights and result: the Conv masker of an fp16 run
  kTf32,        // fp32 operands, TF32 tensor cores
  kHalfMma,     // fp16 operands, tensor cores from sm_80 on
  kHalfTuring,  // the same, of sm_75
  kHalfVolta,   // the same, of sm_70
};

enum class TileShape { kSmall, kTall, kBig };

struct TileSize {
  int m, n;
  int step;  // inputs per step
  int threads;
};

TileSize tile_size(GemmKind kind, TileShape shape);

// All return 0 or an error that error_text() explains.
int launch_gemm(GemmKind kind, TileShape shape, const GemmParams& params, int grid, Stream stream);
int launch_masker(bool half_map, bool half_features, const MaskerParams& params, Stream stream);
// `most_blocks`: thread blocks that are worth starting.
int launch_grouped(bool half, const GroupedParams& params, int most_blocks, Stream stream);
int launch_excite(bool half, const ExciteParams& params, Stream stream);
int launch_scale(bool half, const ScaleParams& params, int most_blocks, Stream stream);
int launch_choose(bool half, const ChooseParams& params, Stream stream);
int launch_normalise(bool half, const NormParams& params, int most_blocks, Stream stream);
int launch_attention(bool half, const AttentionParams& params, int most_blocks, Stream stream);
int launch_convert(bool half, const ConvertParams& params, int grid, Stream stream);
int fill_zero(void* memory, size_t bytes, Stream stream);
int copy_memory(const void* from, void* to, size_t bytes, Stream stream);
// `rows` rows of `bytes` each, which lie further apart.
int copy_rows(const void* from, size_t from_stride, void* to, size_t to_stride, size_t bytes, size_t rows,
              Stream stream);

int current_device(laudc_cuda_device* device);
int allocate(size_t bytes, void** memory);
void release(void* memory);
bool is_capturing(Stream stream);
const char* error_text(int error);

}  // namespace cuda
}  // namespace laudc
