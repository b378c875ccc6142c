// Indexed GEMM on tensor cores (sm_80 and later): fp16 or TF32 operands, fp32 sums.
//
// Operands come by cp.async, several steps ahead, straight from the rows that the lists name: taps outside the map and
// inputs behind the last arrive as zeros. Shared rows are padded by 16 bytes, which makes every ldmatrix free of bank
// conflicts. Sums leave through shared memory, 16 rows per warp at a time, so that rows are written in whole sectors.
#pragma once

#include "cuda/tiles.cuh"

namespace laudc {
namespace cuda {

template <int kTileM_, int kTileN_, int kWarpsM_, int kWarpsN_, int kStages_>
struct MmaShape {
  static constexpr int kTileM = kTileM_, kTileN = kTileN_;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_, kStages = kStages_;
  static constexpr int kThreads = kWarpsM * kWarpsN * kWarp;
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;
  static constexpr int kRowTiles = kWarpM / 16, kColumnTiles = kWarpN / 8;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0, "warp tiles consist of fragments");
};

// One stage: 64 bytes of every row of a, and as many inputs of every column of w.
template <class T, class Shape>
struct MmaStage {
  static constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  static constexpr int kStep = 4 * kVector;
  static constexpr int kAStride = kStep + kVector;
  static constexpr int kWStride = Shape::kTileN + 8;
  alignas(16) T a[Shape::kTileM * kAStride];
  alignas(16) T w[kStep * kWStride];
};

template <class T, class Shape>
struct MmaShared {
  static constexpr int kStagingStride = Shape::kWarpN + 4;
  union {
    MmaStage<T, Shape> stages[Shape::kStages];
    float staging[Shape::kWarpsM * Shape::kWarpsN][16 * kStagingStride];
  };
  TileIndex<Shape::kTileM, Shape::kTileN> index;
};

#if LAUDC_HAS_MMA

// Copies `count` elements side by side, fewer than a vector, or zeros.
template <class T>
LAUDC_DEVICE void copy_elements(T* to, const T* from, int count, bool valid) {
  const int bytes = count * static_cast<int>(sizeof(T));
  if (bytes == 8) {
    copy_async<8>(to, from, valid);
  } else if (bytes == 4) {
    copy_async<4>(to, from, valid);
  } else {  // a lone half: too small for cp.async
    T zero = {};
    *to = valid ? *from : zero;
  }
}

template <class T, class Shape>
class MmaLoader {
 public:
  typedef MmaStage<T, Shape> Stage;
  typedef TileIndex<Shape::kTileM, Shape::kTileN> Index;

  LAUDC_DEVICE MmaLoader(const GemmParams& p, const Tile& tile, const Index& index, const KSteps& steps, int run)
      : p_(p), tile_(tile), index_(index), steps_(steps), run_(run) {}

  LAUDC_DEVICE void load(int step, Stage* stage) const {
    const int t = step / steps_.per_tap, k0 = step % steps_.per_tap * Stage::kStep;
    for (int i = thread_index(); i < Shape::kTileM * 4; i += Shape::kThreads) load_a(i / 4, i % 4, t, k0, stage);
    const int pieces = Shape::kTileN / run_;
    for (int i = thread_index(); i < Stage::kStep * pieces; i += Shape::kThreads) {
      load_w(i / pieces, i % pieces * run_, t, k0, stage);
    }
  }

 private:
  LAUDC_DEVICE void load_a(int r, int vector, int t, int k0, Stage* stage) const {
    const int k = k0 + vector * Stage::kVector;
    const int pixel = source_pixel(p_, index_, r, t);
    const bool valid = pixel >= 0 && k < tile_.depth;
    const T* from = element<T>(p_.a, valid ? static_cast<int64_t>(pixel) * p_.a_pixel + k : 0);
    T* to = stage->a + r * Stage::kAStride + vector * Stage::kVector;
    if (p_.a_vectors != 0) {
      copy_async<16>(to, from, valid);
      return;
    }
    for (int j = 0; j < Stage::kVector; ++j) {
      const bool inside = valid && k + j < tile_.depth;
      copy_elements(to + j, inside ? from + j : from, 1, inside);
    }
  }

  LAUDC_DEVICE void load_w(int row, int c, int t, int k0, Stage* stage) const {
    const int k = k0 + row;
    const bool valid = k < tile_.depth && index_.weight[c] >= 0;
    const T* from = element<T>(p_.w, valid ? weight_step(p_, tile_, t, k) + index_.weight[c] : 0);
    T* to = stage->w + row * Stage::kWStride + c;
    if (run_ == Stage::kVector) {
      copy_async<16>(to, from, valid);
    } else {
      copy_elements(to, from, run_, valid);
    }
  }

  const GemmParams& p_;
  const Tile& tile_;
  const Index& index_;
  const KSteps& steps_;
  const int run_;
};

// Products of one stage for the warp whose tile begins at (m, n).
template <class Shape>
LAUDC_DEVICE void multiply_stage(const MmaStage<Half, Shape>& stage, int m, int n, int lane,
                                 float sums[Shape::kRowTiles][Shape::kColumnTiles][4]) {
  typedef MmaStage<Half, Shape> Stage;
  LAUDC_UNROLL
  for (int k = 0; k < Stage::kStep; k += 16) {
    uint32_t a[Shape::kRowTiles][4];
    LAUDC_UNROLL
    for (int i = 0; i < Shape::kRowTiles; ++i) {
      load_matrices(&stage.a[(m + i * 16 + lane % 16) * Stage::kAStride + k + lane / 16 * 8], a[i]);
    }
    LAUDC_UNROLL
    for (int j = 0; j < Shape::kColumnTiles; j += 2) {
      uint32_t w[4];
      load_matrices_transposed(&stage.w[(k + lane % 16) * Stage::kWStride + n + j * 8 + lane / 16 * 8], w);
      LAUDC_UNROLL
      for (int i = 0; i < Shape::kRowTiles; ++i) {
        multiply_half_16x8x16(sums[i][j], a[i], w);
        multiply_half_16x8x16(sums[i][j + 1], a[i], w + 2);
      }
    }
  }
}

template <class Shape>
LAUDC_DEVICE void multiply_stage(const MmaStage<float, Shape>& stage, int m, int n, int lane,
                                 float sums[Shape::kRowTiles][Shape::kColumnTiles][4]) {
  typedef MmaStage<float, Shape> Stage;
  LAUDC_UNROLL
  for (int k = 0; k < Stage::kStep; k += 8) {
    uint32_t a[Shape::kRowTiles][4];
    LAUDC_UNROLL
    for (int i = 0; i < Shape::kRowTiles; ++i) {
      // An 8x8 matrix of 16-bit elements is an 8x4 matrix of floats.
      load_matrices(&stage.a[(m + i * 16 + lane % 16) * Stage::kAStride + k + lane / 16 * 4], a[i]);
      LAUDC_UNROLL
      for (int j = 0; j < 4; ++j) a[i][j] = to_tf32(a[i][j]);
    }
    LAUDC_UNROLL
    for (int j = 0; j < Shape::kColumnTiles; ++j) {
      uint32_t w[2];
      LAUDC_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float* at = &stage.w[(k + half * 4 + lane % 4) * Stage::kWStride + n + j * 8 + lane / 4];
        w[half] = to_tf32(*reinterpret_cast<const uint32_t*>(at));
      }
      LAUDC_UNROLL
      for (int i = 0; i < Shape::kRowTiles; ++i) multiply_tf32_16x8x8(sums[i][j], a[i], w);
    }
  }
}

// A warp's sums, 16 rows at a time through its own piece of shared memory.
template <class T, class Shape>
LAUDC_DEVICE void hand_over(const TileSink<T, Shape::kTileM, Shape::kTileN>& sink, float* staging, int m, int n,
                            int lane, const float sums[Shape::kRowTiles][Shape::kColumnTiles][4]) {
  constexpr int kStride = MmaShared<T, Shape>::kStagingStride;
  LAUDC_UNROLL
  for (int i = 0; i < Shape::kRowTiles; ++i) {
    LAUDC_UNROLL
    for (int j = 0; j < Shape::kColumnTiles; ++j) {
      LAUDC_UNROLL
      for (int e = 0; e < 4; ++e) {
        staging[(lane / 4 + e / 2 * 8) * kStride + j * 8 + lane % 4 * 2 + e % 2] = sums[i][j][e];
      }
    }
    sync_warp();
    for (int v = lane; v < 16 * Shape::kWarpN / 4; v += kWarp) {
      const int r = v / (Shape::kWarpN / 4), c = v % (Shape::kWarpN / 4) * 4;
      float four[4];
      load4(&staging[r * kStride + c], four);
      sink.take(m + i * 16 + r, n + c, four);
    }
    sync_warp();
  }
}

#endif  // LAUDC_HAS_MMA

template <class T, class Shape>
LAUDC_KERNEL(Shape::kThreads, 1)
gemm_mma(const GemmParams p) {
#if LAUDC_HAS_MMA
  typedef MmaShared<T, Shape> Shared;
  typedef MmaStage<T, Shape> Stage;
  LAUDC_DYNAMIC_SHARED(memory);
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  const int thread = thread_index(), lane = thread % kWarp, warp = thread / kWarp;
  const int m = warp / Shape::kWarpsN * Shape::kWarpM, n = warp % Shape::kWarpsN * Shape::kWarpN;
  const int run = weight_run(p, Stage::kVector);
  const TileList<Shape::kTileM, Shape::kTileN> tiles(p);
  for (int at = block_index(); at < tiles.count(); at += grid_size()) {
    Tile tile;
    if (!tiles.get(at, &tile)) continue;
    TileSetup<Shape::kTileM, Shape::kTileN>(p, tile, &shared.index).fill(thread, Shape::kThreads);
    sync_block();

    const KSteps steps = k_steps<Stage::kStep>(p, tile);
    const MmaLoader<T, Shape> loader(p, tile, shared.index, steps, run);
    float sums[Shape::kRowTiles][Shape::kColumnTiles][4] = {};
    for (int s = 0; s < Shape::kStages - 1; ++s) {
      if (steps.begin + s < steps.end) loader.load(steps.begin + s, &shared.stages[s]);
      copy_commit();
    }
    int stage = 0;
    for (int s = steps.begin; s < steps.end; ++s) {
      copy_wait<Shape::kStages - 2>();
      sync_block();  // everybody's part of this step is there, and the stage before it has been used up
      const int ahead = s + Shape::kStages - 1;
      if (ahead < steps.end) loader.load(ahead, &shared.stages[(stage + Shape::kStages - 1) % Shape::kStages]);
      copy_commit();
      multiply_stage<Shape>(shared.stages[stage], m, n, lane, sums);
      stage = (stage + 1) % Shape::kStages;
    }
    copy_wait<0>();
    sync_block();  // the stages become the staging area

    const TileSink<T, Shape::kTileM, Shape::kTileN> sink(p, tile, &shared.index);
    hand_over<T, Shape>(sink, shared.staging[warp], m, n, lane, sums);
    sink.close(thread, Shape::kThreads);
    sync_block();
  }
#endif
}

}  // namespace cuda
}  // namespace laudc
