#include "cuda/vit_workspace.h"

#include <algorithm>

#include "core/packed_layout.h"
#include "cuda/byte_cursor.h"
#include "cuda/gemm_tiles.h"

namespace laudc {
namespace cuda {
namespace {

constexpr int64_t kMaxIndex = INT64_C(1) << 30;

}  // namespace

int padded(int features) { return static_cast<int>(round_up(features, 8)); }

bool plan_vit_workspace(const std::vector<VitDesc>& blocks, int64_t batch, const Setting& setting, VitPlan* plan) {
  const int64_t tokens = blocks.front().tokens, dim = blocks.front().dim;
  int64_t heads = 0, hidden = 0, margins = 0;
  for (const VitDesc& d : blocks) {
    heads = std::max<int64_t>(heads, d.heads);
    hidden = std::max<int64_t>(hidden, d.hidden);
    margins = std::max<int64_t>(margins, d.margins());
  }
  if (batch < 0 || batch >= kMaxIndex || batch * std::max({tokens * heads, 3 * dim, hidden, margins}) >= kMaxIndex) {
    return false;
  }
  const size_t number = sizeof(float), integer = sizeof(int32_t), element = setting.element();
  const int multiprocessors = setting.device.multiprocessors;
  ByteCursor cursor;
  plan->batch = batch;
  const int64_t counters = static_cast<int64_t>(blocks.size()) * static_cast<int>(TokenCounter::kCount) * batch;
  plan->counter_bytes = static_cast<size_t>(counters + max_split_tiles(multiprocessors)) * sizeof(int);
  plan->counters = cursor.take(static_cast<int64_t>(plan->counter_bytes), 1);
  plan->stream = cursor.take(blocks.back().first_only ? batch * tokens * dim : 0, element);
  plan->normalised = cursor.take(batch * tokens * round_up(dim, 8), element);
  plan->scores = cursor.take(batch * tokens, number);
  plan->policy = cursor.take(batch * dim, number);
  plan->keep = cursor.take(batch * margins, 1);
  plan->token_list = cursor.take(batch * tokens, integer);
  plan->head_list = cursor.take(batch * heads, integer);
  plan->column_list = cursor.take(batch * 3 * dim, integer);
  plan->feature_list = cursor.take(batch * dim, integer);
  plan->hidden_list = cursor.take(batch * hidden, integer);
  plan->qkv = cursor.take(batch * tokens * round_up(3 * dim, 8), element);
  plan->mixed = cursor.take(batch * tokens * round_up(dim, 8), element);
  plan->hidden = cursor.take(batch * tokens * round_up(hidden, 8), element);
  plan->partials = cursor.take(max_partial_floats(multiprocessors), number);
  plan->total = cursor.position();
  return true;
}

}  // namespace cuda
}  // namespace laudc
