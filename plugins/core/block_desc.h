// The record that describes one bottleneck block of a scheduled run.
//
// It travels as a row of INT64 in the `blocks` attribute of ai.laudc::BottleneckRun, so its field order is part of
// the file format: change it together with laudc/ops/scheduled.py and raise kAbiVersion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace laudc {

constexpr int64_t kAbiVersion = 2;

enum BlockField : int {
  kCin,            // channels of the block input
  kWidth,          // channels of conv1 and conv2
  kCout,           // channels of the block output
  kStride,         // of conv2 and of the projection: 1 or 2
  kHin,            // rows of the block input
  kWin,            // columns of the block input
  kProjection,     // 1: the residual is a 1x1 projection of the input; 0: the input itself
  kMaskGroups,     // spatial masks, each for a contiguous share of cout; 0: no spatial mask
  kMaskH,          // rows of one spatial mask (1 with kMaskW 1: layer skipping)
  kMaskW,          // columns
  kChannelGroups,  // groups of conv1/conv2 channels; 0: no channel mask
  kChannelMasker,  // ChannelMasker
  kMaskerHidden,   // hidden width of the Mlp and Conv maskers
  kConv2Algo,      // Conv2Algo
  kPanel,          // columns of a weight panel: 16, 32, 48 or 64
  kReserved,       // 0
  kBlockFieldCount
};

enum class ChannelMasker : int64_t { kNone = 0, kLinear = 1, kMlp = 2, kConv = 3 };
enum class Conv2Algo : int64_t { kDirect = 0, kWinograd2x2 = 1 };

struct BlockDesc {
  int cin, width, cout, stride, hin, win;
  bool projection;
  int mask_groups, mask_h, mask_w;
  int channel_groups;
  ChannelMasker channel_masker;
  int masker_hidden;
  Conv2Algo conv2_algo;
  int panel;

  int hout() const { return (hin - 1) / stride + 1; }
  int wout() const { return (win - 1) / stride + 1; }
  bool spatial() const { return mask_groups > 0; }
  bool channel() const { return channel_groups > 0; }
  int channels_per_group() const { return channel_groups > 0 ? width / channel_groups : width; }
  // conv3 is packed once per mask group, so that a group boundary is a panel boundary.
  int conv3_parts() const { return mask_groups > 0 ? mask_groups : 1; }
  int margins() const { return mask_groups * mask_h * mask_w + channel_groups; }
};

// Reads the kBlockFieldCount values at `record` as block number `block` of a run. On failure returns false and says in
// `error` which field is wrong. Every limit that later code relies on is enforced here.
bool parse_block(const int64_t* record, size_t block, BlockDesc* out, std::string* error);

// Whether `next` can read what `previous` writes.
bool follows(const BlockDesc& previous, const BlockDesc& next);

// Says which block an error is about.
std::string in_block(size_t block, const std::string& what);

// Reads `count` INT64 values as consecutive records. On failure returns false and says in `error` which block and
// which field is wrong; `out` is then unspecified.
bool parse_blocks(const int64_t* values, size_t count, std::vector<BlockDesc>* out, std::string* error);

}  // namespace laudc
