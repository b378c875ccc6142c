// Indexed GEMM on ordinary fp32 multiply-adds: every GPU has them, and nothing is rounded on the way.
//
// Each thread holds 8 x 8 sums, as two halves of 4 rows and 4 columns half a tile apart, so that it reads shared memory
// in 16-byte words without bank conflicts. The next step's operands travel through registers while this step
// multiplies.
#pragma once

#include "cuda/tiles.cuh"

namespace laudc {
namespace cuda {

template <int kTileM_, int kTileN_>
struct SimtShape {
  static constexpr int kTileM = kTileM_, kTileN = kTileN_;
  static constexpr int kThreads = kTileM * kTileN / 64;
  static constexpr int kStep = 8;
  static constexpr int kAVectors = kTileM * kStep / 4 / kThreads;
  static constexpr int kWVectors = kTileN * kStep / 4 / kThreads;
  static_assert(kAVectors >= 1 && kWVectors >= 1, "every thread loads");
  static_assert(kAVectors * kThreads * 4 == kTileM * kStep && kWVectors * kThreads * 4 == kTileN * kStep, "evenly");
};

template <class Shape>
struct SimtShared {
  TileIndex<Shape::kTileM, Shape::kTileN> index;
  alignas(16) float a[2][Shape::kStep][Shape::kTileM + 4];
  alignas(16) float w[2][Shape::kStep][Shape::kTileN];
};

// Four elements of operand a: inputs k .. k + 3 of row r.
template <class TA, class Index>
LAUDC_DEVICE void load_a(const GemmParams& p, const Tile& tile, const Index& index, int r, int t, int k, float to[4]) {
  const int pixel = source_pixel(p, index, r, t);
  const int count = pixel < 0 ? 0 : tile.depth - k;
  const TA* from = element<TA>(p.a, static_cast<int64_t>(pixel) * p.a_pixel + k);
  if (p.a_vectors != 0 && count > 0) {
    load4(from, to);
  } else {
    load_some(from, count, to);
  }
}

// Four weights: columns c .. c + 3 of the tile, input k.
template <class TW, class Index>
LAUDC_DEVICE void load_w(const GemmParams& p, const Tile& tile, const Index& index, int run, int c, int t, int k,
                         float to[4]) {
  LAUDC_UNROLL
  for (int j = 0; j < 4; ++j) to[j] = 0.0f;
  if (k >= tile.depth) return;
  const TW* from = element<TW>(p.w, weight_step(p, tile, t, k));
  if (run >= 4) {
    if (index.weight[c] >= 0) load4(from + index.weight[c], to);
    return;
  }
  LAUDC_UNROLL
  for (int j = 0; j < 4; ++j) {
    if (index.weight[c + j] >= 0) to[j] = to_float(from[index.weight[c + j]]);
  }
}

// One step's operands on their way to shared memory.
template <class TA, class TW, class Shape>
class SimtStep {
 public:
  typedef SimtShared<Shape> Shared;

  LAUDC_DEVICE void load(const GemmParams& p, const Tile& tile, const Shared& shared, int run, const KSteps& steps,
                         int step, int thread) {
    const int t = step / steps.per_tap, k0 = step % steps.per_tap * Shape::kStep;
    LAUDC_UNROLL
    for (int v = 0; v < Shape::kAVectors; ++v) {
      const int i = thread + v * Shape::kThreads;
      load_a<TA>(p, tile, shared.index, i / 2, t, k0 + i % 2 * 4, a_[v]);
    }
    LAUDC_UNROLL
    for (int v = 0; v < Shape::kWVectors; ++v) {
      const int i = thread + v * Shape::kThreads;
      const int k = k0 + i / (Shape::kTileN / 4), c = i % (Shape::kTileN / 4) * 4;
      load_w<TW>(p, tile, shared.index, run, c, t, k, w_[v]);
    }
  }

  LAUDC_DEVICE void store(Shared* shared, int buffer, int thread) const {
    LAUDC_UNROLL
    for (int v = 0; v < Shape::kAVectors; ++v) {
      const int i = thread + v * Shape::kThreads;
      LAUDC_UNROLL
      for (int j = 0; j < 4; ++j) shared->a[buffer][i % 2 * 4 + j][i / 2] = a_[v][j];
    }
    LAUDC_UNROLL
    for (int v = 0; v < Shape::kWVectors; ++v) {
      const int i = thread + v * Shape::kThreads;
      store4(w_[v], &shared->w[buffer][i / (Shape::kTileN / 4)][i % (Shape::kTileN / 4) * 4]);
    }
  }

 private:
  float a_[Shape::kAVectors][4], w_[Shape::kWVectors][4];
};

template <class Shape>
LAUDC_DEVICE void multiply_step(const SimtShared<Shape>& shared, int buffer, int row, int column, float sums[8][8]) {
  LAUDC_UNROLL
  for (int k = 0; k < Shape::kStep; ++k) {
    float a[8], w[8];
    load4(&shared.a[buffer][k][row], a);
    load4(&shared.a[buffer][k][row + Shape::kTileM / 2], a + 4);
    load4(&shared.w[buffer][k][column], w);
    load4(&shared.w[buffer][k][column + Shape::kTileN / 2], w + 4);
    LAUDC_UNROLL
    for (int i = 0; i < 8; ++i) {
      LAUDC_UNROLL
      for (int j = 0; j < 8; ++j) sums[i][j] = fused(a[i], w[j], sums[i][j]);
    }
  }
}

template <class TA, class TW, class TOut, class Shape>
LAUDC_KERNEL(Shape::kThreads, 256 / Shape::kThreads)
gemm_simt(const GemmParams p) {
  LAUDC_SHARED SimtShared<Shape> shared;
  const int thread = thread_index();
  const int row = thread / (Shape::kTileN / 8) * 4, column = thread % (Shape::kTileN / 8) * 4;
  const int run = weight_run(p, 4);
  const TileList<Shape::kTileM, Shape::kTileN> tiles(p);
  for (int at = block_index(); at < tiles.count(); at += grid_size()) {
    Tile tile;
    if (!tiles.get(at, &tile)) continue;
    TileSetup<Shape::kTileM, Shape::kTileN>(p, tile, &shared.index).fill(thread, Shape::kThreads);
    sync_block();

    const KSteps steps = k_steps<Shape::kStep>(p, tile);
    SimtStep<TA, TW, Shape> step;
    float sums[8][8] = {};
    if (steps.begin < steps.end) {
      step.load(p, tile, shared, run, steps, steps.begin, thread);
      step.store(&shared, 0, thread);
    }
    sync_block();
    int buffer = 0;
    for (int s = steps.begin; s < steps.end; ++s) {
      const bool more = s + 1 < steps.end;
      if (more) step.load(p, tile, shared, run, steps, s + 1, thread);
      multiply_step<Shape>(shared, buffer, row, column, sums);
      if (more) step.store(&shared, 1 - buffer, thread);
      sync_block();
      buffer = 1 - buffer;
    }

    const TileSink<TOut, Shape::kTileM, Shape::kTileN> sink(p, tile, &shared.index);
    LAUDC_UNROLL
    for (int i = 0; i < 8; ++i) {
      const int r = row + i % 4 + i / 4 * (Shape::kTileM / 2);
      sink.take(r, column, sums[i]);
      sink.take(r, column + Shape::kTileN / 2, sums[i] + 4);
    }
    sink.close(thread, Shape::kThreads);
    sync_block();  // the next tile's rows go where these were
  }
}

}  // namespace cuda
}  // namespace laudc
