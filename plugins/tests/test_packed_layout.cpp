// Sections of a packed initializer: in order, aligned, each as long as what the kernels read.
#include "core/packed_layout.h"
#include "tests/records.h"

namespace laudc {
namespace test {
namespace {

std::vector<int64_t> offsets(const PackedLayout& l) {
  return {l.conv1_w, l.conv1_b,   l.conv1_lo,  l.conv2_w,   l.conv2_b,   l.conv2_lo,  l.conv3_w,   l.conv3_b, l.proj_w,
          l.proj_b,  l.spatial_w, l.spatial_b, l.masker1_w, l.masker1_b, l.masker2_w, l.masker2_b, l.total};
}

// Floats of every section, written out once more from the documentation of the layout.
std::vector<int64_t> lengths(const BlockDesc& d) {
  const auto panels = [&](int64_t rows, int64_t columns) { return (columns + d.panel - 1) / d.panel * rows * d.panel; };
  const bool winograd = d.conv2_algo == Conv2Algo::kWinograd2x2;
  const int64_t width = d.width, parts = d.conv3_parts();
  const bool hidden = d.channel() && d.channel_masker != ChannelMasker::kLinear;
  const int64_t hidden_w = d.channel_masker == ChannelMasker::kConv ? panels(d.cin, d.masker_hidden)
                                                                    : static_cast<int64_t>(d.masker_hidden) * d.cin;
  return {d.channel() ? width * d.cin : panels(d.cin, width),
          width,
          width,
          d.channel() ? 9 * width * width
          : winograd  ? 16 * panels(width, width)
                      : panels(9 * width, width),
          (d.channel() ? 16 : 1) * round_up(width, 16),
          width,
          parts * panels(width, d.cout / parts),
          d.cout,
          d.projection ? panels(d.cin, d.cout) : 0,
          d.projection ? d.cout : 0,
          static_cast<int64_t>(d.mask_groups) * d.cin,
          d.mask_groups,
          hidden ? hidden_w : 0,
          hidden ? d.masker_hidden : 0,
          static_cast<int64_t>(d.channel_groups) * (hidden ? d.masker_hidden : d.cin),
          d.channel_groups};
}

TEST(sections_follow_one_another_on_cache_lines) {
  Random random(3);
  for (int i = 0; i < 5000; ++i) {
    const Record record = random_record(&random, 40, 200);
    const BlockDesc d = desc_of(record);
    const PackedLayout l = packed_layout(d);
    const std::vector<int64_t> at = offsets(l), floats = lengths(d);
    CHECK(at.front() == 0);
    for (size_t s = 0; s + 1 < at.size(); ++s) {
      const bool last = s + 2 == at.size();
      CHECK(at[s] % kAlign == 0);
      CHECK(at[s + 1] == round_up(at[s] + floats[s], kAlign) + (last ? 64 : 0));
    }
    CHECK(l.bias_stride == round_up(d.width, kAlign));
    CHECK(l.conv2_classes == (d.channel() ? kBorderClasses : 1));
  }
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
