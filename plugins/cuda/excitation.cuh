// Squeeze-excitation: a factor for each channel from its mean over pixels, and the scaling by it.
//
// As in the masker, the blocks of a sample first share out the reading of the map, and the one that finishes last
// computes the two small layers.
#pragma once

#include "cuda/tiles.cuh"

namespace laudc {
namespace cuda {

constexpr int kExciteThreads = 256;
constexpr int kExciteWarps = kExciteThreads / kWarp;
constexpr int kScaleThreads = 256;

struct ExciteShared {
  float sums[kExciteThreads];
  int last;
};

LAUDC_DEVICE int kept_channels(const ExciteParams& p, int sample) {
  return p.kept_count != nullptr ? p.kept_count[sample] : p.width;
}
LAUDC_DEVICE int kept_channel(const ExciteParams& p, int sample, int i) {
  return p.kept != nullptr ? p.kept[static_cast<int64_t>(sample) * p.width + i] : i;
}

// Sums of the wanted ones of pixels begin .. end (numbered over all samples), channel by channel. Narrow maps leave
// threads for several pixels at once.
template <class T>
LAUDC_DEVICE void sum_pixels(const ExciteParams& p, int channels, int begin, int end, float* to, ExciteShared* shared) {
  int lanes = kWarp;
  while (lanes < kExciteThreads && lanes < channels) lanes *= 2;
  const int thread = thread_index(), lane = thread % lanes, part = thread / lanes, parts = kExciteThreads / lanes;
  for (int first = 0; first < channels; first += lanes) {
    const int c = first + lane;
    float sum = 0.0f;
    for (int pixel = begin + part; pixel < end; pixel += parts) {
      if (c < channels && (p.wanted == nullptr || p.wanted[pixel] != 0)) {
        sum += to_float(*element<T>(p.map, static_cast<int64_t>(pixel) * p.pixel + c));
      }
    }
    shared->sums[thread] = sum;
    sync_block();
    if (part == 0 && c < channels) {
      float total = 0.0f;
      for (int i = 0; i < parts; ++i) total += shared->sums[i * lanes + lane];
      to[c] = total;
    }
    sync_block();
  }
}

// A layer on one vector: calls finish(i, sum) for the outputs i < outputs, whose columns of the matrix (`rows` rows, in
// panels) are column(i). Input k < inputs is row row(k). The block calls it; warps share the inputs, lanes the outputs.
template <class RowOf, class ColumnOf, class Finish>
LAUDC_DEVICE void small_layer(const float* panels, int rows, int panel, const float* x, int inputs, const RowOf& row,
                              int outputs, const ColumnOf& column, const Finish& finish, ExciteShared* shared) {
  const int lane = thread_index() % kWarp, warp = thread_index() / kWarp;
  for (int first = 0; first < outputs; first += kWarp) {
    const int i = first + lane;
    float sum = 0.0f;
    if (i < outputs) {
      const int n = column(i);
      const float* w = panels + static_cast<int64_t>(n / panel) * rows * panel + n % panel;
      for (int k = warp; k < inputs; k += kExciteWarps) {
        sum = fused(x[k], w[static_cast<int64_t>(row(k)) * panel], sum);
      }
    }
    shared->sums[warp * kWarp + lane] = sum;
    sync_block();
    if (warp == 0 && i < outputs) {
      float total = 0.0f;
      for (int part = 0; part < kExciteWarps; ++part) total += shared->sums[part * kWarp + lane];
      finish(i, total);
    }
    sync_block();
  }
}

struct SameIndex {
  LAUDC_DEVICE int operator()(int i) const { return i; }
};

struct KeptIndex {
  const ExciteParams& p;
  int sample;
  LAUDC_DEVICE int operator()(int i) const { return kept_channel(p, sample, i); }
};

struct SqueezeFinish {
  const float* bias;
  float* to;
  LAUDC_DEVICE void operator()(int i, float sum) const {
    const float value = sum + bias[i];
    to[i] = value < 0.0f ? 0.0f : value;
  }
};

struct ExciteFinish {
  const float* bias;
  float* to;
  KeptIndex kept;
  LAUDC_DEVICE void operator()(int i, float sum) const { to[i] = 1.0f / (1.0f + exponential(-(sum + bias[kept(i)]))); }
};

LAUDC_DEVICE void excite_sample(const ExciteParams& p, int sample, int channels, ExciteShared* shared) {
  const int averaged = p.wanted != nullptr ? p.wanted_count[sample] : p.pixels;
  const float scale = 1.0f / static_cast<float>(averaged);
  float* factors = p.factors + static_cast<int64_t>(sample) * p.width;  // holds the means first
  for (int c = thread_index(); c < channels; c += kExciteThreads) {
    float sum = 0.0f;
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
      sum += load_shared_result(&p.sums[(static_cast<int64_t>(sample) * p.chunks + chunk) * p.width + c]);
    }
    factors[c] = sum * scale;
  }
  sync_block();
  float* squeezed = p.squeezed + static_cast<int64_t>(sample) * p.squeeze;
  const KeptIndex kept = {p, sample};
  const SameIndex same = {};
  const SqueezeFinish squeeze = {p.squeeze_b, squeezed};
  small_layer(p.squeeze_w, p.width, p.panel, factors, channels, kept, p.squeeze, same, squeeze, shared);
  const ExciteFinish excite = {p.excite_b, factors, kept};
  small_layer(p.excite_w, p.squeeze, p.panel, squeezed, p.squeeze, same, channels, kept, excite, shared);
}

template <class T>
LAUDC_KERNEL(kExciteThreads, 2)
excite(const ExciteParams p) {
  LAUDC_SHARED ExciteShared shared;
  const int sample = block_index() / p.chunks, chunk = block_index() % p.chunks;
  if (p.wanted_count != nullptr && p.wanted_count[sample] == 0) return;  // nobody made the map
  const int channels = kept_channels(p, sample);
  const int begin = sample * p.pixels + smaller(p.pixels, chunk * p.chunk_pixels);
  const int end = sample * p.pixels + smaller(p.pixels, (chunk + 1) * p.chunk_pixels);
  sum_pixels<T>(p, channels, begin, end, p.sums + (static_cast<int64_t>(sample) * p.chunks + chunk) * p.width, &shared);
  if (!arrives_last(&p.tickets[sample], p.chunks, &shared.last)) return;
  excite_sample(p, sample, channels, &shared);
}

template <class T>
LAUDC_KERNEL(kScaleThreads, 4)
scale_rows(const ScaleParams p) {
  const int quads = tiles_of(p.width, 4);
  const int most = p.segments == 1 && p.row_count != nullptr ? p.row_count[0] : p.rows_max;
  const int64_t all = static_cast<int64_t>(p.segments) * most * quads;
  const int64_t step = static_cast<int64_t>(grid_size()) * kScaleThreads;
  for (int64_t at = static_cast<int64_t>(block_index()) * kScaleThreads + thread_index(); at < all; at += step) {
    const int64_t row = at / quads;
    const int c = static_cast<int>(at % quads) * 4;
    const int segment = static_cast<int>(row / most), i = static_cast<int>(row % most);
    if (p.row_count != nullptr && i >= p.row_count[segment]) continue;
    const int listed = segment * p.rows_max + i;
    const int v = p.list != nullptr ? p.list[listed] : listed;
    const int sample = v / p.pixels;
    const int count = (p.kept_count != nullptr ? p.kept_count[sample] : p.width) - c;
    if (count <= 0) continue;
    T* map = static_cast<T*>(p.map) + static_cast<int64_t>(v) * p.pixel + c;
    const float* factors = p.factors + static_cast<int64_t>(sample) * p.width + c;
    float value[4];
    load4(map, value);  // zeros behind the last channel stay zeros
    LAUDC_UNROLL
    for (int j = 0; j < 4; ++j) {
      if (j < count) value[j] *= factors[j];
    }
    store4(value, map);
  }
}

}  // namespace cuda
}  // namespace laudc
