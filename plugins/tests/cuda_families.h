// What the families of networks differ in, for tests of their runs on a GPU.
#pragma once

#include <algorithm>

#include "tests/regnet_reference.h"
#include "tests/vit_reference.h"

namespace laudc {
namespace test {

// Output pixels that some mask group keeps, and the input pixels that their 3x3 windows read.
struct ReferenceRows {
  std::vector<uint8_t> wanted, needed;

  ReferenceRows(const BlockDesc& d, const std::vector<bool>& keep)
      : wanted(index(static_cast<int64_t>(d.hout()) * d.wout()), d.spatial() ? 0 : 1),
        needed(index(static_cast<int64_t>(d.hin) * d.win)) {
    for (int g = 0; g < d.mask_groups; ++g) {
      const std::vector<uint8_t> cells(keep.begin() + g * d.mask_h * d.mask_w,
                                       keep.begin() + (g + 1) * d.mask_h * d.mask_w);
      upsample_or(cells.data(), d.mask_w, nearest_lut(d.mask_h, d.hout()), nearest_lut(d.mask_w, d.wout()),
                  wanted.data());
    }
    std::vector<uint8_t> scratch(index(static_cast<int64_t>(d.hin) * d.wout()));
    dilate(wanted.data(), d.hout(), d.wout(), d.stride, d.hin, d.win, scratch.data(), needed.data());
  }
  static int32_t count(const std::vector<uint8_t>& set) {
    return static_cast<int32_t>(std::count(set.begin(), set.end(), 1));
  }
};

inline void check_conv_counts(const BlockDesc& d, const std::vector<bool>& keep, int32_t first_rows,
                              const int32_t* counts) {
  const int cells = d.mask_groups * d.mask_h * d.mask_w;
  CHECK(counts[0] == first_rows);
  CHECK(counts[1] == ReferenceRows::count(ReferenceRows(d, keep).wanted));
  CHECK(counts[2] == std::count(keep.begin(), keep.begin() + cells, true));
  CHECK(counts[3] == std::count(keep.begin() + cells, keep.end(), true));
}

inline std::vector<int64_t> map_before(const BlockDesc& d) { return {d.hin, d.win, d.cin}; }
inline std::vector<int64_t> map_after(const BlockDesc& d) { return {d.hout(), d.wout(), d.cout}; }

struct BottleneckFamily {
  typedef BlockDesc Desc;
  typedef BlockWeights Weights;
  static const char* op() { return "BottleneckRun"; }
  static bool keeps(float margin) { return margin >= 0; }
  static float input(float value) { return std::max(value, 0.0f); }  // as behind a ReLU

  static std::vector<Desc> parse(const Record& records) {
    std::string error;
    std::vector<Desc> out;
    CHECK(parse_blocks(records.data(), records.size(), &out, &error));
    return out;
  }
  static Weights random_weights(const Desc& d, Random* random) { return test::random_weights(d, random); }
  // Those that kernels may round.
  static std::vector<Floats*> rounded(Weights* w) {
    return {&w->w1, &w->b1, &w->w2, &w->b2, &w->w3, &w->b3, &w->wp, &w->bp};
  }
  static void lean(Weights* w, float spatial, float channel) {
    for (float& b : w->spatial_b) b += spatial;
    for (float& b : w->channel_b) b += channel;
  }
  static Floats pack(const Desc& d, const Weights& w) { return Packer(d).pack(w); }
  static int64_t packed_floats(const Desc& d) { return packed_layout(d).total; }
  static int64_t margin_count(const Desc& d) { return d.margins(); }
  static std::vector<int64_t> x_dims(const Desc& d) { return map_before(d); }
  static std::vector<int64_t> y_dims(const Desc& d) { return map_after(d); }
  static Doubles margins(const Desc& d, const Weights& w, const Doubles& x) { return reference_margins(d, w, x); }
  static Doubles output(const Desc& d, const Weights& w, const Doubles& x, const std::vector<bool>& keep) {
    return reference_block(d, w, x, keep);
  }
  static void check_counts(const Desc& d, const std::vector<bool>& keep, const int32_t* counts) {
    check_conv_counts(d, keep, ReferenceRows::count(ReferenceRows(d, keep).needed), counts);
  }
};

struct RegNetFamily {
  typedef RegNetDesc Desc;
  typedef RegNetWeights Weights;
  static const char* op() { return "RegNetRun"; }
  static bool keeps(float margin) { return margin >= 0; }
  static float input(float value) { return std::max(value, 0.0f); }

  static std::vector<Desc> parse(const Record& records) {
    std::string error;
    std::vector<Desc> out;
    CHECK(parse_regnet_blocks(records.data(), records.size(), &out, &error));
    return out;
  }
  static Weights random_weights(const Desc& desc, Random* random) { return random_regnet(desc, random); }
  static std::vector<Floats*> rounded(Weights* w) {
    return {&w->a, &w->ab, &w->b, &w->bb, &w->c, &w->cb, &w->proj, &w->proj_b};
  }
  static void lean(Weights* w, float spatial, float channel) { BottleneckFamily::lean(&w->maskers, spatial, channel); }
  static Floats pack(const Desc& desc, const Weights& w) { return RegNetPacker(desc).pack(w); }
  static int64_t packed_floats(const Desc& desc) { return regnet_layout(desc).total; }
  static int64_t margin_count(const Desc& desc) { return desc.block.margins(); }
  static std::vector<int64_t> x_dims(const Desc& desc) { return map_before(desc.block); }
  static std::vector<int64_t> y_dims(const Desc& desc) { return map_after(desc.block); }
  static Doubles margins(const Desc& desc, const Weights& w, const Doubles& x) {
    return reference_margins(desc.block, w.maskers, x);
  }
  static Doubles output(const Desc& desc, const Weights& w, const Doubles& x, const std::vector<bool>& keep) {
    return RegNetReference(desc, w, x, keep).run();
  }
  static void check_counts(const Desc& desc, const std::vector<bool>& keep, const int32_t* counts) {
    const ReferenceRows rows(desc.block, keep);
    const int32_t all = static_cast<int32_t>(rows.needed.size());
    const int32_t pooled = ReferenceRows::count(rows.wanted) > 0 ? all : 0;
    check_conv_counts(desc.block, keep, desc.skips_early() ? ReferenceRows::count(rows.needed) : pooled, counts);
  }
};

inline Record vit_record(const VitDesc& d) {
  return {d.tokens,
          d.dim,
          d.heads,
          d.hidden,
          d.token_policy,
          d.tokens_in_mlp,
          d.head_policy,
          d.layer_policy,
          d.norm_policy,
          static_cast<int64_t>(d.dropped_heads),
          static_cast<int64_t>(d.head_width),
          d.first_only,
          d.panel,
          0};
}

struct VitFamily {
  typedef VitDesc Desc;
  typedef VitWeights Weights;
  static const char* op() { return "VitRun"; }
  static bool keeps(float margin) { return margin > 0; }
  static float input(float value) { return 2 * value; }

  static std::vector<Desc> parse(const Record& records) {
    std::string error;
    std::vector<Desc> out;
    CHECK(parse_vit_blocks(records.data(), records.size(), &out, &error));
    return out;
  }
  static Weights random_weights(const Desc& d, Random* random) { return random_vit(d, random); }
  static std::vector<Floats*> rounded(Weights* w) {
    return {&w->q.w, &w->k.w, &w->v.w, &w->proj.w, &w->fc1.w, &w->fc2.w};
  }
  static Floats pack(const Desc& d, const Weights& w) { return pack_vit(d, w); }
  static int64_t packed_floats(const Desc& d) { return vit_layout(d).total; }
  static int64_t margin_count(const Desc& d) { return d.margins(); }
  static std::vector<int64_t> x_dims(const Desc& d) { return {d.tokens, d.dim}; }
  static std::vector<int64_t> y_dims(const Desc& d) { return {d.first_only ? 1 : d.tokens, d.dim}; }
  static Doubles margins(const Desc& d, const Weights& w, const Doubles& x) {
    const Floats any(index(d.margins()), 0.0f);
    Doubles stream = x, margins;
    reference_vit_block(d, w, any.data(), &stream, &margins);
    return margins;
  }
  static Doubles output(const Desc& d, const Weights& w, const Doubles& x, const std::vector<bool>& keep) {
    Floats made;
    for (const bool one : keep) made.push_back(one ? 1.0f : -1.0f);
    made.push_back(0);  // some address, where there are none
    Doubles stream = x, margins;
    reference_vit_block(d, w, made.data(), &stream, &margins);
    if (d.first_only) stream.resize(index(d.dim));
    return stream;
  }
  static void check_counts(const Desc& d, const std::vector<bool>& keep, const int32_t* counts) {
    const auto head_at = keep.begin() + d.token_margins(), layer_at = head_at + d.head_margins();
    const int32_t kept = d.token_policy ? 1 + static_cast<int32_t>(std::count(keep.begin(), head_at, true)) : d.tokens;
    const int32_t heads = d.head_policy ? static_cast<int32_t>(std::count(head_at, layer_at, true)) : d.heads;
    const int32_t in_mlp = d.tokens_in_mlp ? kept : d.tokens;
    CHECK(counts[0] == (d.layer_policy && !layer_at[0] ? 0 : d.first_only ? 1 : kept));
    CHECK(counts[1] == (d.layer_policy && !layer_at[1] ? 0 : d.first_only ? 1 : in_mlp));
    CHECK(counts[2] == kept && counts[3] == heads);
  }
};

}  // namespace test
}  // namespace laudc
