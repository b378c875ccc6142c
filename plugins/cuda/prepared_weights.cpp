#include "cuda/prepared_weights.h"

namespace laudc {
namespace cuda {

PreparedWeights::~PreparedWeights() {
  if (memory_ != nullptr) laudc_cuda_release(memory_);
}

bool PreparedWeights::reserve(const laudc_cuda_run* run, std::string* error) {
  const size_t bytes = laudc_cuda_prepared_bytes(run);
  if (bytes == 0 || memory_ != nullptr) return true;
  char why[256] = "";
  if (laudc_cuda_allocate(bytes, &memory_, why, sizeof(why)) == 0) return true;
  memory_ = nullptr;
  *error = "no device memory for " + std::to_string(bytes) + " bytes of weights: " + why;
  return false;
}

bool PreparedWeights::get(const laudc_cuda_run* run, const std::vector<const float*>& packed, void* stream,
                          const void** prepared, std::string* error) {
  *prepared = nullptr;
  if (laudc_cuda_prepared_bytes(run) == 0) return true;
  const bool capturing = laudc_cuda_is_capturing(stream) != 0;
  if (capturing && memory_ == nullptr) {
    *error = "the first call cannot be captured into a CUDA graph: run the engine once before capturing";
    return false;
  }
  if (!reserve(run, error)) return false;
  *prepared = memory_;
  if (made_from_ == packed) return true;
  char why[256] = "";
  if (laudc_cuda_prepare(run, packed.data(), memory_, stream, why, sizeof(why)) != 0) {
    *error = why;
    return false;
  }
  made_from_ = capturing ? std::vector<const float*>() : packed;
  return true;
}

}  // namespace cuda
}  // namespace laudc
