// The fused stem against its three layers in plain loops.
#include "cpu/stem.h"
#include "tests/reference.h"
#include "tests/threads.h"

namespace laudc {
namespace test {
namespace {

using cpu::Stem;
using cpu::StemDesc;

struct Images {
  int batch, h, w;
  Floats values;
};

// Convolution and ReLU. weight: (cout, 3, k, k). Returns [batch][ch][cw][cout].
Doubles reference_conv(const Images& x, const StemDesc& desc, const Floats& weight, const Floats& bias) {
  const int ch = (x.h - 1) / 2 + 1, cw = (x.w - 1) / 2 + 1, k = desc.kernel, taps = 3 * k * k;
  Doubles out;
  for (int s = 0; s < x.batch; ++s) {
    for (int y = 0; y < ch; ++y) {
      for (int px = 0; px < cw; ++px) {
        for (int n = 0; n < desc.cout; ++n) {
          double total = bias[index(n)];
          for (int t = 0; t < taps; ++t) {
            const int sy = 2 * y + t % (k * k) / k - k / 2, sx = 2 * px + t % k - k / 2;
            if (sy < 0 || sy >= x.h || sx < 0 || sx >= x.w) continue;
            total += static_cast<double>(weight[index(n * taps + t)]) *
                     x.values[index(((s * 3 + t / (k * k)) * x.h + sy) * x.w + sx)];
          }
          out.push_back(std::max(total, 0.0));
        }
      }
    }
  }
  return out;
}

// 3x3 stride 2 maximum of [batch][ch][cw][cout].
Doubles reference_pool(const Images& x, int cout, const Doubles& conv) {
  const int ch = (x.h - 1) / 2 + 1, cw = (x.w - 1) / 2 + 1, ph = (ch - 1) / 2 + 1, pw = (cw - 1) / 2 + 1;
  Doubles out(index(static_cast<int64_t>(x.batch) * ph * pw * cout), 0.0);
  for (size_t i = 0; i < conv.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i), pixel = at / cout;
    const int n = static_cast<int>(at % cout), px = static_cast<int>(pixel % cw);
    const int y = static_cast<int>(pixel / cw % ch), s = static_cast<int>(pixel / cw / ch);
    for (int py = y / 2; py <= (y + 1) / 2 && py < ph; ++py) {
      for (int qx = px / 2; qx <= (px + 1) / 2 && qx < pw; ++qx) {
        double& best = out[index(((s * ph + py) * pw + qx) * cout + n)];
        best = std::max(best, conv[i]);
      }
    }
  }
  return out;
}

Doubles reference_stem(const Images& x, const StemDesc& desc, const Floats& weight, const Floats& bias) {
  const Doubles conv = reference_conv(x, desc, weight, bias);
  return desc.pool ? reference_pool(x, desc.cout, conv) : conv;
}

Floats pack(const StemDesc& desc, const Floats& weight, const Floats& bias) {
  Floats out(index(desc.packed_floats()), 0.0f);
  const int square = desc.kernel * desc.kernel, taps = 3 * square;
  for (int n = 0; n < desc.cout; ++n) {
    for (int t = 0; t < taps; ++t) {
      const int k = t % square * 3 + t / square;  // (row, column, channel)
      out[index((static_cast<int64_t>(n / desc.panel) * taps + k) * desc.panel + n % desc.panel)] =
          weight[index(n * taps + t)];
    }
    out[index(desc.weight_floats() + n)] = bias[index(n)];
  }
  return out;
}

void check_stem(StemDesc make(int, int)) {
  Random random(30);
  for (const int cout : {1, 16, 20, 64, 72}) {
    for (const int panel : {16, 64}) {
      const StemDesc desc = make(cout, panel);
      const Floats weight = random.reals(index(cout * 3 * desc.kernel * desc.kernel), 0.2f);
      const Floats bias = random.reals(index(cout));
      const Floats packed = pack(desc, weight, bias);
      const Stem stem(desc, packed.data());
      // One object for images of changing size: its zero border must follow.
      const int sizes[][2] = {{1, 1}, {13, 30}, {30, 13}, {2, 65}, {34, 33}, {13, 30}};
      for (const auto& size : sizes) {
        Images x = {random.between(1, 2), size[0], size[1], {}};
        x.values = random.reals(index(x.batch * 3 * x.h * x.w));
        const Doubles wanted = reference_stem(x, desc, weight, bias);
        Floats alone(wanted.size() + 1, -1.0f), shared(wanted.size() + 1, -1.0f);
        stem.execute(x.values.data(), x.batch, x.h, x.w, cpu::Inline(), alone.data());
        stem.execute(x.values.data(), x.batch, x.h, x.w, Threads(3), shared.data());
        CHECK(alone == shared && alone.back() == -1.0f);
        for (size_t i = 0; i < wanted.size(); ++i) CHECK_NEAR(alone[i], wanted[i], 3e-5);
      }
    }
  }
}

TEST(resnet_stem_of_every_size) { check_stem(StemDesc::resnet); }
TEST(regnet_stem_of_every_size) { check_stem(StemDesc::regnet); }

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
