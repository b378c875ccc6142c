// Reading records: everything that later code relies on is refused here, whatever a file holds.
#include <limits>

#include "core/block_desc.h"
#include "core/packed_layout.h"
#include "tests/records.h"

namespace laudc {
namespace test {
namespace {

bool mentions(const std::string& text, const char* what) { return text.find(what) != std::string::npos; }

Record with(BlockField field, int64_t value) {
  Record r = good_record();
  r[field] = value;
  return r;
}

Record joined(std::vector<Record> records) {
  Record all;
  for (const Record& r : records) all.insert(all.end(), r.begin(), r.end());
  return all;
}

TEST(a_good_record_is_read_field_by_field) {
  const BlockDesc d = desc_of(good_record());
  CHECK(d.cin == 32 && d.width == 16 && d.cout == 32 && d.stride == 1 && d.hin == 8 && d.win == 10 && !d.projection);
  CHECK(d.mask_groups == 2 && d.mask_h == 4 && d.mask_w == 5 && d.channel_groups == 4 && d.masker_hidden == 6);
  CHECK(d.channel_masker == ChannelMasker::kMlp && d.conv2_algo == Conv2Algo::kDirect && d.panel == 64);
  CHECK(d.hout() == 8 && d.wout() == 10 && d.channels_per_group() == 4 && d.conv3_parts() == 2);
  CHECK(d.margins() == 2 * 4 * 5 + 4);
}

TEST(every_field_has_limits_and_is_named) {
  const struct {
    BlockField field;
    const char* name;
    int64_t low, high;
  } limits[] = {
      {kCin, "cin", 1, 1 << 16},
      {kWidth, "width", 1, 1 << 16},
      {kCout, "cout", 1, 1 << 16},
      {kStride, "stride", 1, 2},
      {kHin, "hin", 1, 1 << 13},
      {kWin, "win", 1, 1 << 13},
      {kProjection, "projection", 0, 1},
      {kMaskGroups, "mask_groups", 0, 1 << 16},
      {kMaskH, "mask_h", 0, 1 << 13},
      {kMaskW, "mask_w", 0, 1 << 13},
      {kChannelGroups, "channel_groups", 0, 1 << 16},
      {kChannelMasker, "channel_masker", 0, 3},
      {kMaskerHidden, "masker_hidden", 0, 1 << 16},
      {kConv2Algo, "conv2_algo", 0, 1},
      {kPanel, "panel", 16, 64},
      {kReserved, "reserved", 0, 0},
  };
  CHECK(sizeof(limits) / sizeof(limits[0]) == kBlockFieldCount);
  const int64_t least = std::numeric_limits<int64_t>::min(), most = std::numeric_limits<int64_t>::max();
  for (const auto& limit : limits) {
    for (const int64_t value : {limit.low - 1, limit.high + 1, least, most, most - 1, INT64_C(1) << 32}) {
      const std::string error = complaint_about(with(limit.field, value));
      CHECK(mentions(error, limit.name) && mentions(error, "block 0") && mentions(error, "outside"));
    }
  }
}

TEST(inconsistent_records_are_refused) {
  const struct {
    Record record;
    const char* complaint;
  } wrong[] = {
      {with(kPanel, 24), "multiple of 16"},
      {with(kCin, 16), "identity"},
      {with(kStride, 2), "identity"},
      {with(kMaskH, 9), "does not fit"},
      {with(kMaskH, 0), "does not fit"},
      {with(kMaskW, 11), "does not fit"},
      {with(kMaskW, 0), "does not fit"},
      {with(kMaskGroups, 3), "does not divide cout"},
      {with(kChannelGroups, 3), "does not divide width"},
      {with(kChannelGroups, 32), "does not divide width"},
      {with(kChannelMasker, 0), "without a channel masker"},
      {with(kMaskerHidden, 0), "masker_hidden"},
      {with(kChannelGroups, 0), "without channel_groups"},
  };
  for (const auto& w : wrong) CHECK(mentions(complaint_about(w.record), w.complaint));

  Record winograd = with(kStride, 2);
  winograd[kProjection] = 1;
  CHECK(complaint_about(winograd).empty());
  winograd[kConv2Algo] = 1;
  CHECK(mentions(complaint_about(winograd), "Winograd"));
}

// Offsets into maps are int32 and count padded pixels of whole cache lines, four samples at once.
TEST(maps_are_small_enough_for_their_offsets) {
  Record large = with(kMaskGroups, 0);
  large[kHin] = large[kWin] = 1 << 13;
  CHECK(mentions(complaint_about(large), "too large"));
  for (const int64_t channels : {1, 2, 15, 16, 17, 64, 1000}) {
    for (const int64_t side : {64, 250, 500, 1000, 2000, 4000, 8192}) {
      Record r(kBlockFieldCount, 0);
      r[kCin] = r[kCout] = r[kWidth] = channels;
      r[kStride] = 1;
      r[kHin] = r[kWin] = side;
      r[kPanel] = 16;
      const int64_t floats = 4 * (side + 3) * (side + 3) * round_up(channels, kAlign);
      CHECK(floats <= std::numeric_limits<int32_t>::max() || !complaint_about(r).empty());
    }
  }
  Record wide(kBlockFieldCount, 0);
  wide[kCin] = wide[kCout] = 64;
  wide[kWidth] = 1 << 16;
  wide[kStride] = wide[kHin] = wide[kWin] = 1;
  wide[kPanel] = 64;
  CHECK(mentions(complaint_about(wide), "too large"));
}

// Products of these become int offsets of rows in the maskers' weights.
TEST(maskers_are_small_enough_for_their_offsets) {
  Record r = good_record();
  r[kCin] = r[kCout] = 1 << 16;
  r[kHin] = r[kWin] = r[kMaskH] = r[kMaskW] = 1;
  r[kMaskGroups] = 1;
  CHECK(complaint_about(r).empty());
  r[kMaskGroups] = 1 << 16;
  CHECK(mentions(complaint_about(r), "too large"));
  r[kMaskGroups] = 1;
  r[kMaskerHidden] = 1 << 16;
  CHECK(mentions(complaint_about(r), "too large"));
}

TEST(chains_must_fit) {
  Record second = good_record();
  CHECK(complaint_about(joined({good_record(), second})).empty());
  second[kHin] = 9;
  CHECK(mentions(complaint_about(joined({good_record(), second})), "block 1: its input is not the output"));
  second = good_record();
  second[kWin] = 9;
  CHECK(mentions(complaint_about(joined({good_record(), second})), "block 1"));
  second = good_record();
  second[kCin] = second[kCout] = 30;
  CHECK(mentions(complaint_about(joined({good_record(), second})), "block 1"));

  Record halving = with(kStride, 2);
  halving[kProjection] = 1;
  halving[kMaskH] = halving[kMaskW] = 1;
  second = good_record();
  second[kHin] = 4;
  second[kWin] = 5;
  CHECK(complaint_about(joined({halving, second})).empty());
  CHECK(!complaint_about(joined({halving, good_record()})).empty());
}

TEST(truncated_arrays_are_refused) {
  const Record whole = joined({good_record(), good_record()});
  for (size_t count = 0; count < whole.size(); ++count) {
    const std::string error =
        complaint_about(Record(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(count)));
    CHECK(error.empty() == (count == static_cast<size_t>(kBlockFieldCount)));
  }
  std::string error;
  std::vector<BlockDesc> out;
  CHECK(!parse_blocks(nullptr, 0, &out, &error) && !error.empty());
}

bool consistent(const BlockDesc& d) {
  const PackedLayout l = packed_layout(d);
  return l.total > 0 && l.total < (INT64_C(1) << 33) && d.hout() > 0 && d.wout() > 0 && d.margins() >= 0 &&
         d.channels_per_group() > 0 && d.cout % d.conv3_parts() == 0;
}

int64_t hostile_value(Random* random) {
  switch (random->between(0, 5)) {
    case 0:
      return static_cast<int64_t>(random->bits());
    case 1:
      return random->between(-2, 3);
    case 2:
      return INT64_C(1) << random->between(0, 62);
    case 3:
      return -(INT64_C(1) << random->between(0, 62));
    case 4:
      return std::numeric_limits<int64_t>::max() - random->between(0, 2);
    default:
      return random->between(0, 1 << 17);
  }
}

TEST(random_records_are_refused_or_consistent) {
  Random random(1);
  int accepted = 0;
  for (int i = 0; i < 200000; ++i) {
    Record r = i % 2 == 0 ? good_record() : random_record(&random, 300, 300);
    for (int changes = random.between(0, 3); changes > 0; --changes) {
      r[static_cast<size_t>(random.between(0, kBlockFieldCount - 1))] = hostile_value(&random);
    }
    std::string error;
    std::vector<BlockDesc> out;
    if (parses(r, &error, &out)) {
      ++accepted;
      CHECK(out.size() == 1 && error.empty() && consistent(out[0]));
    } else {
      CHECK(!error.empty());
    }
  }
  CHECK(accepted > 10000);
}

TEST(random_arrays_are_refused) {
  Random random(2);
  for (int i = 0; i < 20000; ++i) {
    Record values(static_cast<size_t>(random.between(0, 3 * kBlockFieldCount)));
    for (int64_t& v : values) v = hostile_value(&random);
    std::string error;
    std::vector<BlockDesc> out;
    if (parses(values, &error, &out)) {
      for (const BlockDesc& d : out) CHECK(consistent(d));
    }
  }
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
