// The record that describes one RegNetY block of a scheduled run: a bottleneck record with cout = width, followed by
// what only these blocks have. It travels as a row of INT64 in the `blocks` attribute of ai.laudc::RegNetRun, so its
// field order is part of the file format: change it together with laudc/ops/scheduled.py and raise kAbiVersion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/block_desc.h"
#include "core/packed_layout.h"

namespace laudc {

enum RegNetField : int {
  kGroup = kBlockFieldCount,  // convolution groups of conv b
  kSqueeze,                   // hidden channels of squeeze-excitation
  kSePool,                    // 0: it averages over all positions; 1: over those that some mask group keeps
  kRegNetFieldCount
};

struct RegNetDesc {
  BlockDesc block;  // conv a, b, c are its conv1, conv2, conv3; width = cout
  int group;
  int squeeze;
  bool pool_active;

  int group_width() const { return block.width / group; }
  // Columns of the panel that holds one group's outputs.
  int group_panel() const { return static_cast<int>(round_up(group_width(), kAlign)); }
  // Conv a and b make only what the kept positions read.
  bool skips_early() const { return block.spatial() && pool_active; }
};

// As parse_blocks().
bool parse_regnet_blocks(const int64_t* values, size_t count, std::vector<RegNetDesc>* out, std::string* error);

// Offsets in floats from the start of the packed initializer; laudc/ops/regnet_packing.py writes it.
struct RegNetLayout : MaskerLayout {
  int64_t a_w;        // K = cin, N = width in panels; channel mode: [width][cin]
  int64_t a_b;        // [width]
  int64_t b_panels;   // per group: [9 * group_width][group_panel], tap-major rows
  int64_t b_b;        // [width]
  int64_t squeeze_w;  // K = width, N = squeeze in panels
  int64_t squeeze_b;  // [squeeze]
  int64_t excite_w;   // K = squeeze, N = width in panels
  int64_t excite_b;   // [width]
  int64_t c_w;        // per mask group: K = width, N = width / parts in panels
  int64_t c_b;        // [width]
  int64_t proj_w;     // K = cin, N = width in panels
  int64_t proj_b;     // [width]
  int64_t total;      // floats of the initializer
};

RegNetLayout regnet_layout(const RegNetDesc& desc);

}  // namespace laudc
