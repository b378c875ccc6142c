// What every indexed GEMM shares, whatever multiplies: which tile comes next, which rows and columns it holds, and what
// happens to its sums.
#pragma once

#include "cuda/params.h"
#include "cuda/vectors.cuh"

namespace laudc {
namespace cuda {

LAUDC_DEVICE int smaller(int a, int b) { return a < b ? a : b; }
LAUDC_DEVICE int tiles_of(int length, int tile) { return (length + tile - 1) / tile; }

// Of `blocks` blocks that write a part each, whether this one is the last to come here: it sees what all have written.
// The whole block calls it; `last` lies in shared memory.
LAUDC_DEVICE bool arrives_last(int* ticket, int blocks, int* last) {
  fence();
  sync_block();
  if (thread_index() == 0) *last = atomic_add(ticket, 1) == blocks - 1 ? 1 : 0;
  sync_block();
  if (*last == 0) return false;
  fence();
  return true;
}

// PyTorch's nearest interpolation; `scale` is float(cells) / float(pixels).
LAUDC_DEVICE int nearest_cell(int pixel, float scale, int cells) {
  return smaller(static_cast<int>(static_cast<float>(pixel) * scale), cells - 1);
}

// The 3x3 window around an output pixel.
struct Window {
  int centre;  // input pixel
  int taps;    // bit t: tap t lies inside the map
  int border;  // the border class of core/index_lists.h: top, bottom, left, right
};

LAUDC_DEVICE int pixel_under(int v, int hin, int win, int hout, int wout, int stride) {
  const int pixels = hout * wout;
  return (v / pixels * hin + v % pixels / wout * stride) * win + v % wout * stride;
}

LAUDC_DEVICE Window window_around(int v, int hin, int win, int hout, int wout, int stride) {
  const int y = v % (hout * wout) / wout * stride, x = v % wout * stride;
  const int rows = (y > 0 ? 1 : 0) | 2 | (y + 1 < hin ? 4 : 0);
  const int columns = (x > 0 ? 1 : 0) | 2 | (x + 1 < win ? 4 : 0);
  Window window = {pixel_under(v, hin, win, hout, wout, stride), 0, 0};
  LAUDC_UNROLL
  for (int t = 0; t < 9; ++t) window.taps |= ((rows >> (t / 3)) & (columns >> (t % 3)) & 1) << t;
  window.border = (1 - (rows & 1)) | (1 - (rows >> 2)) << 1 | (1 - (columns & 1)) << 2 | (1 - (columns >> 2)) << 3;
  return window;
}

struct Tile {
  int id;  // among the m x n positions of the launch
  int segment, m0, n0;
  int rows, columns, depth;  // of the whole segment
  int split;
};

// All tiles of a launch, one after another; blocks take every grid_size()-th. The number follows from counts on the
// device: nothing is launched again, or waited for, when masks change.
template <int kTileM, int kTileN>
class TileList {
 public:
  LAUDC_DEVICE explicit TileList(const GemmParams& p) : p_(p) {
    // One segment: exactly the tiles there are. Several: room for the largest each, empty ones are skipped.
    m_tiles_ = tiles_of(p.segments == 1 ? rows(0) : p.rows_max, kTileM);
    n_tiles_ = tiles_of(p.columns, kTileN);
  }

  LAUDC_DEVICE int count() const { return p_.segments * m_tiles_ * n_tiles_ * p_.splits; }

  // False if the tile holds nothing.
  LAUDC_DEVICE bool get(int index, Tile* tile) const {
    tile->split = index % p_.splits;
    tile->id = index / p_.splits;
    const int m = tile->id / n_tiles_;
    tile->n0 = tile->id % n_tiles_ * kTileN;
    tile->segment = m / m_tiles_;
    tile->m0 = m % m_tiles_ * kTileM;
    tile->rows = rows(tile->segment);
    tile->columns = p_.n_count != nullptr ? p_.n_count[tile->segment] : p_.columns;
    tile->depth = p_.k_count != nullptr ? p_.k_count[tile->segment] : p_.depth;
    return tile->m0 < tile->rows && tile->n0 < tile->columns;
  }

 private:
  LAUDC_DEVICE int rows(int segment) const { return p_.row_count != nullptr ? p_.row_count[segment] : p_.rows_max; }

  const GemmParams& p_;
  int m_tiles_, n_tiles_;
};

// The rows and columns of a tile, in shared memory.
template <int kTileM, int kTileN>
struct TileIndex {
  int source[kTileM];   // pixel of operand a, or -1
  int target[kTileM];   // pixel of the output, or -1
  int taps[kTileM];     // kTaps: bit t: tap t lies inside the map
  int extra[kTileM];    // kClamp: offset of the border class's bias; kProject: whether to leave the ReLU to conv3;
                        // kAddRelu: offset of the pixel's mask cell
  int weight[kTileN];   // offset of the column's weights, or -1
  int channel[kTileN];  // output channel, or -1
  int last;             // whether this block adds up the splits
};

template <int kTileM, int kTileN>
class TileSetup {
 public:
  typedef TileIndex<kTileM, kTileN> Index;

  LAUDC_DEVICE TileSetup(const GemmParams& p, const Tile& tile, Index* index) : p_(p), tile_(tile), index_(index) {}

  // Callers synchronise afterwards.
  LAUDC_DEVICE void fill(int thread, int threads) const {
    for (int r = thread; r < kTileM; r += threads) fill_row(r);
    for (int c = thread; c < kTileN; c += threads) fill_column(c);
  }

 private:
  LAUDC_DEVICE void fill_row(int r) const {
    const int i = tile_.m0 + r;
    index_->taps[r] = 0;
    index_->extra[r] = 0;
    index_->source[r] = index_->target[r] = -1;
    if (i >= tile_.rows) return;
    const int at = tile_.segment * p_.rows_max + i;
    const int v = p_.list != nullptr ? p_.list[at] : at;
    index_->target[r] = p_.target == RowTarget::kCompact ? at : v;
    if (p_.source == RowSource::kCompact) index_->source[r] = at;
    if (p_.source == RowSource::kPixel) index_->source[r] = v;
    if (p_.source == RowSource::kStrided) {
      index_->source[r] = pixel_under(v, p_.hin, p_.win, p_.hout, p_.wout, p_.stride);
    }
    if (p_.source == RowSource::kTaps) fill_window(r, v);
    if (p_.epilogue == Epilogue::kProject) index_->extra[r] = p_.wanted == nullptr || p_.wanted[v] != 0 ? 1 : 0;
    if (p_.epilogue == Epilogue::kAddRelu && p_.keep != nullptr) index_->extra[r] = mask_cell(v);
  }

  LAUDC_DEVICE void fill_window(int r, int v) const {
    const Window window = window_around(v, p_.hin, p_.win, p_.hout, p_.wout, p_.stride);
    index_->source[r] = window.centre;
    index_->taps[r] = window.taps;
    index_->extra[r] = window.border * p_.bias_stride;
  }

  LAUDC_DEVICE int mask_cell(int v) const {
    const int pixels = p_.hout * p_.wout;
    const int y = v % pixels / p_.wout, x = v % p_.wout;
    return v / pixels * p_.keep_stride + nearest_cell(y, p_.row_scale, p_.mask_h) * p_.mask_w +
           nearest_cell(x, p_.col_scale, p_.mask_w);
  }

  LAUDC_DEVICE void fill_column(int c) const {
    const int n = tile_.n0 + c;
    const bool inside = n < tile_.columns;
    const int channel = !inside ? -1 : p_.n_kept != nullptr ? p_.n_kept[tile_.segment * p_.kept_stride + n] : n;
    index_->channel[c] = channel;
    // Panels are padded with zero columns, so that whole vectors may be read up to their end.
    const bool padding =
        !inside && p_.n_kept == nullptr && p_.w_parts == 1 && n < tiles_of(p_.columns, p_.panel) * p_.panel;
    index_->weight[c] = inside ? weight_offset(channel) : padding ? weight_offset(n) : -1;
  }

  // Where the weights of an output channel begin.
  LAUDC_DEVICE int weight_offset(int channel) const {
    const int depth = p_.taps * p_.depth;
    const int share = p_.columns / p_.w_parts, part = p_.w_parts == 1 ? 0 : channel / share;
    const int n = channel - part * share;
    return part * p_.w_part_size + n / p_.panel * depth * p_.panel + n % p_.panel;
  }

  const GemmParams& p_;
  const Tile& tile_;
  Index* index_;
};

// Weights that lie side by side for columns side by side, at most `most` (all powers of two).
LAUDC_DEVICE int weight_run(const GemmParams& p, int most) { return smaller(p.n_run, most); }

// Offset of input channel k (counted among the kept ones) under tap t, to be added to a column's offset.
LAUDC_DEVICE int weight_step(const GemmParams& p, const Tile& tile, int t, int k) {
  const int channel = p.k_kept != nullptr ? p.k_kept[tile.segment * p.kept_stride + k] : k;
  return (t * p.depth + channel) * p.panel;
}

LAUDC_DEVICE float gelu(float value) { return 0.5f * value * (1.0f + error_function(value * 0.70710678f)); }

// What becomes of four finished sums of row r, columns c .. c + 3 of the tile.
template <class TOut, int kTileM, int kTileN>
class Finisher {
 public:
  typedef TileIndex<kTileM, kTileN> Index;

  LAUDC_DEVICE Finisher(const GemmParams& p, const Tile& tile, const Index& index) : p_(p), tile_(tile), index_(index) {
    end_ = p.out_padded != 0 ? (tile.columns + 7) / 8 * 8 : tile.columns;
  }

  LAUDC_DEVICE void finish(int r, int c, const float sums[4]) const {
    const int target = index_.target[r];
    const int n = tile_.n0 + c;
    if (target < 0 || n >= end_) return;
    TOut* out = static_cast<TOut*>(p_.out) + static_cast<int64_t>(target) * p_.out_pixel + n;
    const int count = smaller(4, end_ - n);
    const bool whole = p_.out_vectors != 0 && count == 4;
    float before[4] = {0, 0, 0, 0}, value[4];
    if (p_.epilogue == Epilogue::kAddRelu || p_.epilogue == Epilogue::kAdd) {
      if (whole) {
        load4(out, before);
      } else {
        load_some(out, count, before);
      }
    }
    LAUDC_UNROLL
    for (int j = 0; j < 4; ++j) value[j] = one(r, index_.channel[c + j], sums[j], before[j]);
    if (whole) {
      store4(value, out);
    } else {
      for (int j = 0; j < count; ++j) from_float(value[j], &out[j]);
    }
  }

 private:
  LAUDC_DEVICE float one(int r, int channel, float sum, float before) const {
    if (channel < 0) return 0.0f;  // padding behind the last column
    const int extra = index_.extra[r];
    if (p_.epilogue == Epilogue::kClamp) {
      const float lo = p_.lo[channel], value = sum + p_.bias[(p_.bias_stride != 0 ? extra : 0) + channel];
      return value < lo ? lo : value;
    }
    float value = sum + p_.bias[channel];
    if (p_.epilogue == Epilogue::kAdd) return value + before;
    if (p_.epilogue == Epilogue::kGelu) return gelu(value);
    if (p_.epilogue == Epilogue::kProject && extra != 0) return value;
    if (p_.epilogue == Epilogue::kAddRelu) {
      if (p_.keep != nullptr && !kept(extra, channel)) value = 0.0f;
      value += before;
    }
    return value < 0.0f ? 0.0f : value;
  }

  LAUDC_DEVICE bool kept(int cell, int channel) const {
    const int group = channel / (p_.columns / p_.mask_groups);
    return p_.keep[cell + group * p_.mask_h * p_.mask_w] != 0;
  }

  const GemmParams& p_;
  const Tile& tile_;
  const Index& index_;
  int end_;
};

// Where a tile's sums go: to the output, or, when the tile is split along k, to memory from which the block that comes
// last adds up all splits in a fixed order. So results do not depend on which block that is.
template <class TOut, int kTileM, int kTileN>
class TileSink {
 public:
  typedef TileIndex<kTileM, kTileN> Index;

  LAUDC_DEVICE TileSink(const GemmParams& p, const Tile& tile, Index* index)
      : p_(p), tile_(tile), index_(index), finisher_(p, tile, *index) {}

  LAUDC_DEVICE void take(int r, int c, const float sums[4]) const {
    if (p_.splits == 1) {
      finisher_.finish(r, c, sums);
    } else {
      store4(sums, partial(tile_.split, r, c));
    }
  }

  // After all sums were taken; the whole block calls it.
  LAUDC_DEVICE void close(int thread, int threads) const {
    if (p_.splits == 1) return;
    if (!arrives_last(&p_.tickets[tile_.id], p_.splits, &index_->last)) return;
    if (thread == 0) p_.tickets[tile_.id] = 0;  // ready for the next launch
    for (int i = thread; i < kTileM * kTileN / 4; i += threads) {
      const int r = i / (kTileN / 4), c = i % (kTileN / 4) * 4;
      float sums[4] = {0, 0, 0, 0};
      for (int split = 0; split < p_.splits; ++split) {
        const float* from = partial(split, r, c);
        LAUDC_UNROLL
        for (int j = 0; j < 4; ++j) sums[j] += load_shared_result(from + j);
      }
      finisher_.finish(r, c, sums);
    }
  }

 private:
  LAUDC_DEVICE float* partial(int split, int r, int c) const {
    return p_.partials + ((static_cast<int64_t>(tile_.id) * p_.splits + split) * kTileM + r) * kTileN + c;
  }

  const GemmParams& p_;
  const Tile& tile_;
  Index* index_;
  const Finisher<TOut, kTileM, kTileN> finisher_;
};

// Steps of kStep inputs under each tap, shared out over the splits.
struct KSteps {
  int per_tap, begin, end;
};

template <int kStep>
LAUDC_DEVICE KSteps k_steps(const GemmParams& p, const Tile& tile) {
  KSteps steps;
  steps.per_tap = tiles_of(tile.depth, kStep);
  const int all = p.taps * steps.per_tap, share = tiles_of(all, p.splits);
  steps.begin = smaller(all, tile.split * share);
  steps.end = smaller(all, steps.begin + share);
  return steps;
}

// Pixel that a row reads under tap t, or -1.
template <class Index>
LAUDC_DEVICE int source_pixel(const GemmParams& p, const Index& index, int r, int t) {
  const int centre = index.source[r];
  if (centre < 0 || p.source != RowSource::kTaps) return centre;
  return (index.taps[r] >> t & 1) != 0 ? centre + (t / 3 - 1) * p.win + t % 3 - 1 : -1;
}

}  // namespace cuda
}  // namespace laudc
