// The GPU that tests of the CUDA kernels run on: emulated_launch.cpp is the emulated one, real_gpu.cpp a real one.
#pragma once

#include <cstddef>

#include "cuda/laudc_cuda.h"

namespace laudc {
namespace test {

// Memory that host and GPU both see, 256-byte aligned.
void* gpu_allocate(size_t bytes);
void gpu_free(void* memory);

// The GPU to make a run for where a test is about `wanted`.
laudc_cuda_device gpu_for(const laudc_cuda_device& wanted);

// As laudc_cuda_prepare and laudc_cuda_enqueue, done when they return. On a real GPU every second call goes through a
// CUDA graph: results must not depend on it.
int gpu_prepare(const laudc_cuda_run* run, const float* const* packed, void* prepared, char* error, size_t error_size);
int gpu_run(const laudc_cuda_run* run, const laudc_cuda_io* io, char* error, size_t error_size);

// Whether launches are counted (emulated_gpu.h).
bool gpu_counts_launches();

}  // namespace test
}  // namespace laudc
