// A block in plain double precision, written from its definition (docs/architecture.md), and the packing of its
// weights, written from the comments of core/packed_layout.h: an account of both that is independent of
// laudc/ops/packing.py.
#pragma once

#include <algorithm>
#include <vector>

#include "core/index_lists.h"
#include "core/packed_layout.h"
#include "tests/check.h"

namespace laudc {
namespace test {

typedef std::vector<float> Floats;
typedef std::vector<double> Doubles;

inline size_t index(int64_t i) { return static_cast<size_t>(i); }

// Weights in PyTorch's layouts, (N, K) or (N, K, 3, 3); masker rows already are keep minus drop.
struct BlockWeights {
  Floats w1, b1, w2, b2, w3, b3, wp, bp, spatial_w, spatial_b, hidden_w, hidden_b, channel_w, channel_b;
};

inline BlockWeights random_weights(const BlockDesc& d, Random* random) {
  const auto scaled = [&](int64_t rows, int64_t depth) {
    return random->reals(index(rows * depth), 2.0f / std::sqrt(static_cast<float>(std::max<int64_t>(1, depth))));
  };
  BlockWeights w;
  w.w1 = scaled(d.width, d.cin);
  w.b1 = random->reals(index(d.width), 0.5f);
  w.w2 = scaled(d.width, 9 * static_cast<int64_t>(d.width));
  w.b2 = random->reals(index(d.width), 0.5f);
  w.w3 = scaled(d.cout, d.width);
  w.b3 = random->reals(index(d.cout), 0.5f);
  if (d.projection) {
    w.wp = scaled(d.cout, d.cin);
    w.bp = random->reals(index(d.cout), 0.5f);
  }
  w.spatial_w = scaled(d.mask_groups, d.cin);
  w.spatial_b = random->reals(index(d.mask_groups), 0.2f);
  int features = d.cin;
  if (d.channel() && d.channel_masker != ChannelMasker::kLinear) {
    features = d.masker_hidden;
    w.hidden_w = scaled(d.masker_hidden, d.cin);
    w.hidden_b = random->reals(index(d.masker_hidden), 0.2f);
  }
  w.channel_w = scaled(d.channel_groups, features);
  w.channel_b = random->reals(index(d.channel_groups), 0.2f);
  return w;
}

class Packer {
 public:
  explicit Packer(const BlockDesc& d) : d_(d), l_(packed_layout(d)), out_(index(l_.total), 0.0f) {}

  Floats pack(const BlockWeights& w) {
    matrix(l_.conv1_w, w.w1, d_.width, d_.cin);
    conv2(w.w2);
    biases(w);
    const int columns = d_.cout / d_.conv3_parts();
    for (int part = 0; part < d_.conv3_parts(); ++part) {
      const Floats rows(w.w3.begin() + static_cast<std::ptrdiff_t>(part) * columns * d_.width,
                        w.w3.begin() + static_cast<std::ptrdiff_t>(part + 1) * columns * d_.width);
      panels(l_.conv3_w + part * panel_floats(d_.width, columns, d_.panel), rows, columns, d_.width);
    }
    if (d_.projection) {
      panels(l_.proj_w, w.wp, d_.cout, d_.cin);
      copy(l_.proj_b, w.bp);
    }
    copy(l_.spatial_w, w.spatial_w);
    copy(l_.spatial_b, w.spatial_b);
    if (d_.channel_masker == ChannelMasker::kConv) panels(l_.masker1_w, w.hidden_w, d_.masker_hidden, d_.cin);
    if (d_.channel_masker == ChannelMasker::kMlp) copy(l_.masker1_w, w.hidden_w);
    copy(l_.masker1_b, w.hidden_b);
    copy(l_.masker2_w, w.channel_w);
    copy(l_.masker2_b, w.channel_b);
    return out_;
  }

 private:
  void copy(int64_t at, const Floats& values) { std::copy(values.begin(), values.end(), out_.begin() + at); }

  // (N, K) -> [panel][K][columns of the panel].
  void panels(int64_t at, const Floats& rows, int n_count, int k_count) {
    for (int n = 0; n < n_count; ++n) {
      for (int k = 0; k < k_count; ++k) {
        const int64_t panel = n / d_.panel;
        out_[index(at + (panel * k_count + k) * d_.panel + n % d_.panel)] =
            rows[index(static_cast<int64_t>(n) * k_count + k)];
      }
    }
  }

  void matrix(int64_t at, const Floats& rows, int n_count, int k_count) {
    if (d_.channel()) {
      copy(at, rows);
    } else {
      panels(at, rows, n_count, k_count);
    }
  }

  void conv2(const Floats& w2) {
    const int width = d_.width;
    if (d_.channel() || d_.conv2_algo == Conv2Algo::kDirect) {
      Floats rows(w2.size());
      for (int n = 0; n < width; ++n) {
        for (int k = 0; k < width; ++k) {
          for (int t = 0; t < 9; ++t) rows[index((n * 9 + t) * width + k)] = w2[index((n * width + k) * 9 + t)];
        }
      }
      matrix(l_.conv2_w, rows, width, 9 * width);
      return;
    }
    const double g[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
    const int64_t floats = panel_floats(width, width, d_.panel);
    for (int point = 0; point < 16; ++point) {
      Floats rows(index(static_cast<int64_t>(width) * width));
      for (size_t i = 0; i < rows.size(); ++i) {
        double value = 0;
        for (int t = 0; t < 9; ++t)
          value += g[point / 4][t / 3] * w2[9 * i + static_cast<size_t>(t)] * g[point % 4][t % 3];
        rows[i] = static_cast<float>(value);
      }
      panels(l_.conv2_w + point * floats, rows, width, width);
    }
  }

  void biases(const BlockWeights& w) {
    if (!d_.channel()) {
      copy(l_.conv1_b, w.b1);
      copy(l_.conv2_b, w.b2);
      copy(l_.conv3_b, w.b3);
      return;
    }
    // The shift form: c = relu(b) is what a dropped channel carries.
    const int width = d_.width;
    for (int n = 0; n < width; ++n) {
      out_[index(l_.conv1_b + n)] = std::min(w.b1[index(n)], 0.0f);
      out_[index(l_.conv1_lo + n)] = -std::max(w.b1[index(n)], 0.0f);
      out_[index(l_.conv2_lo + n)] = -std::max(w.b2[index(n)], 0.0f);
      for (int cls = 0; cls < kBorderClasses; ++cls) {
        double value = std::min(w.b2[index(n)], 0.0f);
        for (int t = 0; t < 9; ++t) {
          const bool outside = (t / 3 == 0 && (cls & 1)) || (t / 3 == 2 && (cls & 2)) || (t % 3 == 0 && (cls & 4)) ||
                               (t % 3 == 2 && (cls & 8));
          for (int k = 0; !outside && k < width; ++k) {
            value += static_cast<double>(w.w2[index((n * width + k) * 9 + t)]) * std::max(w.b1[index(k)], 0.0f);
          }
        }
        out_[index(l_.conv2_b + cls * l_.bias_stride + n)] = static_cast<float>(value);
      }
    }
    for (int n = 0; n < d_.cout; ++n) {
      double value = w.b3[index(n)];
      for (int k = 0; k < width; ++k) {
        value += static_cast<double>(w.w3[index(static_cast<int64_t>(n) * width + k)]) * std::max(w.b2[index(k)], 0.0f);
      }
      out_[index(l_.conv3_b + n)] = static_cast<float>(value);
    }
  }

  const BlockDesc& d_;
  const PackedLayout l_;
  Floats out_;
};

// Margins of one sample: spatial cells, then channel groups. x: [hin][win][cin].
inline Doubles reference_margins(const BlockDesc& d, const BlockWeights& w, const Doubles& x) {
  Doubles margins;
  const int pixels = d.hin * d.win;
  for (int g = 0; g < d.mask_groups; ++g) {
    for (int i = 0; i < d.mask_h; ++i) {
      for (int j = 0; j < d.mask_w; ++j) {
        double total = 0;
        const int y0 = i * d.hin / d.mask_h, y1 = ((i + 1) * d.hin + d.mask_h - 1) / d.mask_h;
        const int x0 = j * d.win / d.mask_w, x1 = ((j + 1) * d.win + d.mask_w - 1) / d.mask_w;
        for (int y = y0; y < y1; ++y) {
          for (int px = x0; px < x1; ++px) {
            for (int c = 0; c < d.cin; ++c)
              total += x[index((y * d.win + px) * d.cin + c)] * w.spatial_w[index(g * d.cin + c)];
          }
        }
        margins.push_back(w.spatial_b[index(g)] + total / ((y1 - y0) * (x1 - x0)));
      }
    }
  }
  if (!d.channel()) return margins;
  const bool per_pixel = d.channel_masker == ChannelMasker::kConv;
  Doubles features;
  const auto hidden = [&](const double* from, int n) {
    double total = w.hidden_b[index(n)];
    for (int c = 0; c < d.cin; ++c) total += from[c] * w.hidden_w[index(n * d.cin + c)];
    return std::max(total, 0.0);
  };
  if (per_pixel) {
    for (int n = 0; n < d.masker_hidden; ++n) {
      double total = 0;
      for (int p = 0; p < pixels; ++p) total += hidden(x.data() + p * d.cin, n);
      features.push_back(total / pixels);
    }
  } else {
    Doubles mean(index(d.cin), 0.0);
    for (int p = 0; p < pixels; ++p) {
      for (int c = 0; c < d.cin; ++c) mean[index(c)] += x[index(p * d.cin + c)] / pixels;
    }
    features = mean;
    if (d.channel_masker == ChannelMasker::kMlp) {
      features.clear();
      for (int n = 0; n < d.masker_hidden; ++n) features.push_back(hidden(mean.data(), n));
    }
  }
  for (int g = 0; g < d.channel_groups; ++g) {
    double total = w.channel_b[index(g)];
    for (size_t k = 0; k < features.size(); ++k) total += features[k] * w.channel_w[index(g) * features.size() + k];
    margins.push_back(total);
  }
  return margins;
}

// Output of one sample, [hout][wout][cout], for the decisions `keep` (ordered as the margins).
inline Doubles reference_block(const BlockDesc& d, const BlockWeights& w, const Doubles& x,
                               const std::vector<bool>& keep) {
  const int ho = d.hout(), wo = d.wout(), cells = d.mask_h * d.mask_w;
  const auto channel_kept = [&](int c) {
    return !d.channel() || keep[index(d.mask_groups * cells + c / d.channels_per_group())];
  };
  Doubles y1(index(static_cast<int64_t>(d.hin) * d.win * d.width));
  for (int p = 0; p < d.hin * d.win; ++p) {
    for (int n = 0; n < d.width; ++n) {
      double total = 0;
      for (int k = 0; channel_kept(n) && k < d.cin; ++k) total += x[index(p * d.cin + k)] * w.w1[index(n * d.cin + k)];
      y1[index(p * d.width + n)] = std::max(0.0, total + w.b1[index(n)]);
    }
  }
  Doubles out(index(static_cast<int64_t>(ho) * wo * d.cout)), y2(index(d.width));
  for (int y = 0; y < ho; ++y) {
    for (int px = 0; px < wo; ++px) {
      for (int n = 0; n < d.width; ++n) {
        double total = 0;
        for (int t = 0; channel_kept(n) && t < 9; ++t) {
          const int sy = y * d.stride + t / 3 - 1, sx = px * d.stride + t % 3 - 1;
          if (sy < 0 || sy >= d.hin || sx < 0 || sx >= d.win) continue;
          for (int k = 0; k < d.width; ++k) {
            total += y1[index((sy * d.win + sx) * d.width + k)] * w.w2[index((n * d.width + k) * 9 + t)];
          }
        }
        y2[index(n)] = std::max(0.0, total + w.b2[index(n)]);
      }
      const int64_t source = static_cast<int64_t>(y * d.stride * d.win + px * d.stride) * d.cin;
      for (int n = 0; n < d.cout; ++n) {
        double residual = d.projection ? static_cast<double>(w.bp[index(n)]) : x[index(source + n)];
        for (int k = 0; d.projection && k < d.cin; ++k) residual += x[index(source + k)] * w.wp[index(n * d.cin + k)];
        double total = w.b3[index(n)];
        for (int k = 0; k < d.width; ++k) total += y2[index(k)] * w.w3[index(n * d.width + k)];
        if (d.spatial()) {
          const int group = n / (d.cout / d.mask_groups);
          const int row = nearest_lut(d.mask_h, ho)[index(y)], column = nearest_lut(d.mask_w, wo)[index(px)];
          if (!keep[index(group * cells + row * d.mask_w + column)]) total = 0;
        }
        out[index((y * wo + px) * d.cout + n)] = std::max(0.0, total + residual);
      }
    }
  }
  return out;
}

}  // namespace test
}  // namespace laudc
