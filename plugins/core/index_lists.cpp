#include "core/index_lists.h"

#include <cstring>

namespace laudc {

int border_class(int y, int x, int stride, int hin, int win) {
  int cls = 0;
  if (y * stride - 1 < 0) cls |= 1;
  if (y * stride + 1 >= hin) cls |= 2;
  if (x * stride - 1 < 0) cls |= 4;
  if (x * stride + 1 >= win) cls |= 8;
  return cls;
}

std::vector<int> nearest_lut(int from, int to) {
  std::vector<int> lut(static_cast<size_t>(to));
  // PyTorch computes the scale and the product in float32; doing the same keeps every index identical.
  const float scale = static_cast<float>(from) / static_cast<float>(to);
  for (int i = 0; i < to; ++i) {
    const int index = static_cast<int>(static_cast<float>(i) * scale);
    lut[static_cast<size_t>(i)] = index < from ? index : from - 1;
  }
  return lut;
}

void upsample_or(const uint8_t* keep, int mask_w, const std::vector<int>& row_lut, const std::vector<int>& col_lut,
                 uint8_t* map) {
  const size_t wo = col_lut.size();
  for (size_t y = 0; y < row_lut.size(); ++y) {
    const uint8_t* cells = keep + static_cast<size_t>(row_lut[y]) * static_cast<size_t>(mask_w);
    for (size_t x = 0; x < wo; ++x) map[y * wo + x] |= cells[col_lut[x]];
  }
}

void grow_to_tiles(const uint8_t* map, int h, int w, uint8_t* grown) {
  for (int y = 0; y < h; y += 2) {
    const bool two_rows = y + 1 < h;
    const uint8_t* top = map + static_cast<size_t>(y) * w;
    const uint8_t* bottom = two_rows ? top + w : top;
    uint8_t* out_top = grown + static_cast<size_t>(y) * w;
    uint8_t* out_bottom = two_rows ? out_top + w : out_top;
    for (int x = 0; x < w; x += 2) {
      const int right = x + 1 < w ? x + 1 : x;
      const uint8_t any = top[x] | top[right] | bottom[x] | bottom[right];
      out_top[x] = out_top[right] = out_bottom[x] = out_bottom[right] = any;
    }
  }
}

void dilate(const uint8_t* map, int hout, int wout, int stride, int hin, int win, uint8_t* scratch, uint8_t* out) {
  const size_t wo = static_cast<size_t>(wout);
  std::memset(scratch, 0, static_cast<size_t>(hin) * wo);
  for (int y = 0; y < hout; ++y) {
    const uint8_t* row = map + static_cast<size_t>(y) * wo;
    for (int dy = -1; dy <= 1; ++dy) {
      const int target = y * stride + dy;
      if (target < 0 || target >= hin) continue;
      uint8_t* to = scratch + static_cast<size_t>(target) * wo;
      for (size_t x = 0; x < wo; ++x) to[x] |= row[x];
    }
  }
  std::memset(out, 0, static_cast<size_t>(hin) * static_cast<size_t>(win));
  for (int y = 0; y < hin; ++y) {
    const uint8_t* row = scratch + static_cast<size_t>(y) * wo;
    uint8_t* to = out + static_cast<size_t>(y) * win;
    for (int x = 0; x < wout; ++x) {
      if (!row[x]) continue;
      const int centre = x * stride;
      if (centre > 0) to[centre - 1] = 1;
      to[centre] = 1;
      if (centre + 1 < win) to[centre + 1] = 1;
    }
  }
}

void append_set(const uint8_t* map, int count, std::vector<int32_t>* out) {
  for (int i = 0; i < count; ++i) {
    if (map[i]) out->push_back(i);
  }
}

}  // namespace laudc
