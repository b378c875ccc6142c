// The kernels on the emulated GPU. Device memory is host memory; every launch has another seed.
#include <cstdlib>
#include <type_traits>

#include "cuda/dispatch.cuh"
#include "tests/emulated_gpu.h"
#include "tests/gpu.h"

namespace laudc {
namespace cuda {
namespace {

emulated::Gpu gpu;

uint32_t next_seed() { return gpu.seed + static_cast<uint32_t>(++gpu.launches); }

struct EmulatedLauncher {
  template <class Params>
  int start(void (*kernel)(Params), const typename std::remove_cv<Params>::type& params, int grid, int threads,
            size_t shared_bytes) {
    emulated::launch(grid, threads, shared_bytes, next_seed(), [&] { kernel(params); });
    return 0;
  }
};

}  // namespace

namespace emulated {
Gpu& the_gpu() { return gpu; }
}  // namespace emulated

int launch_gemm(GemmKind kind, TileShape shape, const GemmParams& params, int grid, Stream) {
  ++gpu.gemms[static_cast<int>(kind)][static_cast<int>(shape)];
  gpu.split_gemms += params.splits > 1 ? 1 : 0;
  EmulatedLauncher launcher;
  return start_gemm(launcher, kind, shape, params, grid);
}

int launch_masker(bool half_map, bool half_features, const MaskerParams& params, Stream) {
  EmulatedLauncher launcher;
  return start_masker(launcher, half_map, half_features, params);
}

int launch_grouped(bool half, const GroupedParams& params, int most_blocks, Stream) {
  EmulatedLauncher launcher;
  return start_grouped(launcher, half, params, most_blocks);
}

int launch_excite(bool half, const ExciteParams& params, Stream) {
  EmulatedLauncher launcher;
  return start_excite(launcher, half, params);
}

int launch_scale(bool half, const ScaleParams& params, int most_blocks, Stream) {
  EmulatedLauncher launcher;
  return start_scale(launcher, half, params, most_blocks);
}

int launch_choose(bool half, const ChooseParams& params, Stream) {
  EmulatedLauncher launcher;
  return start_choose(launcher, half, params);
}

int launch_normalise(bool half, const NormParams& params, int most_blocks, Stream) {
  EmulatedLauncher launcher;
  return start_normalise(launcher, half, params, most_blocks);
}

int launch_attention(bool half, const AttentionParams& params, int most_blocks, Stream) {
  EmulatedLauncher launcher;
  return start_attention(launcher, half, params, most_blocks);
}

int launch_convert(bool half, const ConvertParams& params, int grid, Stream) {
  EmulatedLauncher launcher;
  return start_convert(launcher, half, params, grid);
}

int fill_zero(void* memory, size_t bytes, Stream) {
  std::memset(memory, 0, bytes);
  return 0;
}

int copy_memory(const void* from, void* to, size_t bytes, Stream) {
  std::memcpy(to, from, bytes);
  return 0;
}

int copy_rows(const void* from, size_t from_stride, void* to, size_t to_stride, size_t bytes, size_t rows, Stream) {
  for (size_t i = 0; i < rows; ++i) {
    std::memcpy(static_cast<char*>(to) + i * to_stride, static_cast<const char*>(from) + i * from_stride, bytes);
  }
  return 0;
}

int current_device(laudc_cuda_device* device) {
  *device = gpu.device;
  return gpu.missing ? 1 : 0;
}

int allocate(size_t bytes, void** memory) {
  if (gpu.out_of_memory) return 2;
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *memory == nullptr ? 2 : 0;
}

void release(void* memory) { std::free(memory); }

bool is_capturing(Stream) { return gpu.capturing; }

const char* error_text(int error) { return error == 2 ? "out of memory" : "emulated error"; }

}  // namespace cuda

namespace test {

void* gpu_allocate(size_t bytes) { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }

void gpu_free(void* memory) { std::free(memory); }

laudc_cuda_device gpu_for(const laudc_cuda_device& wanted) { return wanted; }

int gpu_prepare(const laudc_cuda_run* run, const float* const* packed, void* prepared, char* error, size_t error_size) {
  return laudc_cuda_prepare(run, packed, prepared, nullptr, error, error_size);
}

int gpu_run(const laudc_cuda_run* run, const laudc_cuda_io* io, char* error, size_t error_size) {
  return laudc_cuda_enqueue(run, io, nullptr, error, error_size);
}

bool gpu_counts_launches() { return true; }

}  // namespace test
}  // namespace laudc

// For tests in Python: what has been launched so far.
extern "C" {

int64_t laudc_emulated_launches() { return laudc::cuda::emulated::the_gpu().launches; }

// GEMMs of a GemmKind in a TileShape.
int laudc_emulated_gemms(int kind, int shape) { return laudc::cuda::emulated::the_gpu().gemms[kind][shape]; }

int laudc_emulated_split_gemms() { return laudc::cuda::emulated::the_gpu().split_gemms; }

}  // extern "C"
