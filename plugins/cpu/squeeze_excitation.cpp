#include "cpu/squeeze_excitation.h"

#include <algorithm>
#include <cmath>

namespace laudc {
namespace cpu {
namespace {

constexpr int64_t kFloatsPerTask = 32 * 1024;

int pieces_of(const Context& context, int row_count, int channels) {
  const int64_t worth = static_cast<int64_t>(row_count) * channels / kFloatsPerTask;
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(worth, context.parallel->width())));
}

int piece_begin(int row_count, size_t piece, int pieces) {
  return static_cast<int>(static_cast<int64_t>(row_count) * static_cast<int64_t>(piece) / pieces);
}

// One row times a matrix in panels, plus bias, clamped from below at `lo` (null: not).
void layer(const Context& context, const float* panels, const float* bias, int inputs, int outputs, int panel,
           const float* lo, const float* x, float* y) {
  static const int32_t kRow = 0;
  const Weights w = {Weights::kPanels, panels, inputs, 1, 1, outputs, panel, nullptr, nullptr, 1};
  indexed_gemm(context, w, {x, &kRow, nullptr, y, &kRow, nullptr, {0, 1}, true}, {bias, 0, lo}, Epilogue::kStore,
               Following(), nullptr);
}

size_t vectors(int floats) { return static_cast<size_t>(round_up(floats, kMaxPanel)); }

}  // namespace

void SqueezeExcitation::sum_up(const Context& context, const float* map, const int32_t* rows, int row_count,
                               int channels) {
  // Whole vectors only: what they read behind the kept channels is readable, and the sums of it are not used.
  const int padded = static_cast<int>(vectors(channels));
  const int pieces = pieces_of(context, row_count, padded);
  partial_.resize(static_cast<size_t>(pieces) * static_cast<size_t>(padded));
  context.parallel->for_each(static_cast<size_t>(pieces), [&](size_t piece) {
    context.kernels->column_sums(map, rows, piece_begin(row_count, piece, pieces),
                                 piece_begin(row_count, piece + 1, pieces), padded,
                                 partial_.data() + piece * static_cast<size_t>(padded));
  });
  for (int piece = 1; piece < pieces; ++piece) {
    for (int c = 0; c < channels; ++c)
      partial_[static_cast<size_t>(c)] += partial_[static_cast<size_t>(piece * padded + c)];
  }
}

void SqueezeExcitation::decide(const Context& context, const RegNetDesc& desc, const RegNetLayout& layout,
                               const float* weights, const float* map, const int32_t* rows, int row_count,
                               const std::vector<int32_t>* kept) {
  const int width = desc.block.width;
  const int channels = kept == nullptr ? width : static_cast<int>(kept->size());
  sum_up(context, map, rows, row_count, channels);
  const float scale = 1.0f / static_cast<float>(row_count);
  mean_.assign(vectors(width), 0.0f);
  for (int i = 0; i < channels; ++i) {
    mean_[static_cast<size_t>(kept == nullptr ? i : (*kept)[static_cast<size_t>(i)])] =
        partial_[static_cast<size_t>(i)] * scale;
  }
  zeros_.assign(vectors(desc.squeeze), 0.0f);
  hidden_.resize(vectors(desc.squeeze));
  excited_.resize(vectors(width));
  layer(context, weights + layout.squeeze_w, weights + layout.squeeze_b, width, desc.squeeze, desc.block.panel,
        zeros_.data(), mean_.data(), hidden_.data());
  layer(context, weights + layout.excite_w, weights + layout.excite_b, desc.squeeze, width, desc.block.panel, nullptr,
        hidden_.data(), excited_.data());
  factors_.resize(static_cast<size_t>(channels));
  for (int i = 0; i < channels; ++i) {
    const float x = excited_[static_cast<size_t>(kept == nullptr ? i : (*kept)[static_cast<size_t>(i)])];
    factors_[static_cast<size_t>(i)] = 1.0f / (1.0f + std::exp(-x));
  }
}

void scale_rows(const Context& context, float* map, const int32_t* rows, int row_count, const float* factors,
                int channels) {
  const int pieces = pieces_of(context, row_count, channels);
  context.parallel->for_each(static_cast<size_t>(pieces), [&](size_t piece) {
    const int end = piece_begin(row_count, piece + 1, pieces);
    for (int i = piece_begin(row_count, piece, pieces); i < end; ++i) {
      float* pixel = map + rows[i];
      for (int c = 0; c < channels; ++c) pixel[c] *= factors[c];
    }
  });
}

}  // namespace cpu
}  // namespace laudc
