// RegNetY blocks as CUDA kernels, run thread by thread on the emulated GPU or on a real one: every mode, precision and
// group width, on random masks and sizes that fit no tile.
#include "tests/cuda_network.h"

namespace laudc {
namespace test {
namespace {

using cuda::emulated::the_gpu;

const struct {
  int precision, sm;
} kTargets[] = {{LAUDC_CUDA_FP32, 53}, {LAUDC_CUDA_FP16, 53}, {LAUDC_CUDA_TF32, 80}, {LAUDC_CUDA_FP16, 90}};

// Small enough for thousands of emulated threads.
Record small_record(int mode, Random* random) {
  Record r = random_regnet_record(mode & 1, mode & 2, mode & 4, mode & 8, random);
  r[kHin] = random->between(1, 9);
  r[kWin] = random->between(1, 9);
  if (r[kMaskGroups] > 0) {
    r[kMaskH] = random->between(1, static_cast<int>((r[kHin] - 1) / r[kStride] + 1));
    r[kMaskW] = random->between(1, static_cast<int>((r[kWin] - 1) / r[kStride] + 1));
  }
  return r;
}

TEST(blocks_of_every_mode_and_precision) {
  Random random(80);
  for (const auto& target : kTargets) {
    for (int mode = 0; mode < 16; ++mode) {
      for (int repeat = 0; repeat < 2; ++repeat) {
        RegNetGpuNetwork network({small_record(mode, &random)}, &random);
        network.precision = target.precision;
        the_gpu().device = {target.sm, random.between(1, 5)};
        check_network(&network, random.between(1, 3), &random);
      }
    }
  }
}

TEST(layer_masks) {
  Random random(81);
  the_gpu().device = {80, 2};
  for (int mode = 1; mode < 16; mode += 2) {
    Record r = small_record(mode, &random);
    r[kMaskH] = r[kMaskW] = 1;
    RegNetGpuNetwork network({r}, &random);
    network.precision = mode & 4 ? LAUDC_CUDA_FP16 : LAUDC_CUDA_FP32;
    check_network(&network, 4, &random);
  }
}

TEST(empty_and_full_masks) {
  Random random(82);
  the_gpu().device = {80, 3};
  for (const float spatial : {-1000.0f, 0.0f, 1000.0f}) {
    for (const float channel : {-1000.0f, 0.0f, 1000.0f}) {
      for (int i = 0; i < 4; ++i) {
        RegNetGpuNetwork network({small_record(3 | i << 2, &random)}, &random);
        network.precision = i & 1 ? LAUDC_CUDA_FP16 : LAUDC_CUDA_FP32;
        network.lean(spatial, channel);
        check_network(&network, 2, &random);
      }
    }
  }
}

// One image keeps nothing while another does: what nobody made must not be read.
TEST(images_that_keep_nothing) {
  Random random(83);
  the_gpu().device = {80, 2};
  int empty = 0, some = 0;
  for (int i = 0; i < 24; ++i) {
    Record r = small_record(1 | (i & 7) << 1, &random);
    r[kMaskGroups] = r[kMaskH] = r[kMaskW] = 1;
    RegNetGpuNetwork network({r}, &random);
    const Floats x = network.input(6, &random);
    const GpuResults found = network.execute(x);
    network.check(x, found);
    for (size_t s = 0; s < 6; ++s) ++(found.counts[4 * s + 2] == 0 ? empty : some);
  }
  CHECK(empty > 0 && some > 0);
}

// Stage after stage: maps take turns in the workspace, the last one is Y.
TEST(chains_of_blocks) {
  Random random(84);
  for (int i = 0; i < 6; ++i) {
    std::vector<Record> records;
    for (int b = 0; b < 4; ++b) {
      Record r = small_record(random.between(0, 7) | (b % 2 == 0 ? 8 : 0), &random);
      if (!records.empty()) {
        const BlockDesc before = RegNetFamily::parse(records.back()).front().block;
        r[kHin] = before.hout();
        r[kWin] = before.wout();
        r[kCin] = before.cout;
        if (!r[kProjection]) {
          for (const int field : {int{kWidth}, int{kCout}, int{kGroup}}) r[index(field)] = records.back()[index(field)];
          r[kChannelGroups] = r[kChannelGroups] > 0 ? r[kWidth] : 0;
          r[kMaskGroups] = std::min<int64_t>(r[kMaskGroups], 1);
        }
        r[kMaskH] = std::min<int64_t>(r[kMaskH], (r[kHin] - 1) / r[kStride] + 1);
        r[kMaskW] = std::min<int64_t>(r[kMaskW], (r[kWin] - 1) / r[kStride] + 1);
      }
      records.push_back(r);
    }
    RegNetGpuNetwork network(records, &random);
    network.precision = kTargets[i % 4].precision;
    the_gpu().device = {kTargets[i % 4].sm, 4};
    check_network(&network, 2, &random);
  }
}

// The widths of RegNetY's groups and beyond, more rows than a tile has, channels that vectors do not divide.
TEST(group_widths) {
  Random random(85);
  for (const int width : {1, 3, 4, 7, 8, 16, 24, 31, 33, 48, 64}) {
    for (const bool channel : {false, true}) {
      Record r = random_regnet_record(false, channel, false, false, &random);
      r[kHin] = width < 8 ? 23 : 9;
      r[kWin] = width < 8 ? 25 : 8;
      r[kGroup] = 3;
      r[kWidth] = r[kCout] = r[kCin] = 3 * width;
      if (channel) r[kChannelGroups] = r[kWidth];
      RegNetGpuNetwork network({r}, &random);
      network.precision = width % 2 == 0 ? LAUDC_CUDA_FP16 : LAUDC_CUDA_FP32;
      the_gpu().device = {80, 1};
      check_network(&network, 1, &random);
    }
  }
}

TEST(workspace_grows_with_the_batch) {
  Random random(86);
  for (int mode = 0; mode < 16; ++mode) {
    const Record r = random_regnet_record(mode & 1, mode & 2, mode & 4, mode & 8, &random);
    check_workspace_grows("RegNetRun", r, LAUDC_CUDA_FP32, random.between(1, 9));
  }
}

TEST(bad_runs_are_refused) {
  Random random(87);
  const Record good = small_record(3, &random);
  CHECK(complaint("RegNetRun", good).empty());
  CHECK(complaint("OtherRun", good).find("no GPU kernels for OtherRun") != std::string::npos);
  CHECK(complaint("BottleneckRun", good).find("blocks attribute holds") != std::string::npos);
  CHECK(complaint("RegNetRun", good_record()).find("blocks attribute holds") != std::string::npos);
  check_bad_fields("RegNetRun", good, kRegNetFieldCount);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
