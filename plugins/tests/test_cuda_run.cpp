// The CUDA kernels, run thread by thread on the emulated GPU or on a real one: every mode, precision and tile shape, on
// random masks, sizes that fit no tile, and the promises of the C interface.
#include "tests/cuda_network.h"

namespace laudc {
namespace test {
namespace {

using cuda::GemmKind;
using cuda::TileShape;
using cuda::emulated::the_gpu;

const Mode kModes[] = {Mode::kStatic, Mode::kSpatial, Mode::kChannel, Mode::kBoth, Mode::kLayer};
const struct {
  int precision, sm;
} kTargets[] = {{LAUDC_CUDA_FP32, 53}, {LAUDC_CUDA_FP16, 53}, {LAUDC_CUDA_FP16, 70},
                {LAUDC_CUDA_FP16, 75}, {LAUDC_CUDA_TF32, 80}, {LAUDC_CUDA_FP16, 90}};

TEST(blocks_of_every_mode_and_precision) {
  Random random(40);
  for (const auto& target : kTargets) {
    for (const Mode mode : kModes) {
      for (int masker = 1; masker <= (mode == Mode::kChannel || mode == Mode::kBoth ? 3 : 1); ++masker) {
        for (const bool projection : {false, true}) {
          const int hin = random.between(1, 9), win = random.between(1, 9);
          GpuNetwork network({gpu_record(mode, masker, projection, hin, win, &random)}, &random);
          network.precision = target.precision;
          the_gpu().device = {target.sm, random.between(1, 5)};
          check_network(&network, random.between(1, 3), &random);
        }
      }
    }
  }
}

TEST(random_consistent_records) {
  Random random(41);
  for (int i = 0; i < 24; ++i) {
    Record r = random_record(&random, 10, 30);
    r[kConv2Algo] = 0;
    GpuNetwork network({r}, &random);
    network.precision = kTargets[i % 6].precision;
    the_gpu().device = {kTargets[i % 6].sm, random.between(1, 9)};
    check_network(&network, random.between(1, 4), &random);
  }
}

TEST(empty_and_full_masks) {
  Random random(42);
  the_gpu().device = {80, 3};
  for (const float spatial : {-1000.0f, 0.0f, 1000.0f}) {
    for (const float channel : {-1000.0f, 0.0f, 1000.0f}) {
      for (const bool projection : {false, true}) {
        GpuNetwork network({gpu_record(Mode::kBoth, 2, projection, 7, 6, &random)}, &random);
        network.precision = projection ? LAUDC_CUDA_FP16 : LAUDC_CUDA_FP32;
        network.lean(spatial, channel);
        check_network(&network, 2, &random);
      }
    }
  }
}

// Stage after stage: maps take turns in the workspace, the last one is Y.
TEST(chains_of_blocks) {
  Random random(43);
  for (int i = 0; i < 8; ++i) {
    std::vector<Record> records;
    int hin = random.between(3, 10), win = random.between(3, 10);
    for (int b = 0; b < 5; ++b) {
      Record r = gpu_record(kModes[random.between(0, 4)], random.between(1, 3), random.coin(), hin, win, &random);
      if (!records.empty()) {
        r[kCin] = records.back()[kCout];
        if (!r[kProjection]) r[kCout] = r[kCin];
        if (r[kMaskGroups] > 0 && r[kCout] % r[kMaskGroups] != 0) r[kMaskGroups] = 1;
      }
      records.push_back(r);
      hin = desc_of(r).hout();
      win = desc_of(r).wout();
    }
    GpuNetwork network(records, &random);
    the_gpu().device = {80, 4};
    check_network(&network, 2, &random);
  }
}

// Sizes of real networks choose the large tiles and the whole vectors; few tiles are split along k.
TEST(every_tile_shape) {
  Random random(44);
  const struct {
    int precision, sm, multiprocessors, side, width, cout, batch;
  } cases[] = {
      {LAUDC_CUDA_FP32, 53, 1, 14, 64, 128, 3}, {LAUDC_CUDA_FP32, 53, 16, 5, 64, 64, 1},
      {LAUDC_CUDA_FP16, 62, 1, 14, 64, 64, 2},  {LAUDC_CUDA_FP16, 62, 16, 5, 64, 64, 1},
      {LAUDC_CUDA_TF32, 80, 1, 14, 64, 256, 3}, {LAUDC_CUDA_TF32, 90, 16, 7, 64, 128, 1},
      {LAUDC_CUDA_FP16, 80, 1, 14, 64, 256, 3}, {LAUDC_CUDA_FP16, 90, 16, 7, 128, 128, 1},
      {LAUDC_CUDA_FP16, 70, 1, 14, 64, 256, 3}, {LAUDC_CUDA_FP16, 72, 16, 7, 128, 128, 1},
      {LAUDC_CUDA_FP16, 75, 1, 14, 64, 256, 3}, {LAUDC_CUDA_FP16, 75, 16, 7, 128, 128, 1},
  };
  for (const auto& c : cases) {
    for (const Mode mode : {Mode::kSpatial, Mode::kBoth}) {
      Record r(kBlockFieldCount, 0);
      r[kCin] = r[kCout] = c.cout;
      r[kWidth] = c.width;
      r[kStride] = 1;
      r[kHin] = r[kWin] = c.side;
      r[kMaskGroups] = mode == Mode::kBoth ? 2 : 1;
      r[kMaskH] = r[kMaskW] = (c.side + 1) / 2;
      r[kPanel] = 64;
      if (mode == Mode::kBoth) {
        r[kChannelGroups] = c.width / 2;
        r[kChannelMasker] = 2;
        r[kMaskerHidden] = 16;
      }
      GpuNetwork network({r}, &random);
      network.precision = c.precision;
      the_gpu().device = {c.sm, c.multiprocessors};
      check_network(&network, c.batch, &random);
    }
  }
  if (!gpu_counts_launches()) return;
  for (const GemmKind kind : {GemmKind::kFloat, GemmKind::kHalf, GemmKind::kTf32, GemmKind::kHalfMma,
                              GemmKind::kHalfTuring, GemmKind::kHalfVolta}) {
    const int* used = the_gpu().gemms[static_cast<int>(kind)];
    const bool mma = kind != GemmKind::kFloat && kind != GemmKind::kHalf;
    CHECK(used[static_cast<int>(TileShape::kSmall)] > 0);
    CHECK(used[static_cast<int>(TileShape::kBig)] > 0);
    CHECK(!mma || used[static_cast<int>(TileShape::kTall)] > 0);
  }
  CHECK(the_gpu().gemms[static_cast<int>(GemmKind::kHalfFloat)][0] > 0);
  CHECK(the_gpu().split_gemms > 0);
}

TEST(workspace_grows_with_the_batch) {
  Random random(47);
  for (int i = 0; i < 40; ++i) {
    const Record r =
        gpu_record(Mode::kBoth, 1 + i % 3, random.coin(), random.between(1, 70), random.between(1, 70), &random);
    check_workspace_grows("BottleneckRun", r, LAUDC_CUDA_FP32, random.between(1, 9));
  }
}

TEST(outputs_may_be_left_out) {
  Random random(45);
  the_gpu().device = {80, 2};
  GpuNetwork network({gpu_record(Mode::kBoth, 1, true, 5, 6, &random)}, &random);
  check_outputs_left_out(&network, &random);
}

TEST(bad_runs_are_refused) {
  const Record good = good_record();
  CHECK(complaint("BottleneckRun", good).empty());
  CHECK(complaint("BottleneckRun", good, 3, 80).find("precision is 3") != std::string::npos);
  CHECK(complaint("BottleneckRun", good, -1, 80).find("precision is -1") != std::string::npos);
  CHECK(complaint("BottleneckRun", good, LAUDC_CUDA_FP16, 37).find("compute capability 37") != std::string::npos);
  Record winograd = good;
  winograd[kConv2Algo] = 1;
  CHECK(complaint("BottleneckRun", winograd).find("block 0: conv2 is scheduled as Winograd") != std::string::npos);
  Record narrow = good;
  narrow[kStride] = 3;
  CHECK(complaint("BottleneckRun", narrow).find("block 0: stride is 3") != std::string::npos);
  Record huge = good;
  huge[kCin] = 65536;
  huge[kCout] = 65520;
  huge[kProjection] = 1;
  huge[kHin] = huge[kWin] = 1;
  huge[kMaskGroups] = huge[kMaskH] = huge[kMaskW] = 0;
  CHECK(complaint("BottleneckRun", huge).find("32-bit offsets") != std::string::npos);
  CHECK(complaint("BottleneckRun", Record()).find("blocks attribute holds 0") != std::string::npos);
}

TEST(bad_calls_are_refused) {
  Random random(46);
  the_gpu().device = {80, 2};
  GpuNetwork network({gpu_record(Mode::kBoth, 1, true, 5, 6, &random)}, &random);
  network.precision = LAUDC_CUDA_FP16;
  GpuNetwork::Call call = network.prepare_call(network.input(1, &random));
  const auto refused = [&](const char* why) {
    char error[256] = "";
    CHECK(laudc_cuda_enqueue(call.run.get(), &call.io, nullptr, error, sizeof(error)) != 0);
    CHECK(std::string(error).find(why) != std::string::npos);
  };
  const laudc_cuda_io good = call.io;
  --call.io.workspace_bytes;
  refused("workspace");
  call.io = good;
  call.io.workspace = static_cast<char*>(good.workspace) + 16;
  refused("aligned");
  call.io = good;
  call.io.prepared = nullptr;
  refused("not prepared");
  call.io = good;
  const float* const shifted[] = {good.packed[0] + 1};
  call.io.packed = shifted;
  refused("block 0 are not aligned");
  char why[256] = "";
  CHECK(laudc_cuda_prepare(call.run.get(), shifted, const_cast<void*>(good.prepared), nullptr, why, sizeof(why)) != 0);
  CHECK(std::string(why).find("block 0 are not aligned") != std::string::npos);
  call.io = good;
  call.io.batch = INT64_C(1) << 40;
  refused("too large");
  CHECK(laudc_cuda_workspace_bytes(call.run.get(), INT64_C(1) << 40) == 0);
  CHECK(laudc_cuda_workspace_bytes(call.run.get(), -1) == 0);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
