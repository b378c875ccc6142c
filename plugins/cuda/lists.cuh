// From decisions to lists, by ballot compaction, and the sums over a warp that decisions are made from.
#pragma once

#include "cuda/tiles.cuh"

namespace laudc {
namespace cuda {

// Of the blocks that make lists.
constexpr int kListThreads = 256;
constexpr int kListWarps = kListThreads / kWarp;

struct ListShared {
  int warp_totals[kListWarps];
  int base;
  int last;
};

LAUDC_DEVICE float sum_over_warp(float value) {
  LAUDC_UNROLL
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value += shuffle_xor(value, lanes);
  return value;
}

// Consecutive items are shared out to the warps in 32s.
LAUDC_DEVICE int items_per_warp(int count) { return tiles_of(tiles_of(count, kListWarps), kWarp) * kWarp; }

// How many of `count` items are wanted. The whole block calls it and gets the answer; warp_totals holds the warps'.
template <class Wanted>
LAUDC_DEVICE int count_wanted(int count, const Wanted& wanted, ListShared* shared) {
  const int thread = thread_index(), lane = thread % kWarp, warp = thread / kWarp;
  const int begin = warp * items_per_warp(count), end = smaller(count, begin + items_per_warp(count));
  int mine = 0;
  for (int i = begin; i < end; i += kWarp) mine += bit_count(ballot(i + lane < end && wanted(i + lane)));
  sync_block();  // nobody reads the last totals any more
  if (lane == 0) shared->warp_totals[warp] = mine;
  sync_block();
  int total = 0;
  for (int w = 0; w < kListWarps; ++w) total += shared->warp_totals[w];
  return total;
}

// Appends first_value + i for every wanted item i, in order, to a list whose length is *length. Other blocks may append
// to the same list: each gets a stretch of its own, and no result depends on which.
template <class Wanted>
LAUDC_DEVICE int append_wanted(int count, const Wanted& wanted, int first_value, int32_t* list, int* length,
                               ListShared* shared) {
  const int thread = thread_index(), lane = thread % kWarp, warp = thread / kWarp;
  const int total = count_wanted(count, wanted, shared);
  if (thread == 0) shared->base = atomic_add(length, total);
  sync_block();
  int at = shared->base;
  for (int w = 0; w < warp; ++w) at += shared->warp_totals[w];
  const int begin = warp * items_per_warp(count), end = smaller(count, begin + items_per_warp(count));
  for (int i = begin; i < end; i += kWarp) {
    const bool mine = i + lane < end && wanted(i + lane);
    const uint32_t votes = ballot(mine);
    if (mine) list[at + bit_count(votes & ((1u << lane) - 1u))] = first_value + i + lane;
    at += bit_count(votes);
  }
  return total;
}

// Row r of w times x, plus b[r]; a warp calls it.
LAUDC_DEVICE float row_times(const float* w, const float* b, int r, int columns, const float* x) {
  const int lane = thread_index() % kWarp;
  float sum = 0.0f;
  for (int c = lane; c < columns; c += kWarp) sum = fused(w[static_cast<int64_t>(r) * columns + c], x[c], sum);
  return sum_over_warp(sum) + b[r];
}

struct KeptChannels {
  const uint8_t* keep;  // [groups]
  int per_group;
  LAUDC_DEVICE bool operator()(int channel) const { return keep[channel / per_group] != 0; }
};

// The first of `count` ascending values that is not below `bound`.
LAUDC_DEVICE int first_not_below(const int32_t* values, int count, int bound) {
  int low = 0, high = count;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (values[middle] < bound) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace cuda
}  // namespace laudc
