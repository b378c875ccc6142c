// Grouped 3x3 convolution over a list of pixels, restricted to the kept channels of every group.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/phases.h"

namespace laudc {
namespace cpu {

struct GroupedWeights {
  const float* panels;  // per group: [taps * group_width][panel]
  int groups;
  int group_width;  // channels in and out of one group
  int panel;
};

// Which channels are computed. Input and output pixels hold the kept channels one after another.
class KeptGroups {
 public:
  // `kept`: ascending channels; null: all of them. Only the groups with a kept channel are listed.
  KeptGroups(const std::vector<int32_t>* kept, int groups, int group_width);
  struct Part {
    int group;
    int first;  // place of its first channel among the kept ones
    int count;
  };
  const std::vector<Part>& parts() const { return parts_; }
  // Channels of a part, relative to its group: local(part)[0 .. count).
  const int32_t* local(const Part& part) const { return local_.data() + part.first; }

 private:
  std::vector<Part> parts_;
  std::vector<int32_t> local_;
};

// The rows of a call when they are whole lines of a grid of pixels.
struct Grid {
  int64_t in_row, in_pixel;  // floats between neighbouring input pixels
  int stride;                // input pixels between the windows of neighbouring output pixels
  int64_t out_pixel;         // floats between output pixels
  int width;                 // output pixels per line
};

// c = max(conv + bias, 0). `rows` as for indexed_gemm, `bias` one value per kept channel; pixels of rows.c have room
// for 16 floats more than the kept channels, which are overwritten. `grid`: null when some pixels are left out. `next`:
// the weights that are multiplied with afterwards. Column sums of what is written are added to `sums`, row i to part
// i / rows_per_sum(grid): the parts do not depend on how threads share out the work.
void grouped_conv(const Context& context, const GroupedWeights& weights, const KeptGroups& kept, const Rows& rows,
                  const Grid* grid, const float* bias, const Weights& next, PartialSums* sums);
inline int rows_per_sum(const Grid* grid) { return grid == nullptr ? 32 : grid->width; }

}  // namespace cpu
}  // namespace laudc
