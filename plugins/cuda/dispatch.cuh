// From kinds and shapes to kernels. `Launcher` has
//   int start(void (*kernel)(Params), const Params&, int grid, int threads, size_t shared_bytes)
#pragma once

#include <type_traits>

#include "cuda/attention.cuh"
#include "cuda/convert.cuh"
#include "cuda/excitation.cuh"
#include "cuda/gemm_mma.cuh"
#include "cuda/gemm_simt.cuh"
#include "cuda/grouped_conv.cuh"
#include "cuda/launch.h"
#include "cuda/masker.cuh"
#include "cuda/shapes.h"
#include "cuda/tokens.cuh"

namespace laudc {
namespace cuda {

inline bool uses_mma(GemmKind kind) {
  return kind != GemmKind::kFloat && kind != GemmKind::kHalf && kind != GemmKind::kHalfFloat;
}

// Multiply-add kernels come in two shapes, tensor-core kernels in three.
TileSize tile_size(GemmKind kind, TileShape shape) {
  if (!uses_mma(kind)) {
    return shape == TileShape::kSmall ? TileSize{64, 64, SimtSmall::kStep, SimtSmall::kThreads}
                                      : TileSize{128, 64, SimtTall::kStep, SimtTall::kThreads};
  }
  const int step = kind == GemmKind::kTf32 ? MmaStage<float, MmaSmall>::kStep : MmaStage<Half, MmaSmall>::kStep;
  if (shape == TileShape::kSmall) return {64, 64, step, MmaSmall::kThreads};
  if (shape == TileShape::kTall) return {128, 64, step, MmaTall::kThreads};
  return {128, 128, step, MmaBig::kThreads};
}

template <class TA, class TW, class TOut, class Launcher>
int start_simt(Launcher& launcher, TileShape shape, const GemmParams& params, int grid) {
  if (shape == TileShape::kSmall) {
    return launcher.start(gemm_simt<TA, TW, TOut, SimtSmall>, params, grid, SimtSmall::kThreads, 0);
  }
  return launcher.start(gemm_simt<TA, TW, TOut, SimtTall>, params, grid, SimtTall::kThreads, 0);
}

template <class T, class Atom, class Shape, class Launcher>
int start_mma_shape(Launcher& launcher, const GemmParams& params, int grid) {
  return launcher.start(gemm_mma<T, Shape, Atom>, params, grid, Shape::kThreads, sizeof(MmaShared<T, Shape, Atom>));
}

template <class T, class Atom, class Launcher>
int start_mma(Launcher& launcher, TileShape shape, const GemmParams& params, int grid) {
  switch (shape) {
    case TileShape::kSmall:
      return start_mma_shape<T, Atom, MmaSmall>(launcher, params, grid);
    case TileShape::kTall:
      return start_mma_shape<T, Atom, MmaTall>(launcher, params, grid);
    default:
      return start_mma_shape<T, Atom, MmaBig>(launcher, params, grid);
  }
}

template <class Launcher>
int start_gemm(Launcher& launcher, GemmKind kind, TileShape shape, const GemmParams& params, int grid) {
  switch (kind) {
    case GemmKind::kFloat:
      return start_simt<float, float, float>(launcher, shape, params, grid);
    case GemmKind::kHalf:
      return start_simt<Half, Half, Half>(launcher, shape, params, grid);
    case GemmKind::kHalfFloat:
      return launcher.start(gemm_simt<Half, float, float, SimtSmall>, params, grid, SimtSmall::kThreads, 0);
    case GemmKind::kTf32:
      return start_mma<float, AmpereTf32>(launcher, shape, params, grid);
    case GemmKind::kHalfMma:
      return start_mma<Half, AmpereHalf>(launcher, shape, params, grid);
    case GemmKind::kHalfTuring:
      return start_mma<Half, TuringHalf>(launcher, shape, params, grid);
    default:
      return start_mma<Half, VoltaHalf>(launcher, shape, params, grid);
  }
}

template <class Launcher>
int start_masker(Launcher& launcher, bool half_map, bool half_features, const MaskerParams& params) {
  const int grid = params.samples * params.chunks;
  if (!half_map) return launcher.start(masker<float, float>, params, grid, kMaskerThreads, 0);
  if (half_features) return launcher.start(masker<Half, Half>, params, grid, kMaskerThreads, 0);
  return launcher.start(masker<Half, float>, params, grid, kMaskerThreads, 0);
}

inline int blocks_for(int64_t units, int most_blocks) {
  return static_cast<int>(units < most_blocks ? units : most_blocks);
}

template <class T, class Launcher>
int start_grouped_of(Launcher& launcher, const GroupedParams& params, int grid) {
  if (params.group_width <= kNarrowGroup) {
    return launcher.start(grouped_conv<T, kNarrowGroup>, params, grid, kGroupedThreads, 0);
  }
  return launcher.start(grouped_conv<T, kWideGroup>, params, grid, kGroupedThreads, 0);
}

template <class Launcher>
int start_grouped(Launcher& launcher, bool half, GroupedParams params, int most_blocks) {
  params.tile_rows = 4 * (kGroupedThreads / ((params.group_width + 3) / 4));
  const int64_t m_tiles = (params.rows_max + params.tile_rows - 1) / params.tile_rows;
  const int grid = blocks_for(params.segments * m_tiles * params.groups, most_blocks);
  return half ? start_grouped_of<Half>(launcher, params, grid) : start_grouped_of<float>(launcher, params, grid);
}

template <class Launcher>
int start_excite(Launcher& launcher, bool half, const ExciteParams& params) {
  const int grid = params.samples * params.chunks;
  return half ? launcher.start(excite<Half>, params, grid, kExciteThreads, 0)
              : launcher.start(excite<float>, params, grid, kExciteThreads, 0);
}

template <class Launcher>
int start_scale(Launcher& launcher, bool half, const ScaleParams& params, int most_blocks) {
  const int64_t quads = static_cast<int64_t>(params.segments) * params.rows_max * ((params.width + 3) / 4);
  const int grid = blocks_for((quads + kScaleThreads - 1) / kScaleThreads, most_blocks);
  return half ? launcher.start(scale_rows<Half>, params, grid, kScaleThreads, 0)
              : launcher.start(scale_rows<float>, params, grid, kScaleThreads, 0);
}

template <class Launcher>
int start_choose(Launcher& launcher, bool half, const ChooseParams& params) {
  const int grid = params.samples * params.chunks;
  return half ? launcher.start(choose<Half>, params, grid, kListThreads, 0)
              : launcher.start(choose<float>, params, grid, kListThreads, 0);
}

template <class Launcher>
int start_normalise(Launcher& launcher, bool half, const NormParams& params, int most_blocks) {
  constexpr int kRows = kNormThreads / kWarp;
  const int64_t rows = static_cast<int64_t>(params.segments) * params.rows_max;
  const int grid = blocks_for((rows + kRows - 1) / kRows, most_blocks);
  return half ? launcher.start(normalise<Half>, params, grid, kNormThreads, 0)
              : launcher.start(normalise<float>, params, grid, kNormThreads, 0);
}

template <class T, class Shape, class Launcher>
int start_attention_of(Launcher& launcher, const AttentionParams& params, int most_blocks) {
  const int64_t tiles = (params.tokens + Shape::kTile - 1) / Shape::kTile;
  const int grid = blocks_for(params.samples * params.heads * tiles, most_blocks);
  return launcher.start(attention<T, Shape>, params, grid, kAttentionThreads, 0);
}

template <class Launcher>
int start_attention(Launcher& launcher, bool half, const AttentionParams& params, int most_blocks) {
  const bool narrow = params.head_dim <= NarrowHeads::kFeatures;
  if (half && narrow) return start_attention_of<Half, NarrowHeads>(launcher, params, most_blocks);
  if (half) return start_attention_of<Half, WideHeads>(launcher, params, most_blocks);
  if (narrow) return start_attention_of<float, NarrowHeads>(launcher, params, most_blocks);
  return start_attention_of<float, WideHeads>(launcher, params, most_blocks);
}

template <class Launcher>
int start_convert(Launcher& launcher, bool half, const ConvertParams& params, int grid) {
  if (half) return launcher.start(convert<Half>, params, grid, kConvertThreads, 0);
  return launcher.start(convert<float>, params, grid, kConvertThreads, 0);
}

}  // namespace cuda
}  // namespace laudc
