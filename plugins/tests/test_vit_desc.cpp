// Records of transformer blocks: what is accepted, what is refused and how, and the layout that follows.
#include "core/packed_layout.h"
#include "core/vit_desc.h"
#include "tests/check.h"

namespace laudc {
namespace test {
namespace {

typedef std::vector<int64_t> Record;

// 5 tokens of 8 features, 2 heads, 16 hidden units, all policies.
Record record() { return {5, 8, 2, 16, 1, 1, 1, 1, 1, 0, 1, 0, 16, 0}; }

Record with(VitField field, int64_t value) {
  Record r = record();
  r[static_cast<size_t>(field)] = value;
  return r;
}

Record joined(Record a, const Record& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

bool refused(const Record& values, const char* why) {
  std::vector<VitDesc> out;
  std::string error;
  if (parse_vit_blocks(values.data(), values.size(), &out, &error)) return false;
  return error.find(why) != std::string::npos;
}

VitDesc parsed(const Record& values) {
  std::vector<VitDesc> out;
  std::string error;
  CHECK(parse_vit_blocks(values.data(), values.size(), &out, &error));
  CHECK(out.size() == 1);
  return out.at(0);
}

TEST(a_record_is_read_field_by_field) {
  const VitDesc d = parsed(record());
  CHECK(d.tokens == 5 && d.dim == 8 && d.heads == 2 && d.hidden == 16 && d.panel == 16);
  CHECK(d.token_policy && d.tokens_in_mlp && d.head_policy && d.layer_policy && d.norm_policy && !d.first_only);
  CHECK(d.head_width == MlpWidth::kInputs && d.dropped_heads == DroppedHead::kNothing);
  CHECK(d.head_dim() == 4 && d.margins() == 4 + 2 + 2 && d.hidden_parts() == 1);
  CHECK(parsed(with(kVitHeadWidth, 2)).hidden_parts() == 2);
}

TEST(impossible_records_are_refused) {
  CHECK(refused({}, "holds 0 values"));
  CHECK(refused({1, 2}, "holds 2 values"));
  CHECK(refused(with(kVitTokens, 1), "tokens is 1"));
  CHECK(refused(with(kVitDim, 0), "dim is 0"));
  CHECK(refused(with(kVitDim, INT64_MAX), "dim is"));
  CHECK(refused(with(kVitHeads, 3), "heads does not divide dim"));
  CHECK(refused(with(kVitHidden, 17), "heads does not divide hidden"));
  CHECK(refused(with(kVitTokenPolicy, 2), "token_policy is 2"));
  CHECK(refused(with(kVitTokenPolicy, 0), "tokens_in_mlp without token_policy"));
  CHECK(refused(with(kVitHeadPolicy, 0), "without head_policy"));
  CHECK(refused(with(kVitDroppedHeads, 2), "dropped_heads is 2"));
  CHECK(refused(with(kVitHeadWidth, -1), "head_width is -1"));
  CHECK(refused(with(kVitPanel, 80), "panel is 80"));
  CHECK(refused(with(kVitPanel, 40), "panel is not a multiple of 16"));
  CHECK(refused(with(kVitReserved, 1), "reserved is 1"));
  Record no_policy = record();
  no_policy[kVitHeadPolicy] = no_policy[kVitLayerPolicy] = no_policy[kVitHeadWidth] = 0;
  CHECK(refused(no_policy, "norm_policy without"));
  Record large = record();
  large[kVitTokens] = 1 << 16;
  large[kVitDim] = large[kVitHidden] = 1 << 14;
  CHECK(refused(large, "too many features"));
  large[kVitTokens] = 2;
  CHECK(refused(large, "attention too large"));
}

TEST(blocks_must_follow_each_other) {
  std::vector<VitDesc> out;
  std::string error;
  const Record two = joined(record(), with(kVitFirstOnly, 1));
  CHECK(parse_vit_blocks(two.data(), two.size(), &out, &error) && out.size() == 2);
  CHECK(refused(joined(record(), with(kVitTokens, 6)), "block 1: its input is not the output"));
  CHECK(refused(joined(with(kVitFirstOnly, 1), record()), "block 1: it follows a block of which only"));
}

// Sections follow one another, aligned, and hold what they say.
TEST(sections_do_not_overlap) {
  for (const int64_t width : {0, 1, 2}) {
    for (const int64_t panel : {16, 64}) {
      Record r = with(kVitHeadWidth, width);
      r[kVitPanel] = panel;
      const VitDesc d = parsed(r);
      const VitLayout l = vit_layout(d);
      const int64_t p = panel;
      const int64_t sizes[][2] = {
          {l.epsilon, 1},    {l.norm1_w, 8},       {l.norm1_b, 8},
          {l.norm2_w, 8},    {l.norm2_b, 8},       {l.policy_w, 8},
          {l.policy_b, 8},   {l.token_w, 8},       {l.token_b, 1},
          {l.head_w, 16},    {l.head_b, 2},        {l.layer_w, 16},
          {l.layer_b, 2},    {l.qkv_w, 6 * 8 * p}, {l.qkv_b, 24},
          {l.proj_w, 8 * p}, {l.proj_b, 8},        {l.fc1_w, d.hidden_parts() * 8 * p},
          {l.fc1_b, 16},     {l.fc2_w, 16 * p},    {l.fc2_b, 8},
      };
      int64_t at = 0;
      for (const auto& section : sizes) {
        CHECK(section[0] == at);
        at = round_up(at + section[1], kAlign);
      }
      CHECK(l.total == at + 64);
    }
  }
}

TEST(missing_policies_take_no_room) {
  Record r = record();
  for (const VitField field :
       {kVitTokenPolicy, kVitTokensInMlp, kVitHeadPolicy, kVitLayerPolicy, kVitNormPolicy, kVitHeadWidth})
    r[static_cast<size_t>(field)] = 0;
  const VitDesc d = parsed(r);
  const VitLayout l = vit_layout(d);
  CHECK(d.margins() == 0);
  CHECK(l.policy_w == l.qkv_w && l.token_b == l.qkv_w && l.layer_b == l.qkv_w);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
