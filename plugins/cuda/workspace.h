// Where everything lies in the workspace of one call. Blocks run one after another and share what they need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/block_desc.h"

namespace laudc {
namespace cuda {

// What shapes a workspace besides batch and blocks.
struct WorkspaceTraits {
  size_t element;  // bytes of a map's element
  int multiprocessors;
  int most_squeeze;  // hidden channels of the largest squeeze-excitation; 0: there is none
};

// Ints of a block, zero when the run starts: `batch` of each.
enum class Counter : int {
  kConv1Rows,
  kConv2Rows,
  kKeptChannels,
  kMaskerTickets,
  kPooledRows,  // squeeze-excitation only, like all that follow
  kWantedRows,
  kPoolTickets,
  kCount,
};

// How the pixels of a map are shared out to the thread blocks that read it.
struct Chunks {
  int count, pixels;
};

struct WorkspacePlan {
  // Byte offsets.
  size_t counters;  // per block `counters_per_block`, then the split tickets
  size_t counter_bytes;
  size_t maps[2];  // stage outputs that are not the last
  size_t h1, h2, hidden_map;
  size_t scores, partial_sums, mean, hidden_values, keep, wanted;
  size_t conv1_list, conv2_list, kept;
  size_t pooled_list, pooled_sums, squeezed, factors;  // squeeze-excitation
  size_t partials;
  size_t total;

  int64_t counters_per_block;

  size_t block_counters(size_t block) const {
    return counters + block * static_cast<size_t>(counters_per_block) * sizeof(int);
  }
  size_t split_tickets(size_t blocks) const { return block_counters(blocks); }
};

// Pixels of h1 and h2 hold whole vectors.
int hidden_pixel(const BlockDesc& desc);

Chunks masker_chunks(const BlockDesc& desc, int64_t batch, int multiprocessors);
Chunks pool_chunks(const BlockDesc& desc, int64_t batch, int multiprocessors);

// False if a map or a list would outgrow 32-bit indices.
bool plan_workspace(const std::vector<BlockDesc>& blocks, int64_t batch, const WorkspaceTraits& traits,
                    WorkspacePlan* plan);

}  // namespace cuda
}  // namespace laudc
