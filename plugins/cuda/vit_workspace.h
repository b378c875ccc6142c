// Where everything lies in the workspace of one call of a run of transformer blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/vit_desc.h"
#include "cuda/run.h"

namespace laudc {
namespace cuda {

// Ints of a block: `batch` of each. All are zero when the run starts.
enum class TokenCounter : int {
  kTickets,
  kTokens,
  kHeads,
  kColumns,
  kFeatures,
  kHidden,
  kAttentionRows,
  kProjectedRows,
  kMlpRows,
  kCount,
};

struct VitPlan {
  // Byte offsets.
  size_t counters;  // per block, then the split tickets
  size_t counter_bytes;
  size_t stream;  // the tokens, where Y takes only the first ones
  size_t normalised, scores, policy, keep;
  size_t token_list, head_list, column_list, feature_list, hidden_list;
  size_t qkv, mixed, hidden;
  size_t partials;
  size_t total;

  int64_t batch;
  size_t counter(size_t block, TokenCounter which) const {
    const int64_t at = (static_cast<int64_t>(block) * static_cast<int>(TokenCounter::kCount) + static_cast<int>(which));
    return counters + static_cast<size_t>(at * batch) * sizeof(int);
  }
  size_t split_tickets(size_t blocks) const { return counter(blocks, TokenCounter::kTickets); }
};

// Rows of the buffers between the kernels hold whole vectors.
int padded(int features);

// False if a list would outgrow 32-bit indices.
bool plan_vit_workspace(const std::vector<VitDesc>& blocks, int64_t batch, const Setting& setting, VitPlan* plan);

}  // namespace cuda
}  // namespace laudc
