// The parallel building blocks of a block: indexed GEMMs over panelled weights, direct and Winograd.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/row_sets.h"
#include "cpu/weights.h"
#include "cpu/workspace.h"

namespace laudc {
namespace cpu {

// Memory that is worth fetching while the last work of a phase is done.
struct Region {
  const float* data;
  int64_t floats;
};

// What a convolution does apart from its weights. Offsets as in GemmArgs.
struct Rows {
  const float* a;
  const int32_t* a_rows;
  const int32_t* tap_offsets;
  float* c;
  const int32_t* c_rows;
  const uint8_t* classes;
  SampleRange range;
  bool padded;  // pixels of c have room for a multiple of 16 columns, so that whole vectors may be written
};

struct Bias {
  const float* bias;
  int64_t class_stride;
  const float* lo;
};

enum class Epilogue { kStore, kAddRelu };

// Column sums of what a phase wrote, one partial sum per task that took rows of its own. Parts begin on cache lines of
// their own. Values are undefined until they are zeroed: by whoever adds to a part, where one task does all of it (what
// another thread wrote last is slow to write), else by zero().
class PartialSums {
 public:
  void resize(size_t parts, int columns) {
    stride_ = static_cast<size_t>(columns + 63) / 64 * 64;
    parts_ = parts;
    values_.at_least(parts * stride_);
  }
  void zero() { std::memset(values_.data(), 0, parts_ * stride_ * sizeof(float)); }
  float* part(size_t i) { return values_.data() + i * stride_; }
  const float* part(size_t i) const { return values_.data() + i * stride_; }
  size_t parts() const { return parts_; }

 private:
  size_t stride_ = 0, parts_ = 0;
  Buffer values_;
};

// What is read after the weights at hand: weights of the same block or a region of the next one. Both may be missing.
struct Following {
  const Weights* weights;
  Region region;
};

void indexed_gemm(const Context& context, const Weights& weights, const Rows& rows, const Bias& bias, Epilogue epilogue,
                  const Following& next, PartialSums* sums);

// What indexed_gemm_apart() needs from one call to the next.
struct ApartScratch {
  std::vector<Buffer> panels;  // of each thread
  std::vector<int32_t> a_rows, c_rows;
  std::vector<uint8_t> classes;
};

// As indexed_gemm(), with two differences where threads share out rows. Each of them packs for itself what it
// multiplies with: packing together saves work, but then half of every panel comes out of another core's cache, which
// takes longer than packing it (measured on Zen 5) unless the panels are many. And every other thread takes its rows
// from the last to the first: hardware prefetchers run on past the last row, and would take from another core's cache
// the rows that it begins every panel with (with two threads and slow caches between them, an eighth of a network's
// time at a quarter of the channels). `before` is called for rows that are about to be multiplied, by the thread that
// does.
void indexed_gemm_apart(const Context& context, const Weights& weights, const Rows& rows, const Bias& bias,
                        Epilogue epilogue, const Following& next, PartialSums* sums, ApartScratch* scratch,
                        const std::function<void(SampleRange)>& before);

struct Tiles {
  const float* src;  // zero-bordered map
  const int32_t* origins;
  const int32_t* out_rows;
  const uint8_t* out_classes;
  int64_t row_stride, pixel_stride;
  float* dst;
  SampleRange range;
};

// F(2x2, 3x3) over a list of tiles.
void winograd_conv(const Context& context, const Weights& weights, const Tiles& tiles, const Bias& bias,
                   const Following& next);

}  // namespace cpu
}  // namespace laudc
