#include "cuda/workspace.h"

#include <algorithm>

#include "core/packed_layout.h"
#include "cuda/byte_cursor.h"
#include "cuda/gemm_tiles.h"

namespace laudc {
namespace cuda {
namespace {

constexpr int64_t kMaxIndex = INT64_C(1) << 30;
constexpr int64_t kChunksPerMultiprocessor = 4;

// The largest each section has to be, over all blocks.
struct Needs {
  int64_t map = 0, h1 = 0, h2 = 0, hidden_map = 0;  // elements
  int64_t scores = 0, partial_sums = 0, mean = 0, hidden_values = 0;
  int64_t keep = 0, wanted = 0, conv1_list = 0, conv2_list = 0, kept = 0;
  int64_t pooled_list = 0, pooled_sums = 0, squeezed = 0, factors = 0;
};

void raise(int64_t* most, int64_t value) { *most = std::max(*most, value); }

// No fewer than the chunks of all samples together, and, unlike those, never fewer for a larger batch: a workspace made
// for the largest batch must do for every smaller one.
int64_t most_chunks(int64_t pixels, int64_t batch, int multiprocessors) {
  return std::min(batch * ((pixels + 7) / 8), kChunksPerMultiprocessor * multiprocessors + batch);
}

void add_channel_masker(const BlockDesc& d, int64_t batch, const WorkspaceTraits& traits, Needs* needs) {
  const bool conv = d.channel_masker == ChannelMasker::kConv;
  const int64_t features = conv ? d.masker_hidden : d.cin;
  const int64_t pixels = static_cast<int64_t>(d.hin) * d.win;
  if (conv) raise(&needs->hidden_map, batch * pixels * round_up(d.masker_hidden, 8));
  raise(&needs->partial_sums, most_chunks(pixels, batch, traits.multiprocessors) * features);
  raise(&needs->mean, batch * features);
  raise(&needs->hidden_values, batch * d.masker_hidden);
  raise(&needs->kept, batch * d.width);
}

void add_excitation(const BlockDesc& d, int64_t batch, const WorkspaceTraits& traits, Needs* needs) {
  const int64_t pixels = static_cast<int64_t>(d.hout()) * d.wout();
  if (d.spatial()) raise(&needs->pooled_list, batch * pixels);
  raise(&needs->pooled_sums, most_chunks(pixels, batch, traits.multiprocessors) * d.width);
  raise(&needs->squeezed, batch * traits.most_squeeze);
  raise(&needs->factors, batch * d.width);
}

void add_block(const BlockDesc& d, int64_t batch, const WorkspaceTraits& traits, Needs* needs) {
  const int64_t in = batch * d.hin * d.win, out = batch * d.hout() * d.wout();
  raise(&needs->map, out * d.cout);
  raise(&needs->h1, in * hidden_pixel(d));
  raise(&needs->h2, out * hidden_pixel(d));
  raise(&needs->scores, d.mask_groups * in);
  raise(&needs->keep, batch * d.margins());
  if (d.spatial()) {
    raise(&needs->wanted, out);
    raise(&needs->conv1_list, in);
    raise(&needs->conv2_list, out);
  }
  if (d.channel()) add_channel_masker(d, batch, traits, needs);
  if (traits.most_squeeze > 0) add_excitation(d, batch, traits, needs);
}

Chunks share_out(int64_t pixels, int64_t batch, int multiprocessors) {
  const int64_t blocks = kChunksPerMultiprocessor * multiprocessors;
  // A warp at a time takes a pixel, so pieces of fewer than 8 would leave warps idle.
  const int64_t each = round_up(std::max<int64_t>(8, (batch * pixels + blocks - 1) / blocks), 8);
  return {static_cast<int>((pixels + each - 1) / each), static_cast<int>(std::min(each, pixels))};
}

bool indexable(const BlockDesc& d, int64_t batch) {
  const int64_t in = batch * d.hin * d.win, out = batch * d.hout() * d.wout();
  const int64_t widest = std::max({d.cin, d.width, d.cout, d.margins(), d.masker_hidden});
  return in < kMaxIndex && out < kMaxIndex && batch * widest < kMaxIndex;
}

}  // namespace

int hidden_pixel(const BlockDesc& d) { return static_cast<int>(round_up(d.width, 8)); }

Chunks masker_chunks(const BlockDesc& d, int64_t batch, int multiprocessors) {
  const int64_t pixels = static_cast<int64_t>(d.hin) * d.win;
  return d.margins() == 0 ? Chunks{1, static_cast<int>(pixels)} : share_out(pixels, batch, multiprocessors);
}

Chunks pool_chunks(const BlockDesc& d, int64_t batch, int multiprocessors) {
  return share_out(static_cast<int64_t>(d.hout()) * d.wout(), batch, multiprocessors);
}

bool plan_workspace(const std::vector<BlockDesc>& blocks, int64_t batch, const WorkspaceTraits& traits,
                    WorkspacePlan* plan) {
  if (batch < 0) return false;
  Needs needs;
  for (const BlockDesc& d : blocks) {
    if (!indexable(d, batch) || batch * traits.most_squeeze >= kMaxIndex) return false;
    add_block(d, batch, traits, &needs);
  }
  const size_t number = sizeof(float);
  ByteCursor cursor;
  const Counter counted = traits.most_squeeze > 0 ? Counter::kCount : Counter::kPooledRows;
  plan->counters_per_block = static_cast<int>(counted) * batch;
  const int64_t counters = static_cast<int64_t>(blocks.size()) * plan->counters_per_block;
  plan->counter_bytes = static_cast<size_t>(counters + max_split_tiles(traits.multiprocessors)) * sizeof(int);
  plan->counters = cursor.take(static_cast<int64_t>(plan->counter_bytes), 1);
  for (size_t& map : plan->maps) map = cursor.take(needs.map, traits.element);
  plan->h1 = cursor.take(needs.h1, traits.element);
  plan->h2 = cursor.take(needs.h2, traits.element);
  plan->hidden_map = cursor.take(needs.hidden_map, number);
  plan->scores = cursor.take(needs.scores, number);
  plan->partial_sums = cursor.take(needs.partial_sums, number);
  plan->mean = cursor.take(needs.mean, number);
  plan->hidden_values = cursor.take(needs.hidden_values, number);
  plan->keep = cursor.take(needs.keep, 1);
  plan->wanted = cursor.take(needs.wanted, 1);
  plan->conv1_list = cursor.take(needs.conv1_list, sizeof(int32_t));
  plan->conv2_list = cursor.take(needs.conv2_list, sizeof(int32_t));
  plan->kept = cursor.take(needs.kept, sizeof(int32_t));
  plan->pooled_list = cursor.take(needs.pooled_list, sizeof(int32_t));
  plan->pooled_sums = cursor.take(needs.pooled_sums, number);
  plan->squeezed = cursor.take(needs.squeezed, number);
  plan->factors = cursor.take(needs.factors, number);
  plan->partials = cursor.take(max_partial_floats(traits.multiprocessors), number);
  plan->total = cursor.position();
  return true;
}

}  // namespace cuda
}  // namespace laudc
