#include "cpu/squeeze_excitation.h"

#include <algorithm>
#include <cmath>

namespace laudc {
namespace cpu {
namespace {

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

void SqueezeExcitation::decide(const Context& context, const RegNetDesc& desc, const RegNetLayout& layout,
                               const float* weights, const PartialSums& sums, int pixels,
                               const std::vector<int32_t>* kept) {
  const int width = desc.block.width;
  const int channels = kept == nullptr ? width : static_cast<int>(kept->size());
  const float scale = 1.0f / static_cast<float>(pixels);
  mean_.assign(vectors(width), 0.0f);
  total_.assign(static_cast<size_t>(channels), 0.0f);
  for (size_t part = 0; part < sums.parts(); ++part) {
    const float* of_part = sums.part(part);
    for (size_t i = 0; i < total_.size(); ++i) total_[i] += of_part[i];
  }
  for (size_t i = 0; i < total_.size(); ++i) {
    mean_[kept == nullptr ? i : static_cast<size_t>((*kept)[i])] = total_[i] * scale;
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

void scale_rows(float* map, const int32_t* rows, SampleRange range, const float* factors, int channels) {
  for (int i = range.begin; i < range.end; ++i) {
    float* pixel = map + rows[i];
    for (int c = 0; c < channels; ++c) pixel[c] *= factors[c];
  }
}

}  // namespace cpu
}  // namespace laudc
