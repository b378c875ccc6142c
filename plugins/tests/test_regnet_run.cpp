// RegNetY blocks against a plain double-precision reference: every mode, partial groups, both poolings, threads.
#include <memory>

#include "cpu/regnet_run.h"
#include "tests/regnet_reference.h"
#include "tests/threads.h"

namespace laudc {
namespace test {
namespace {

struct Results {
  Floats y, margins;
  std::vector<int32_t> counts;
};

struct Network {
  std::vector<RegNetDesc> blocks;
  std::vector<RegNetWeights> weights;
  std::vector<Floats> packed;
  std::unique_ptr<cpu::RegNetRun> run;

  Network(const Record& record, float lean_spatial, float lean_channel, Random* random) {
    const Record copy(record.begin(), record.end());
    std::string error;
    CHECK(parse_regnet_blocks(copy.data(), copy.size(), &blocks, &error));
    std::vector<const float*> data;
    std::vector<int64_t> sizes;
    for (const RegNetDesc& desc : blocks) {
      weights.push_back(random_regnet(desc, random));
      for (float& b : weights.back().maskers.spatial_b) b += lean_spatial;
      for (float& b : weights.back().maskers.channel_b) b += lean_channel;
      packed.push_back(RegNetPacker(desc).pack(weights.back()));
    }
    for (const Floats& p : packed) {
      data.push_back(p.data());
      sizes.push_back(static_cast<int64_t>(p.size()));
    }
    run = cpu::RegNetRun::create(blocks, data, sizes, &error);
    CHECK(run != nullptr && error.empty());
  }

  size_t input_floats() const {
    return index(static_cast<int64_t>(run->first().hin) * run->first().win * run->first().cin);
  }
  size_t output_floats() const {
    return index(static_cast<int64_t>(run->last().hout()) * run->last().wout() * run->last().cout);
  }

  Results execute(const Floats& x, const cpu::Parallel& parallel) const {
    const int64_t batch = static_cast<int64_t>(x.size() / input_floats());
    Results r;
    r.y.assign(index(batch) * output_floats(), -1.0f);
    r.margins.assign(index(batch * run->total_margins()), -1.0f);
    r.counts.assign(index(batch) * blocks.size() * cpu::kCountsPerBlock, -1);
    run->execute(x.data(), batch, parallel, {r.y.data(), r.counts.data(), r.margins.data(), nullptr});
    return r;
  }

  void check(const Floats& x, const Results& found) const {
    size_t margin = 0;
    for (size_t s = 0; s < x.size() / input_floats(); ++s) {
      Doubles map(x.begin() + static_cast<std::ptrdiff_t>(s * input_floats()),
                  x.begin() + static_cast<std::ptrdiff_t>((s + 1) * input_floats()));
      for (size_t b = 0; b < blocks.size(); ++b) {
        std::vector<bool> keep;
        for (const double value : reference_margins(blocks[b].block, weights[b].maskers, map)) {
          CHECK_NEAR(found.margins[margin], value, 1e-4 * std::max(1.0, std::abs(value)));
          keep.push_back(found.margins[margin++] >= 0);
        }
        map = RegNetReference(blocks[b], weights[b], map, keep).run();
      }
      double largest = 1;
      for (const double v : map) largest = std::max(largest, v);
      for (size_t i = 0; i < map.size(); ++i) CHECK_NEAR(found.y[s * map.size() + i], map[i], 3e-5 * largest);
    }
  }
};

void check_network(const Network& network, Random* random) {
  for (const int batch : {1, 5}) {
    Floats x = random->reals(network.input_floats() * index(batch));
    for (float& v : x) v = std::max(v, 0.0f);  // as behind a ReLU
    const Results alone = network.execute(x, cpu::Inline());
    network.check(x, alone);
    network.check(x, network.execute(x, Threads(2)));
    network.check(x, network.execute(x, Threads(3)));
    const Results again = network.execute(x, cpu::Inline());
    CHECK(alone.y == again.y && alone.counts == again.counts && alone.margins == again.margins);
  }
}

TEST(blocks_of_every_mode) {
  Random random(40);
  for (int mode = 0; mode < 16; ++mode) {
    for (int repeat = 0; repeat < 5; ++repeat) {
      const Record record = random_regnet_record(mode & 1, mode & 2, mode & 4, mode & 8, &random);
      check_network(Network(record, 0.0f, 0.0f, &random), &random);
    }
  }
}

TEST(everything_or_nothing_kept) {
  Random random(41);
  for (const float spatial : {-1000.0f, 1000.0f}) {
    for (const float channel : {-1000.0f, 1000.0f}) {
      for (int repeat = 0; repeat < 4; ++repeat) {
        const Record record = random_regnet_record(true, true, repeat & 1, repeat & 2, &random);
        check_network(Network(record, spatial, channel, &random), &random);
      }
    }
  }
}

TEST(runs_of_several_blocks) {
  Random random(42);
  for (int mode = 0; mode < 8; ++mode) {
    Record record;
    Record first = random_regnet_record(mode & 1, mode & 2, mode & 4, true, &random);
    record.insert(record.end(), first.begin(), first.end());
    Record next = first;
    next[kHin] = (first[kHin] - 1) / first[kStride] + 1;
    next[kWin] = (first[kWin] - 1) / first[kStride] + 1;
    next[kCin] = first[kWidth];
    next[kStride] = 1;
    next[kProjection] = 0;
    for (int i = 0; i < 2; ++i) record.insert(record.end(), next.begin(), next.end());
    check_network(Network(record, 0.0f, 0.0f, &random), &random);
  }
}

TEST(work_that_is_shared_by_groups_and_by_rows) {
  Random random(43);
  for (const int side : {7, 20}) {
    Record r = random_regnet_record(false, true, false, false, &random);
    r[kHin] = r[kWin] = side;
    r[kWidth] = r[kCout] = r[kCin] = 320;
    r[kGroup] = 20;
    r[kChannelGroups] = 320;
    check_network(Network(r, 0.0f, 0.0f, &random), &random);
  }
}

// Maps so large that conv a and b take turns, band by band.
TEST(maps_beyond_the_cache) {
  Random random(45);
  for (const int stride : {1, 2}) {
    Record r = random_regnet_record(false, true, false, stride == 2, &random);
    r[kHin] = 65;
    r[kWin] = 66;
    r[kStride] = stride;
    r[kCin] = stride == 2 ? 8 : 32;
    r[kWidth] = r[kCout] = 32;
    r[kGroup] = 8;
    r[kChannelGroups] = 16;
    check_network(Network(r, 0.0f, stride == 2 ? 0.0f : 1000.0f, &random), &random);
  }
}

std::string complaint_about_regnet(const Record& values) {
  std::string error;
  std::vector<RegNetDesc> out;
  const Record copy(values.begin(), values.end());
  return parse_regnet_blocks(copy.data(), copy.size(), &out, &error) ? std::string() : error;
}

TEST(records_that_are_refused) {
  Random random(44);
  const Record good = random_regnet_record(true, true, false, false, &random);
  CHECK(complaint_about_regnet(good).empty());
  const struct {
    int field;
    int64_t value;
  } wrong[] = {{kCout, good[kCout] + 1},
               {kGroup, 0},
               {kGroup, good[kWidth] + 1},
               {kSqueeze, 0},
               {kSqueeze, INT64_MAX},
               {kSePool, 2},
               {kConv2Algo, 1},
               {kWidth, -1},
               {kPanel, 17},
               {kStride, 3},
               {kChannelGroups, INT64_MIN}};
  for (const auto& w : wrong) {
    Record bad = good;
    bad[static_cast<size_t>(w.field)] = w.value;
    CHECK(!complaint_about_regnet(bad).empty());
  }
  CHECK(!complaint_about_regnet({}).empty());
  CHECK(!complaint_about_regnet(Record(good.begin(), good.end() - 1)).empty());
  Record twice = good;
  twice.insert(twice.end(), good.begin(), good.end());
  twice[kRegNetFieldCount + kHin] += 1;
  CHECK(complaint_about_regnet(twice).find("block 1") != std::string::npos);
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
