// The emulated GPU as tests set it up and look at it.
#pragma once

#include <cstdint>

#include "cuda/launch.h"

namespace laudc {
namespace cuda {
namespace emulated {

struct Gpu {
  laudc_cuda_device device = {80, 2};
  uint32_t seed = 0;
  int64_t launches = 0;
  int gemms[7][3] = {};  // launches by kind and tile shape
  int split_gemms = 0;
  bool capturing = false;
  bool out_of_memory = false;
  bool missing = false;
};

Gpu& the_gpu();

}  // namespace emulated
}  // namespace cuda
}  // namespace laudc
