// How a GEMM is cut into tiles for one GPU.
#pragma once

#include "cuda/launch.h"

namespace laudc {
namespace cuda {

// Tiles that may be split along k at once, and the floats that their partial sums may take.
int max_split_tiles(int multiprocessors);
int64_t max_partial_floats(int multiprocessors);

// Chooses tile shape, splits and grid and queues the GEMM; 0 or an error. Its `partials` and `tickets` have the sizes
// above.
int queue_gemm(GemmKind kind, int multiprocessors, GemmParams* params, Stream stream);

}  // namespace cuda
}  // namespace laudc
