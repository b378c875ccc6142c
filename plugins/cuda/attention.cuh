// Attention among the kept tokens of a sample, for its kept heads: scores never leave the chip.
//
// A block holds the queries of one head, some per warp, and walks over the keys 32 at a time: a lane per key for the
// scores, a lane per feature for the sums of values, with the largest score so far taken out (online softmax).
// Multiply-adds in fp32 on every GPU.
#pragma once

#include "cuda/lists.cuh"
#include "cuda/token_params.h"

namespace laudc {
namespace cuda {

constexpr int kAttentionWarps = 4;
constexpr int kAttentionThreads = kAttentionWarps * kWarp;
constexpr int kWidestHead = 128;

// kSlots: features of a head per lane.
template <int kSlots_>
struct AttentionShape {
  static constexpr int kSlots = kSlots_;
  static constexpr int kFeatures = kSlots * kWarp;
  static constexpr int kQueries = kSlots <= 2 ? 8 : 4;  // per warp
  static constexpr int kTile = kAttentionWarps * kQueries;
  static constexpr int kKeyStride = kFeatures + 4;  // lanes read a row each, without bank conflicts
};
typedef AttentionShape<2> NarrowHeads;
typedef AttentionShape<4> WideHeads;

template <class Shape>
struct AttentionShared {
  alignas(16) float q[Shape::kTile][Shape::kFeatures];
  alignas(16) float k[kWarp][Shape::kKeyStride];
  alignas(16) float v[kWarp][Shape::kFeatures];
  alignas(16) float weights[Shape::kTile][kWarp];
};

LAUDC_DEVICE float largest_over_warp(float value) {
  LAUDC_UNROLL
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    const float other = shuffle_xor(value, lanes);
    value = value < other ? other : value;
  }
  return value;
}

// One head of one sample, and where it lies in a row.
struct HeadPlace {
  bool kept;
  int query, key, value, out;  // first feature
  int total;                   // features of all heads in the result
};

LAUDC_DEVICE HeadPlace head_place(const AttentionParams& p, int sample, int slot) {
  const int all = p.head_count != nullptr ? p.head_count[sample] : p.heads;
  const int32_t* heads = p.head_list + static_cast<int64_t>(sample) * p.heads;
  const int width = p.head_dim;
  if (p.values_pass == 0) {
    return {slot < all, slot * width, (all + slot) * width, (2 * all + slot) * width, slot * width, all * width};
  }
  // Slots are heads; the place among the kept ones has to be looked up.
  const int i = p.head_count != nullptr ? first_not_below(heads, all, slot) : slot;
  const bool kept = i < all && (p.head_count == nullptr || heads[i] == slot);
  return {kept, i * width, (all + i) * width, (2 * all + slot) * width, slot * width, p.heads * width};
}

template <class T, class Shape>
class HeadTile {
 public:
  typedef AttentionShared<Shape> Shared;

  LAUDC_DEVICE HeadTile(const AttentionParams& p, int sample, const HeadPlace& place, int keys, int first, int queries,
                        Shared* shared)
      : p_(p),
        place_(place),
        row0_(static_cast<int64_t>(sample) * p.tokens),
        keys_(keys),
        first_(first),
        queries_(queries),
        lane_(thread_index() % kWarp),
        warp_query_(thread_index() / kWarp * Shape::kQueries),
        shared_(shared) {}

  LAUDC_DEVICE void attend() const {
    float sums[Shape::kQueries][Shape::kSlots] = {}, total[Shape::kQueries] = {}, largest[Shape::kQueries];
    LAUDC_UNROLL
    for (int i = 0; i < Shape::kQueries; ++i) largest[i] = as_float(0xff800000u);  // -inf
    load_rows(&shared_->q[0][0], Shape::kFeatures, Shape::kTile, first_, queries_, place_.query);
    for (int key = 0; key < keys_; key += kWarp) {
      sync_block();  // the keys before have been used up
      load_rows(&shared_->k[0][0], Shape::kKeyStride, kWarp, key, keys_, place_.key);
      load_rows(&shared_->v[0][0], Shape::kFeatures, kWarp, key, keys_, place_.value);
      sync_block();
      weigh(key, sums, total, largest);
      sync_warp();
      add_values(sums);
    }
    store(sums, total);
    sync_block();  // the next tile's queries go where these were
  }

  // A dropped head gives its values.
  LAUDC_DEVICE void pass() const {
    const int end = smaller(queries_, first_ + Shape::kTile);
    for (int i = thread_index(); i < (end - first_) * p_.head_dim; i += kAttentionThreads) {
      const int row = first_ + i / p_.head_dim, f = i % p_.head_dim;
      mixed(row)[place_.out + f] = qkv(row)[place_.value + f];
    }
  }

  // Zeros behind the last head: what reads the result reads whole vectors.
  LAUDC_DEVICE void pad() const {
    const int missing = (place_.total + 7) / 8 * 8 - place_.total, end = smaller(queries_, first_ + Shape::kTile);
    for (int i = thread_index(); i < (end - first_) * missing; i += kAttentionThreads) {
      from_float(0.0f, mixed(first_ + i / missing) + place_.total + i % missing);
    }
  }

 private:
  LAUDC_DEVICE const T* qkv(int row) const { return element<T>(p_.qkv, (row0_ + row) * p_.qkv_pixel); }
  LAUDC_DEVICE T* mixed(int row) const { return static_cast<T*>(p_.mixed) + (row0_ + row) * p_.mixed_pixel; }

  // Rows first .. first + count - 1, from feature `at` on; zeros behind the last feature and from row `end` on.
  LAUDC_DEVICE void load_rows(float* to, int stride, int count, int first, int end, int at) const {
    const bool vectors = p_.head_dim % 4 == 0;
    for (int i = thread_index(); i < count * Shape::kFeatures / 4; i += kAttentionThreads) {
      const int r = i / (Shape::kFeatures / 4), f = i % (Shape::kFeatures / 4) * 4;
      const int inside = first + r < end ? p_.head_dim - f : 0;
      float value[4] = {0, 0, 0, 0};
      if (inside > 0) {
        const T* from = qkv(first + r) + at + f;
        if (vectors) {
          load4(from, value);
        } else {
          load_some(from, inside, value);
        }
      }
      store4(value, to + r * stride + f);
    }
  }

  // Scores of this lane's key, and from them the weights of all 32, relative to the largest score so far.
  LAUDC_DEVICE void weigh(int key, float sums[Shape::kQueries][Shape::kSlots], float total[Shape::kQueries],
                          float largest[Shape::kQueries]) const {
    float scores[Shape::kQueries] = {};
    for (int f = 0; f < p_.head_dim; f += 4) {
      float k[4], q[4];
      load4(&shared_->k[lane_][f], k);
      LAUDC_UNROLL
      for (int i = 0; i < Shape::kQueries; ++i) {
        load4(&shared_->q[warp_query_ + i][f], q);
        LAUDC_UNROLL
        for (int j = 0; j < 4; ++j) scores[i] = fused(q[j], k[j], scores[i]);
      }
    }
    LAUDC_UNROLL
    for (int i = 0; i < Shape::kQueries; ++i) {
      const float score = key + lane_ < keys_ ? scores[i] : as_float(0xff800000u);
      const float here = largest_over_warp(score), most = here < largest[i] ? largest[i] : here;
      const float shrink = exponential(largest[i] - most), weight = exponential(score - most);
      largest[i] = most;
      total[i] = fused(total[i], shrink, sum_over_warp(weight));
      LAUDC_UNROLL
      for (int s = 0; s < Shape::kSlots; ++s) sums[i][s] *= shrink;
      shared_->weights[warp_query_ + i][lane_] = weight;
    }
  }

  LAUDC_DEVICE void add_values(float sums[Shape::kQueries][Shape::kSlots]) const {
    for (int key = 0; key < kWarp; key += 4) {
      float weight[Shape::kQueries][4];
      LAUDC_UNROLL
      for (int i = 0; i < Shape::kQueries; ++i) load4(&shared_->weights[warp_query_ + i][key], weight[i]);
      LAUDC_UNROLL
      for (int j = 0; j < 4; ++j) {
        LAUDC_UNROLL
        for (int s = 0; s < Shape::kSlots; ++s) {
          const float value = shared_->v[key + j][s * kWarp + lane_];
          LAUDC_UNROLL
          for (int i = 0; i < Shape::kQueries; ++i) sums[i][s] = fused(weight[i][j], value, sums[i][s]);
        }
      }
    }
  }

  LAUDC_DEVICE void store(const float sums[Shape::kQueries][Shape::kSlots], const float total[Shape::kQueries]) const {
    LAUDC_UNROLL
    for (int i = 0; i < Shape::kQueries; ++i) {
      const int row = first_ + warp_query_ + i;
      if (row >= queries_) continue;
      LAUDC_UNROLL
      for (int s = 0; s < Shape::kSlots; ++s) {
        const int f = s * kWarp + lane_;
        if (f < p_.head_dim) from_float(sums[i][s] / total[i], mixed(row) + place_.out + f);
      }
    }
  }

  const AttentionParams& p_;
  const HeadPlace& place_;
  const int64_t row0_;
  const int keys_, first_, queries_;
  const int lane_, warp_query_;
  Shared* shared_;
};

template <class T, class Shape>
LAUDC_KERNEL(kAttentionThreads, 2)
attention(const AttentionParams p) {
  LAUDC_SHARED AttentionShared<Shape> shared;
  const int tiles = tiles_of(p.tokens, Shape::kTile);
  for (int at = block_index(); at < p.samples * p.heads * tiles; at += grid_size()) {
    const int first = at % tiles * Shape::kTile, slot = at / tiles % p.heads, sample = at / tiles / p.heads;
    const int keys = p.key_rows != nullptr ? p.key_rows[sample] : p.tokens;
    const int queries = p.query_rows != nullptr ? p.query_rows[sample] : p.tokens;
    const HeadPlace place = head_place(p, sample, slot);
    if (first >= queries || (!place.kept && p.values_pass == 0)) continue;
    const HeadTile<T, Shape> tile(p, sample, place, keys, first, queries, &shared);
    if (place.kept) {
      tile.attend();
    } else {
      tile.pass();
    }
    if (place.out + p.head_dim == place.total) tile.pad();
  }
}

}  // namespace cuda
}  // namespace laudc
