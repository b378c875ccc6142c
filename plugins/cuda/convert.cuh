// Weights in the form that the GEMMs read, made once.
#pragma once

#include "cuda/device.h"
#include "cuda/params.h"

namespace laudc {
namespace cuda {

constexpr int kConvertThreads = 256;

template <class T>
LAUDC_KERNEL(kConvertThreads, 4)
convert(const ConvertParams p) {
  T* to = static_cast<T*>(p.to);
  const int64_t step = static_cast<int64_t>(grid_size()) * kConvertThreads;
  for (int64_t i = static_cast<int64_t>(block_index()) * kConvertThreads + thread_index(); i < p.count; i += step) {
    float value = 0.0f;
    if (p.from_rows == 0) {
      value = p.from[i];
    } else {
      const int64_t row = i / p.panel, panel = row / p.depth;  // row k of a panel
      const int64_t n = panel * p.panel + i % p.panel, k = row - panel * p.depth;
      if (n < p.columns) value = p.from[n * p.depth + k];
    }
    from_float(value, &to[i]);
  }
}

}  // namespace cuda
}  // namespace laudc
