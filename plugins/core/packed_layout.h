// Where each weight of a block lies in its packed initializer.
//
// The layout follows from the BlockDesc alone; laudc/ops/packing.py writes it and this file reads it. A matrix of
// K rows and N columns is stored as ceil(N / panel) panels of [K][panel] floats, the last one padded with zero columns.
// Sections start at multiples of kAlign floats.
//
// Blocks with a channel mask store conv1 and conv2 by output channel instead ([N][K]): rows that are dropped are then
// never read, and the kept ones are turned into panels (for Winograd: transformed, too) on the fly.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/block_desc.h"

namespace laudc {

constexpr int64_t kAlign = 16;      // floats: one cache line
constexpr int kBorderClasses = 16;  // which of the four borders a 3x3 window crosses, see border_class()
constexpr int kWinogradPoints = 16;

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
inline int panel_count(int columns, int panel) { return (columns + panel - 1) / panel; }

// Floats of a K x N matrix in panels.
inline int64_t panel_floats(int64_t rows, int columns, int panel) {
  return static_cast<int64_t>(panel_count(columns, panel)) * rows * panel;
}

// Where the maskers' weights lie, in floats from the start of the initializer.
struct MaskerLayout {
  int64_t spatial_w;  // [mask_groups][cin]: keep row minus drop row
  int64_t spatial_b;  // [mask_groups]
  int64_t masker1_w;  // Mlp: [hidden][cin]. Conv: K = cin, N = hidden in panels
  int64_t masker1_b;  // [hidden]
  int64_t masker2_w;  // [channel_groups][hidden, or cin for Linear]: keep minus drop
  int64_t masker2_b;  // [channel_groups]
};

struct PackedLayout : MaskerLayout {
  // Offsets in floats from the start of the initializer.
  int64_t conv1_w;   // K = cin, N = width; channel mode: [width][cin]
  int64_t conv1_b;   // [width]: bias; min(bias, 0) in channel mode
  int64_t conv1_lo;  // [width]: lower clamp: 0; -max(bias, 0) in channel mode
  int64_t conv2_w;   // direct: K = 9 * width (tap-major), N = width. Winograd: 16 matrices K = width, N = width.
                     // channel mode: [width][9][width] for both
  int64_t conv2_b;   // [classes][bias_stride]
  int64_t conv2_lo;  // [width]
  int64_t conv3_w;   // per mask group: K = width, N = cout / parts
  int64_t conv3_b;   // [cout]
  int64_t proj_w;    // K = cin, N = cout
  int64_t proj_b;    // [cout]
  int64_t total;     // floats of the initializer

  int64_t bias_stride;  // floats between the rows of conv2_b
  int conv2_classes;    // kBorderClasses in channel mode, else 1
};

PackedLayout packed_layout(const BlockDesc& desc);

// Hands out sections one after another.
class LayoutCursor {
 public:
  int64_t take(int64_t floats) {
    const int64_t at = next_;
    next_ = round_up(next_ + floats, kAlign);
    return at;
  }
  // Kernels load whole vectors of bias: 64 floats of slack keep the last load inside the tensor.
  int64_t total() const { return next_ + 64; }

 private:
  int64_t next_ = 0;
};

// The sections of a block's maskers, which come last in every layout.
void place_maskers(const BlockDesc& desc, LayoutCursor* cursor, MaskerLayout* out);

}  // namespace laudc
