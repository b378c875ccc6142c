#include "cpu/maskers.h"

#include <algorithm>

#include "core/index_lists.h"

namespace laudc {
namespace cpu {
namespace {

constexpr int64_t kFloatsPerTask = 32 * 1024;

struct Masking {
  const Context& context;
  const BlockDesc& d;
  const MaskerLayout& layout;
  const float* weights;
  const float* in;
  const int32_t* in_rows;
  int samples;
  PartialSums* input_sums;  // [samples], or null
  Decisions* out;

  int pixels() const { return d.hin * d.win; }
  int pieces() const {
    const int64_t worth = static_cast<int64_t>(pixels()) * d.cin / kFloatsPerTask;
    const int64_t threads = context.parallel->width();
    return static_cast<int>(std::max<int64_t>(1, std::min(worth, threads == 1 ? 1 : 2 * threads)));
  }
};

bool needs_mean(const BlockDesc& d) {
  return d.channel_masker == ChannelMasker::kLinear || d.channel_masker == ChannelMasker::kMlp;
}

bool must_sum(const Masking& m) { return needs_mean(m.d) && m.input_sums == nullptr; }

// One pass over the input: products for the spatial masker, column sums for the channel masker.
void read_input(const Masking& m) {
  const int pieces = m.pieces();
  const size_t all = static_cast<size_t>(m.samples) * m.pixels();
  m.out->scores.resize(static_cast<size_t>(m.d.mask_groups) * all);
  if (must_sum(m)) m.out->partial_sums.resize(static_cast<size_t>(m.samples) * pieces * m.d.cin);
  m.context.parallel->for_each(static_cast<size_t>(m.samples) * pieces, [&](size_t task) {
    const int64_t sample = static_cast<int64_t>(task) / pieces, piece = static_cast<int64_t>(task) % pieces;
    const int begin = static_cast<int>(sample * m.pixels() + m.pixels() * piece / pieces);
    const int end = static_cast<int>(sample * m.pixels() + m.pixels() * (piece + 1) / pieces);
    for (int g = 0; g < m.d.mask_groups; ++g) {
      m.context.kernels->row_dots(m.in, m.in_rows, begin, end, m.d.cin, m.weights + m.layout.spatial_w + g * m.d.cin,
                                  m.out->scores.data() + g * all);
    }
    if (must_sum(m)) {
      m.context.kernels->column_sums(m.in, m.in_rows, begin, end, m.d.cin, m.out->partial_sums.data() + task * m.d.cin);
    }
  });
}

float window_mean(const float* scores, int width, int y0, int y1, int x0, int x1) {
  double total = 0;
  for (int y = y0; y < y1; ++y) {
    for (int x = x0; x < x1; ++x) total += scores[y * width + x];
  }
  return static_cast<float>(total / ((y1 - y0) * (x1 - x0)));
}

void spatial_margins(const Masking& m, int sample, float* margins) {
  const BlockDesc& d = m.d;
  const size_t all = static_cast<size_t>(m.samples) * m.pixels();
  for (int g = 0; g < d.mask_groups; ++g) {
    const float* scores = m.out->scores.data() + g * all + static_cast<size_t>(sample) * m.pixels();
    const float bias = m.weights[m.layout.spatial_b + g];
    for (int i = 0; i < d.mask_h; ++i) {
      for (int j = 0; j < d.mask_w; ++j) {
        *margins++ = bias + window_mean(scores, d.win, window_begin(i, d.hin, d.mask_h), window_end(i, d.hin, d.mask_h),
                                        window_begin(j, d.win, d.mask_w), window_end(j, d.win, d.mask_w));
      }
    }
  }
}

// y = x W' + b over rows of W: [rows][columns].
void matvec(const Masking& m, const float* w, const float* b, int rows, int columns, const float* x, float* y) {
  std::vector<int32_t>& at = m.out->row_offsets;
  at.resize(static_cast<size_t>(rows));
  for (int i = 0; i < rows; ++i) at[static_cast<size_t>(i)] = i * columns;
  m.context.kernels->row_dots(w, at.data(), 0, rows, columns, x, y);
  for (int i = 0; i < rows; ++i) y[i] += b[i];
}

void relu(std::vector<float>* values) {
  for (float& v : *values) v = v < 0 ? 0 : v;
}

void mean_of_input(const Masking& m, int sample) {
  PartialSums* known = m.input_sums == nullptr ? nullptr : m.input_sums + sample;
  const int pieces = known == nullptr ? m.pieces() : static_cast<int>(known->parts());
  m.out->mean.assign(static_cast<size_t>(m.d.cin), 0.0f);
  for (int piece = 0; piece < pieces; ++piece) {
    const float* sums = known != nullptr
                            ? known->part(static_cast<size_t>(piece))
                            : m.out->partial_sums.data() + (static_cast<size_t>(sample) * pieces + piece) * m.d.cin;
    for (int c = 0; c < m.d.cin; ++c) m.out->mean[static_cast<size_t>(c)] += sums[c];
  }
  const float scale = 1.0f / static_cast<float>(m.pixels());
  for (float& v : m.out->mean) v *= scale;
}

// Conv masker: relu(1x1 convolution) at every pixel, then the mean.
void mean_of_hidden(const Masking& m, int sample, IotaCache* iota) {
  const BlockDesc& d = m.d;
  const int64_t stride = round_up(d.masker_hidden, kAlign);
  float* map = m.out->hidden_map.at_least(static_cast<size_t>(m.pixels()) * stride);
  const Weights w = {
      Weights::kPanels, m.weights + m.layout.masker1_w, d.cin, 1, 1, d.masker_hidden, d.panel, nullptr, nullptr, 1};
  const int32_t* map_rows = iota->get(stride, static_cast<size_t>(m.pixels()));
  const Rows rows = {
      m.in, m.in_rows + static_cast<int64_t>(sample) * m.pixels(), nullptr, map, map_rows, nullptr, {0, m.pixels()},
      true};
  m.out->zeros.assign(static_cast<size_t>(stride) + kMaxPanel, 0.0f);
  indexed_gemm(m.context, w, rows, {m.weights + m.layout.masker1_b, 0, m.out->zeros.data()}, Epilogue::kStore,
               Following(), nullptr);
  m.out->hidden.resize(static_cast<size_t>(d.masker_hidden));
  m.context.kernels->column_sums(map, map_rows, 0, m.pixels(), d.masker_hidden, m.out->hidden.data());
  for (float& v : m.out->hidden) v /= static_cast<float>(m.pixels());
}

void channel_margins(const Masking& m, int sample, IotaCache* iota, float* margins) {
  const BlockDesc& d = m.d;
  const float* w2 = m.weights + m.layout.masker2_w;
  const float* b2 = m.weights + m.layout.masker2_b;
  if (d.channel_masker == ChannelMasker::kConv) {
    mean_of_hidden(m, sample, iota);
    matvec(m, w2, b2, d.channel_groups, d.masker_hidden, m.out->hidden.data(), margins);
    return;
  }
  mean_of_input(m, sample);
  if (d.channel_masker == ChannelMasker::kLinear) {
    matvec(m, w2, b2, d.channel_groups, d.cin, m.out->mean.data(), margins);
    return;
  }
  m.out->hidden.resize(static_cast<size_t>(d.masker_hidden));
  matvec(m, m.weights + m.layout.masker1_w, m.weights + m.layout.masker1_b, d.masker_hidden, d.cin, m.out->mean.data(),
         m.out->hidden.data());
  relu(&m.out->hidden);
  matvec(m, w2, b2, d.channel_groups, d.masker_hidden, m.out->hidden.data(), margins);
}

}  // namespace

void decide(const Context& context, const BlockDesc& desc, const MaskerLayout& layout, const float* weights,
            const float* in, const int32_t* in_rows, int samples, PartialSums* input_sums, IotaCache* iota,
            Decisions* out) {
  const Masking m = {context, desc, layout, weights, in, in_rows, samples, input_sums, out};
  const size_t per_sample = static_cast<size_t>(desc.margins());
  out->margins.resize(per_sample * static_cast<size_t>(samples));
  out->keep.resize(out->margins.size());
  if (per_sample == 0) return;
  if (desc.spatial() || must_sum(m)) read_input(m);
  for (int s = 0; s < samples; ++s) {
    float* margins = out->margins.data() + per_sample * static_cast<size_t>(s);
    if (desc.spatial()) spatial_margins(m, s, margins);
    if (desc.channel()) channel_margins(m, s, iota, margins + per_sample - desc.channel_groups);
  }
  for (size_t i = 0; i < out->margins.size(); ++i) out->keep[i] = out->margins[i] >= 0 ? 1 : 0;
}

}  // namespace cpu
}  // namespace laudc
