// Transformer blocks as CUDA kernels, run thread by thread on the emulated GPU or on a real one: every policy and
// precision, widths that fit no vector, more tokens than a tile has.
#include "tests/cuda_network.h"

namespace laudc {
namespace test {
namespace {

using cuda::emulated::the_gpu;

const struct {
  int precision, sm;
} kTargets[] = {{LAUDC_CUDA_FP32, 53}, {LAUDC_CUDA_FP16, 53}, {LAUDC_CUDA_TF32, 80}, {LAUDC_CUDA_FP16, 90}};

VitGpuNetwork network_of(const std::vector<VitDesc>& blocks, Random* random) {
  std::vector<Record> records;
  for (const VitDesc& d : blocks) records.push_back(vit_record(d));
  return VitGpuNetwork(records, random);
}

std::vector<VitDesc> gpu_variants() {
  std::vector<VitDesc> all = vit_variants();
  VitDesc still = vit_desc(9, 2, 16, 40, 16);  // nothing is chosen
  still.token_policy = still.tokens_in_mlp = still.head_policy = still.layer_policy = false;
  still.head_width = MlpWidth::kFull;
  all.push_back(still);
  VitDesc tokens = still;  // all tokens in the MLP, whatever attention does
  tokens.token_policy = true;
  all.push_back(tokens);
  all.push_back(vit_desc(70, 2, 32, 96, 32));
  all.push_back(vit_desc(37, 1, 128, 64, 48));
  return all;
}

TEST(every_variant_and_precision) {
  Random random(90);
  for (const VitDesc& d : gpu_variants()) {
    VitDesc last = d;
    last.first_only = true;
    for (const auto& target : kTargets) {
      for (const std::vector<VitDesc>& blocks : {std::vector<VitDesc>{d}, {d, last}}) {
        VitGpuNetwork network = network_of(blocks, &random);
        network.precision = target.precision;
        the_gpu().device = {target.sm, random.between(1, 5)};
        check_network(&network, random.between(1, 3), &random);
      }
    }
  }
}

// Decisions forced one way: +1000 keeps, -1000 drops.
TEST(nothing_and_everything_kept) {
  Random random(91);
  the_gpu().device = {80, 3};
  for (const VitDesc& d : gpu_variants()) {
    if (d.tokens > 40) continue;
    for (int bits = 0; bits < 8; ++bits) {
      VitGpuNetwork network = network_of({d, d}, &random);
      for (VitWeights& w : network.weights) {
        for (float& b : w.token.b) b += (bits & 1) != 0 ? 1000.0f : -1000.0f;
        for (float& b : w.head.b) b += (bits & 2) != 0 ? 1000.0f : -1000.0f;
        for (float& b : w.choice.b) b += (bits & 4) != 0 ? 1000.0f : -1000.0f;
      }
      check_network(&network, 2, &random);
    }
  }
}

// Scores so large that their exponentials overflow, so far apart that most weights vanish.
TEST(large_scores) {
  Random random(92);
  the_gpu().device = {80, 2};
  VitDesc d = vit_desc(45, 2, 16, 32, 16);
  d.head_policy = false;
  d.head_width = MlpWidth::kFull;
  VitGpuNetwork network = network_of({d}, &random);
  for (float& w : network.weights[0].q.w) w *= 8;
  const Floats x = network.input(2, &random);
  const GpuResults found = network.execute(x);
  for (const float y : found.y) CHECK(std::isfinite(y));
  network.check(x, found);
}

TEST(outputs_may_be_left_out) {
  Random random(93);
  the_gpu().device = {80, 2};
  VitGpuNetwork network = network_of({vit_desc(6, 2, 4, 16, 16)}, &random);
  check_outputs_left_out(&network, &random);
}

TEST(workspace_grows_with_the_batch) {
  for (const VitDesc& d : gpu_variants()) {
    check_workspace_grows("VitRun", vit_record(d), LAUDC_CUDA_FP16, 3);
  }
}

TEST(bad_runs_are_refused) {
  const Record good = vit_record(vit_desc(6, 2, 4, 16, 16));
  CHECK(complaint("VitRun", good).empty());
  const Record wide = vit_record(vit_desc(6, 1, 129, 16, 16));
  CHECK(complaint("VitRun", wide).find("block 0: attention heads of 129") != std::string::npos);
  check_bad_fields("VitRun", good, kVitFieldCount);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
