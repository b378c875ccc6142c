// Loads and stores of four elements as floats, whatever they are stored as.
#pragma once

#include "cuda/device.h"

namespace laudc {
namespace cuda {

template <class T>
LAUDC_DEVICE const T* element(const void* base, int64_t index) {
  return static_cast<const T*>(base) + index;
}

LAUDC_DEVICE void load4(const float* from, float to[4]) {
  const Bytes16 raw = *reinterpret_cast<const Bytes16*>(from);
  LAUDC_UNROLL
  for (int i = 0; i < 4; ++i) to[i] = as_float(raw.word[i]);
}

LAUDC_DEVICE void load4(const Half* from, float to[4]) {
  const Bytes8 raw = *reinterpret_cast<const Bytes8*>(from);
  LAUDC_UNROLL
  for (int i = 0; i < 4; ++i) to[i] = to_float(Half{static_cast<uint16_t>(raw.word[i / 2] >> (16 * (i % 2)))});
}

LAUDC_DEVICE void store4(const float from[4], float* to) {
  struct alignas(16) Four {
    float value[4];
  } four = {{from[0], from[1], from[2], from[3]}};
  *reinterpret_cast<Four*>(to) = four;
}

LAUDC_DEVICE void store4(const float from[4], Half* to) {
  struct alignas(8) Four {
    Half value[4];
  } four;
  LAUDC_UNROLL
  for (int i = 0; i < 4; ++i) from_float(from[i], &four.value[i]);
  *reinterpret_cast<Four*>(to) = four;
}

// The first `count` (at most four) elements; zeros behind them.
template <class T>
LAUDC_DEVICE void load_some(const T* from, int count, float to[4]) {
  LAUDC_UNROLL
  for (int i = 0; i < 4; ++i) to[i] = i < count ? to_float(from[i]) : 0.0f;
}

}  // namespace cuda
}  // namespace laudc
