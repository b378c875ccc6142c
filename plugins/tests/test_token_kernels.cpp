// The kernels of transformer blocks, every instruction set this CPU has, against the standard library in double.
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "cpu/attention.h"
#include "cpu/panel_gemm.h"
#include "cpu/token_kernels.h"
#include "tests/check.h"
#include "tests/threads.h"

namespace laudc {
namespace test {
namespace {

typedef std::vector<float> Floats;

std::vector<const cpu::TokenKernels*> all_kernels() {
  std::vector<const cpu::TokenKernels*> found = {&cpu::portable_token_kernels()};
#if defined(LAUDC_HAVE_X86_KERNELS)
  const char* active = cpu::kernels().name;
  if (std::strcmp(active, "portable") != 0) found.push_back(&cpu::avx2_token_kernels());
  if (std::strcmp(active, "avx512") == 0) found.push_back(&cpu::avx512_token_kernels());
#endif
#if defined(LAUDC_HAVE_NEON_KERNELS)
  found.push_back(&cpu::neon_token_kernels());
#endif
  return found;
}

size_t index(int64_t i) { return static_cast<size_t>(i); }

TEST(layer_norm_of_any_width) {
  Random random(1);
  for (const int dim : {1, 3, 8, 16, 17, 33, 48, 64, 100, 448}) {
    const int rows = 3;
    // Exact heap copies: the sanitizer sees a read behind them.
    const Floats x = random.reals(index(rows * dim), 3.0f), w = random.reals(index(dim)), b = random.reals(index(dim));
    const std::vector<int32_t> offsets = {2 * dim, 0, dim};
    for (const cpu::TokenKernels* kernels : all_kernels()) {
      Floats y(index(rows * dim), 7.0f);
      kernels->layer_norm({x.data(), offsets.data(), y.data(), dim, dim, w.data(), b.data(), 1e-5f}, 0, rows);
      for (int r = 0; r < rows; ++r) {
        const float* row = x.data() + offsets[index(r)];
        const double mean = std::accumulate(row, row + dim, 0.0) / dim;
        double variance = 0;
        for (int i = 0; i < dim; ++i) variance += (row[i] - mean) * (row[i] - mean) / dim;
        for (int i = 0; i < dim; ++i) {
          const double wanted = (row[i] - mean) / std::sqrt(variance + 1e-5) * w[index(i)] + b[index(i)];
          CHECK_NEAR(y[index(r * dim + i)], wanted, 1e-5);
        }
      }
    }
  }
}

TEST(softmax_of_any_width) {
  Random random(2);
  for (const int count : {1, 2, 7, 16, 17, 31, 64, 138, 197}) {
    for (const float scale : {1.0f, 30.0f, 300.0f}) {
      const int rows = 2, stride = count + 3;
      const Floats x = random.reals(index(rows * stride), scale);
      for (const cpu::TokenKernels* kernels : all_kernels()) {
        Floats y = x;
        kernels->softmax(y.data(), rows, count, stride);
        for (int r = 0; r < rows; ++r) {
          const float* row = x.data() + r * stride;
          double largest = row[0], total = 0;
          for (int i = 0; i < count; ++i) largest = std::max<double>(largest, row[i]);
          for (int i = 0; i < count; ++i) total += std::exp(row[i] - largest);
          for (int i = 0; i < count; ++i) {
            const double wanted = std::exp(row[i] - largest) / total;
            CHECK_NEAR(y[index(r * stride + i)], wanted, 3e-7 + 2e-6 * wanted);
          }
          for (int i = count; i < stride; ++i) CHECK(y[index(r * stride + i)] == x[index(r * stride + i)]);
        }
      }
    }
  }
}

TEST(softmax_of_equal_and_of_extreme_scores) {
  for (const cpu::TokenKernels* kernels : all_kernels()) {
    Floats equal(20, -5.0f);
    kernels->softmax(equal.data(), 1, 20, 20);
    for (const float v : equal) CHECK_NEAR(v, 0.05, 1e-7);
    Floats extreme = {-3e38f, 0.0f, -200.0f, 0.0f};
    kernels->softmax(extreme.data(), 1, 4, 4);
    CHECK(extreme[0] == 0.0f && extreme[2] == 0.0f);
    CHECK_NEAR(extreme[1], 0.5, 1e-7);
    Floats broken = {0.0f, std::numeric_limits<float>::quiet_NaN(), 1.0f};
    kernels->softmax(broken.data(), 1, 3, 3);
    CHECK(std::isnan(broken[1]));
  }
}

// A GEMM of one row and K = 1 whose bias is x: the epilogue alone.
TEST(gelu_is_exact_to_rounding) {
  const int32_t zero = 0;
  const float nothing = 0;
  for (const cpu::TokenKernels* kernels : all_kernels()) {
    for (int start = -1280; start < 1280; start += 16) {
      Floats x(64 + 16), b(64), c(16);
      for (int i = 0; i < 16; ++i) x[index(i)] = static_cast<float>(start + i) / 128.0f;
      const cpu::GemmArgs args = {&nothing, &zero, &zero,   1,        1,     b.data(), 64,      x.data(),
                                  nullptr,  0,     nullptr, c.data(), &zero, 16,       nullptr, nullptr};
      kernels->gemm_gelu(args, 0, 1);
      for (int i = 0; i < 16; ++i) {
        const double v = x[index(i)];
        const double wanted = 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
        CHECK_NEAR(c[index(i)], wanted, 4e-7 * (1 + std::abs(v)));
      }
    }
    Floats far = {-1e30f, 1e30f, -50.0f, 50.0f}, b(64), c(16);
    far.resize(80);
    const cpu::GemmArgs args = {&nothing, &zero, &zero,   1,        1,     b.data(), 64,      far.data(),
                                nullptr,  0,     nullptr, c.data(), &zero, 16,       nullptr, nullptr};
    kernels->gemm_gelu(args, 0, 1);
    CHECK(std::abs(c[0]) <= 1e24f && c[1] == 1e30f && std::abs(c[2]) < 1e-5f && c[3] == 50.0f);
  }
}

TEST(products_over_chosen_stretches) {
  Random random(4);
  const int rows = 50, width = 12, stretches = 5, columns = 40, panel = 16;
  const Floats a = random.reals(index(rows * width * stretches));
  const Floats bias = random.reals(index(columns + 64));
  const int panels = (columns + panel - 1) / panel;
  const Floats b = random.reals(index(panels * width * stretches * panel + 64));
  for (const std::vector<int>& kept : {std::vector<int>{}, {0}, {1, 4}, {0, 1, 2, 3, 4}}) {
    std::vector<int32_t> a_taps, a_rows, c_rows;
    std::vector<int64_t> b_taps;
    for (const int s : kept) {
      a_taps.push_back(s * width);
      b_taps.push_back(static_cast<int64_t>(s) * width * panel);
    }
    for (int r = 0; r < rows; ++r) {
      a_rows.push_back((rows - 1 - r) * width * stretches);
      c_rows.push_back(r * columns);
    }
    std::vector<cpu::PanelJob> jobs;
    for (int p = 0; p < panels; ++p) {
      jobs.push_back({b.data() + p * width * stretches * panel, bias.data() + p * panel, p * panel,
                      std::min(panel, columns - p * panel)});
    }
    const cpu::Depth depth = {static_cast<int>(kept.size()), width, a_taps.data(), b_taps.data()};
    for (const int threads : {1, 2, 5}) {
      Floats c(index(rows * columns), 100.0f);
      cpu::panel_gemm(Threads(threads), cpu::token_kernels().gemm_add, jobs, panel, depth,
                      {a.data(), a_rows.data(), c.data(), c_rows.data(), rows}, nullptr, 0);
      for (int r = 0; r < rows; ++r) {
        for (int n = 0; n < columns; ++n) {
          double wanted = 100.0 + bias[index(n)];
          for (const int s : kept) {
            for (int k = s * width; k < (s + 1) * width; ++k) {
              wanted += static_cast<double>(a[index(a_rows[index(r)] + k)]) *
                        b[index(((n / panel) * width * stretches + k) * panel + n % panel)];
            }
          }
          CHECK_NEAR(c[index(r * columns + n)], wanted, 2e-5);
        }
      }
    }
  }
}

TEST(attention_over_compact_tokens) {
  Random random(5);
  for (const int tokens : {1, 2, 15, 64, 65, 140}) {
    for (const int head_dim : {4, 16, 20, 64, 70}) {
      const int heads = 3, dim = heads * head_dim, stride = 3 * dim + 5;
      Floats qkv = random.reals(index(tokens * stride + 64));
      const std::vector<int32_t> kept = {0, 2};
      for (const int queries : {1, tokens}) {
        for (const int threads : {1, 3}) {
          Floats out(index(queries * dim), 9.0f);
          cpu::IotaCache iota;
          cpu::Pool<cpu::AttentionScratch> scratch;
          cpu::attention(Threads(threads),
                         {qkv.data(), stride, dim, 2 * dim, tokens, queries, head_dim, &kept, out.data(), dim}, &iota,
                         &scratch);
          for (int q = 0; q < queries; ++q) {
            const float* query = qkv.data() + q * stride;
            for (int h = 0; h < heads; ++h) {
              std::vector<double> weights(index(tokens));
              double total = 0;
              for (int t = 0; t < tokens; ++t) {
                double score = 0;
                for (int i = 0; i < head_dim; ++i)
                  score +=
                      static_cast<double>(query[h * head_dim + i]) * qkv[index(t * stride + dim + h * head_dim + i)];
                total += weights[index(t)] = std::exp(score);
              }
              for (int i = 0; i < head_dim; ++i) {
                double wanted = 0;
                for (int t = 0; t < tokens; ++t)
                  wanted += weights[index(t)] / total * qkv[index(t * stride + 2 * dim + h * head_dim + i)];
                CHECK_NEAR(out[index(q * dim + h * head_dim + i)], h == 1 ? 9.0 : wanted, 1e-5);
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
