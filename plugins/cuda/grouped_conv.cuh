// Grouped 3x3 convolution over a list of pixels, restricted to the kept channels of every group.
//
// A group is too narrow for the tiles of the GEMMs, so tiles here are as wide as what a group keeps and the taller the
// narrower that is: every thread holds 4 x 4 sums. Multiply-adds in fp32 on every GPU, whatever maps are stored as.
#pragma once

#include "cuda/lists.cuh"

namespace laudc {
namespace cuda {

constexpr int kGroupedThreads = 128;
constexpr int kGroupedRows = 4 * kGroupedThreads;      // of the tallest tile, four channels wide
constexpr int kGroupedOutputs = 16 * kGroupedThreads;  // of a tile, at most

// Kernels exist for groups up to these widths.
constexpr int kNarrowGroup = 32, kWideGroup = 64;

template <int kWidest>
struct GroupedShared {
  int source[kGroupedRows];  // pixel in the middle of the window, or -1
  int target[kGroupedRows];  // output pixel, or -1
  int taps[kGroupedRows];    // bit t: tap t lies inside the map
  int local[kWidest];        // kept channels within the group
  alignas(16) float a[kGroupedOutputs];
  alignas(16) float w[kWidest * kWidest];
};

// What one group keeps of one segment.
struct GroupPart {
  int first, count;  // places among all kept channels
  int total;         // kept channels of all groups
};

LAUDC_DEVICE GroupPart group_part(const GroupedParams& p, int segment, int group) {
  const int begin = group * p.group_width;
  if (p.kept == nullptr) return {begin, p.group_width, p.groups * p.group_width};
  const int32_t* kept = p.kept + static_cast<int64_t>(segment) * p.kept_stride;
  const int total = p.kept_count[segment];
  const int first = first_not_below(kept, total, begin);
  return {first, first_not_below(kept, total, begin + p.group_width) - first, total};
}

template <class T, int kWidest>
class GroupedTile {
 public:
  typedef GroupedShared<kWidest> Shared;

  LAUDC_DEVICE GroupedTile(const GroupedParams& p, int segment, int group, const GroupPart& part, Shared* shared)
      : p_(p),
        segment_(segment),
        group_(group),
        part_(part),
        quads_((part.count + 3) / 4),
        rows_(4 * (kGroupedThreads / quads_)),
        shared_(shared) {}

  LAUDC_DEVICE int rows() const { return rows_; }

  LAUDC_DEVICE void compute(int m0, int row_count) const {
    const int thread = thread_index();
    for (int r = thread; r < rows_; r += kGroupedThreads) fill_row(r, m0 + r, row_count);
    for (int k = thread; k < part_.count; k += kGroupedThreads) {
      shared_->local[k] =
          p_.kept == nullptr
              ? k
              : p_.kept[static_cast<int64_t>(segment_) * p_.kept_stride + part_.first + k] - group_ * p_.group_width;
    }
    sync_block();
    const int row = thread / quads_ * 4, column = thread % quads_ * 4;
    float sums[4][4] = {};
    for (int t = 0; t < 9; ++t) {
      load_inputs(t);
      load_weights(t);
      sync_block();
      if (row < rows_) multiply(row, column, sums);
      sync_block();
    }
    if (row < rows_) finish(row, column, sums);
    if (part_.first + part_.count == part_.total) pad();
    sync_block();  // the next tile's rows go where these were
  }

 private:
  LAUDC_DEVICE void fill_row(int r, int i, int row_count) const {
    shared_->source[r] = shared_->target[r] = -1;
    shared_->taps[r] = 0;
    if (i >= row_count) return;
    const int at = segment_ * p_.rows_max + i;
    const int v = p_.list != nullptr ? p_.list[at] : at;
    const Window window = window_around(v, p_.hin, p_.win, p_.hout, p_.wout, p_.stride);
    shared_->source[r] = window.centre;
    shared_->target[r] = v;
    shared_->taps[r] = window.taps;
  }

  // Inputs of tap t, as [kept input][row].
  LAUDC_DEVICE void load_inputs(int t) const {
    const bool vectors = part_.first % 4 == 0;
    const int step = (t / 3 - 1) * p_.win + t % 3 - 1;
    for (int i = thread_index(); i < rows_ * quads_; i += kGroupedThreads) {
      const int r = i % rows_, k = i / rows_ * 4, count = part_.count - k;
      float value[4] = {0, 0, 0, 0};
      if ((shared_->taps[r] >> t & 1) != 0) {
        const T* from = element<T>(p_.a, static_cast<int64_t>(shared_->source[r] + step) * p_.pixel + part_.first + k);
        if (vectors && count >= 4) {
          load4(from, value);
        } else {
          load_some(from, count, value);
        }
      }
      LAUDC_UNROLL
      for (int j = 0; j < 4; ++j) {
        if (j < count) shared_->a[(k + j) * rows_ + r] = value[j];
      }
    }
  }

  // Weights of tap t, as [kept input][kept output], zeros behind the last output.
  LAUDC_DEVICE void load_weights(int t) const {
    const int64_t tap = (static_cast<int64_t>(group_) * 9 + t) * p_.group_width;
    for (int i = thread_index(); i < part_.count * quads_; i += kGroupedThreads) {
      const int k = i / quads_, n = i % quads_ * 4;
      const T* from = element<T>(p_.w, (tap + shared_->local[k]) * p_.group_panel);
      float value[4] = {0, 0, 0, 0};
      LAUDC_UNROLL
      for (int j = 0; j < 4; ++j) {
        if (n + j < part_.count) value[j] = to_float(from[shared_->local[n + j]]);
      }
      store4(value, &shared_->w[k * 4 * quads_ + n]);
    }
  }

  LAUDC_DEVICE void multiply(int row, int column, float sums[4][4]) const {
    for (int k = 0; k < part_.count; ++k) {
      float a[4], w[4];
      load4(&shared_->a[k * rows_ + row], a);
      load4(&shared_->w[k * 4 * quads_ + column], w);
      LAUDC_UNROLL
      for (int i = 0; i < 4; ++i) {
        LAUDC_UNROLL
        for (int j = 0; j < 4; ++j) sums[i][j] = fused(a[i], w[j], sums[i][j]);
      }
    }
  }

  LAUDC_DEVICE void finish(int row, int column, const float sums[4][4]) const {
    const int count = smaller(4, part_.count - column);
    float bias[4] = {0, 0, 0, 0};
    LAUDC_UNROLL
    for (int j = 0; j < 4; ++j) {
      if (j < count) bias[j] = p_.bias[group_ * p_.group_width + shared_->local[column + j]];
    }
    LAUDC_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int target = shared_->target[row + i];
      if (target < 0) continue;
      T* out = output(target) + part_.first + column;
      float value[4];
      LAUDC_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float sum = sums[i][j] + bias[j];
        value[j] = sum < 0.0f ? 0.0f : sum;
      }
      if (part_.first % 4 == 0 && count == 4) {
        store4(value, out);
      } else {
        LAUDC_UNROLL
        for (int j = 0; j < 4; ++j) {
          if (j < count) from_float(value[j], &out[j]);
        }
      }
    }
  }

  // Zeros behind the last kept channel: what reads the map next reads whole vectors.
  LAUDC_DEVICE void pad() const {
    const int end = (part_.total + 7) / 8 * 8, missing = end - part_.total;
    for (int i = thread_index(); i < rows_ * missing; i += kGroupedThreads) {
      const int target = shared_->target[i / missing];
      if (target >= 0) from_float(0.0f, output(target) + part_.total + i % missing);
    }
  }

  LAUDC_DEVICE T* output(int pixel) const { return static_cast<T*>(p_.out) + static_cast<int64_t>(pixel) * p_.pixel; }

  const GroupedParams& p_;
  const int segment_, group_;
  const GroupPart& part_;
  const int quads_, rows_;
  Shared* shared_;
};

template <class T, int kWidest>
LAUDC_KERNEL(kGroupedThreads, 2)
grouped_conv(const GroupedParams p) {
  LAUDC_SHARED GroupedShared<kWidest> shared;
  const int most = p.segments == 1 && p.row_count != nullptr ? p.row_count[0] : p.rows_max;
  const int m_tiles = tiles_of(most, p.tile_rows);
  for (int at = block_index(); at < p.segments * m_tiles * p.groups; at += grid_size()) {
    const int group = at % p.groups, m = at / p.groups % m_tiles, segment = at / p.groups / m_tiles;
    const GroupPart part = group_part(p, segment, group);
    if (part.count == 0) continue;
    const int rows = p.row_count != nullptr ? p.row_count[segment] : p.rows_max;
    const GroupedTile<T, kWidest> tile(p, segment, group, part, &shared);
    const int m0 = m * tile.rows();
    if (m0 < rows) tile.compute(m0, rows);
  }
}

}  // namespace cuda
}  // namespace laudc
