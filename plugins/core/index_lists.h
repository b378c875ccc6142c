// From mask decisions to the row lists the kernels walk.
//
// Pixels are numbered row-major. A "row" of an indexed GEMM is one pixel (or one Winograd tile).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace laudc {

// Which borders of the input a 3x3 window at output (y, x) crosses: bit 0 top, 1 bottom, 2 left, 3 right.
int border_class(int y, int x, int stride, int hin, int win);

// PyTorch's nearest interpolation from `from` cells to `to` pixels: floor(i * (float)from / to), clamped.
std::vector<int> nearest_lut(int from, int to);

// Adaptive average pooling window i of n over `length`: [begin, end).
inline int window_begin(int i, int length, int n) { return static_cast<int>(static_cast<int64_t>(i) * length / n); }
inline int window_end(int i, int length, int n) {
  return static_cast<int>((static_cast<int64_t>(i + 1) * length + n - 1) / n);
}

// keep[mh * mw] -> map[ho * wo], by the two LUTs. `map` is OR-ed into, so that the union over mask groups is one call
// per group on a cleared map.
void upsample_or(const uint8_t* keep, int mask_w, const std::vector<int>& row_lut, const std::vector<int>& col_lut,
                 uint8_t* map);

// Grows a set of output pixels to whole 2x2 tiles (of the grid that starts at pixel 0,0).
void grow_to_tiles(const uint8_t* map, int h, int w, uint8_t* grown);

// The input pixels that 3x3 windows of the set pixels read: {s*y-1 .. s*y+1} x {s*x-1 .. s*x+1}, clipped.
// `scratch` holds hin * wout bytes.
void dilate(const uint8_t* map, int hout, int wout, int stride, int hin, int win, uint8_t* scratch, uint8_t* out);

// Appends the indices of the non-zero bytes.
void append_set(const uint8_t* map, int count, std::vector<int32_t>* out);

}  // namespace laudc
