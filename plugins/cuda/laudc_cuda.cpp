// The C interface: no exception leaves it.
#include "cuda/laudc_cuda.h"

#include <cstdio>
#include <exception>
#include <string>

#include "cuda/run.h"

using laudc::cuda::make_run;
using laudc::cuda::Run;

struct laudc_cuda_run {
  std::unique_ptr<Run> run;
};

namespace {

void say(const std::string& what, char* error, size_t size) {
  if (error != nullptr && size > 0) std::snprintf(error, size, "%s", what.c_str());
}

template <class Body>
bool guarded(char* error, size_t size, Body&& body) noexcept {
  try {
    std::string what;
    if (body(&what)) return true;
    say(what, error, size);
  } catch (const std::exception& caught) {
    if (error != nullptr && size > 0) std::snprintf(error, size, "%s", caught.what());
  } catch (...) {
    if (error != nullptr && size > 0) std::snprintf(error, size, "unknown internal error");
  }
  return false;
}

bool succeeded(int code, std::string* what) {
  if (code != 0) *what = laudc::cuda::error_text(code);
  return code == 0;
}

}  // namespace

extern "C" {

int laudc_cuda_current_device(laudc_cuda_device* device, char* error, size_t error_size) {
  return guarded(error, error_size,
                 [&](std::string* what) { return succeeded(laudc::cuda::current_device(device), what); })
             ? 0
             : 1;
}

laudc_cuda_run* laudc_cuda_create(const char* op, const int64_t* records, size_t count, int precision,
                                  const laudc_cuda_device* device, char* error, size_t error_size) {
  laudc_cuda_run* made = nullptr;
  guarded(error, error_size, [&](std::string* what) {
    std::unique_ptr<Run> run = make_run(op, records, count, precision, *device, what);
    if (run == nullptr) return false;
    made = new laudc_cuda_run{std::move(run)};
    return true;
  });
  return made;
}

void laudc_cuda_destroy(laudc_cuda_run* run) { delete run; }

int64_t laudc_cuda_blocks(const laudc_cuda_run* run) { return run->run->block_count(); }

laudc_cuda_shape laudc_cuda_x_shape(const laudc_cuda_run* run) { return run->run->x_shape(); }

laudc_cuda_shape laudc_cuda_y_shape(const laudc_cuda_run* run) { return run->run->y_shape(); }

int64_t laudc_cuda_margins(const laudc_cuda_run* run) { return run->run->total_margins(); }

int64_t laudc_cuda_packed_floats(const laudc_cuda_run* run, int64_t block) {
  return run->run->packed_floats(static_cast<size_t>(block));
}

size_t laudc_cuda_workspace_bytes(const laudc_cuda_run* run, int64_t batch) { return run->run->workspace_bytes(batch); }

size_t laudc_cuda_prepared_bytes(const laudc_cuda_run* run) { return run->run->prepared_bytes(); }

int laudc_cuda_prepare(const laudc_cuda_run* run, const float* const* packed, void* prepared, void* stream, char* error,
                       size_t error_size) {
  return guarded(error, error_size,
                 [&](std::string* what) { return run->run->prepare(packed, prepared, stream, what); })
             ? 0
             : 1;
}

int laudc_cuda_enqueue(const laudc_cuda_run* run, const laudc_cuda_io* io, void* stream, char* error,
                       size_t error_size) {
  return guarded(error, error_size, [&](std::string* what) { return run->run->enqueue(*io, stream, what); }) ? 0 : 1;
}

int laudc_cuda_allocate(size_t bytes, void** memory, char* error, size_t error_size) {
  return guarded(error, error_size,
                 [&](std::string* what) { return succeeded(laudc::cuda::allocate(bytes, memory), what); })
             ? 0
             : 1;
}

void laudc_cuda_release(void* memory) { laudc::cuda::release(memory); }

int laudc_cuda_is_capturing(void* stream) { return laudc::cuda::is_capturing(stream) ? 1 : 0; }

}  // extern "C"
