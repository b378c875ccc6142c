// Every kernel of every instruction set that this CPU runs, against plain loops in double precision. Operands are exact
// heap copies, with the slack that kernels.h promises and no more, so that the sanitizer sees every stray access.
#include <algorithm>
#include <functional>
#include <limits>

#include "core/packed_layout.h"
#include "cpu/kernels.h"
#include "tests/check.h"

namespace laudc {
namespace test {
namespace {

using cpu::KernelTable;

constexpr float kUntouched = 12345.0f;

std::vector<const KernelTable*> tables() {
  std::vector<const KernelTable*> all = {&cpu::portable_kernels()};
#if defined(LAUDC_HAVE_X86_KERNELS)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(&cpu::avx2_kernels());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw")) {
    all.push_back(&cpu::avx512_kernels());
  }
#endif
#if defined(LAUDC_HAVE_NEON_KERNELS)
  all.push_back(&cpu::neon_kernels());
#endif
  return all;
}

void for_each_table(const std::function<void(const KernelTable&)>& body) {
  for (const KernelTable* table : tables()) {
    const int before = failures();
    body(*table);
    if (failures() != before) std::fprintf(stderr, "  with the %s kernels\n", table->name);
  }
}

size_t up16(int value) { return static_cast<size_t>(round_up(value, 16)); }

// `count` rows of `length` floats, anywhere in a buffer and in no order, but without overlap.
std::vector<int32_t> scattered_rows(Random* random, int count, int length, int gap) {
  std::vector<int32_t> rows(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = i * (length + gap);
  for (int i = count - 1; i > 0; --i)
    std::swap(rows[static_cast<size_t>(i)], rows[static_cast<size_t>(random->between(0, i))]);
  return rows;
}

struct GemmProblem {
  int rows, lanes, taps, k_count, ldb, classes;
  bool clamped, prefetched, summed;
  std::vector<float> a, b, bias, lo, c;
  std::vector<int32_t> a_rows, tap_offsets, c_rows;
  std::vector<uint8_t> row_class;
  int c_stride;

  GemmProblem(Random* random, int row_count, int lane_count) : rows(row_count), lanes(lane_count) {
    taps = random->between(1, 3);
    k_count = random->between(0, 3) == 0 ? random->between(0, 2) : random->between(1, 21);
    ldb = static_cast<int>(up16(lanes)) + 16 * random->between(0, 1);
    classes = random->coin() ? 1 : 4;
    clamped = random->coin();
    prefetched = random->coin();
    summed = random->coin();
    const int row_floats = taps * (k_count + 2);
    for (int t = 0; t < taps; ++t) tap_offsets.push_back(t * (k_count + 2));
    a_rows = scattered_rows(random, rows, row_floats, 1);
    c_stride = lanes + 3;
    c_rows = scattered_rows(random, rows, lanes, 3);
    a = random->reals(static_cast<size_t>(rows * (row_floats + 1)));
    b = random->reals(static_cast<size_t>(std::max(1, taps * k_count * ldb)));
    bias = random->reals(static_cast<size_t>(classes) * up16(lanes));
    lo = random->reals(static_cast<size_t>(lanes), 0.5f);
    c.assign(static_cast<size_t>(rows * c_stride), kUntouched);
    for (const int32_t at : c_rows) {
      for (int n = 0; n < lanes; ++n) c[static_cast<size_t>(at + n)] = random->real();
    }
    for (int m = 0; m < rows; ++m) row_class.push_back(static_cast<uint8_t>(random->between(0, classes - 1)));
  }

  double wanted(int m, int n) const {
    const size_t cls = classes == 1 ? 0 : row_class[static_cast<size_t>(m)];
    double acc = bias[cls * up16(lanes) + static_cast<size_t>(n)];
    for (int t = 0; t < taps; ++t) {
      for (int k = 0; k < k_count; ++k) {
        acc += static_cast<double>(
                   a[static_cast<size_t>(a_rows[static_cast<size_t>(m)] + tap_offsets[static_cast<size_t>(t)] + k)]) *
               b[static_cast<size_t>((t * k_count + k) * ldb + n)];
      }
    }
    return acc;
  }

  void check(const KernelTable& table, bool add_relu, int begin, int end) {
    std::vector<float> found = c, sums(up16(lanes), 0.25f);
    cpu::Prefetch ahead;
    ahead.next = reinterpret_cast<const char*>(b.data());
    ahead.end = reinterpret_cast<const char*>(b.data() + b.size());
    // An exact heap copy, so that the sanitizer sees a read behind the list.
    const std::vector<int32_t> fetched_rows = {2, 0, 1};
    ahead.base = reinterpret_cast<const char*>(b.data());
    ahead.rows = fetched_rows.data();
    ahead.row_count = 3;
    ahead.row_bytes = 8;
    ahead.matrices = 2;
    ahead.matrix_bytes = 4;
    const bool sum = add_relu && summed;
    const cpu::GemmArgs args = {a.data(),
                                a_rows.data(),
                                tap_offsets.data(),
                                taps,
                                k_count,
                                b.data(),
                                ldb,
                                bias.data(),
                                classes == 1 ? nullptr : row_class.data(),
                                static_cast<int64_t>(up16(lanes)),
                                clamped && !add_relu ? lo.data() : nullptr,
                                found.data(),
                                c_rows.data(),
                                lanes,
                                prefetched ? &ahead : nullptr,
                                sum ? sums.data() : nullptr};
    (add_relu ? table.gemm_add_relu : table.gemm_store)(args, begin, end);
    std::vector<float> expected = c;
    std::vector<double> totals(static_cast<size_t>(lanes), 0.25);
    for (int m = begin; m < end; ++m) {
      for (int n = 0; n < lanes; ++n) {
        const size_t at = static_cast<size_t>(c_rows[static_cast<size_t>(m)] + n);
        double value = wanted(m, n);
        if (add_relu) value = std::max(0.0, value + c[at]);
        if (!add_relu && clamped) value = std::max(value, static_cast<double>(lo[static_cast<size_t>(n)]));
        expected[at] = static_cast<float>(value);
        totals[static_cast<size_t>(n)] += value;
      }
    }
    for (size_t i = 0; i < found.size(); ++i) {
      if (expected[i] == c[i] && c[i] == kUntouched) {
        CHECK(found[i] == kUntouched);
      } else {
        CHECK_NEAR(found[i], expected[i], 1e-4f);
      }
    }
    for (int n = 0; sum && n < lanes; ++n)
      CHECK_NEAR(sums[static_cast<size_t>(n)], totals[static_cast<size_t>(n)], 1e-4);
  }
};

TEST(gemm_of_every_size) {
  for_each_table([](const KernelTable& table) {
    Random random(7);
    for (int lanes = 1; lanes <= cpu::kMaxPanel; ++lanes) {
      for (int rows = 1; rows <= 20; ++rows) {
        GemmProblem problem(&random, rows, lanes);
        problem.check(table, false, 0, rows);
        problem.check(table, true, 0, rows);
        const int begin = random.between(0, rows), end = random.between(begin, rows);
        problem.check(table, random.coin(), begin, end);
      }
    }
  });
}

TEST(gemm_of_many_rows) {
  for_each_table([](const KernelTable& table) {
    Random random(8);
    for (const int lanes : {1, 16, 33, 48, 64}) {
      for (const int rows : {21, 64, 97, 130}) {
        GemmProblem problem(&random, rows, lanes);
        problem.check(table, false, 0, rows);
        problem.check(table, true, 0, rows);
      }
    }
  });
}

// How rows are grouped into tiles depends on their number: results must not, or thread counts would show.
TEST(gemm_rows_do_not_depend_on_their_neighbours) {
  for_each_table([](const KernelTable& table) {
    Random random(9);
    for (const int lanes : {5, 16, 64}) {
      GemmProblem problem(&random, 37, lanes);
      std::vector<float> together = problem.c, alone = problem.c;
      cpu::GemmArgs args = {
          problem.a.data(), problem.a_rows.data(), problem.tap_offsets.data(), problem.taps, problem.k_count,
          problem.b.data(), problem.ldb,           problem.bias.data(),        nullptr,      0,
          nullptr,          together.data(),       problem.c_rows.data(),      lanes,        nullptr,
          nullptr};
      table.gemm_store(args, 0, 37);
      args.c = alone.data();
      for (int m = 0; m < 37; ++m) table.gemm_store(args, m, m + 1);
      CHECK(together == alone);
    }
  });
}

TEST(gemm_lets_nan_through) {
  for_each_table([](const KernelTable& table) {
    Random random(10);
    for (const int lanes : {3, 16, 40}) {
      GemmProblem problem(&random, 2, lanes);
      problem.clamped = true;
      std::fill(problem.bias.begin(), problem.bias.end(), std::numeric_limits<float>::quiet_NaN());
      for (const bool add_relu : {false, true}) {
        std::vector<float> c = problem.c;
        const cpu::GemmArgs args = {problem.a.data(),
                                    problem.a_rows.data(),
                                    problem.tap_offsets.data(),
                                    problem.taps,
                                    problem.k_count,
                                    problem.b.data(),
                                    problem.ldb,
                                    problem.bias.data(),
                                    nullptr,
                                    0,
                                    problem.lo.data(),
                                    c.data(),
                                    problem.c_rows.data(),
                                    lanes,
                                    nullptr,
                                    nullptr};
        (add_relu ? table.gemm_add_relu : table.gemm_store)(args, 0, 2);
        for (const int32_t at : problem.c_rows) {
          for (int n = 0; n < lanes; ++n) CHECK(std::isnan(c[static_cast<size_t>(at + n)]));
        }
      }
    }
  });
}

std::vector<int32_t> some_of(Random* random, int count) {
  std::vector<int32_t> kept;
  const int percent = random->between(5, 100);
  for (int i = 0; i < count; ++i) {
    if (random->between(0, 99) < percent) kept.push_back(i);
  }
  if (kept.empty()) kept.push_back(random->between(0, count - 1));
  return kept;
}

TEST(pack_transposes_the_selected_rows) {
  for_each_table([](const KernelTable& table) {
    Random random(11);
    for (int lanes = 1; lanes <= cpu::kMaxPanel; ++lanes) {
      for (int repeat = 0; repeat < 6; ++repeat) {
        const int source_rows = lanes + random.between(0, 5), length = random.between(1, 70);
        const int stride = length + random.between(0, 9);
        // A vector of slack: the kernel reads whole ones.
        const std::vector<float> src = random.reals(static_cast<size_t>(source_rows * stride + 16));
        std::vector<int32_t> lane_rows = scattered_rows(&random, source_rows, 1, 0);
        const std::vector<int32_t> kept = some_of(&random, length);
        const bool all_lanes = random.coin(), all_k = random.coin();
        const int k_count = all_k ? length : static_cast<int>(kept.size());
        const int ldd = static_cast<int>(up16(lanes)) + 16 * random.between(0, 1);
        std::vector<float> dst(static_cast<size_t>(k_count * ldd), kUntouched);
        const cpu::PackArgs args = {
            src.data(), stride, all_lanes ? nullptr : lane_rows.data(), lanes, all_k ? nullptr : kept.data(), k_count,
            dst.data(), ldd};
        table.pack(args);
        for (int k = 0; k < k_count; ++k) {
          for (int n = 0; n < ldd; ++n) {
            const float found = dst[static_cast<size_t>(k * ldd + n)];
            const int row = n < lanes ? (all_lanes ? n : lane_rows[static_cast<size_t>(n)]) : 0;
            const int column = all_k ? k : kept[static_cast<size_t>(k)];
            if (n < lanes) CHECK(found == src[static_cast<size_t>(row * stride + column)]);
            if (n >= lanes && n < static_cast<int>(up16(lanes))) CHECK(std::isfinite(found));
            if (n >= static_cast<int>(up16(lanes))) CHECK(found == kUntouched);
          }
        }
      }
    }
  });
}

TEST(kept_rows_of_a_panel_are_copied) {
  for_each_table([](const KernelTable& table) {
    Random random(14);
    for (const int width : {16, 32, 48, 64}) {
      const std::vector<float> src = random.reals(static_cast<size_t>(40 * width));
      const std::vector<int32_t> kept = some_of(&random, 40);
      std::vector<float> dst((kept.size() + 1) * static_cast<size_t>(width), kUntouched);
      table.copy_rows({src.data(), kept.data(), static_cast<int>(kept.size()), width, dst.data()});
      for (size_t i = 0; i < dst.size(); ++i) {
        const size_t row = i / static_cast<size_t>(width);
        const bool inside = row < kept.size();
        const size_t from = inside ? static_cast<size_t>(kept[row] * width) + i % static_cast<size_t>(width) : 0;
        CHECK(dst[i] == (inside ? src[from] : kUntouched));
      }
    }
  });
}

// G g G' of a 3x3 filter: a 4x4 matrix.
void transform_filter(const double g[9], double out[16]) {
  const double m[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      out[4 * i + j] = 0;
      for (int y = 0; y < 3; ++y) {
        for (int x = 0; x < 3; ++x) out[4 * i + j] += m[i][y] * g[3 * y + x] * m[j][x];
      }
    }
  }
}

TEST(winograd_filters_are_transformed) {
  for_each_table([](const KernelTable& table) {
    Random random(13);
    for (const int count : {16, 48, 112}) {
      const int64_t tap_stride = count + 5, point_stride = count + 32;
      const std::vector<float> src = random.reals(static_cast<size_t>(9 * tap_stride));
      std::vector<float> dst(static_cast<size_t>(16 * point_stride), kUntouched);
      table.winograd_filters({src.data(), tap_stride, count, dst.data(), point_stride});
      for (int i = 0; i < count; ++i) {
        double g[9], wanted[16];
        for (int t = 0; t < 9; ++t) g[t] = src[static_cast<size_t>(t * tap_stride + i)];
        transform_filter(g, wanted);
        for (int xi = 0; xi < 16; ++xi) CHECK_NEAR(dst[static_cast<size_t>(xi * point_stride + i)], wanted[xi], 1e-6f);
      }
      for (int xi = 0; xi < 16; ++xi) {
        for (int64_t i = count; i < point_stride; ++i)
          CHECK(dst[static_cast<size_t>(xi * point_stride + i)] == kUntouched);
      }
    }
  });
}

// Depthwise: one filter per channel, so that only the two transforms are tested.
TEST(winograd_transforms_compute_a_3x3_convolution) {
  for_each_table([](const KernelTable& table) {
    Random random(12);
    for (const int channels : {1, 3, 8, 16, 17, 31, 64}) {
      const int h = 6, w = 8, classes = 3;
      const int pixel = static_cast<int>(up16(channels)), row = (w + 3) * pixel;
      std::vector<float> map(static_cast<size_t>((h + 3) * row), 0.0f);
      for (int y = 0; y < h; ++y) {
        for (int x = 0; x < w; ++x) {
          for (int c = 0; c < channels; ++c)
            map[static_cast<size_t>((y + 1) * row + (x + 1) * pixel + c)] = random.real();
        }
      }
      std::vector<int32_t> origins, out_rows;
      std::vector<uint8_t> out_classes;
      for (int y = 0; y < h; y += 2) {
        for (int x = 0; x < w; x += 2) {
          origins.push_back(y * row + x * pixel);
          for (int i = 0; i < 4; ++i) {
            const int at = ((y + i / 2) * w + x + i % 2) * (channels + 1);
            out_rows.push_back(random.between(0, 4) == 0 ? -1 : at);
            out_classes.push_back(static_cast<uint8_t>(random.between(0, classes - 1)));
          }
        }
      }
      const int tiles = static_cast<int>(origins.size()), begin = 2, count = tiles - 3;
      const int ldd = pixel;
      const int64_t point_stride = static_cast<int64_t>(count) * ldd;
      std::vector<float> points(static_cast<size_t>(16 * point_stride));
      const cpu::WinogradInputArgs in = {map.data(), origins.data(), begin,         begin + count, row,
                                         pixel,      channels,       points.data(), point_stride,  ldd};
      table.winograd_input(in);
      const std::vector<float> filters = random.reals(static_cast<size_t>(9 * channels));
      for (int c = 0; c < channels; ++c) {
        double g[9], u[16];
        for (int t = 0; t < 9; ++t) g[t] = filters[static_cast<size_t>(9 * c + t)];
        transform_filter(g, u);
        for (int xi = 0; xi < 16; ++xi) {
          for (int t = 0; t < count; ++t) {
            float& value = points[static_cast<size_t>(xi * point_stride + t * ldd + c)];
            value = static_cast<float>(value * u[xi]);
          }
        }
      }
      const std::vector<float> bias = random.reals(static_cast<size_t>(classes) * up16(channels));
      const std::vector<float> lo = random.reals(static_cast<size_t>(channels), 0.3f);
      std::vector<float> out(static_cast<size_t>(h * w * (channels + 1)), kUntouched);
      const cpu::WinogradOutputArgs args = {points.data(),
                                            point_stride,
                                            ldd,
                                            begin,
                                            begin + count,
                                            out_rows.data(),
                                            out_classes.data(),
                                            bias.data(),
                                            static_cast<int64_t>(up16(channels)),
                                            lo.data(),
                                            out.data(),
                                            channels};
      table.winograd_output(args);
      std::vector<float> wanted(out.size(), kUntouched);
      for (int t = begin; t < begin + count; ++t) {
        for (int i = 0; i < 4; ++i) {
          const size_t slot = static_cast<size_t>(4 * t + i);
          if (out_rows[slot] < 0) continue;
          const int origin = origins[static_cast<size_t>(t)] + i / 2 * row + i % 2 * pixel;
          for (int c = 0; c < channels; ++c) {
            double value = bias[out_classes[slot] * up16(channels) + static_cast<size_t>(c)];
            for (int tap = 0; tap < 9; ++tap) {
              value += static_cast<double>(map[static_cast<size_t>(origin + tap / 3 * row + tap % 3 * pixel + c)]) *
                       filters[static_cast<size_t>(9 * c + tap)];
            }
            wanted[static_cast<size_t>(out_rows[slot] + c)] =
                static_cast<float>(std::max(value, static_cast<double>(lo[static_cast<size_t>(c)])));
          }
        }
      }
      for (size_t i = 0; i < out.size(); ++i) CHECK_NEAR(out[i], wanted[i], 2e-5f);
    }
  });
}

TEST(column_sums_and_row_dots) {
  for_each_table([](const KernelTable& table) {
    Random random(13);
    for (int channels = 1; channels <= 150; channels += random.between(1, 7)) {
      const int rows = random.between(1, 30), begin = random.between(0, rows), end = random.between(begin, rows);
      const std::vector<int32_t> at = scattered_rows(&random, rows, channels, 2);
      // Nothing behind the last row: these two read no more than they use.
      const std::vector<float> a = random.reals(static_cast<size_t>(rows * (channels + 2) - 2));
      const std::vector<float> w = random.reals(static_cast<size_t>(channels));
      std::vector<float> sums(static_cast<size_t>(channels) + 1, kUntouched),
          dots(static_cast<size_t>(rows), kUntouched);
      table.column_sums(a.data(), at.data(), begin, end, channels, sums.data());
      table.row_dots(a.data(), at.data(), begin, end, channels, w.data(), dots.data());
      for (int c = 0; c < channels; ++c) {
        double total = 0;
        for (int i = begin; i < end; ++i) total += a[static_cast<size_t>(at[static_cast<size_t>(i)] + c)];
        CHECK_NEAR(sums[static_cast<size_t>(c)], total, 1e-5);
      }
      CHECK(sums.back() == kUntouched);
      for (int i = 0; i < rows; ++i) {
        double total = 0;
        for (int c = 0; c < channels; ++c) {
          total +=
              static_cast<double>(a[static_cast<size_t>(at[static_cast<size_t>(i)] + c)]) * w[static_cast<size_t>(c)];
        }
        const double wanted = i >= begin && i < end ? total : kUntouched;
        CHECK_NEAR(dots[static_cast<size_t>(i)], wanted, 1e-5);
      }
    }
  });
}

TEST(max_pool_row_takes_the_largest) {
  for_each_table([](const KernelTable& table) {
    Random random(14);
    for (int width = 1; width <= 9; ++width) {
      for (const int channels : {1, 5, 16, 24, 33}) {
        for (int row_count = 1; row_count <= 3; ++row_count) {
          const int wout = (width - 1) / 2 + 1;
          const int pixel = (channels + 15) / 16 * 16;  // kernels read whole vectors
          std::vector<std::vector<float>> data;
          const float* rows[3] = {};
          for (int r = 0; r < row_count; ++r) data.push_back(random.reals(static_cast<size_t>(width * pixel)));
          for (int r = 0; r < row_count; ++r) rows[r] = data[static_cast<size_t>(r)].data();
          std::vector<float> out(static_cast<size_t>(wout * channels));
          table.max_pool_row(rows, row_count, width, pixel, channels, wout, out.data());
          for (int x = 0; x < wout; ++x) {
            for (int c = 0; c < channels; ++c) {
              float best = -2;
              for (int r = 0; r < row_count; ++r) {
                for (int i = std::max(0, 2 * x - 1); i < std::min(width, 2 * x + 2); ++i) {
                  best = std::max(best, rows[r][i * pixel + c]);
                }
              }
              CHECK(out[static_cast<size_t>(x * channels + c)] == best);
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
