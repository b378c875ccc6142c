// Types that host and device agree on.
#pragma once

#if defined(__CUDACC_RTC__)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstddef>
#include <cstdint>
#endif

namespace laudc {
namespace cuda {

constexpr int kWarp = 32;

// IEEE half precision, stored; arithmetic is always fp32. cuda_fp16.h is not needed, so NVRTC needs no include path.
struct Half {
  uint16_t bits;
};

// Units of vector loads and stores.
struct alignas(8) Bytes8 {
  uint32_t word[2];
};
struct alignas(16) Bytes16 {
  uint32_t word[4];
};

}  // namespace cuda
}  // namespace laudc
