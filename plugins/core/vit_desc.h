// The record that describes one transformer block of a scheduled run, and where its weights lie.
//
// It travels as a row of INT64 in the `blocks` attribute of ai.laudc::VitRun, so its field order is part of the file
// format: change it together with laudc/ops/scheduled_vit.py and raise kAbiVersion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace laudc {

enum VitField : int {
  kVitTokens,        // tokens of an image, class token included
  kVitDim,           // features of a token
  kVitHeads,         // attention heads; they share the features evenly
  kVitHidden,        // hidden units of the MLP; the heads share them evenly
  kVitTokenPolicy,   // 1: tokens are chosen
  kVitTokensInMlp,   // 1: the MLP follows the choice of tokens
  kVitHeadPolicy,    // 1: heads are chosen
  kVitLayerPolicy,   // 1: attention and MLP are chosen
  kVitNormPolicy,    // 1: heads and sublayers are chosen from a normalised class token
  kVitDroppedHeads,  // DroppedHead
  kVitHeadWidth,     // MlpWidth
  kVitFirstOnly,     // 1: nobody reads the block's output but for the first token; last block of a run only
  kVitPanel,         // columns of a weight panel: 16, 32, 48 or 64
  kVitReserved,      // 0
  kVitFieldCount
};

// What a dropped head gives: nothing, or its values, token by token.
enum class DroppedHead : int64_t { kNothing = 0, kValues = 1 };
// What dropped heads leave out of the MLP's first layer: nothing, their features, their share of the hidden units.
enum class MlpWidth : int64_t { kFull = 0, kInputs = 1, kOutputs = 2 };

struct VitDesc {
  int tokens, dim, heads, hidden;
  bool token_policy, tokens_in_mlp, head_policy, layer_policy, norm_policy;
  DroppedHead dropped_heads;
  MlpWidth head_width;
  bool first_only;
  int panel;

  int head_dim() const { return dim / heads; }
  // fc1 is packed once per head where heads choose hidden units, so that a head's boundary is a panel's.
  int hidden_parts() const { return head_width == MlpWidth::kOutputs ? heads : 1; }
  int token_margins() const { return token_policy ? tokens - 1 : 0; }
  int head_margins() const { return head_policy ? heads : 0; }
  int layer_margins() const { return layer_policy ? 2 : 0; }
  int margins() const { return token_margins() + head_margins() + layer_margins(); }
};

// Reads `count` INT64 values as consecutive records. On failure returns false and says in `error` which block and
// which field is wrong; `out` is then unspecified. Every limit that later code relies on is enforced here.
bool parse_vit_blocks(const int64_t* values, size_t count, std::vector<VitDesc>* out, std::string* error);

// Offsets in floats from the start of a block's packed initializer; sections start at multiples of kAlign floats. A
// matrix of K rows and N columns is ceil(N / panel) panels of [K][panel] floats. laudc/ops/packing_vit.py writes this.
struct VitLayout {
  int64_t epsilon;   // [1]: of all normalisations
  int64_t norm1_w;   // [dim]
  int64_t norm1_b;   // [dim]
  int64_t norm2_w;   // [dim]
  int64_t norm2_b;   // [dim]
  int64_t policy_w;  // [dim]: normalisation of the class token
  int64_t policy_b;  // [dim]
  int64_t token_w;   // [dim]
  int64_t token_b;   // [1]: threshold folded in, as in all policies: kept where positive
  int64_t head_w;    // [heads][dim]
  int64_t head_b;    // [heads]
  int64_t layer_w;   // [2][dim]
  int64_t layer_b;   // [2]
  int64_t qkv_w;     // query (scale folded in), key, value: per head K = dim, N = head_dim
  int64_t qkv_b;     // [3][dim]
  int64_t proj_w;    // K = dim, N = dim
  int64_t proj_b;    // [dim]
  int64_t fc1_w;     // per part K = dim, N = hidden / parts
  int64_t fc1_b;     // [hidden]
  int64_t fc2_w;     // K = hidden, N = dim
  int64_t fc2_b;     // [dim]
  int64_t total;
};

VitLayout vit_layout(const VitDesc& desc);

}  // namespace laudc
