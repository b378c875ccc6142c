// Decides which patches, samples and channels of a block are kept, and lists the rows its convolutions will compute.
//
// One launch. Its blocks first share out the reading of the feature map; the block that finishes a sample last turns
// the sums into decisions and the decisions into lists, by ballot compaction. Everything stays on the device.
#pragma once

#include "cuda/lists.cuh"

namespace laudc {
namespace cuda {

constexpr int kMaskerThreads = kListThreads;
constexpr int kMaskerWarps = kListWarps;
// Windows up to this many pixels are averaged by one thread each, larger ones by a warp.
constexpr int kThreadWindow = 64;

typedef ListShared MaskerShared;

// ---- from decisions to lists ----------------------------------------------------------------------------------------

struct ByteSet {
  const uint8_t* bytes;
  LAUDC_DEVICE bool operator()(int i) const { return bytes[i] != 0; }
};

// Input pixels that the 3x3 windows of wanted output pixels read.
struct DilatedSet {
  const uint8_t* wanted;  // [hout * wout]
  int win, hout, wout, stride;

  LAUDC_DEVICE bool operator()(int i) const {
    const int y = i / win, x = i % win;
    // Output row v reads input rows v * stride - 1 .. v * stride + 1.
    const int v0 = y == 0 ? 0 : (y - 1 + stride - 1) / stride, v1 = smaller((y + 1) / stride, hout - 1);
    const int u0 = x == 0 ? 0 : (x - 1 + stride - 1) / stride, u1 = smaller((x + 1) / stride, wout - 1);
    bool any = false;
    for (int v = v0; v <= v1; ++v) {
      for (int u = u0; u <= u1; ++u) any = any || wanted[v * wout + u] != 0;
    }
    return any;
  }
};

struct AllOf {
  LAUDC_DEVICE bool operator()(int) const { return true; }
};

// ---- reading the map ------------------------------------------------------------------------------------------------

// Dot products of pixels begin .. end (numbered over all samples) with each group's weights, one warp per pixel.
template <class TX>
LAUDC_DEVICE void score_pixels(const MaskerParams& p, int begin, int end) {
  const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
  const int64_t all = static_cast<int64_t>(p.samples) * p.hin * p.win;
  for (int pixel = begin + warp; pixel < end; pixel += kMaskerWarps) {
    const TX* x = element<TX>(p.x, static_cast<int64_t>(pixel) * p.x_pixel);
    for (int g = 0; g < p.mask_groups; ++g) {
      const float* w = p.spatial_w + static_cast<int64_t>(g) * p.cin;
      float sum = 0.0f;
      for (int c = lane * 4; c < p.cin; c += kWarp * 4) {
        float value[4];
        if (p.x_vectors != 0) {
          load4(x + c, value);
        } else {
          load_some(x + c, p.cin - c, value);
        }
        LAUDC_UNROLL
        for (int j = 0; j < 4; ++j) {
          if (c + j < p.cin) sum = fused(value[j], w[c + j], sum);
        }
      }
      sum = sum_over_warp(sum);
      if (lane == 0) p.scores[g * all + pixel] = sum;
    }
  }
}

template <class TF>
LAUDC_DEVICE void sum_features(const MaskerParams& p, int begin, int end, float* sums) {
  for (int c = thread_index(); c < p.feature_count; c += kMaskerThreads) {
    float sum = 0.0f;
    for (int pixel = begin; pixel < end; ++pixel) {
      sum += to_float(*element<TF>(p.features, static_cast<int64_t>(pixel) * p.feature_pixel + c));
    }
    sums[c] = sum;
  }
}

// ---- decisions ------------------------------------------------------------------------------------------------------

// Adaptive average pooling window i of n over `length`.
LAUDC_DEVICE int window_start(int i, int length, int n) {
  return static_cast<int>(static_cast<int64_t>(i) * length / n);
}
LAUDC_DEVICE int window_stop(int i, int length, int n) {
  return static_cast<int>((static_cast<int64_t>(i + 1) * length + n - 1) / n);
}

// Mean over a cell's window; `lane` of `lanes` threads work on it, each returns its share.
LAUDC_DEVICE float window_share(const MaskerParams& p, int sample, int cell, int lane, int lanes) {
  const int cells = p.mask_h * p.mask_w, pixels = p.hin * p.win;
  const int i = cell % cells / p.mask_w, j = cell % p.mask_w;
  const int y0 = window_start(i, p.hin, p.mask_h), y1 = window_stop(i, p.hin, p.mask_h);
  const int x0 = window_start(j, p.win, p.mask_w), x1 = window_stop(j, p.win, p.mask_w);
  const float* scores =
      p.scores + (static_cast<int64_t>(cell / cells) * p.samples + sample) * static_cast<int64_t>(pixels);
  const int area = (y1 - y0) * (x1 - x0);
  float sum = 0.0f;
  for (int at = lane; at < area; at += lanes) {
    const int y = y0 + at / (x1 - x0), x = x0 + at % (x1 - x0);
    sum += load_shared_result(scores + y * p.win + x);
  }
  return sum / static_cast<float>(area);
}

LAUDC_DEVICE void decide(const MaskerParams& p, int sample, int decision, float margin) {
  p.keep[static_cast<int64_t>(sample) * p.margin_count + decision] = margin >= 0.0f ? 1 : 0;  // a tie keeps, NaN drops
  if (p.margins != nullptr) p.margins[static_cast<int64_t>(sample) * p.margins_stride + decision] = margin;
}

LAUDC_DEVICE void decide_cells(const MaskerParams& p, int sample) {
  const int thread = thread_index(), lane = thread % kWarp, warp = thread / kWarp;
  const int cells = p.mask_groups * p.mask_h * p.mask_w, cells_each = p.mask_h * p.mask_w;
  const int area = (p.hin / p.mask_h + 2) * (p.win / p.mask_w + 2);
  if (area <= kThreadWindow) {
    for (int cell = thread; cell < cells; cell += kMaskerThreads) {
      decide(p, sample, cell, p.spatial_b[cell / cells_each] + window_share(p, sample, cell, 0, 1));
    }
    return;
  }
  for (int cell = warp; cell < cells; cell += kMaskerWarps) {
    const float mean = sum_over_warp(window_share(p, sample, cell, lane, kWarp));
    if (lane == 0) decide(p, sample, cell, p.spatial_b[cell / cells_each] + mean);
  }
}

LAUDC_DEVICE void decide_channels(const MaskerParams& p, int sample) {
  const int thread = thread_index(), lane = thread % kWarp, warp = thread / kWarp;
  float* mean = p.mean + static_cast<int64_t>(sample) * p.feature_count;
  const float scale = 1.0f / static_cast<float>(p.hin * p.win);
  for (int c = thread; c < p.feature_count; c += kMaskerThreads) {
    float sum = 0.0f;
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
      sum +=
          load_shared_result(&p.partial_sums[(static_cast<int64_t>(sample) * p.chunks + chunk) * p.feature_count + c]);
    }
    mean[c] = sum * scale;
  }
  sync_block();
  const float* features = mean;
  int feature_count = p.feature_count;
  if (p.hidden > 0) {
    float* hidden = p.hidden_values + static_cast<int64_t>(sample) * p.hidden;
    for (int r = warp; r < p.hidden; r += kMaskerWarps) {
      const float value = row_times(p.hidden_w, p.hidden_b, r, p.feature_count, mean);
      if (lane == 0) hidden[r] = value < 0.0f ? 0.0f : value;
    }
    sync_block();
    features = hidden;
    feature_count = p.hidden;
  }
  const int first = p.mask_groups * p.mask_h * p.mask_w;
  for (int g = warp; g < p.channel_groups; g += kMaskerWarps) {
    const float margin = row_times(p.channel_w, p.channel_b, g, feature_count, features);
    if (lane == 0) decide(p, sample, first + g, margin);
  }
}

// ---- one sample -----------------------------------------------------------------------------------------------------

LAUDC_DEVICE void mark_wanted(const MaskerParams& p, const uint8_t* keep, uint8_t* wanted) {
  const int cells = p.mask_h * p.mask_w;
  for (int i = thread_index(); i < p.hout * p.wout; i += kMaskerThreads) {
    const int cell =
        nearest_cell(i / p.wout, p.row_scale, p.mask_h) * p.mask_w + nearest_cell(i % p.wout, p.col_scale, p.mask_w);
    uint8_t any = 0;
    for (int g = 0; g < p.mask_groups; ++g) any |= keep[g * cells + cell];
    wanted[i] = any;
  }
}

struct RowCounts {
  int conv1, conv2;
};

LAUDC_DEVICE RowCounts list_rows(const MaskerParams& p, int sample, const uint8_t* keep, MaskerShared* shared) {
  const int pixels_in = p.hin * p.win, pixels_out = p.hout * p.wout;
  RowCounts rows = {pixels_in, pixels_out};
  if (p.conv1_list == nullptr) return rows;
  uint8_t* wanted = p.wanted + static_cast<int64_t>(sample) * pixels_out;
  mark_wanted(p, keep, wanted);
  sync_block();
  const int segment = p.per_sample_lists != 0 ? sample : 0;
  int32_t* conv1_list = p.conv1_list + static_cast<int64_t>(segment) * pixels_in;
  const ByteSet set = {wanted};
  rows.conv2 =
      append_wanted(pixels_out, set, sample * pixels_out, p.conv2_list + static_cast<int64_t>(segment) * pixels_out,
                    &p.conv2_count[segment], shared);
  if (thread_index() == 0 && p.wanted_count != nullptr) p.wanted_count[sample] = rows.conv2;
  if (p.pooled_list == nullptr) {
    const DilatedSet dilated = {wanted, p.win, p.hout, p.wout, p.stride};
    rows.conv1 = append_wanted(pixels_in, dilated, sample * pixels_in, conv1_list, &p.conv1_count[segment], shared);
    return rows;
  }
  const AllOf all = {};
  rows.conv1 = append_wanted(rows.conv2 > 0 ? pixels_in : 0, all, sample * pixels_in, conv1_list,
                             &p.conv1_count[segment], shared);
  append_wanted(rows.conv2 > 0 ? pixels_out : 0, all, sample * pixels_out,
                p.pooled_list + static_cast<int64_t>(segment) * pixels_out, &p.pooled_count[segment], shared);
  return rows;
}

LAUDC_DEVICE void finish_sample(const MaskerParams& p, int sample, MaskerShared* shared) {
  const int cells = p.mask_groups * p.mask_h * p.mask_w;
  if (p.mask_groups > 0) decide_cells(p, sample);
  if (p.features != nullptr) decide_channels(p, sample);
  sync_block();
  const uint8_t* keep = p.keep + static_cast<int64_t>(sample) * p.margin_count;
  const RowCounts rows = list_rows(p, sample, keep, shared);
  if (p.features != nullptr) {
    const KeptChannels channels = {keep + cells, p.channels_per_group};
    append_wanted(p.channel_groups * p.channels_per_group, channels, 0,
                  p.kept + static_cast<int64_t>(sample) * p.kept_stride, &p.kept_count[sample], shared);
  }
  const ByteSet kept_cells = {keep}, kept_groups = {keep + cells};
  const int cell_count = count_wanted(cells, kept_cells, shared);
  const int group_count = count_wanted(p.channel_groups, kept_groups, shared);
  if (thread_index() == 0 && p.counts != nullptr) {
    int32_t* counts = p.counts + static_cast<int64_t>(sample) * p.counts_stride;
    counts[0] = rows.conv1;
    counts[1] = rows.conv2;
    counts[2] = cell_count;
    counts[3] = group_count;
  }
}

// TX: type of the map; TF: of the features that the channel masker averages.
template <class TX, class TF>
LAUDC_KERNEL(kMaskerThreads, 2)
masker(const MaskerParams p) {
  LAUDC_SHARED MaskerShared shared;
  const int sample = block_index() / p.chunks, chunk = block_index() % p.chunks;
  const int pixels = p.hin * p.win;
  const int begin = sample * pixels + smaller(pixels, chunk * p.chunk_pixels);
  const int end = sample * pixels + smaller(pixels, (chunk + 1) * p.chunk_pixels);
  if (p.mask_groups > 0) score_pixels<TX>(p, begin, end);
  if (p.features != nullptr) {
    sum_features<TF>(p, begin, end,
                     p.partial_sums + (static_cast<int64_t>(sample) * p.chunks + chunk) * p.feature_count);
  }
  if (!arrives_last(&p.tickets[sample], p.chunks, &shared.last)) return;
  finish_sample(p, sample, &shared);
}

}  // namespace cuda
}  // namespace laudc
