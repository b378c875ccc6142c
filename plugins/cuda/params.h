// What the launches of a run pass to the kernels: plain records, shared by host and device.
#pragma once

#include "cuda/types.h"

namespace laudc {
namespace cuda {

// Which pixel of the input a row of an indexed GEMM reads. `v` is the row's pixel: list[i], or i where there is no
// list.
enum class RowSource : int {
  kCompact,  // row i of a compact operand
  kPixel,    // pixel v
  kStrided,  // the input pixel under output pixel v (projection)
  kTaps,     // the 3x3 window around output pixel v
};

enum class RowTarget : int { kCompact, kPixel };

enum class Epilogue : int {
  kClamp,    // out = max(acc + bias, lo)
  kRelu,     // out = max(acc + bias, 0)
  kProject,  // out = acc + bias; with a ReLU where conv3 will add nothing, which `wanted` says
  kAddRelu,  // out = max(out + acc + bias, 0); mask groups that drop the pixel add nothing
  kAdd,      // out = out + acc + bias
  kGelu,     // out = gelu(acc + bias)
};

// One convolution over a list of rows:
//   out[target(i)][n] = epilogue(sum over taps t and inputs k of a[source(i, t)][k] * w[t][kidx(k)][nidx(n)])
// With a channel mask every sample is a segment of its own: its rows, its kept input and output channels.
struct GemmParams {
  // Rows. `segments` times up to `rows_max` of them.
  const int32_t* list;   // [segments][rows_max] or null
  const int* row_count;  // [segments] or null: rows_max
  int segments, rows_max;
  RowSource source;
  RowTarget target;
  int hin, win, hout, wout, stride;

  // Operand a: [pixels][a_pixel].
  const void* a;
  int a_pixel;
  int a_vectors;  // pixels start at vector boundaries, and what follows the last input in its vector is zero

  // Weights: panels of `panel` columns, [panel][taps * depth][panel columns], as core/packed_layout.h describes them.
  const void* w;
  int taps, depth, columns, panel;
  int w_parts;      // equal shares of the columns, each with panels of its own
  int w_part_size;  // elements of a share
  int n_run;        // columns come in aligned runs of this many neighbours (a power of two)

  // Channel mask: kept inputs and outputs of each segment, in order; null: all.
  const int32_t* k_kept;  // [segments][kept_stride]
  const int32_t* n_kept;
  const int* k_count;  // [segments]
  const int* n_count;
  int kept_stride;

  // Epilogue.
  Epilogue epilogue;
  void* out;
  int out_pixel;
  int out_vectors;        // pixels start at vector boundaries
  int out_padded;         // columns are written up to a multiple of 8, so that consumers may read whole vectors
  const float* bias;      // [columns] or, by border class, [16][bias_stride]
  int bias_stride;        // 0: no classes
  const float* lo;        // kClamp
  const uint8_t* wanted;  // kProject: [pixels], whether conv3 will add to the pixel; null: it will
  const uint8_t* keep;    // kAddRelu with several mask groups: [samples][keep_stride], cells of group after group
  int keep_stride, mask_groups, mask_h, mask_w;
  float row_scale, col_scale;  // float(mask) / float(map), as nearest interpolation computes them

  // Tiles of one m x n position split along k; partial sums meet in `partials`.
  int splits;
  float* partials;  // [tiles][splits][tile floats]
  int* tickets;     // [tiles], zero between launches
};

// The grouped 3x3 convolution of RegNetY:
//   out[v][i] = max(bias[n] + sum over taps t and the kept inputs k of n's group of a[source(v, t)][k] * w[g][t][k][n],
//   0)
// where n is the i-th kept channel. Input and output pixels hold the kept channels one after another; the same channels
// are kept on both sides.
struct GroupedParams {
  const int32_t* list;   // [segments][rows_max] output pixels, or null: all, one segment after another
  const int* row_count;  // [segments] or null: rows_max
  int segments, rows_max;
  int hin, win, hout, wout, stride;
  int groups, group_width, group_panel;
  int tile_rows;  // rows that a tile of a whole group has; one of fewer channels has no fewer

  const void* a;  // [samples * hin * win][pixel]
  void* out;      // [samples * hout * wout][pixel], zeros behind the last kept channel up to a multiple of 8
  int pixel;      // elements; whole vectors
  const void* w;  // [groups][9 * group_width][group_panel]
  const float* bias;

  const int32_t* kept;  // [segments][kept_stride] or null: all
  const int* kept_count;
  int kept_stride;
};

// Squeeze-excitation: from a map to a factor for each kept channel.
struct ExciteParams {
  int samples, chunks, chunk_pixels;  // grid: samples * chunks
  const void* map;                    // [samples * pixels][pixel], kept channels one after another
  int pixels, pixel, width;
  const uint8_t* wanted;    // [samples * pixels]: pixels to average over; null: all
  const int* wanted_count;  // [samples]; null: no spatial mask. A sample without any is left out
  const int32_t* kept;      // [samples][width] or null: all
  const int* kept_count;
  const float *squeeze_w, *squeeze_b;  // width x squeeze in panels
  const float *excite_w, *excite_b;    // squeeze x width in panels
  int squeeze, panel;
  float* sums;      // [samples][chunks][width]
  float* squeezed;  // [samples][squeeze]
  float* factors;   // [samples][width], by place among the kept
  int* tickets;     // [samples], zero at launch
};

// map[v][i] *= factors[sample][i], for the pixels of a list.
struct ScaleParams {
  const int32_t* list;  // as in GroupedParams
  const int* row_count;
  int segments, rows_max;
  int pixels;  // of a sample
  void* map;
  int pixel, width;
  const int* kept_count;  // [samples] or null: width
  const float* factors;   // [samples][width]
};

// A matrix of weights in the form and the type that kernels read: panels. From panels, or from [columns][depth].
struct ConvertParams {
  const float* from;
  void* to;
  int64_t count;  // elements written
  int from_rows;  // 1: [columns][depth]
  int depth, columns, panel;
};

// One block's decisions and row lists.
struct MaskerParams {
  int samples, chunks, chunk_pixels;  // grid: samples * chunks
  int hin, win, hout, wout, stride;

  // Spatial masker: a dot product per pixel and group, then window means.
  const void* x;  // [samples * hin * win][x_pixel]
  int x_pixel, cin;
  int x_vectors;
  const float *spatial_w, *spatial_b;
  int mask_groups, mask_h, mask_w;
  float row_scale, col_scale;
  float* scores;  // [mask_groups][samples * hin * win]

  // Channel masker: mean of features (the input, or the hidden map of the Conv masker), then one or two layers.
  const void* features;  // [samples * hin * win][feature_pixel]; null: no channel mask
  int feature_pixel, feature_count;
  int hidden;                        // > 0: Mlp
  const float *hidden_w, *hidden_b;  // [hidden][feature_count]
  const float *channel_w, *channel_b;
  int channel_groups, channels_per_group;
  float* partial_sums;   // [samples][chunks][feature_count]
  float* mean;           // [samples][feature_count]
  float* hidden_values;  // [samples][hidden]

  // Results.
  int margin_count;  // of this block
  float* margins;    // [samples][margins_stride], may be null
  int margins_stride;
  uint8_t* keep;                     // [samples][margin_count]
  uint8_t* wanted;                   // [samples * hout * wout]
  int per_sample_lists;              // each sample its own segment instead of one list for all
  int32_t *conv1_list, *conv2_list;  // [samples * hin * win], [samples * hout * wout]; null without a spatial mask
  int *conv1_count, *conv2_count;    // [samples] or [1], zero at launch
  // Squeeze-excitation over all positions: the middle convolution makes every output pixel of the samples that keep
  // some, and the first one every input pixel. Null: both make what the last convolution reads.
  int32_t* pooled_list;  // [samples * hout * wout]
  int* pooled_count;     // [samples] or [1], zero at launch
  int* wanted_count;     // [samples]: output pixels that some mask group keeps; may be null
  int32_t* kept;         // [samples][kept_stride]
  int* kept_count;       // [samples]
  int kept_stride;
  int32_t* counts;  // [samples][counts_stride], may be null
  int counts_stride;
  int* tickets;  // [samples], zero at launch
};

}  // namespace cuda
}  // namespace laudc
