// Whole runs of transformer blocks against a plain double-precision reference, and the promises of execute(): results
// that do not depend on the number of threads, on earlier calls, or on calls at the same time.
#include <memory>
#include <thread>

#include "cpu/vit_run.h"
#include "tests/threads.h"
#include "tests/vit_reference.h"

namespace laudc {
namespace test {
namespace {

struct Results {
  Floats y, margins;
  std::vector<int32_t> counts;
  std::vector<int64_t> block_ns;
};

// A run with random weights, in exact heap copies.
struct Network {
  std::vector<VitDesc> blocks;
  std::vector<VitWeights> weights;
  std::vector<Floats> packed;
  std::unique_ptr<cpu::VitRun> run;

  Network(const std::vector<VitDesc>& descs, Random* random) : blocks(descs) {
    for (const VitDesc& d : blocks) weights.push_back(random_vit(d, random));
  }

  void build() {
    std::vector<const float*> data;
    std::vector<int64_t> sizes;
    packed.clear();
    for (size_t i = 0; i < blocks.size(); ++i) packed.push_back(pack_vit(blocks[i], weights[i]));
    for (const Floats& p : packed) {
      data.push_back(p.data());
      sizes.push_back(static_cast<int64_t>(p.size()));
    }
    std::string error;
    run = cpu::VitRun::create(blocks, data, sizes, &error);
    CHECK(run != nullptr && error.empty());
  }

  Results execute(const Floats& x, int64_t batch, const cpu::Parallel& parallel) const {
    const int64_t count = run->block_count();
    Results r;
    r.y.resize(index(batch * run->out_tokens() * run->dim()));
    r.margins.resize(index(batch * run->total_margins()));
    r.counts.resize(index(batch * count * cpu::kVitCountsPerBlock));
    r.block_ns.resize(index(count));
    run->execute(x.data(), batch, parallel, {r.y.data(), r.counts.data(), r.margins.data(), r.block_ns.data()});
    return r;
  }

  void check(const Floats& x, int64_t batch, const Results& r) const {
    const int64_t floats = static_cast<int64_t>(run->tokens()) * run->dim();
    const int64_t wanted = static_cast<int64_t>(run->out_tokens()) * run->dim();
    for (int64_t s = 0; s < batch; ++s) {
      Doubles stream(x.begin() + s * floats, x.begin() + (s + 1) * floats), margins;
      const float* made = r.margins.data() + s * run->total_margins();
      for (size_t i = 0; i < blocks.size(); ++i) {
        reference_vit_block(blocks[i], weights[i], made + margins.size(), &stream, &margins);
      }
      for (size_t i = 0; i < margins.size(); ++i) CHECK_NEAR(made[i], margins[i], 2e-4);
      for (int64_t i = 0; i < wanted; ++i)
        CHECK_NEAR(r.y[index(s * wanted + i)], stream[index(i)], 2e-4 * (1 + std::abs(stream[index(i)])));
    }
  }
};

TEST(every_variant) {
  Random random(11);
  for (const VitDesc& d : vit_variants()) {
    VitDesc last = d;
    last.first_only = true;
    for (const std::vector<VitDesc>& blocks : {std::vector<VitDesc>{d}, {d, d, d}, {d, last}}) {
      Network network(blocks, &random);
      network.build();
      const int64_t batch = 3;
      const Floats x = random.reals(index(batch * d.tokens * d.dim), 2.0f);
      const Results one = network.execute(x, batch, cpu::Inline());
      network.check(x, batch, one);
      for (const int threads : {2, 5}) {
        const Results more = network.execute(x, batch, Threads(threads));
        CHECK(more.margins == one.margins && more.counts == one.counts);
        for (size_t i = 0; i < one.y.size(); ++i) CHECK_NEAR(more.y[i], one.y[i], 1e-4 * (1 + std::abs(one.y[i])));
      }
    }
  }
}

// Decisions forced one way: +1000 keeps, -1000 drops.
TEST(nothing_and_everything_kept) {
  Random random(12);
  for (const VitDesc& d : vit_variants()) {
    for (int bits = 0; bits < 8; ++bits) {
      Network network({d, d}, &random);
      for (VitWeights& w : network.weights) {
        for (float& b : w.token.b) b += (bits & 1) != 0 ? 1000.0f : -1000.0f;
        for (float& b : w.head.b) b += (bits & 2) != 0 ? 1000.0f : -1000.0f;
        for (float& b : w.choice.b) b += (bits & 4) != 0 ? 1000.0f : -1000.0f;
      }
      network.build();
      const Floats x = random.reals(index(2 * d.tokens * d.dim));
      const Results r = network.execute(x, 2, cpu::Inline());
      network.check(x, 2, r);
      const int32_t tokens = d.token_policy && (bits & 1) == 0 ? 1 : d.tokens;
      const int32_t heads = d.head_policy && (bits & 2) == 0 ? 0 : d.heads;
      const bool on = !d.layer_policy || (bits & 4) != 0;
      CHECK(r.counts[0] == (on ? tokens : 0) && r.counts[1] == (on ? (d.tokens_in_mlp ? tokens : d.tokens) : 0));
      CHECK(r.counts[2] == tokens && r.counts[3] == heads);
      if (!on) CHECK(r.y == x);
    }
  }
}

TEST(large_batches_are_cut_and_results_do_not_depend_on_neighbours) {
  Random random(13);
  const VitDesc d = vit_desc(7, 2, 8, 32, 16);
  Network network({d, d}, &random);
  network.build();
  const int64_t batch = 19, floats = 7 * 16;
  const Floats x = random.reals(index(batch * floats));
  const Results all = network.execute(x, batch, Threads(2));
  network.check(x, batch, all);
  for (const int64_t s : {0, 7, 8, 18}) {
    const Floats single(x.begin() + s * floats, x.begin() + (s + 1) * floats);
    const Results one = network.execute(single, 1, cpu::Inline());
    for (int64_t i = 0; i < floats; ++i) CHECK_NEAR(one.y[index(i)], all.y[index(s * floats + i)], 1e-5);
  }
}

TEST(calls_at_the_same_time) {
  Random random(14);
  const VitDesc d = vit_desc(40, 2, 16, 64, 16);
  Network network({d}, &random);
  network.build();
  const Floats x = random.reals(index(2 * 40 * 32));
  const Results wanted = network.execute(x, 2, cpu::Inline());
  std::vector<Results> found(4);
  std::vector<std::thread> threads;
  for (Results& r : found) threads.emplace_back([&] { r = network.execute(x, 2, Threads(2)); });
  for (std::thread& t : threads) t.join();
  for (const Results& r : found) CHECK(r.counts == wanted.counts && r.margins == wanted.margins);
}

TEST(optional_outputs_may_be_missing) {
  Random random(15);
  const VitDesc d = vit_desc(6, 2, 4, 16, 16);
  Network network({d}, &random);
  network.build();
  const Floats x = random.reals(48);
  Floats y(48);
  network.run->execute(x.data(), 1, cpu::Inline(), {y.data(), nullptr, nullptr, nullptr});
  CHECK(y == network.execute(x, 1, cpu::Inline()).y);
}

TEST(sizes_that_disagree_are_refused) {
  Random random(16);
  const VitDesc d = vit_desc(6, 2, 4, 16, 16);
  std::string error;
  const float weight = 0;
  CHECK(cpu::VitRun::create({}, {}, {}, &error) == nullptr);
  CHECK(cpu::VitRun::create({d}, {&weight}, {1, 2}, &error) == nullptr);
  CHECK(cpu::VitRun::create({d}, {&weight}, {1}, &error) == nullptr);
  CHECK(error.find("its record needs") != std::string::npos);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
