#include "core/block_desc.h"

namespace laudc {
namespace {

// Wide enough for any published network, narrow enough that no product of two or three of them overflows int64.
constexpr int64_t kMaxChannels = 1 << 16;
constexpr int64_t kMaxSide = 1 << 13;
constexpr int64_t kMaxFloatsPerMap = INT64_C(1) << 28;

struct Limit {
  BlockField field;
  const char* name;
  int64_t low, high;
};

const Limit kLimits[] = {
    {kCin, "cin", 1, kMaxChannels},
    {kWidth, "width", 1, kMaxChannels},
    {kCout, "cout", 1, kMaxChannels},
    {kStride, "stride", 1, 2},
    {kHin, "hin", 1, kMaxSide},
    {kWin, "win", 1, kMaxSide},
    {kProjection, "projection", 0, 1},
    {kMaskGroups, "mask_groups", 0, kMaxChannels},
    {kMaskH, "mask_h", 0, kMaxSide},
    {kMaskW, "mask_w", 0, kMaxSide},
    {kChannelGroups, "channel_groups", 0, kMaxChannels},
    {kChannelMasker, "channel_masker", 0, 3},
    {kMaskerHidden, "masker_hidden", 0, kMaxChannels},
    {kConv2Algo, "conv2_algo", 0, 1},
    {kPanel, "panel", 16, 64},
    {kReserved, "reserved", 0, 0},
};

bool in_limits(const int64_t* record, size_t block, std::string* error) {
  for (const Limit& limit : kLimits) {
    const int64_t value = record[limit.field];
    if (value >= limit.low && value <= limit.high) continue;
    *error = in_block(block, std::string(limit.name) + " is " + std::to_string(value) + ", outside " +
                                 std::to_string(limit.low) + ".." + std::to_string(limit.high));
    return false;
  }
  return true;
}

// Returns the complaint, or an empty string.
std::string inconsistency(const BlockDesc& d) {
  if (d.panel % 16 != 0) return "panel is not a multiple of 16";
  if (!d.projection && (d.stride != 1 || d.cin != d.cout)) return "an identity residual needs stride 1 and cin == cout";
  if (d.conv2_algo == Conv2Algo::kWinograd2x2 && d.stride != 1) return "Winograd needs stride 1";
  if (d.spatial()) {
    if (d.mask_h < 1 || d.mask_w < 1 || d.mask_h > d.hout() || d.mask_w > d.wout()) return "spatial mask does not fit";
    if (d.cout % d.mask_groups != 0) return "mask_groups does not divide cout";
  }
  if (d.channel()) {
    if (d.width % d.channel_groups != 0) return "channel_groups does not divide width";
    if (d.channel_masker == ChannelMasker::kNone) return "channel_groups without a channel masker";
    if (d.channel_masker != ChannelMasker::kLinear && d.masker_hidden < 1) return "masker_hidden is missing";
  } else if (d.channel_masker != ChannelMasker::kNone) {
    return "a channel masker without channel_groups";
  }
  const int64_t pixels = static_cast<int64_t>(d.hin + 3) * (d.win + 3);
  const int64_t outer = d.cin > d.cout ? d.cin : d.cout;
  const int64_t widest = outer > d.width ? outer : d.width;
  // Pixels lie on cache lines: offsets into four samples of this must fit in int32.
  if (pixels * ((widest + 15) / 16 * 16) > kMaxFloatsPerMap) return "feature map too large";
  if (static_cast<int64_t>(d.width) * d.width * 16 > kMaxFloatsPerMap) return "convolution too large";
  const int64_t decisions = static_cast<int64_t>(d.mask_groups) + d.channel_groups + d.masker_hidden;
  if (decisions * (outer + d.masker_hidden) > kMaxFloatsPerMap) return "masker too large";
  return std::string();
}

BlockDesc from_record(const int64_t* r) {
  BlockDesc d;
  d.cin = static_cast<int>(r[kCin]);
  d.width = static_cast<int>(r[kWidth]);
  d.cout = static_cast<int>(r[kCout]);
  d.stride = static_cast<int>(r[kStride]);
  d.hin = static_cast<int>(r[kHin]);
  d.win = static_cast<int>(r[kWin]);
  d.projection = r[kProjection] != 0;
  d.mask_groups = static_cast<int>(r[kMaskGroups]);
  d.mask_h = static_cast<int>(r[kMaskH]);
  d.mask_w = static_cast<int>(r[kMaskW]);
  d.channel_groups = static_cast<int>(r[kChannelGroups]);
  d.channel_masker = static_cast<ChannelMasker>(r[kChannelMasker]);
  d.masker_hidden = static_cast<int>(r[kMaskerHidden]);
  d.conv2_algo = static_cast<Conv2Algo>(r[kConv2Algo]);
  d.panel = static_cast<int>(r[kPanel]);
  return d;
}

}  // namespace

std::string in_block(size_t block, const std::string& what) { return "block " + std::to_string(block) + ": " + what; }

bool follows(const BlockDesc& previous, const BlockDesc& next) {
  return next.cin == previous.cout && next.hin == previous.hout() && next.win == previous.wout();
}

bool parse_block(const int64_t* record, size_t block, BlockDesc* out, std::string* error) {
  if (!in_limits(record, block, error)) return false;
  *out = from_record(record);
  const std::string complaint = inconsistency(*out);
  if (complaint.empty()) return true;
  *error = in_block(block, complaint);
  return false;
}

bool parse_blocks(const int64_t* values, size_t count, std::vector<BlockDesc>* out, std::string* error) {
  out->clear();
  if (count == 0 || count % kBlockFieldCount != 0) {
    *error = "the blocks attribute holds " + std::to_string(count) + " values, not a positive multiple of " +
             std::to_string(static_cast<int>(kBlockFieldCount));
    return false;
  }
  for (size_t i = 0; i < count / kBlockFieldCount; ++i) {
    BlockDesc desc;
    if (!parse_block(values + i * kBlockFieldCount, i, &desc, error)) return false;
    if (i > 0 && !follows(out->back(), desc)) {
      *error = in_block(i, "its input is not the output of the block before it");
      return false;
    }
    out->push_back(desc);
  }
  return true;
}

}  // namespace laudc
