// Steps through the memory that a Prefetch names. Internal linkage, as for everything that kernels_impl.h includes.
#pragma once

#include "cpu/kernels.h"

namespace laudc {
namespace cpu {
namespace {

// Moves on to the next row; out of line, so that the tiles around it stay short.
__attribute__((noinline)) bool next_row(Prefetch* p) {
  if (p->row == p->row_count) {
    if (p->matrices <= 1) return false;
    --p->matrices;
    p->base += p->matrix_bytes;
    p->row = 0;
  }
  p->next = p->base + p->rows[p->row++] * p->row_bytes;
  p->end = p->next + p->row_bytes;
  return true;
}

inline void prefetch_step(Prefetch* p) {
  if (p == nullptr) return;
  for (int i = 0; i < p->chunks_per_step; ++i) {
    if (p->next >= p->end && !next_row(p)) return;
    for (int byte = 0; byte < Prefetch::kChunk; byte += Prefetch::kFetchDistance)
      __builtin_prefetch(p->next + byte, 0, 2);
    p->next += Prefetch::kChunk;
  }
}

}  // namespace
}  // namespace cpu
}  // namespace laudc
