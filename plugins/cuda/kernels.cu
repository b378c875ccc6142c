// The kernels on a GPU.
#include <cuda_runtime_api.h>

#include <algorithm>

#include "cuda/dispatch.cuh"

namespace laudc {
namespace cuda {
namespace {

constexpr size_t kStaticShared = 48 * 1024;

// An error that we tell ourselves is not left for whoever asks CUDA for the thread's last one.
int reported(cudaError_t error) {
  if (error != cudaSuccess) cudaGetLastError();
  return static_cast<int>(error);
}

struct CudaLauncher {
  cudaStream_t stream;

  template <class Params>
  int start(void (*kernel)(Params), const typename std::remove_cv<Params>::type& params, int grid, int threads,
            size_t shared_bytes) {
    if (shared_bytes > kStaticShared) {
      const cudaError_t allowed =
          cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes));
      if (allowed != cudaSuccess) return reported(allowed);
    }
    // Not by <<<>>>, whose only report is the thread's last error: that may be left over from somebody else's call.
    Params copy = params;
    void* arguments[] = {&copy};
    const cudaError_t launched =
        cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(grid)),
                         dim3(static_cast<unsigned>(threads)), arguments, shared_bytes, stream);
    return reported(launched);
  }
};

cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

int launch_gemm(GemmKind kind, TileShape shape, const GemmParams& params, int grid, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_gemm(launcher, kind, shape, params, grid);
}

int launch_masker(bool half_map, bool half_features, const MaskerParams& params, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_masker(launcher, half_map, half_features, params);
}

int launch_grouped(bool half, const GroupedParams& params, int most_blocks, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_grouped(launcher, half, params, most_blocks);
}

int launch_excite(bool half, const ExciteParams& params, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_excite(launcher, half, params);
}

int launch_scale(bool half, const ScaleParams& params, int most_blocks, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_scale(launcher, half, params, most_blocks);
}

int launch_choose(bool half, const ChooseParams& params, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_choose(launcher, half, params);
}

int launch_normalise(bool half, const NormParams& params, int most_blocks, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_normalise(launcher, half, params, most_blocks);
}

int launch_attention(bool half, const AttentionParams& params, int most_blocks, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_attention(launcher, half, params, most_blocks);
}

int launch_convert(bool half, const ConvertParams& params, int grid, Stream stream) {
  CudaLauncher launcher = {cuda_stream(stream)};
  return start_convert(launcher, half, params, grid);
}

int fill_zero(void* memory, size_t bytes, Stream stream) {
  return reported(cudaMemsetAsync(memory, 0, bytes, cuda_stream(stream)));
}

int copy_memory(const void* from, void* to, size_t bytes, Stream stream) {
  return reported(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_stream(stream)));
}

int copy_rows(const void* from, size_t from_stride, void* to, size_t to_stride, size_t bytes, size_t rows,
              Stream stream) {
  return reported(
      cudaMemcpy2DAsync(to, to_stride, from, from_stride, bytes, rows, cudaMemcpyDeviceToDevice, cuda_stream(stream)));
}

// Kernels for an older GPU run on newer ones, and have what they were compiled for: the tensor cores of that
// generation.
int current_device(laudc_cuda_device* device) {
  int id = 0, major = 0, minor = 0, count = 0;
  cudaError_t error = cudaGetDevice(&id);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, id);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, id);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, id);
  cudaFuncAttributes kernel = cudaFuncAttributes();
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&kernel, reinterpret_cast<const void*>(convert<float>));
  device->sm = std::min(10 * major + minor, kernel.ptxVersion);
  device->multiprocessors = count;
  return reported(error);
}

int allocate(size_t bytes, void** memory) { return reported(cudaMalloc(memory, bytes)); }

void release(void* memory) { cudaFree(memory); }

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  // Asked about the legacy stream while another is captured, CUDA answers with an error: that one is not.
  return reported(cudaStreamIsCapturing(cuda_stream(stream), &status)) == 0 && status != cudaStreamCaptureStatusNone;
}

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace cuda
}  // namespace laudc
