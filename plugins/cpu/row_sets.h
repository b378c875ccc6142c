// Which rows each convolution of a block computes for the masks at hand, as offset lists for the kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "core/block_desc.h"

namespace laudc {
namespace cpu {

// Where the maps of a block live in memory (floats).
struct MapStrides {
  int64_t in_pixel;  // block input
  int64_t h1_pixel;  // conv1's output, zero-bordered: (hin + 3) x (win + 3) pixels per sample
  int64_t h1_row;
  int64_t h1_sample;
  int64_t h2_pixel;   // conv2's output, compact: one entry per computed pixel
  int64_t out_pixel;  // block output
};

MapStrides map_strides(const BlockDesc& desc, int64_t in_pixel);

// Fixed per block.
struct BlockGeometry {
  std::vector<int> row_lut, col_lut;    // output pixel -> mask cell
  std::vector<uint8_t> border_classes;  // per output pixel; empty without channel masks
  explicit BlockGeometry(const BlockDesc& desc);
};

struct SampleRange {
  int begin, end;
};

struct RowSets {
  // Parallel lists: offset read, offset written.
  std::vector<int32_t> conv1_in, conv1_out;
  std::vector<int32_t> conv2_in;           // direct
  std::vector<uint8_t> conv2_class;        // direct, channel mode
  std::vector<int32_t> tile_in, tile_out;  // Winograd; tile_out has 4 per tile
  std::vector<uint8_t> tile_class;         // 4 per tile, channel mode
  struct Conv3 {
    std::vector<int32_t> in, out;
    std::vector<int32_t> dropped;  // projected pixels another group keeps but this one does not: they still need a ReLU
    std::vector<SampleRange> samples;
  };
  std::vector<Conv3> conv3;                      // per mask group (one without)
  std::vector<int32_t> proj_in[2], proj_out[2];  // [0] pixels no mask group keeps, [1] the others
  int64_t in_pixel = 0;                          // input stride the lists were made for
  int64_t h2_rows = 0;                           // entries of h2 given out so far

  // Per sample: ranges of the lists above.
  std::vector<SampleRange> conv1_samples, conv2_samples, tile_samples;

  void clear(const BlockDesc& desc);
};

// Working maps, reused from block to block.
struct RowSetScratch {
  std::vector<uint8_t> wanted, grown, needed, rows, group;
  std::vector<int32_t> h2_of;  // output pixel -> offset in h2
};

// Appends the rows of sample `sample`. `keep` is [mask_groups][mask_h][mask_w], ignored without a spatial mask.
void append_rows(const BlockDesc& desc, const BlockGeometry& geometry, const MapStrides& strides, int sample,
                 const uint8_t* keep, RowSetScratch* scratch, RowSets* out);

}  // namespace cpu
}  // namespace laudc
