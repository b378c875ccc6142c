// Whole runs of blocks against the plain double-precision reference, for every mode, and the promises of execute():
// results that do not depend on the number of threads, on earlier calls, or on calls at the same time.
#include <memory>
#include <thread>

#include "cpu/bottleneck_run.h"
#include "tests/records.h"
#include "tests/reference.h"
#include "tests/threads.h"

namespace laudc {
namespace test {
namespace {

struct Results {
  Floats y, margins;
  std::vector<int32_t> counts;
  std::vector<int64_t> block_ns;
};

// A run with random weights. The weights are exact heap copies, so that the sanitizer sees a read behind them.
struct Network {
  std::vector<BlockDesc> blocks;
  std::vector<BlockWeights> weights;
  std::vector<Floats> packed;
  std::unique_ptr<cpu::BottleneckRun> run;

  Network(const std::vector<Record>& records, Random* random) {
    for (const Record& record : records) {
      blocks.push_back(desc_of(record));
      weights.push_back(random_weights(blocks.back(), random));
    }
  }

  // Shifts the decisions of every masker: +1000 keeps all, -1000 drops all.
  void lean(float spatial, float channel) {
    for (BlockWeights& w : weights) {
      for (float& b : w.spatial_b) b += spatial;
      for (float& b : w.channel_b) b += channel;
    }
  }

  void build() {
    std::vector<const float*> data;
    std::vector<int64_t> sizes;
    packed.clear();
    for (size_t i = 0; i < blocks.size(); ++i) packed.push_back(Packer(blocks[i]).pack(weights[i]));
    for (const Floats& p : packed) {
      data.push_back(p.data());
      sizes.push_back(static_cast<int64_t>(p.size()));
    }
    std::string error;
    run = cpu::BottleneckRun::create(blocks, data, sizes, &error);
    CHECK(run != nullptr && error.empty());
  }

  size_t input_floats() const { return index(static_cast<int64_t>(blocks[0].hin) * blocks[0].win * blocks[0].cin); }
  size_t output_floats() const {
    return index(static_cast<int64_t>(blocks.back().hout()) * blocks.back().wout() * blocks.back().cout);
  }

  Floats input(int batch, Random* random) const {
    Floats x = random->reals(input_floats() * index(batch));
    for (float& v : x) v = std::max(v, 0.0f);  // as behind a ReLU
    return x;
  }

  Results execute(const Floats& x, const cpu::Parallel& parallel) const {
    const int64_t batch = static_cast<int64_t>(x.size() / input_floats());
    Results r;
    r.y.assign(index(batch) * output_floats(), -1.0f);
    r.margins.assign(index(batch * run->total_margins()), -1.0f);
    r.counts.assign(index(batch) * blocks.size() * cpu::kCountsPerBlock, -1);
    r.block_ns.assign(blocks.size(), -1);
    const cpu::RunOutputs out = {r.y.data(), r.counts.data(), r.margins.data(), r.block_ns.data()};
    run->execute(x.data(), batch, parallel, out);
    return r;
  }

  // Everything that execute() reports, against the reference. Decisions are taken from the margins found (which are
  // compared too): rounding may turn a tie either way.
  void check(const Floats& x, const Results& found) const {
    const size_t batch = x.size() / input_floats();
    size_t margin = 0;
    for (size_t s = 0; s < batch; ++s) {
      Doubles map(x.begin() + static_cast<std::ptrdiff_t>(s * input_floats()),
                  x.begin() + static_cast<std::ptrdiff_t>((s + 1) * input_floats()));
      for (size_t b = 0; b < blocks.size(); ++b) {
        const Doubles wanted = reference_margins(blocks[b], weights[b], map);
        std::vector<bool> keep;
        for (const double value : wanted) {
          CHECK_NEAR(found.margins[margin], value, 1e-4 * std::max(1.0, std::abs(value)));
          keep.push_back(found.margins[margin++] >= 0);
        }
        check_counts(blocks[b], keep, found.counts.data() + (s * blocks.size() + b) * cpu::kCountsPerBlock);
        map = reference_block(blocks[b], weights[b], map, keep);
      }
      double largest = 1;
      for (const double v : map) largest = std::max(largest, v);
      for (size_t i = 0; i < map.size(); ++i) CHECK_NEAR(found.y[s * map.size() + i], map[i], 3e-5 * largest);
    }
    CHECK(margin == found.margins.size());
    for (const int64_t ns : found.block_ns) CHECK(ns >= 0);
  }

  static void check_counts(const BlockDesc& d, const std::vector<bool>& keep, const int32_t* counts) {
    const int cells = d.mask_groups * d.mask_h * d.mask_w;
    const int kept_cells = static_cast<int>(std::count(keep.begin(), keep.begin() + cells, true));
    const int kept_groups = static_cast<int>(std::count(keep.begin() + cells, keep.end(), true));
    CHECK(counts[2] == kept_cells && counts[3] == kept_groups);
    const std::vector<int> rows = d.spatial() ? nearest_lut(d.mask_h, d.hout()) : std::vector<int>();
    const std::vector<int> columns = d.spatial() ? nearest_lut(d.mask_w, d.wout()) : std::vector<int>();
    int wanted = 0;
    for (int y = 0; y < d.hout(); ++y) {
      for (int x = 0; x < d.wout(); ++x) {
        bool any = !d.spatial();
        for (int g = 0; g < d.mask_groups; ++g) {
          any = any || keep[index((g * d.mask_h + rows[index(y)]) * d.mask_w + columns[index(x)])];
        }
        wanted += any ? 1 : 0;
      }
    }
    CHECK(counts[1] == wanted);
    CHECK(counts[0] <= d.hin * d.win && (wanted == 0) == (counts[0] == 0));
    if (wanted == d.hout() * d.wout() && d.stride == 1) CHECK(counts[0] == d.hin * d.win);
  }
};

// Equal bit for bit, margins up to the order of their sums.
void check_same(const Results& a, const Results& b) {
  CHECK(a.y == b.y && a.counts == b.counts && a.margins.size() == b.margins.size());
  for (size_t i = 0; i < a.margins.size(); ++i) CHECK_NEAR(a.margins[i], b.margins[i], 1e-4f);
}

enum Mode { kStatic, kSpatial, kChannel, kBoth, kLayer, kModes };

// A record of one mode; `fields` overrides sizes.
Record record_of(Mode mode, int masker, bool projection, bool winograd, int hin, int win, Random* random) {
  Record r(kBlockFieldCount, 0);
  r[kStride] = projection && !winograd && random->coin() ? 2 : 1;
  r[kHin] = hin;
  r[kWin] = win;
  r[kProjection] = projection ? 1 : 0;
  r[kConv2Algo] = winograd ? 1 : 0;
  r[kWidth] = 4 * random->between(1, 7);
  r[kCout] = 6 * random->between(1, 8);
  r[kCin] = projection ? random->between(1, 40) : r[kCout];
  r[kPanel] = 16 * random->between(1, 4);
  if (mode == kSpatial || mode == kBoth || mode == kLayer) {
    r[kMaskGroups] = random->between(1, 3);
    r[kMaskH] = mode == kLayer ? 1 : random->between(1, static_cast<int>((hin - 1) / r[kStride] + 1));
    r[kMaskW] = mode == kLayer ? 1 : random->between(1, static_cast<int>((win - 1) / r[kStride] + 1));
  }
  if (mode == kChannel || mode == kBoth) {
    const int sizes[] = {1, 2, 4};
    r[kChannelGroups] = r[kWidth] / sizes[random->between(0, 2)];
    r[kChannelMasker] = masker;
    r[kMaskerHidden] = masker == 1 ? 0 : random->between(1, 20);
  }
  return r;
}

void check_network(Network* network, Random* random) {
  network->build();
  for (const int batch : {1, 5}) {
    const Floats x = network->input(batch, random);
    const Results alone = network->execute(x, cpu::Inline());
    network->check(x, alone);
    check_same(alone, network->execute(x, Threads(2)));
    check_same(alone, network->execute(x, Threads(3)));
    check_same(alone, network->execute(x, cpu::Inline()));
  }
}

TEST(single_blocks_of_every_mode) {
  Random random(20);
  for (int mode = 0; mode < kModes; ++mode) {
    for (int masker = 1; masker <= (mode == kChannel || mode == kBoth ? 3 : 1); ++masker) {
      for (const bool projection : {false, true}) {
        for (const bool winograd : {false, true}) {
          for (int repeat = 0; repeat < 4; ++repeat) {
            const int hin = random.between(1, 9), win = random.between(1, 9);
            Network network({record_of(static_cast<Mode>(mode), masker, projection, winograd, hin, win, &random)},
                            &random);
            check_network(&network, &random);
          }
        }
      }
    }
  }
}

TEST(random_consistent_records) {
  Random random(21);
  for (int i = 0; i < 60; ++i) {
    Network network({random_record(&random, 11, 40)}, &random);
    check_network(&network, &random);
  }
}

TEST(chains_hand_over_maps_and_sums) {
  Random random(22);
  for (int i = 0; i < 40; ++i) {
    std::vector<Record> records;
    int hin = random.between(1, 10), win = random.between(1, 10);
    for (int b = random.between(2, 4); b > 0; --b) {
      // Mostly channel blocks: each leaves the sums that the next one's masker averages.
      const Mode mode = random.between(0, 2) > 0 ? kChannel : static_cast<Mode>(random.between(0, kModes - 1));
      Record r = record_of(mode, random.between(1, 3), random.coin(), random.coin(), hin, win, &random);
      if (!records.empty()) {
        r[kCin] = records.back()[kCout];
        if (!r[kProjection]) r[kCout] = r[kCin];
      }
      records.push_back(r);
      hin = desc_of(r).hout();
      win = desc_of(r).wout();
    }
    Network network(records, &random);
    check_network(&network, &random);
  }
}

TEST(empty_and_full_masks) {
  Random random(23);
  for (const float spatial : {-1000.0f, 0.0f, 1000.0f}) {
    for (const float channel : {-1000.0f, 0.0f, 1000.0f}) {
      for (const bool projection : {false, true}) {
        for (const bool winograd : {false, true}) {
          Network network({record_of(kBoth, 2, projection, winograd, 7, 6, &random)}, &random);
          network.lean(spatial, channel);
          check_network(&network, &random);
        }
      }
    }
  }
}

// Large enough that phases are shared out: by rows, by panels, and with weights packed on the fly.
TEST(blocks_worth_sharing_out) {
  Random random(24);
  const struct {
    int side, width, cout;
  } sizes[] = {{28, 16, 64}, {14, 64, 64}, {12, 128, 64}, {7, 128, 192}};
  for (const auto& size : sizes) {
    for (const Mode mode : {kStatic, kSpatial, kChannel}) {
      for (const bool winograd : {false, true}) {
        Record r = record_of(mode, 1, false, winograd, size.side, size.side, &random);
        r[kWidth] = size.width;
        r[kCin] = r[kCout] = size.cout;
        if (r[kMaskGroups]) r[kMaskGroups] = 2;
        if (r[kMaskGroups]) r[kMaskH] = r[kMaskW] = 7;
        if (r[kChannelGroups]) r[kChannelGroups] = size.width / 4;
        // Twice: channel blocks leave sums, in parts of several threads, that the next masker averages.
        Network network({r, r}, &random);
        network.build();
        const Floats x = network.input(2, &random);
        const Results alone = network.execute(x, cpu::Inline());
        network.check(x, alone);
        for (const int width : {2, 3, 4, 8}) check_same(alone, network.execute(x, Threads(width)));
      }
    }
  }
}

TEST(outputs_may_be_left_out) {
  Random random(25);
  Network network({record_of(kBoth, 1, true, false, 5, 6, &random), record_of(kStatic, 1, true, false, 1, 1, &random)},
                  &random);
  network.blocks.pop_back();
  network.weights.pop_back();
  network.build();
  const Floats x = network.input(3, &random);
  const Results all = network.execute(x, cpu::Inline());
  Floats y(all.y.size());
  network.run->execute(x.data(), 3, cpu::Inline(), {y.data(), nullptr, nullptr, nullptr});
  CHECK(y == all.y);
  network.run->execute(nullptr, 0, cpu::Inline(), {nullptr, nullptr, nullptr, nullptr});
}

// One object, several callers: workspaces must not be shared.
TEST(calls_at_the_same_time) {
  Random random(26);
  Record first = record_of(kBoth, 3, true, false, 9, 8, &random);
  Record second = record_of(kChannel, 1, false, true, desc_of(first).hout(), desc_of(first).wout(), &random);
  second[kCin] = second[kCout] = first[kCout];
  Network network({first, second}, &random);
  network.build();
  std::vector<Floats> inputs;
  std::vector<Results> wanted;
  for (int i = 0; i < 4; ++i) {
    inputs.push_back(network.input(1 + i, &random));
    wanted.push_back(network.execute(inputs.back(), cpu::Inline()));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 2; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 40; ++i) {
        const size_t which = static_cast<size_t>((i + caller) % 4);
        const Results found =
            i % 8 == 0 ? network.execute(inputs[which], Threads(2)) : network.execute(inputs[which], cpu::Inline());
        if (found.y != wanted[which].y || found.counts != wanted[which].counts) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST(wrong_sizes_are_refused) {
  Random random(27);
  Network network({record_of(kBoth, 2, false, false, 5, 5, &random)}, &random);
  network.build();
  const int64_t right = packed_layout(network.blocks[0]).total;
  const float* data = network.packed[0].data();
  for (const int64_t size : {int64_t{0}, int64_t{-1}, right - 1, right + 1, 2 * right}) {
    std::string error;
    CHECK(cpu::BottleneckRun::create(network.blocks, {data}, {size}, &error) == nullptr);
    CHECK(error.find("block 0") != std::string::npos && error.find(std::to_string(right)) != std::string::npos);
  }
  std::string error;
  CHECK(cpu::BottleneckRun::create({}, {}, {}, &error) == nullptr && !error.empty());
  CHECK(cpu::BottleneckRun::create(network.blocks, {}, {}, &error) == nullptr);
  CHECK(cpu::BottleneckRun::create(network.blocks, {data}, {right, right}, &error) == nullptr);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
