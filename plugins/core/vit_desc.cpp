#include "core/vit_desc.h"

#include "core/packed_layout.h"

namespace laudc {
namespace {

constexpr int64_t kMaxFeatures = 1 << 14;
constexpr int64_t kMaxTokens = 1 << 16;
constexpr int64_t kMaxFloats = INT64_C(1) << 28;  // offsets are int32

struct Limit {
  VitField field;
  const char* name;
  int64_t low, high;
};

const Limit kLimits[] = {
    {kVitTokens, "tokens", 2, kMaxTokens},
    {kVitDim, "dim", 1, kMaxFeatures},
    {kVitHeads, "heads", 1, kMaxFeatures},
    {kVitHidden, "hidden", 1, 4 * kMaxFeatures},
    {kVitTokenPolicy, "token_policy", 0, 1},
    {kVitTokensInMlp, "tokens_in_mlp", 0, 1},
    {kVitHeadPolicy, "head_policy", 0, 1},
    {kVitLayerPolicy, "layer_policy", 0, 1},
    {kVitNormPolicy, "norm_policy", 0, 1},
    {kVitDroppedHeads, "dropped_heads", 0, 1},
    {kVitHeadWidth, "head_width", 0, 2},
    {kVitFirstOnly, "first_only", 0, 1},
    {kVitPanel, "panel", 16, 64},
    {kVitReserved, "reserved", 0, 0},
};

std::string where(size_t block, const std::string& what) { return "block " + std::to_string(block) + ": " + what; }

bool in_limits(const int64_t* record, size_t block, std::string* error) {
  for (const Limit& limit : kLimits) {
    const int64_t value = record[limit.field];
    if (value >= limit.low && value <= limit.high) continue;
    *error = where(block, std::string(limit.name) + " is " + std::to_string(value) + ", outside " +
                              std::to_string(limit.low) + ".." + std::to_string(limit.high));
    return false;
  }
  return true;
}

VitDesc from_record(const int64_t* r) {
  VitDesc d;
  d.tokens = static_cast<int>(r[kVitTokens]);
  d.dim = static_cast<int>(r[kVitDim]);
  d.heads = static_cast<int>(r[kVitHeads]);
  d.hidden = static_cast<int>(r[kVitHidden]);
  d.token_policy = r[kVitTokenPolicy] != 0;
  d.tokens_in_mlp = r[kVitTokensInMlp] != 0;
  d.head_policy = r[kVitHeadPolicy] != 0;
  d.layer_policy = r[kVitLayerPolicy] != 0;
  d.norm_policy = r[kVitNormPolicy] != 0;
  d.dropped_heads = static_cast<DroppedHead>(r[kVitDroppedHeads]);
  d.head_width = static_cast<MlpWidth>(r[kVitHeadWidth]);
  d.first_only = r[kVitFirstOnly] != 0;
  d.panel = static_cast<int>(r[kVitPanel]);
  return d;
}

// Returns the complaint, or an empty string.
std::string inconsistency(const VitDesc& d) {
  if (d.panel % 16 != 0) return "panel is not a multiple of 16";
  if (d.dim % d.heads != 0) return "heads does not divide dim";
  if (d.hidden % d.heads != 0) return "heads does not divide hidden";
  if (d.tokens_in_mlp && !d.token_policy) return "tokens_in_mlp without token_policy";
  if (d.norm_policy && !d.head_policy && !d.layer_policy) return "norm_policy without head_policy or layer_policy";
  if (!d.head_policy && (d.dropped_heads != DroppedHead::kNothing || d.head_width != MlpWidth::kFull))
    return "dropped_heads or head_width without head_policy";
  const int64_t tokens = d.tokens, widest = d.hidden > 3 * d.dim ? d.hidden : 3 * d.dim;
  if (tokens * round_up(widest, kAlign) > kMaxFloats) return "too many features for so many tokens";
  const int64_t padded_head = panel_floats(1, d.head_dim(), d.panel);
  const int64_t padded_part = panel_floats(1, d.hidden / d.hidden_parts(), d.panel);
  if (3 * d.heads * padded_head * d.dim > kMaxFloats) return "attention too large";
  if (padded_part * d.hidden_parts() * d.dim > kMaxFloats) return "MLP too large";
  if (panel_floats(d.hidden, d.dim, d.panel) > kMaxFloats) return "MLP too large";
  return std::string();
}

class Cursor {
 public:
  int64_t take(int64_t floats) {
    const int64_t at = next_;
    next_ = round_up(next_ + floats, kAlign);
    return at;
  }
  int64_t position() const { return next_; }

 private:
  int64_t next_ = 0;
};

}  // namespace

bool parse_vit_blocks(const int64_t* values, size_t count, std::vector<VitDesc>* out, std::string* error) {
  out->clear();
  if (count == 0 || count % kVitFieldCount != 0) {
    *error = "the blocks attribute holds " + std::to_string(count) + " values, not a positive multiple of " +
             std::to_string(static_cast<int>(kVitFieldCount));
    return false;
  }
  for (size_t i = 0; i < count / kVitFieldCount; ++i) {
    const int64_t* record = values + i * kVitFieldCount;
    if (!in_limits(record, i, error)) return false;
    const VitDesc desc = from_record(record);
    const std::string complaint = inconsistency(desc);
    if (!complaint.empty()) {
      *error = where(i, complaint);
      return false;
    }
    if (i > 0 && (out->back().tokens != desc.tokens || out->back().dim != desc.dim)) {
      *error = where(i, "its input is not the output of the block before it");
      return false;
    }
    if (i > 0 && out->back().first_only) {
      *error = where(i, "it follows a block of which only the first token is computed");
      return false;
    }
    out->push_back(desc);
  }
  return true;
}

VitLayout vit_layout(const VitDesc& d) {
  VitLayout out;
  Cursor cursor;
  const int parts = d.hidden_parts();
  out.epsilon = cursor.take(1);
  out.norm1_w = cursor.take(d.dim);
  out.norm1_b = cursor.take(d.dim);
  out.norm2_w = cursor.take(d.dim);
  out.norm2_b = cursor.take(d.dim);
  out.policy_w = cursor.take(d.norm_policy ? d.dim : 0);
  out.policy_b = cursor.take(d.norm_policy ? d.dim : 0);
  out.token_w = cursor.take(d.token_policy ? d.dim : 0);
  out.token_b = cursor.take(d.token_policy ? 1 : 0);
  out.head_w = cursor.take(static_cast<int64_t>(d.head_margins()) * d.dim);
  out.head_b = cursor.take(d.head_margins());
  out.layer_w = cursor.take(static_cast<int64_t>(d.layer_margins()) * d.dim);
  out.layer_b = cursor.take(d.layer_margins());
  out.qkv_w = cursor.take(3 * d.heads * panel_floats(d.dim, d.head_dim(), d.panel));
  out.qkv_b = cursor.take(3 * static_cast<int64_t>(d.dim));
  out.proj_w = cursor.take(panel_floats(d.dim, d.dim, d.panel));
  out.proj_b = cursor.take(d.dim);
  out.fc1_w = cursor.take(parts * panel_floats(d.dim, d.hidden / parts, d.panel));
  out.fc1_b = cursor.take(d.hidden);
  out.fc2_w = cursor.take(panel_floats(d.hidden, d.dim, d.panel));
  out.fc2_b = cursor.take(d.dim);
  out.total = cursor.position() + 64;  // kernels load whole vectors
  return out;
}

}  // namespace laudc
