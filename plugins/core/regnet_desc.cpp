#include "core/regnet_desc.h"

namespace laudc {
namespace {

// Returns the complaint, or an empty string. `r` has passed the checks of a bottleneck record.
std::string inconsistency(const int64_t* r) {
  if (r[kCout] != r[kWidth]) return "cout differs from width";
  if (r[kConv2Algo] != static_cast<int64_t>(Conv2Algo::kDirect)) return "conv b has no Winograd form";
  if (r[kGroup] < 1 || r[kGroup] > r[kWidth] || r[kWidth] % r[kGroup] != 0) return "group does not divide width";
  if (r[kWidth] / r[kGroup] > 64) return "more than 64 channels per group";
  if (r[kSqueeze] < 1 || r[kSqueeze] > (1 << 16)) return "squeeze is outside 1..65536";
  if (r[kSePool] != 0 && r[kSePool] != 1) return "se_pool is neither 0 nor 1";
  if (r[kSqueeze] * r[kWidth] > (INT64_C(1) << 28)) return "squeeze-excitation too large";
  return std::string();
}

}  // namespace

bool parse_regnet_blocks(const int64_t* values, size_t count, std::vector<RegNetDesc>* out, std::string* error) {
  out->clear();
  if (count == 0 || count % kRegNetFieldCount != 0) {
    *error = "the blocks attribute holds " + std::to_string(count) + " values, not a positive multiple of " +
             std::to_string(static_cast<int>(kRegNetFieldCount));
    return false;
  }
  for (size_t i = 0; i < count / kRegNetFieldCount; ++i) {
    const int64_t* r = values + i * kRegNetFieldCount;
    RegNetDesc desc;
    if (!parse_block(r, i, &desc.block, error)) return false;
    const std::string complaint = inconsistency(r);
    if (!complaint.empty()) {
      *error = in_block(i, complaint);
      return false;
    }
    desc.group = static_cast<int>(r[kGroup]);
    desc.squeeze = static_cast<int>(r[kSqueeze]);
    desc.pool_active = r[kSePool] != 0;
    if (i > 0 && !follows(out->back().block, desc.block)) {
      *error = in_block(i, "its input is not the output of the block before it");
      return false;
    }
    out->push_back(desc);
  }
  return true;
}

RegNetLayout regnet_layout(const RegNetDesc& desc) {
  const BlockDesc& d = desc.block;
  const int64_t taps = 9 * static_cast<int64_t>(desc.group_width());
  RegNetLayout out;
  LayoutCursor cursor;
  out.a_w = cursor.take(d.channel() ? static_cast<int64_t>(d.width) * d.cin : panel_floats(d.cin, d.width, d.panel));
  out.a_b = cursor.take(d.width);
  out.b_panels = cursor.take(desc.group * taps * desc.group_panel());
  out.b_b = cursor.take(d.width);
  out.squeeze_w = cursor.take(panel_floats(d.width, desc.squeeze, d.panel));
  out.squeeze_b = cursor.take(desc.squeeze);
  out.excite_w = cursor.take(panel_floats(desc.squeeze, d.width, d.panel));
  out.excite_b = cursor.take(d.width);
  out.c_w = cursor.take(d.conv3_parts() * panel_floats(d.width, d.width / d.conv3_parts(), d.panel));
  out.c_b = cursor.take(d.width);
  out.proj_w = cursor.take(d.projection ? panel_floats(d.cin, d.width, d.panel) : 0);
  out.proj_b = cursor.take(d.projection ? d.width : 0);
  place_maskers(d, &cursor, &out);
  out.total = cursor.total();
  return out;
}

}  // namespace laudc
