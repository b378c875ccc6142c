// Squeeze-excitation: a factor per channel from the mean over pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "core/regnet_desc.h"
#include "cpu/phases.h"

namespace laudc {
namespace cpu {

class SqueezeExcitation {
 public:
  // `sums`: over `pixels` pixels, of the `kept` channels one after another (null: all of them). Dropped channels are
  // zero. Leaves the factors of the kept channels in factors().
  void decide(const Context& context, const RegNetDesc& desc, const RegNetLayout& layout, const float* weights,
              const PartialSums& sums, int pixels, const std::vector<int32_t>* kept);
  const float* factors() const { return factors_.data(); }

 private:
  std::vector<float> total_, mean_, hidden_, excited_, factors_, zeros_;
};

// map[row][i] *= factors[i] for the rows of a range and i in [0, channels).
void scale_rows(float* map, const int32_t* rows, SampleRange range, const float* factors, int channels);

}  // namespace cpu
}  // namespace laudc
