// What the kernels need of a device, behind a few names.
//
// The kernels are written against this header only. nvcc and NVRTC get intrinsics and PTX; every other compiler gets
// the emulation of plugins/tests, which runs the very same kernels on the host, thread by thread, so that their logic
// is tested where there is no GPU. C++14, and nothing newer than CUDA 10.2 below sm_80: this must build on JetPack 4.6.
#pragma once

#include "cuda/types.h"

#if !defined(__CUDACC__) && !defined(__CUDACC_RTC__)
#include "tests/emulated_device.h"
#else

#define LAUDC_DEVICE __device__ __forceinline__
#define LAUDC_KERNEL(threads, blocks_per_sm) __global__ void __launch_bounds__(threads, blocks_per_sm)
#define LAUDC_SHARED __shared__
#define LAUDC_UNROLL _Pragma("unroll")
// Dynamic shared memory of the block, 16-byte aligned.
#define LAUDC_DYNAMIC_SHARED(name)                     \
  extern __shared__ laudc::cuda::Bytes16 laudc_smem[]; \
  char* name = reinterpret_cast<char*>(laudc_smem)

namespace laudc {
namespace cuda {

// Whether this code is for a GPU of compute capability (10 * major + minor) first_sm or later, but before end_sm.
__device__ constexpr bool compiled_between(int first_sm, int end_sm) {
#if defined(__CUDA_ARCH__)
  return __CUDA_ARCH__ / 10 >= first_sm && __CUDA_ARCH__ / 10 < end_sm;
#else
  return first_sm < 0 && end_sm < 0;  // the host's half of a kernel
#endif
}

LAUDC_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
LAUDC_DEVICE int block_index() { return static_cast<int>(blockIdx.x); }
LAUDC_DEVICE int grid_size() { return static_cast<int>(gridDim.x); }
LAUDC_DEVICE void sync_block() { __syncthreads(); }
LAUDC_DEVICE void sync_warp() { __syncwarp(); }
LAUDC_DEVICE uint32_t ballot(bool vote) { return __ballot_sync(0xffffffffu, vote); }
LAUDC_DEVICE float shuffle_xor(float value, int lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }
LAUDC_DEVICE int bit_count(uint32_t bits) { return __popc(bits); }
LAUDC_DEVICE int atomic_add(int* address, int value) { return atomicAdd(address, value); }
LAUDC_DEVICE void fence() { __threadfence(); }
LAUDC_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
LAUDC_DEVICE float exponential(float value) { return expf(value); }
LAUDC_DEVICE float error_function(float value) { return erff(value); }
LAUDC_DEVICE float square_root(float value) { return sqrtf(value); }
// Past the L1 cache: for values that other blocks of the same launch wrote.
LAUDC_DEVICE float load_shared_result(const float* address) { return __ldcg(address); }

LAUDC_DEVICE float to_float(float value) { return value; }
LAUDC_DEVICE float to_float(Half value) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value.bits));
  return out;
}
LAUDC_DEVICE void from_float(float value, float* out) { *out = value; }
LAUDC_DEVICE void from_float(float value, Half* out) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out->bits) : "f"(value)); }

LAUDC_DEVICE float as_float(uint32_t bits) { return __uint_as_float(bits); }

// ---- tensor cores: for the GPUs that mma_atoms.cuh names only
// ---------------------------------------------------------

LAUDC_DEVICE uint32_t shared_address(const void* address) {
  uint64_t out;  // CUDA 10.2 has no function for it
  asm("cvta.to.shared.u64 %0, %1;" : "=l"(out) : "l"(address));
  return static_cast<uint32_t>(out);
}

// Copies kBytes (4, 8 or 16) to shared memory in the background; zeros if not `valid`.
template <int kBytes>
LAUDC_DEVICE void copy_async(void* to, const void* from, bool valid) {
  const int bytes = valid ? kBytes : 0;
  if (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(kBytes),
                 "r"(bytes)
                 : "memory");
  }
}
LAUDC_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the newest kPending groups have arrived.
template <int kPending>
LAUDC_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
LAUDC_DEVICE void load_matrices(const void* row, uint32_t out[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}
LAUDC_DEVICE void load_matrices_transposed(const void* row, uint32_t out[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

// Four products of 8x4 by 4x8 at once, one for each eight lanes l, l + 16 with the same l / 4.
LAUDC_DEVICE void multiply_half_8x8x4(float c[8], const uint32_t a[2], const uint32_t b[2]) {
  asm volatile(
      "mma.sync.aligned.m8n8k4.row.row.f32.f16.f16.f32 {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9}, {%10, %11}, "
      "{%0, %1, %2, %3, %4, %5, %6, %7};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]));
}
LAUDC_DEVICE void multiply_half_16x8x8(float c[4], const uint32_t a[2], uint32_t b) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(b));
}
LAUDC_DEVICE void multiply_half_16x8x16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
LAUDC_DEVICE void multiply_tf32_16x8x8(float c[4], const uint32_t a[4], const uint32_t b[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Rounds to TF32 (nearest, ties away); the tensor core would truncate.
LAUDC_DEVICE uint32_t to_tf32(uint32_t bits) {
  uint32_t out;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(out) : "f"(as_float(bits)));
  return out;
}

}  // namespace cuda
}  // namespace laudc

#endif
