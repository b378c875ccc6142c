// Masks to index lists, against definitions spelled out pixel by pixel.
#include <algorithm>

#include "core/index_lists.h"
#include "tests/check.h"

namespace laudc {
namespace test {
namespace {

typedef std::vector<uint8_t> Map;

Map random_map(Random* random, int pixels, int percent) {
  Map map(static_cast<size_t>(pixels));
  for (uint8_t& v : map) v = random->between(0, 99) < percent ? 1 : 0;
  return map;
}

TEST(border_class_names_the_taps_outside) {
  for (int stride = 1; stride <= 2; ++stride) {
    for (int h = 1; h <= 9; ++h) {
      for (int w = 1; w <= 9; ++w) {
        for (int y = 0; y <= (h - 1) / stride; ++y) {
          for (int x = 0; x <= (w - 1) / stride; ++x) {
            const int cls = border_class(y, x, stride, h, w);
            for (int dy = -1; dy <= 1; ++dy) {
              for (int dx = -1; dx <= 1; ++dx) {
                const int sy = y * stride + dy, sx = x * stride + dx;
                const bool inside = sy >= 0 && sy < h && sx >= 0 && sx < w;
                const bool crossed =
                    (dy < 0 && (cls & 1)) || (dy > 0 && (cls & 2)) || (dx < 0 && (cls & 4)) || (dx > 0 && (cls & 8));
                CHECK(inside == !crossed);
              }
            }
          }
        }
      }
    }
  }
}

TEST(nearest_lut_covers_all_cells_in_order) {
  for (int from = 1; from <= 64; ++from) {
    for (int to = from; to <= 64; ++to) {
      const std::vector<int> lut = nearest_lut(from, to);
      CHECK(static_cast<int>(lut.size()) == to && lut[0] == 0 && lut.back() == from - 1);
      for (int i = 0; i < to; ++i) {
        const float exact = static_cast<float>(i) * (static_cast<float>(from) / static_cast<float>(to));
        CHECK(lut[static_cast<size_t>(i)] == std::min(from - 1, static_cast<int>(std::floor(exact))));
        if (i > 0) CHECK(lut[static_cast<size_t>(i)] - lut[static_cast<size_t>(i) - 1] <= 1);
      }
    }
  }
}

// PyTorch's float32 gives some of 46 pixels another one of 14 cells than exact arithmetic does.
TEST(nearest_lut_rounds_as_float32) {
  const std::vector<int> lut = nearest_lut(14, 46);
  int different = 0;
  for (int i = 0; i < 46; ++i) different += lut[static_cast<size_t>(i)] != i * 14 / 46 ? 1 : 0;
  CHECK(different > 0);
}

TEST(windows_are_those_of_adaptive_pooling) {
  for (int length = 1; length <= 60; ++length) {
    for (int n = 1; n <= length; ++n) {
      CHECK(window_begin(0, length, n) == 0 && window_end(n - 1, length, n) == length);
      for (int i = 0; i < n; ++i) {
        const int begin = window_begin(i, length, n), end = window_end(i, length, n);
        CHECK(begin == static_cast<int>(std::floor(static_cast<double>(i) * length / n)));
        CHECK(end == static_cast<int>(std::ceil(static_cast<double>(i + 1) * length / n)));
        CHECK(begin < end);
      }
    }
  }
}

TEST(upsample_or_adds_to_the_map) {
  Random random(4);
  for (int i = 0; i < 300; ++i) {
    const int h = random.between(1, 15), w = random.between(1, 15);
    const int mh = random.between(1, h), mw = random.between(1, w);
    const Map cells = random_map(&random, mh * mw, 40), before = random_map(&random, h * w, 20);
    const std::vector<int> rows = nearest_lut(mh, h), columns = nearest_lut(mw, w);
    Map map = before;
    upsample_or(cells.data(), mw, rows, columns, map.data());
    for (int y = 0; y < h; ++y) {
      for (int x = 0; x < w; ++x) {
        const size_t p = static_cast<size_t>(y * w + x);
        const size_t cell = static_cast<size_t>(rows[static_cast<size_t>(y)] * mw + columns[static_cast<size_t>(x)]);
        CHECK((map[p] != 0) == (before[p] != 0 || cells[cell] != 0));
      }
    }
  }
}

TEST(grow_to_tiles_fills_tiles) {
  Random random(5);
  for (int h = 1; h <= 9; ++h) {
    for (int w = 1; w <= 9; ++w) {
      const Map map = random_map(&random, h * w, 15);
      Map grown(map.size(), 7);
      grow_to_tiles(map.data(), h, w, grown.data());
      for (int y = 0; y < h; ++y) {
        for (int x = 0; x < w; ++x) {
          bool any = false;
          for (int ty = y / 2 * 2; ty < std::min(h, y / 2 * 2 + 2); ++ty) {
            for (int tx = x / 2 * 2; tx < std::min(w, x / 2 * 2 + 2); ++tx) {
              any = any || map[static_cast<size_t>(ty * w + tx)];
            }
          }
          CHECK(grown[static_cast<size_t>(y * w + x)] == (any ? 1 : 0));
        }
      }
    }
  }
}

TEST(dilate_marks_what_windows_read) {
  Random random(6);
  for (int stride = 1; stride <= 2; ++stride) {
    for (int h = 1; h <= 9; ++h) {
      for (int w = 1; w <= 9; ++w) {
        const int ho = (h - 1) / stride + 1, wo = (w - 1) / stride + 1;
        for (const int percent : {0, 10, 50, 100}) {
          const Map map = random_map(&random, ho * wo, percent);
          Map wanted(static_cast<size_t>(h * w), 0), found(wanted.size(), 9), scratch(static_cast<size_t>(h * wo), 9);
          for (int y = 0; y < ho; ++y) {
            for (int x = 0; x < wo; ++x) {
              if (!map[static_cast<size_t>(y * wo + x)]) continue;
              for (int sy = std::max(0, y * stride - 1); sy <= std::min(h - 1, y * stride + 1); ++sy) {
                for (int sx = std::max(0, x * stride - 1); sx <= std::min(w - 1, x * stride + 1); ++sx) {
                  wanted[static_cast<size_t>(sy * w + sx)] = 1;
                }
              }
            }
          }
          dilate(map.data(), ho, wo, stride, h, w, scratch.data(), found.data());
          CHECK(found == wanted);
        }
      }
    }
  }
}

TEST(append_set_lists_in_order) {
  const Map map = {0, 1, 0, 0, 1, 1, 0};
  std::vector<int32_t> list = {42};
  append_set(map.data(), static_cast<int>(map.size()), &list);
  CHECK((list == std::vector<int32_t>{42, 1, 4, 5}));
  append_set(map.data(), 0, &list);
  CHECK(list.size() == 4);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
