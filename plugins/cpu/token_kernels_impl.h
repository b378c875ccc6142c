// Kernels of transformer blocks; included after kernels_impl.h, under the same rules.
#include "cpu/token_kernels.h"

namespace laudc {
namespace cpu {
namespace {

// Own fit (weighted least squares on [0, 3.9]): |error| < 2e-8 before rounding, 3.5e-7 in single precision.
inline Vec erf_of(Vec x) {
  const float kEnd = 3.9f;  // beyond it erf is 1 in single precision
  Vec z = x < splat(-kEnd) ? splat(-kEnd) : x;
  z = z > splat(kEnd) ? splat(kEnd) : z;
  const Vec t = z * z;
  Vec p = splat(2.050551529e-06f);
  p = p * t + splat(2.874423226e-04f);
  p = p * t + splat(3.836115124e-03f);
  p = p * t + splat(5.296457559e-02f);
  p = p * t + splat(1.919229180e-01f);
  p = p * t + splat(1.128378987e+00f);
  Vec q = splat(3.823167208e-05f);
  q = q * t + splat(1.181554166e-03f);
  q = q * t + splat(1.510767825e-02f);
  q = q * t + splat(1.147507653e-01f);
  q = q * t + splat(5.034190416e-01f);
  q = q * t + splat(1.0f);
  return z * p / q;
}

inline Vec gelu(Vec x) {
  const Vec half = x * splat(0.5f);
  return half + half * erf_of(x * splat(0.70710678118654752f));
}

struct Add {
  static constexpr bool kReadsC = true;
  static inline Vec apply(Vec acc, const float*, const float* old) { return acc + load(old); }
};

struct Gelu {
  static constexpr bool kReadsC = false;
  static inline Vec apply(Vec acc, const float*, const float*) { return gelu(acc); }
};

typedef int32_t Ints __attribute__((vector_size(LAUDC_LANES * 4)));

// e^x for x <= 0; 0 below -87. x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its series to the sixth power.
inline Vec exp_of(Vec x) {
  const float kLowest = -87.0f, kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec clamped = x < splat(kLowest) ? splat(kLowest) : x;
  const Vec shifted = clamped * splat(1.44269504088896341f) + splat(kRound);
  const Vec n = shifted - splat(kRound);
  Vec r = clamped - n * splat(0.693145751953125f);  // ln 2 in two parts
  r = r - n * splat(1.42860682030941723e-6f);
  Vec p = splat(1.0f / 720);
  p = p * r + splat(1.0f / 120);
  p = p * r + splat(1.0f / 24);
  p = p * r + splat(1.0f / 6);
  p = p * r + splat(0.5f);
  p = p * r + splat(1.0f);
  p = p * r + splat(1.0f);
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127) << 23;  // the integer lies in the low bits of `shifted`
  Vec scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  const Vec result = p * scale;
  return x < splat(kLowest) ? Vec{} : result;
}

inline Vec load_first(const float* p, int count, float rest) {
  Vec v = splat(rest);
  for (int i = 0; i < count; ++i) v[i] = p[i];
  return v;
}

inline void store_first(float* p, Vec v, int count) {
  for (int i = 0; i < count; ++i) p[i] = v[i];
}

inline float sum_of(const float* x, int count) {
  Vec s0 = {}, s1 = {};
  int i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    s0 += load(x + i);
    s1 += load(x + i + kLanes);
  }
  float total = sum_lanes(s0 + s1);
  for (; i < count; ++i) total += x[i];
  return total;
}

inline float squares_around(const float* x, int count, float mean) {
  Vec s0 = {}, s1 = {};
  int i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const Vec a = load(x + i) - mean, b = load(x + i + kLanes) - mean;
    s0 += a * a;
    s1 += b * b;
  }
  float total = sum_lanes(s0 + s1);
  for (; i < count; ++i) total += (x[i] - mean) * (x[i] - mean);
  return total;
}

void layer_norm(const LayerNormArgs& g, int begin, int end) {
  for (int row = begin; row < end; ++row) {
    const float* x = g.x + g.x_rows[row];
    float* y = g.y + row * g.y_stride;
    const float mean = sum_of(x, g.dim) / static_cast<float>(g.dim);
    const float variance = squares_around(x, g.dim, mean) / static_cast<float>(g.dim);
    const float scale = 1.0f / __builtin_sqrtf(variance + g.epsilon);
    int i = 0;
    for (; i + kLanes <= g.dim; i += kLanes)
      store(y + i, (load(x + i) - mean) * scale * load(g.weight + i) + load(g.bias + i));
    for (; i < g.dim; ++i) y[i] = (x[i] - mean) * scale * g.weight[i] + g.bias[i];
  }
}

inline float largest_of(const float* x, int count) {
  Vec best = splat(x[0]);
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec v = load(x + i);
    best = v > best ? v : best;
  }
  float largest = best[0];
  for (int lane = 1; lane < kLanes; ++lane) largest = best[lane] > largest ? best[lane] : largest;
  for (; i < count; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

void softmax(float* values, int rows, int count, int64_t stride) {
  const int whole = count / kLanes * kLanes, rest = count - whole;
  for (int row = 0; row < rows; ++row) {
    float* x = values + row * stride;
    const float largest = largest_of(x, count);
    Vec sums = {};
    for (int i = 0; i < whole; i += kLanes) {
      const Vec e = exp_of(load(x + i) - largest);
      store(x + i, e);
      sums += e;
    }
    if (rest > 0) {
      const Vec e = exp_of(load_first(x + whole, rest, -__builtin_inff()) - largest);
      store_first(x + whole, e, rest);
      sums += e;
    }
    const float scale = 1.0f / sum_lanes(sums);
    for (int i = 0; i < whole; i += kLanes) store(x + i, load(x + i) * scale);
    for (int i = whole; i < count; ++i) x[i] *= scale;
  }
}

TokenKernels make_token_kernels() { return {gemm<Add>, gemm<Gelu>, layer_norm, softmax}; }

}  // namespace
}  // namespace cpu
}  // namespace laudc
