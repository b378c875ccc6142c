// Mask decisions of a block, from its input.
#pragma once

#include <cstdint>
#include <vector>

#include "core/block_desc.h"
#include "core/packed_layout.h"
#include "cpu/phases.h"

namespace laudc {
namespace cpu {

// Working memory and results for the samples of a batch slice.
struct Decisions {
  std::vector<float> margins;  // [samples][desc.margins()]: spatial cells, then channel groups
  std::vector<uint8_t> keep;   // the same shape: margin >= 0, so that NaN drops and a tie keeps
  // Scratch:
  std::vector<float> scores;        // [mask_groups][samples * pixels]: one product per pixel, pooled afterwards
  std::vector<float> partial_sums;  // [pieces][cin]
  std::vector<float> mean;          // [cin]
  std::vector<float> hidden, zeros;
  std::vector<int32_t> row_offsets;
  Buffer hidden_map;  // Conv masker: [pixels][hidden]
};

// `in_rows[i]` is the offset of pixel i (over all samples) in `in`. The spatial masker is linear, so pooling the input
// and then taking its product with the weights (the authors' order) equals pooling the per-pixel products.
// `input_sums`: column sums of `in` per sample, where whoever wrote it already has them; else null.
void decide(const Context& context, const BlockDesc& desc, const MaskerLayout& layout, const float* weights,
            const float* in, const int32_t* in_rows, int samples, PartialSums* input_sums, IotaCache* iota,
            Decisions* out);

}  // namespace cpu
}  // namespace laudc
