// The tests' GPU, where there is one. Memory is managed, so that host code of the tests needs no copies.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "tests/emulated_gpu.h"
#include "tests/gpu.h"

namespace laudc {
namespace {

[[noreturn]] void die(const char* what, const char* why) {
  std::fprintf(stderr, "%s: %s\n", what, why);
  std::exit(2);
}

void require(cudaError_t status, const char* what) {
  if (status != cudaSuccess) die(what, cudaGetErrorString(status));
}

laudc_cuda_device found_device() {
  laudc_cuda_device device = {0, 0};
  char why[512] = "";
  if (laudc_cuda_current_device(&device, why, sizeof(why)) != 0) die("these tests need a GPU", why);
  return device;
}

const laudc_cuda_device& real_device() {
  static const laudc_cuda_device device = found_device();
  return device;
}

cudaStream_t stream() {
  static cudaStream_t made = [] {
    cudaStream_t fresh = nullptr;
    require(cudaStreamCreateWithFlags(&fresh, cudaStreamNonBlocking), "making a stream");
    return fresh;
  }();
  return made;
}

int captured(const laudc_cuda_run* run, const laudc_cuda_io* io, char* error, size_t error_size) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  require(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeGlobal), "beginning a capture");
  const int code = laudc_cuda_enqueue(run, io, stream(), error, error_size);
  require(cudaStreamEndCapture(stream(), &graph), "ending a capture");
#if CUDART_VERSION >= 12000
  require(cudaGraphInstantiate(&executable, graph, 0), "making a graph");
#else
  require(cudaGraphInstantiate(&executable, graph, nullptr, nullptr, 0), "making a graph");
#endif
  require(cudaGraphLaunch(executable, stream()), "launching a graph");
  require(cudaStreamSynchronize(stream()), "running a graph");
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  return code;
}

}  // namespace

namespace cuda {
namespace emulated {

Gpu& the_gpu() {
  static Gpu gpu;
  return gpu;
}

}  // namespace emulated
}  // namespace cuda

namespace test {

void* gpu_allocate(size_t bytes) {
  void* memory = nullptr;
  require(cudaMallocManaged(&memory, bytes > 0 ? bytes : 1, cudaMemAttachGlobal), "allocating memory");
  return memory;
}

void gpu_free(void* memory) { require(cudaFree(memory), "releasing memory"); }

// Kernels without tensor cores run everywhere; of the others a GPU has only its own generation's.
laudc_cuda_device gpu_for(const laudc_cuda_device& wanted) {
  const laudc_cuda_device& real = real_device();
  return {wanted.sm < 70 && wanted.sm < real.sm ? wanted.sm : real.sm, wanted.multiprocessors};
}

int gpu_prepare(const laudc_cuda_run* run, const float* const* packed, void* prepared, char* error, size_t error_size) {
  const int code = laudc_cuda_prepare(run, packed, prepared, stream(), error, error_size);
  require(cudaStreamSynchronize(stream()), "preparing weights");
  return code;
}

int gpu_run(const laudc_cuda_run* run, const laudc_cuda_io* io, char* error, size_t error_size) {
  static bool in_graph = true;
  in_graph = !in_graph;
  if (in_graph && io->batch > 0) return captured(run, io, error, error_size);
  const int code = laudc_cuda_enqueue(run, io, stream(), error, error_size);
  require(cudaStreamSynchronize(stream()), "running kernels");
  return code;
}

bool gpu_counts_launches() { return false; }

}  // namespace test
}  // namespace laudc
