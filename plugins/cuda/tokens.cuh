// Normalises tokens, and decides which tokens, heads and sublayers of a transformer block are kept.
//
// One launch, as for the maskers of convolution blocks: its blocks share out the tokens of a sample, one warp each, and
// the block that finishes last makes the decisions and the lists.
#pragma once

#include "cuda/lists.cuh"
#include "cuda/token_params.h"

namespace laudc {
namespace cuda {

constexpr int kNormThreads = 256;

struct Moments {
  float mean, scale;
};

// Four features of a token from feature c on; zeros behind the last.
template <class T>
LAUDC_DEVICE void load_features(const T* x, int vectors, int c, int dim, float to[4]) {
  if (vectors != 0) {
    load4(x + c, to);
  } else {
    load_some(x + c, dim - c, to);
  }
}

// Mean and 1 / deviation of a token; a warp calls it.
template <class T>
LAUDC_DEVICE Moments moments_of(const T* x, int vectors, int dim, float epsilon) {
  const int lane = thread_index() % kWarp;
  float value[4], sum = 0.0f, squares = 0.0f;
  for (int c = lane * 4; c < dim; c += kWarp * 4) {
    load_features(x, vectors, c, dim, value);
    sum += (value[0] + value[1]) + (value[2] + value[3]);
  }
  const float mean = sum_over_warp(sum) / static_cast<float>(dim);
  for (int c = lane * 4; c < dim; c += kWarp * 4) {
    load_features(x, vectors, c, dim, value);
    LAUDC_UNROLL
    for (int j = 0; j < 4; ++j) {
      const float apart = c + j < dim ? value[j] - mean : 0.0f;
      squares = fused(apart, apart, squares);
    }
  }
  const float variance = sum_over_warp(squares) / static_cast<float>(dim);
  return {mean, 1.0f / square_root(variance + epsilon)};
}

LAUDC_DEVICE float normal_feature(const NormWeights& norm, const Moments& m, float value, int c) {
  return (value - m.mean) * m.scale * norm.w[c] + norm.b[c];
}

// Writes the normalised token, zeros behind it, and returns its product with `weights` (null: 0); a warp calls it.
template <class T>
LAUDC_DEVICE float normalise_token(const T* x, int vectors, int dim, const NormWeights& norm, const float* weights,
                                   T* to) {
  const int lane = thread_index() % kWarp;
  const Moments m = moments_of(x, vectors, dim, *norm.epsilon);
  float product = 0.0f;
  for (int c = lane * 4; c < (dim + 7) / 8 * 8; c += kWarp * 4) {
    float value[4] = {0, 0, 0, 0};
    if (c < dim) load_features(x, vectors, c, dim, value);
    LAUDC_UNROLL
    for (int j = 0; j < 4; ++j) {
      const bool inside = c + j < dim;
      value[j] = inside ? normal_feature(norm, m, value[j], c + j) : 0.0f;
      if (inside && weights != nullptr) product = fused(value[j], weights[c + j], product);
    }
    store4(value, to + c);
  }
  return sum_over_warp(product);
}

// ---- decisions ------------------------------------------------------------------------------------------------------

struct KeptToken {
  const uint8_t* keep;  // of tokens but the first; null: all
  LAUDC_DEVICE bool operator()(int t) const { return t == 0 || keep == nullptr || keep[t - 1] != 0; }
};

// Columns of query, key and value.
struct KeptColumns {
  const uint8_t* keep;  // [heads]
  int dim, head_dim, values_pass;
  LAUDC_DEVICE bool operator()(int i) const {
    return keep[i % dim / head_dim] != 0 || (values_pass != 0 && i / dim == 2);
  }
};

class TokenChooser {
 public:
  LAUDC_DEVICE TokenChooser(const ChooseParams& p, int sample, ListShared* shared)
      : p_(p),
        sample_(sample),
        shared_(shared),
        head_at_(p.token_w != nullptr ? p.tokens - 1 : 0),
        layer_at_(head_at_ + (p.head_w != nullptr ? p.heads : 0)),
        keep_(p.keep + static_cast<int64_t>(sample) * p.margin_count) {}

  template <class T>
  LAUDC_DEVICE void finish() const {
    if (p_.token_w != nullptr) choose_tokens();
    if (p_.head_w != nullptr || p_.layer_w != nullptr) {
      read_policy<T>();
      judge(p_.head_w, p_.head_b, p_.heads, head_at_);
      judge(p_.layer_w, p_.layer_b, 2, layer_at_);
    }
    sync_block();
    list_all();
  }

 private:
  LAUDC_DEVICE void decide(int decision, float margin) const {
    keep_[decision] = margin > 0.0f ? 1 : 0;
    if (p_.margins != nullptr) p_.margins[static_cast<int64_t>(sample_) * p_.margins_stride + decision] = margin;
  }

  LAUDC_DEVICE void choose_tokens() const {
    const float* scores = p_.scores + static_cast<int64_t>(sample_) * p_.tokens;
    for (int t = 1 + thread_index(); t < p_.tokens; t += kListThreads) decide(t - 1, load_shared_result(scores + t));
  }

  // The class token, normalised or not, in fp32.
  template <class T>
  LAUDC_DEVICE void read_policy() const {
    float* policy = p_.policy + static_cast<int64_t>(sample_) * p_.dim;
    if (thread_index() < kWarp) {
      const T* x = element<T>(p_.x, static_cast<int64_t>(sample_) * p_.tokens * p_.dim);
      const bool normal = p_.policy_norm.w != nullptr;
      Moments m = {0.0f, 1.0f};
      if (normal) m = moments_of(x, p_.x_vectors, p_.dim, *p_.policy_norm.epsilon);
      for (int c = thread_index(); c < p_.dim; c += kWarp) {
        const float value = to_float(x[c]);
        policy[c] = normal ? normal_feature(p_.policy_norm, m, value, c) : value;
      }
    }
    sync_block();
  }

  LAUDC_DEVICE void judge(const float* w, const float* b, int decisions, int first) const {
    if (w == nullptr) return;
    const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
    const float* policy = p_.policy + static_cast<int64_t>(sample_) * p_.dim;
    for (int i = warp; i < decisions; i += kListWarps) {
      const float margin = row_times(w, b, i, p_.dim, policy);
      if (lane == 0) decide(first + i, margin);
    }
  }

  template <class Wanted>
  LAUDC_DEVICE int list(int count, const Wanted& wanted, int first_value, int32_t* lists, int* lengths) const {
    return append_wanted(count, wanted, first_value, lists + static_cast<int64_t>(sample_) * count, &lengths[sample_],
                         shared_);
  }

  LAUDC_DEVICE void list_all() const {
    const KeptToken kept_tokens = {p_.token_w != nullptr ? keep_ : nullptr};
    const int tokens = list(p_.tokens, kept_tokens, sample_ * p_.tokens, p_.token_list, p_.token_count);
    int heads = p_.heads;
    if (p_.head_w != nullptr) heads = list_heads();
    if (thread_index() == 0) report(tokens, heads);
  }

  LAUDC_DEVICE int list_heads() const {
    const int head_dim = p_.dim / p_.heads;
    const uint8_t* keep = keep_ + head_at_;
    const KeptColumns columns = {keep, p_.dim, head_dim, p_.values_pass};
    list(3 * p_.dim, columns, 0, p_.column_list, p_.column_count);
    const KeptChannels features = {keep, head_dim};
    list(p_.dim, features, 0, p_.feature_list, p_.feature_count);
    if (p_.hidden_list != nullptr) {
      const KeptChannels hidden = {keep, p_.hidden / p_.heads};
      list(p_.hidden, hidden, 0, p_.hidden_list, p_.hidden_count);
    }
    const KeptChannels heads = {keep, 1};
    return list(p_.heads, heads, 0, p_.head_list, p_.head_count);
  }

  LAUDC_DEVICE void report(int tokens, int heads) const {
    const bool attends = p_.layer_w == nullptr || keep_[layer_at_] != 0;
    const bool transforms = p_.layer_w == nullptr || keep_[layer_at_ + 1] != 0;
    const int in_mlp = p_.tokens_in_mlp != 0 ? tokens : p_.tokens;
    const int projected = !attends ? 0 : p_.first_only != 0 ? 1 : tokens;
    const int transformed = !transforms ? 0 : p_.first_only != 0 ? 1 : in_mlp;
    p_.attention_rows[sample_] = attends ? tokens : 0;
    p_.projected_rows[sample_] = projected;
    p_.mlp_rows[sample_] = transformed;
    if (p_.counts == nullptr) return;
    int32_t* counts = p_.counts + static_cast<int64_t>(sample_) * p_.counts_stride;
    counts[0] = projected;
    counts[1] = transformed;
    counts[2] = tokens;
    counts[3] = heads;
  }

  const ChooseParams& p_;
  const int sample_;
  ListShared* shared_;
  const int head_at_, layer_at_;
  uint8_t* keep_;
};

template <class T>
LAUDC_KERNEL(kListThreads, 2)
choose(const ChooseParams p) {
  LAUDC_SHARED ListShared shared;
  const int sample = block_index() / p.chunks, chunk = block_index() % p.chunks;
  const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
  const int end = smaller(p.tokens, (chunk + 1) * p.chunk_tokens);
  for (int t = chunk * p.chunk_tokens + warp; t < end; t += kListWarps) {
    const int64_t token = static_cast<int64_t>(sample) * p.tokens + t;
    const float score = normalise_token(element<T>(p.x, token * p.dim), p.x_vectors, p.dim, p.norm, p.token_w,
                                        static_cast<T*>(p.normalised) + token * p.pixel);
    if (p.token_w != nullptr && lane == 0) p.scores[token] = score + *p.token_b;
  }
  if (!arrives_last(&p.tickets[sample], p.chunks, &shared.last)) return;
  TokenChooser(p, sample, &shared).finish<T>();
}

// ---- before the MLP -------------------------------------------------------------------------------------------------

template <class T>
LAUDC_KERNEL(kNormThreads, 2)
normalise(const NormParams p) {
  const int lane = thread_index() % kWarp;
  const int most = p.segments == 1 && p.row_count != nullptr ? p.row_count[0] : p.rows_max;
  const int warps = kNormThreads / kWarp, step = grid_size() * warps;
  for (int at = block_index() * warps + thread_index() / kWarp; at < p.segments * most; at += step) {
    const int segment = at / most, i = at % most;
    if (p.row_count != nullptr && i >= p.row_count[segment]) continue;
    const int listed = segment * p.rows_max + i;
    const int v = p.list != nullptr ? p.list[listed] : listed;
    const T* x = element<T>(p.x, static_cast<int64_t>(v) * p.dim);
    T* to = static_cast<T*>(p.normalised) + static_cast<int64_t>(v) * p.pixel;
    if (p.feature_list == nullptr) {
      normalise_token(x, p.x_vectors, p.dim, p.norm, nullptr, to);
      continue;
    }
    const int sample = v / p.tokens, count = p.feature_count[sample];
    const int32_t* features = p.feature_list + static_cast<int64_t>(sample) * p.dim;
    const Moments m = moments_of(x, p.x_vectors, p.dim, *p.norm.epsilon);
    for (int k = lane; k < (count + 7) / 8 * 8; k += kWarp) {
      const float value = k < count ? normal_feature(p.norm, m, to_float(x[features[k]]), features[k]) : 0.0f;
      from_float(value, &to[k]);
    }
  }
}

}  // namespace cuda
}  // namespace laudc
