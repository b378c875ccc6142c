// The copy of the packed weights in the form that the kernels read, made once per user of a run.
#pragma once

#include <string>
#include <vector>

#include "cuda/laudc_cuda.h"

namespace laudc {
namespace cuda {

// Not for several threads at once, as the contexts that own one are not either.
class PreparedWeights {
 public:
  PreparedWeights() = default;
  ~PreparedWeights();
  PreparedWeights(const PreparedWeights&) = delete;
  PreparedWeights& operator=(const PreparedWeights&) = delete;

  // Allocates the device memory, if the run needs any. May be called early, to keep it out of the first call.
  bool reserve(const laudc_cuda_run* run, std::string* error);

  // The copy of `packed`, queued on `stream` if it does not exist yet. In a stream that is being captured the copying
  // becomes a part of the graph instead: correct whenever the graph runs, but done every time.
  bool get(const laudc_cuda_run* run, const std::vector<const float*>& packed, void* stream, const void** prepared,
           std::string* error);

 private:
  void* memory_ = nullptr;
  std::vector<const float*> made_from_;
};

}  // namespace cuda
}  // namespace laudc
