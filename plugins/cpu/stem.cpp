#include "cpu/stem.h"

#include <algorithm>

namespace laudc {
namespace cpu {
namespace {

constexpr int kPoolRowsPerTask = 7;  // 15 convolution rows, of which 1 is computed twice
constexpr int kConvRowsPerTask = 16;

int64_t padded_row(const StemDesc& desc, int w) {
  return static_cast<int64_t>(w + 2 * desc.pad() + 1) * StemDesc::kChannels;
}

}  // namespace

void Stem::pad_image(const float* x, int h, int w, const Parallel& parallel, float* image) const {
  const int64_t plane = static_cast<int64_t>(h) * w;
  parallel.for_each(static_cast<size_t>((h + 31) / 32), [&](size_t task) {
    const int begin = static_cast<int>(task) * 32, end = std::min(h, begin + 32);
    for (int y = begin; y < end; ++y) {
      const float* from = x + static_cast<int64_t>(y) * w;
      float* to = image + (y + desc_.pad()) * padded_row(desc_, w) + desc_.pad() * StemDesc::kChannels;
      for (int i = 0; i < w; ++i) {
        to[3 * i] = from[i];
        to[3 * i + 1] = from[plane + i];
        to[3 * i + 2] = from[2 * plane + i];
      }
    }
  });
}

namespace {

// Floats between pixels of the convolution's output: whole vectors.
int64_t conv_pixel(const StemDesc& desc) { return round_up(desc.cout, kAlign); }

// Convolution rows [begin, end) of one image into `conv` ([rows][width][pixel]), with bias and ReLU.
void conv_rows(const StemDesc& desc, const float* packed, const float* image, int w, int begin, int end,
               TaskScratch* scratch, int64_t pixel, float* conv) {
  const int width = StemDesc::conv_size(w);
  const int64_t row = padded_row(desc, w);
  int32_t taps[7];
  for (int t = 0; t < desc.kernel; ++t) taps[t] = static_cast<int32_t>(t * row);
  static const float kZeros[kMaxPanel] = {};
  const int32_t* in_rows = scratch->iota.get(2 * StemDesc::kChannels, static_cast<size_t>(width));
  const int32_t* out_rows = scratch->iota.get(pixel, static_cast<size_t>(width));
  const int k_count = desc.kernel * StemDesc::kChannels;
  for (int p = 0; p < panel_count(desc.cout, desc.panel); ++p) {
    const int first = p * desc.panel;
    for (int y = begin; y < end; ++y) {
      const GemmArgs args = {image + 2 * y * row,
                             in_rows,
                             taps,
                             desc.kernel,
                             k_count,
                             packed + static_cast<int64_t>(p) * desc.kernel * k_count * desc.panel,
                             desc.panel,
                             packed + desc.weight_floats() + first,
                             nullptr,
                             0,
                             kZeros,
                             conv + (y - begin) * width * pixel + first,
                             out_rows,
                             static_cast<int>(std::min<int64_t>(desc.panel, pixel - first)),
                             nullptr,
                             nullptr};
      kernels().gemm_store(args, 0, width);
    }
  }
}

}  // namespace

void Stem::execute(const float* x, int64_t batch, int h, int w, const Parallel& parallel, float* y) const {
  auto ws = workspaces_.borrow();
  if (ws->image_h != h || ws->image_w != w) ws->image = Buffer();  // the zero border belongs to one geometry
  ws->image_h = h;
  ws->image_w = w;
  const int64_t rows = h + 2 * desc_.pad() + 1;
  float* image = ws->image.zeroed_at_least(static_cast<size_t>(rows * padded_row(desc_, w)));
  const int64_t out_floats = static_cast<int64_t>(desc_.out_size(h)) * desc_.out_size(w) * desc_.cout;
  for (int64_t s = 0; s < batch; ++s) {
    pad_image(x + s * StemDesc::kChannels * h * w, h, w, parallel, image);
    if (desc_.pool) {
      convolve_and_pool(image, h, w, parallel, &*ws, y + s * out_floats);
    } else {
      convolve(image, h, w, parallel, &*ws, y + s * out_floats);
    }
  }
}

void Stem::convolve(const float* image, int h, int w, const Parallel& parallel, Workspace* ws, float* y) const {
  const int conv_h = StemDesc::conv_size(h);
  const int64_t row = static_cast<int64_t>(StemDesc::conv_size(w)) * desc_.cout;
  const int tasks = (conv_h + kConvRowsPerTask - 1) / kConvRowsPerTask;
  parallel.for_each(static_cast<size_t>(tasks), [&](size_t task) {
    const int begin = static_cast<int>(task) * kConvRowsPerTask, end = std::min(conv_h, begin + kConvRowsPerTask);
    auto scratch = ws->tasks.borrow();
    conv_rows(desc_, packed_, image, w, begin, end, &*scratch, desc_.cout, y + begin * row);
  });
}

void Stem::convolve_and_pool(const float* image, int h, int w, const Parallel& parallel, Workspace* ws,
                             float* y) const {
  const int conv_h = StemDesc::conv_size(h), conv_w = StemDesc::conv_size(w);
  const int pool_h = StemDesc::pool_size(h), pool_w = StemDesc::pool_size(w);
  const int64_t pixel = conv_pixel(desc_), conv_row = conv_w * pixel;
  const int tasks = (pool_h + kPoolRowsPerTask - 1) / kPoolRowsPerTask;
  parallel.for_each(static_cast<size_t>(tasks), [&](size_t task) {
    const int pool_begin = static_cast<int>(task) * kPoolRowsPerTask;
    const int pool_end = std::min(pool_h, pool_begin + kPoolRowsPerTask);
    const int begin = std::max(0, 2 * pool_begin - 1), end = std::min(conv_h, 2 * pool_end);
    auto scratch = ws->tasks.borrow();
    float* conv = scratch->packed.at_least(static_cast<size_t>((2 * kPoolRowsPerTask + 1) * conv_row));
    conv_rows(desc_, packed_, image, w, begin, end, &*scratch, pixel, conv);
    for (int p = pool_begin; p < pool_end; ++p) {
      const float* rows[3];
      int count = 0;
      for (int r = std::max(0, 2 * p - 1); r < std::min(conv_h, 2 * p + 2); ++r)
        rows[count++] = conv + (r - begin) * conv_row;
      kernels().max_pool_row(rows, count, conv_w, static_cast<int>(pixel), desc_.cout, pool_w,
                             y + static_cast<int64_t>(p) * pool_w * desc_.cout);
    }
  });
}

}  // namespace cpu
}  // namespace laudc
