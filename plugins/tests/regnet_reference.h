// A RegNetY block in plain double precision, written from its definition (docs/architecture.md), and the packing of its
// weights, written from the comments of core/regnet_desc.h.
#pragma once

#include "core/regnet_desc.h"
#include "tests/records.h"
#include "tests/reference.h"

namespace laudc {
namespace test {

// Weights in PyTorch's layouts; `maskers` only has its masker fields filled.
struct RegNetWeights {
  Floats a, ab, b, bb, squeeze, squeeze_b, excite, excite_b, c, cb, proj, proj_b;
  BlockWeights maskers;
};

inline RegNetWeights random_regnet(const RegNetDesc& desc, Random* random) {
  const BlockDesc& d = desc.block;
  const auto scaled = [&](int64_t rows, int64_t depth) {
    return random->reals(index(rows * depth), 2.0f / std::sqrt(static_cast<float>(std::max<int64_t>(1, depth))));
  };
  RegNetWeights w;
  w.maskers = random_weights(d, random);
  w.a = scaled(d.width, d.cin);
  w.b = scaled(d.width, 9 * desc.group_width());
  w.squeeze = scaled(desc.squeeze, d.width);
  w.excite = scaled(d.width, desc.squeeze);
  w.c = scaled(d.width, d.width);
  for (Floats* bias : {&w.ab, &w.bb, &w.excite_b, &w.cb}) *bias = random->reals(index(d.width), 0.5f);
  w.squeeze_b = random->reals(index(desc.squeeze), 0.5f);
  if (d.projection) {
    w.proj = scaled(d.width, d.cin);
    w.proj_b = random->reals(index(d.width), 0.5f);
  }
  return w;
}

class RegNetPacker {
 public:
  explicit RegNetPacker(const RegNetDesc& desc)
      : desc_(desc), d_(desc.block), l_(regnet_layout(desc)), out_(index(l_.total), 0.0f) {}

  Floats pack(const RegNetWeights& w) {
    if (d_.channel()) {
      copy(l_.a_w, w.a);
    } else {
      panels(l_.a_w, w.a.data(), d_.width, d_.cin);
    }
    copy(l_.a_b, w.ab);
    groups(w.b);
    copy(l_.b_b, w.bb);
    panels(l_.squeeze_w, w.squeeze.data(), desc_.squeeze, d_.width);
    copy(l_.squeeze_b, w.squeeze_b);
    panels(l_.excite_w, w.excite.data(), d_.width, desc_.squeeze);
    copy(l_.excite_b, w.excite_b);
    const int columns = d_.width / d_.conv3_parts();
    for (int part = 0; part < d_.conv3_parts(); ++part) {
      panels(l_.c_w + part * panel_floats(d_.width, columns, d_.panel), w.c.data() + part * columns * d_.width, columns,
             d_.width);
    }
    copy(l_.c_b, w.cb);
    if (d_.projection) panels(l_.proj_w, w.proj.data(), d_.width, d_.cin);
    copy(l_.proj_b, w.proj_b);
    maskers(w.maskers);
    return out_;
  }

 private:
  void copy(int64_t at, const Floats& values) { std::copy(values.begin(), values.end(), out_.begin() + at); }

  void panels(int64_t at, const float* rows, int n_count, int k_count) {
    for (int n = 0; n < n_count; ++n) {
      for (int k = 0; k < k_count; ++k) {
        const int64_t panel = n / d_.panel;
        out_[index(at + (panel * k_count + k) * d_.panel + n % d_.panel)] = rows[n * k_count + k];
      }
    }
  }

  void groups(const Floats& b) {
    const int width = desc_.group_width();
    for (int n = 0; n < d_.width; ++n) {
      for (int k = 0; k < width; ++k) {
        for (int t = 0; t < 9; ++t) {
          const int64_t row = static_cast<int64_t>(n / width) * 9 * width + t * width + k;
          out_[index(l_.b_panels + row * desc_.group_panel() + n % width)] = b[index((n * width + k) * 9 + t)];
        }
      }
    }
  }

  void maskers(const BlockWeights& w) {
    copy(l_.spatial_w, w.spatial_w);
    copy(l_.spatial_b, w.spatial_b);
    if (d_.channel_masker == ChannelMasker::kConv) panels(l_.masker1_w, w.hidden_w.data(), d_.masker_hidden, d_.cin);
    if (d_.channel_masker == ChannelMasker::kMlp) copy(l_.masker1_w, w.hidden_w);
    copy(l_.masker1_b, w.hidden_b);
    copy(l_.masker2_w, w.channel_w);
    copy(l_.masker2_b, w.channel_b);
  }

  const RegNetDesc& desc_;
  const BlockDesc& d_;
  const RegNetLayout l_;
  Floats out_;
};

// One sample of one block in plain loops; `keep` as the margins.
class RegNetReference {
 public:
  RegNetReference(const RegNetDesc& desc, const RegNetWeights& w, const Doubles& x, const std::vector<bool>& keep)
      : desc_(desc), d_(desc.block), w_(w), x_(x), keep_(keep) {}

  Doubles run() const {
    const Doubles a = conv_a(), b = conv_b(a), gate = gates(b);
    Doubles out(index(static_cast<int64_t>(d_.hout()) * d_.wout() * d_.width));
    for (int p = 0; p < d_.hout() * d_.wout(); ++p) {
      for (int n = 0; n < d_.width; ++n) {
        double total = w_.cb[index(n)];
        for (int k = 0; k < d_.width; ++k)
          total += b[index(p * d_.width + k)] * gate[index(k)] * w_.c[index(n * d_.width + k)];
        if (!position_kept(n / (d_.width / d_.conv3_parts()), p)) total = 0;
        out[index(p * d_.width + n)] = std::max(0.0, total + residual(p, n));
      }
    }
    return out;
  }

 private:
  bool channel_kept(int c) const {
    const int cells = d_.mask_groups * d_.mask_h * d_.mask_w;
    return !d_.channel() || keep_[index(cells + c / d_.channels_per_group())];
  }
  bool position_kept(int group, int p) const {
    if (!d_.spatial()) return true;
    const int row = nearest_lut(d_.mask_h, d_.hout())[index(p / d_.wout())];
    const int column = nearest_lut(d_.mask_w, d_.wout())[index(p % d_.wout())];
    return keep_[index((group * d_.mask_h + row) * d_.mask_w + column)];
  }
  bool pooled(int p) const {
    if (!desc_.skips_early()) return true;
    for (int g = 0; g < d_.mask_groups; ++g) {
      if (position_kept(g, p)) return true;
    }
    return false;
  }

  Doubles conv_a() const {
    Doubles a(index(static_cast<int64_t>(d_.hin) * d_.win * d_.width), 0.0);
    for (int p = 0; p < d_.hin * d_.win; ++p) {
      for (int n = 0; n < d_.width; ++n) {
        double total = w_.ab[index(n)];
        for (int k = 0; k < d_.cin; ++k) total += x_[index(p * d_.cin + k)] * w_.a[index(n * d_.cin + k)];
        if (channel_kept(n)) a[index(p * d_.width + n)] = std::max(0.0, total);
      }
    }
    return a;
  }

  Doubles conv_b(const Doubles& a) const {
    const int width = desc_.group_width();
    Doubles b(index(static_cast<int64_t>(d_.hout()) * d_.wout() * d_.width), 0.0);
    for (int p = 0; p < d_.hout() * d_.wout(); ++p) {
      for (int n = 0; n < d_.width; ++n) {
        if (!channel_kept(n)) continue;
        double total = w_.bb[index(n)];
        for (int t = 0; t < 9; ++t) {
          const int y = p / d_.wout() * d_.stride + t / 3 - 1, x = p % d_.wout() * d_.stride + t % 3 - 1;
          if (y < 0 || y >= d_.hin || x < 0 || x >= d_.win) continue;
          for (int k = 0; k < width; ++k) {
            total +=
                a[index((y * d_.win + x) * d_.width + n / width * width + k)] * w_.b[index((n * width + k) * 9 + t)];
          }
        }
        b[index(p * d_.width + n)] = std::max(0.0, total);
      }
    }
    return b;
  }

  Doubles gates(const Doubles& b) const {
    Doubles mean(index(d_.width), 0.0), hidden, gate;
    int count = 0;
    for (int p = 0; p < d_.hout() * d_.wout(); ++p) {
      if (!pooled(p)) continue;
      ++count;
      for (int c = 0; c < d_.width; ++c) mean[index(c)] += b[index(p * d_.width + c)];
    }
    for (int q = 0; q < desc_.squeeze; ++q) {
      double total = w_.squeeze_b[index(q)];
      for (int c = 0; c < d_.width; ++c)
        total += mean[index(c)] / std::max(1, count) * w_.squeeze[index(q * d_.width + c)];
      hidden.push_back(std::max(0.0, total));
    }
    for (int c = 0; c < d_.width; ++c) {
      double total = w_.excite_b[index(c)];
      for (int q = 0; q < desc_.squeeze; ++q) total += hidden[index(q)] * w_.excite[index(c * desc_.squeeze + q)];
      gate.push_back(1 / (1 + std::exp(-total)));
    }
    return gate;
  }

  double residual(int p, int n) const {
    const int64_t source = (p / d_.wout() * d_.stride * d_.win + p % d_.wout() * d_.stride) * d_.cin;
    if (!d_.projection) return x_[index(source + n)];
    double total = w_.proj_b[index(n)];
    for (int k = 0; k < d_.cin; ++k) total += x_[index(source + k)] * w_.proj[index(n * d_.cin + k)];
    return total;
  }

  const RegNetDesc& desc_;
  const BlockDesc& d_;
  const RegNetWeights& w_;
  const Doubles& x_;
  const std::vector<bool>& keep_;
};

inline Record random_regnet_record(bool spatial, bool channel, bool active, bool projection, Random* random) {
  const int widths[] = {3, 8, 16, 24, 40};
  const int group_width = widths[random->between(0, 4)], groups = random->between(1, 5);
  Record r(kRegNetFieldCount, 0);
  r[kWidth] = r[kCout] = group_width * groups;
  r[kCin] = projection ? random->between(1, 40) : r[kWidth];
  r[kProjection] = projection ? 1 : 0;
  r[kStride] = projection ? random->between(1, 2) : 1;
  r[kHin] = random->between(1, 17);
  r[kWin] = random->between(1, 17);
  r[kPanel] = 16 * random->between(1, 4);
  r[kGroup] = groups;
  r[kSqueeze] = random->between(1, 20);
  if (spatial) {
    r[kMaskGroups] = r[kWidth] % 2 == 0 ? random->between(1, 2) : 1;
    r[kMaskH] = random->between(1, static_cast<int>((r[kHin] - 1) / r[kStride] + 1));
    r[kMaskW] = random->between(1, static_cast<int>((r[kWin] - 1) / r[kStride] + 1));
    r[kSePool] = active ? 1 : 0;
  }
  if (channel) {
    // Every channel for itself: then groups are kept in part.
    r[kChannelGroups] = random->coin() ? r[kWidth] : groups;
    r[kChannelMasker] = random->between(1, 3);
    r[kMaskerHidden] = r[kChannelMasker] == 1 ? 0 : random->between(1, 20);
  }
  return r;
}

}  // namespace test
}  // namespace laudc
