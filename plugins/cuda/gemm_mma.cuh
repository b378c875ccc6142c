// Indexed GEMM on tensor cores: fp16 or TF32 operands, fp32 sums. The products are those of an atom (mma_atoms.cuh).
//
// Operands come several steps ahead, straight from the rows that the lists name: taps outside the map and inputs behind
// the last arrive as zeros. From sm_80 on they come by cp.async; before, the next step's pass through registers while
// this step multiplies. Shared rows are padded by 16 bytes, which makes every ldmatrix free of bank conflicts. Sums
// leave through shared memory, 16 rows per warp at a time, so that rows are written in whole sectors.
#pragma once

#include "cuda/mma_atoms.cuh"
#include "cuda/tiles.cuh"

namespace laudc {
namespace cuda {

template <int kTileM_, int kTileN_, int kWarpsM_, int kWarpsN_, int kStages_>
struct MmaShape {
  static constexpr int kTileM = kTileM_, kTileN = kTileN_;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_, kStages = kStages_;
  static constexpr int kThreads = kWarpsM * kWarpsN * kWarp;
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;
  static constexpr int kRowTiles = kWarpM / 16, kColumnTiles = kWarpN / 16;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0, "warp tiles consist of fragments");
};

// One stage: 64 bytes of every row of a, and as many inputs of every column of w.
template <class T, class Shape>
struct MmaStage {
  static constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  static constexpr int kStep = 4 * kVector;
  static constexpr int kAStride = kStep + kVector;
  static constexpr int kWStride = Shape::kTileN + 8;
  static constexpr int kWRow = Shape::kTileN / kVector;  // vectors
  // Vectors that each thread brings.
  static constexpr int kAVectors = Shape::kTileM * 4 / Shape::kThreads;
  static constexpr int kWVectors = kStep * kWRow / Shape::kThreads;
  static_assert(kAVectors * Shape::kThreads == Shape::kTileM * 4, "evenly");
  static_assert(kWVectors * Shape::kThreads == kStep * kWRow, "evenly");
  alignas(16) T a[Shape::kTileM * kAStride];
  alignas(16) T w[kStep * kWStride];

  LAUDC_DEVICE T* a_vector(int i) { return a + i / 4 * kAStride + i % 4 * kVector; }
  LAUDC_DEVICE T* w_vector(int i) { return w + i / kWRow * kWStride + i % kWRow * kVector; }
};

template <class T, class Shape, class Atom>
struct MmaShared {
  static constexpr int kStages = Atom::kBackgroundCopies ? Shape::kStages : 2;
  static constexpr int kStagingStride = Shape::kWarpN + 4;
  union {
    MmaStage<T, Shape> stages[kStages];
    float staging[Shape::kWarpsM * Shape::kWarpsN][16 * kStagingStride];
  };
  TileIndex<Shape::kTileM, Shape::kTileN> index;
};

// Operands on their way to a stage in the background.
template <class T, class Shape>
class BackgroundCopies {
 public:
  LAUDC_DEVICE void vector(int, T* to, const T* from, bool valid) { copy_async<16>(to, from, valid); }

  // `count` elements side by side, fewer than a vector.
  LAUDC_DEVICE void elements(T* to, const T* from, int count, bool valid) {
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

  LAUDC_DEVICE void close() { copy_commit(); }
  LAUDC_DEVICE void arrive(int, T*) const {}
  // Until all but the newest kPending steps are there.
  template <int kPending>
  LAUDC_DEVICE void wait() const {
    copy_wait<kPending>();
  }
};

// Operands on their way to a stage in registers: whole vectors wait there for arrive(), the rest is stored at once.
template <class T, class Shape>
class RegisterCopies {
 public:
  LAUDC_DEVICE void vector(int slot, T*, const T* from, bool valid) {
    Bytes16 zero = {};
    held_[slot] = valid ? *reinterpret_cast<const Bytes16*>(from) : zero;
  }

  LAUDC_DEVICE void elements(T* to, const T* from, int count, bool valid) {
    T zero = {};
    for (int i = 0; i < count; ++i) to[i] = valid ? from[i] : zero;
  }

  LAUDC_DEVICE void close() {}
  LAUDC_DEVICE void arrive(int slot, T* to) const { *reinterpret_cast<Bytes16*>(to) = held_[slot]; }
  template <int kPending>
  LAUDC_DEVICE void wait() const {}

 private:
  Bytes16 held_[MmaStage<T, Shape>::kAVectors + MmaStage<T, Shape>::kWVectors];
};

template <bool kBackground, class T, class Shape>
struct CopiesOf {
  typedef RegisterCopies<T, Shape> Copies;
};
template <class T, class Shape>
struct CopiesOf<true, T, Shape> {
  typedef BackgroundCopies<T, Shape> Copies;
};

// Brings the operands of one step after another. Every thread copies the same vectors of each stage.
template <class T, class Shape, class Copies>
class MmaLoader {
 public:
  typedef MmaStage<T, Shape> Stage;
  typedef TileIndex<Shape::kTileM, Shape::kTileN> Index;

  LAUDC_DEVICE MmaLoader(const GemmParams& p, const Tile& tile, const Index& index, const KSteps& steps, int run)
      : p_(p), tile_(tile), index_(index), steps_(steps), run_(run) {}

  // Starts to bring a step to a stage that nobody reads any more.
  LAUDC_DEVICE void load(int step, Stage* stage) {
    const int t = step / steps_.per_tap, k0 = step % steps_.per_tap * Stage::kStep;
    LAUDC_UNROLL
    for (int v = 0; v < Stage::kAVectors; ++v) load_a(v, t, k0, stage);
    if (run_ == Stage::kVector) {
      LAUDC_UNROLL
      for (int v = 0; v < Stage::kWVectors; ++v) load_w_vector(v, t, k0, stage);
      return;
    }
    const int pieces = Shape::kTileN / run_;
    for (int i = thread_index(); i < Stage::kStep * pieces; i += Shape::kThreads) {
      load_w(i / pieces, i % pieces * run_, t, k0, stage);
    }
  }

  // What load() began for this stage, or for none, is on its way, or there.
  LAUDC_DEVICE void close() { copies_.close(); }

  // Puts down what load() holds for this stage.
  LAUDC_DEVICE void arrive(Stage* stage) const {
    if (p_.a_vectors != 0) {
      LAUDC_UNROLL
      for (int v = 0; v < Stage::kAVectors; ++v)
        copies_.arrive(v, stage->a_vector(thread_index() + v * Shape::kThreads));
    }
    if (run_ == Stage::kVector) {
      LAUDC_UNROLL
      for (int v = 0; v < Stage::kWVectors; ++v) {
        copies_.arrive(Stage::kAVectors + v, stage->w_vector(thread_index() + v * Shape::kThreads));
      }
    }
  }

  template <int kPending>
  LAUDC_DEVICE void wait() const {
    copies_.template wait<kPending>();
  }

 private:
  LAUDC_DEVICE void load_a(int v, int t, int k0, Stage* stage) {
    const int i = thread_index() + v * Shape::kThreads;
    const int k = k0 + i % 4 * Stage::kVector;
    const int pixel = source_pixel(p_, index_, i / 4, t);
    const bool valid = pixel >= 0 && k < tile_.depth;
    const T* from = element<T>(p_.a, valid ? static_cast<int64_t>(pixel) * p_.a_pixel + k : 0);
    T* to = stage->a_vector(i);
    if (p_.a_vectors != 0) {
      copies_.vector(v, to, from, valid);
      return;
    }
    for (int j = 0; j < Stage::kVector; ++j) {
      const bool inside = valid && k + j < tile_.depth;
      copies_.elements(to + j, inside ? from + j : from, 1, inside);
    }
  }

  LAUDC_DEVICE void load_w_vector(int v, int t, int k0, Stage* stage) {
    const int i = thread_index() + v * Shape::kThreads;
    const Weights from = weights(i / Stage::kWRow, i % Stage::kWRow * Stage::kVector, t, k0);
    copies_.vector(Stage::kAVectors + v, stage->w_vector(i), from.at, from.valid);
  }

  LAUDC_DEVICE void load_w(int row, int c, int t, int k0, Stage* stage) {
    const Weights from = weights(row, c, t, k0);
    copies_.elements(stage->w + row * Stage::kWStride + c, from.at, run_, from.valid);
  }

  struct Weights {
    const T* at;
    bool valid;
  };

  LAUDC_DEVICE Weights weights(int row, int c, int t, int k0) const {
    const int k = k0 + row;
    const bool valid = k < tile_.depth && index_.weight[c] >= 0;
    return {element<T>(p_.w, valid ? weight_step(p_, tile_, t, k) + index_.weight[c] : 0), valid};
  }

  const GemmParams& p_;
  const Tile& tile_;
  const Index& index_;
  const KSteps& steps_;
  const int run_;
  Copies copies_;
};

// Products of one stage for the warp whose tile begins at (m, n).
template <class Atom, class T, class Shape>
LAUDC_DEVICE void multiply_stage(const MmaStage<T, Shape>& stage, int m, int n, int lane,
                                 float sums[Shape::kRowTiles][Shape::kColumnTiles][8]) {
  typedef MmaStage<T, Shape> Stage;
  LAUDC_UNROLL
  for (int k = 0; k < Stage::kStep; k += Atom::kDepth) {
    uint32_t a[Shape::kRowTiles][Atom::kWords];
    LAUDC_UNROLL
    for (int i = 0; i < Shape::kRowTiles; ++i) {
      Atom::load_a(&stage.a[(m + i * 16) * Stage::kAStride + k], Stage::kAStride, lane, a[i]);
    }
    LAUDC_UNROLL
    for (int j = 0; j < Shape::kColumnTiles; ++j) {
      uint32_t w[Atom::kWords];
      Atom::load_w(&stage.w[k * Stage::kWStride + n + j * 16], Stage::kWStride, lane, w);
      LAUDC_UNROLL
      for (int i = 0; i < Shape::kRowTiles; ++i) Atom::multiply(sums[i][j], a[i], w);
    }
  }
}

// A warp's sums, 16 rows at a time through its own piece of shared memory.
template <class Atom, class T, class Shape>
LAUDC_DEVICE void hand_over(const TileSink<T, Shape::kTileM, Shape::kTileN>& sink, float* staging, int m, int n,
                            int lane, const float sums[Shape::kRowTiles][Shape::kColumnTiles][8]) {
  constexpr int kStride = MmaShared<T, Shape, Atom>::kStagingStride;
  LAUDC_UNROLL
  for (int i = 0; i < Shape::kRowTiles; ++i) {
    LAUDC_UNROLL
    for (int j = 0; j < Shape::kColumnTiles; ++j) {
      LAUDC_UNROLL
      for (int e = 0; e < 8; ++e) {
        staging[Atom::row(lane, e) * kStride + j * 16 + Atom::column(lane, e)] = sums[i][j][e];
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

// The kernel's body where the GPU has the atom; elsewhere, nothing.
template <class T, class Shape, class Atom, bool kHere>
struct MmaBody {
  LAUDC_DEVICE static void run(const GemmParams&) {}
};

template <class T, class Shape, class Atom>
struct MmaBody<T, Shape, Atom, true> {
  typedef MmaShared<T, Shape, Atom> Shared;
  typedef MmaStage<T, Shape> Stage;
  typedef typename CopiesOf<Atom::kBackgroundCopies, T, Shape>::Copies Copies;

  LAUDC_DEVICE static void run(const GemmParams& p) {
    constexpr int kStages = Shared::kStages;
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
      MmaLoader<T, Shape, Copies> loader(p, tile, shared.index, steps, run);
      float sums[Shape::kRowTiles][Shape::kColumnTiles][8] = {};
      for (int s = 0; s < kStages - 1; ++s) {
        if (steps.begin + s < steps.end) {
          loader.load(steps.begin + s, &shared.stages[s]);
          loader.arrive(&shared.stages[s]);
        }
        loader.close();
      }
      int stage = 0;
      for (int s = steps.begin; s < steps.end; ++s) {
        loader.template wait<kStages - 2>();
        sync_block();  // everybody's part of this step is there, and the stage before it has been used up
        Stage* free = &shared.stages[(stage + kStages - 1) % kStages];
        const bool more = s + kStages - 1 < steps.end;
        if (more) loader.load(s + kStages - 1, free);
        loader.close();
        multiply_stage<Atom, T, Shape>(shared.stages[stage], m, n, lane, sums);
        if (more) loader.arrive(free);
        stage = (stage + 1) % kStages;
      }
      loader.template wait<0>();
      sync_block();  // the stages become the staging area

      const TileSink<T, Shape::kTileM, Shape::kTileN> sink(p, tile, &shared.index);
      hand_over<Atom, T, Shape>(sink, shared.staging[warp], m, n, lane, sums);
      sink.close(thread, Shape::kThreads);
      sync_block();
    }
  }
};

template <class T, class Shape, class Atom = typename NewestAtom<T>::Atom>
LAUDC_KERNEL(Shape::kThreads, 1)
gemm_mma(const GemmParams p) {
  MmaBody<T, Shape, Atom, compiled_between(Atom::kFirstSm, Atom::kEndSm)>::run(p);
}

}  // namespace cuda
}  // namespace laudc
