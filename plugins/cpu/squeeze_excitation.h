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
  // `map` holds one pixel per entry of `rows`, each with the `kept` channels one after another (null: all of them).
  // Dropped channels are zero. Leaves the factors of the kept channels in factors().
  void decide(const Context& context, const RegNetDesc& desc, const RegNetLayout& layout, const float* weights,
              const float* map, const int32_t* rows, int row_count, const std::vector<int32_t>* kept);
  const float* factors() const { return factors_.data(); }

 private:
  void sum_up(const Context& context, const float* map, const int32_t* rows, int row_count, int channels);

  std::vector<float> partial_, mean_, hidden_, excited_, factors_, zeros_;
};

// map[row][i] *= factors[i] for i in [0, channels).
void scale_rows(const Context& context, float* map, const int32_t* rows, int row_count, const float* factors,
                int channels);

}  // namespace cpu
}  // namespace laudc
