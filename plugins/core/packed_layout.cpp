#include "core/packed_layout.h"

namespace laudc {
namespace {

int64_t conv1_floats(const BlockDesc& d) {
  if (d.channel()) return static_cast<int64_t>(d.width) * d.cin;
  return panel_floats(d.cin, d.width, d.panel);
}

int64_t conv2_floats(const BlockDesc& d) {
  const bool winograd = d.conv2_algo == Conv2Algo::kWinograd2x2;
  if (d.channel()) return 9 * static_cast<int64_t>(d.width) * d.width;
  if (winograd) return kWinogradPoints * panel_floats(d.width, d.width, d.panel);
  return panel_floats(9 * static_cast<int64_t>(d.width), d.width, d.panel);
}

}  // namespace

void place_maskers(const BlockDesc& d, LayoutCursor* cursor, MaskerLayout* out) {
  out->spatial_w = cursor->take(static_cast<int64_t>(d.mask_groups) * d.cin);
  out->spatial_b = cursor->take(d.mask_groups);
  const bool hidden = d.channel_masker == ChannelMasker::kMlp || d.channel_masker == ChannelMasker::kConv;
  const int64_t first = d.channel_masker == ChannelMasker::kConv ? panel_floats(d.cin, d.masker_hidden, d.panel)
                                                                 : static_cast<int64_t>(d.masker_hidden) * d.cin;
  out->masker1_w = cursor->take(hidden ? first : 0);
  out->masker1_b = cursor->take(hidden ? d.masker_hidden : 0);
  out->masker2_w = cursor->take(static_cast<int64_t>(d.channel_groups) * (hidden ? d.masker_hidden : d.cin));
  out->masker2_b = cursor->take(d.channel_groups);
}

PackedLayout packed_layout(const BlockDesc& d) {
  PackedLayout out;
  LayoutCursor cursor;
  out.conv2_classes = d.channel() ? kBorderClasses : 1;
  out.bias_stride = round_up(d.width, kAlign);
  out.conv1_w = cursor.take(conv1_floats(d));
  out.conv1_b = cursor.take(d.width);
  out.conv1_lo = cursor.take(d.width);
  out.conv2_w = cursor.take(conv2_floats(d));
  out.conv2_b = cursor.take(out.conv2_classes * out.bias_stride);
  out.conv2_lo = cursor.take(d.width);
  out.conv3_w = cursor.take(d.conv3_parts() * panel_floats(d.width, d.cout / d.conv3_parts(), d.panel));
  out.conv3_b = cursor.take(d.cout);
  out.proj_w = cursor.take(d.projection ? panel_floats(d.cin, d.cout, d.panel) : 0);
  out.proj_b = cursor.take(d.projection ? d.cout : 0);
  place_maskers(d, &cursor, &out);
  out.total = cursor.total();
  return out;
}

}  // namespace laudc
