// softmax(Q K') V of some heads over a compact list of tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/workspace.h"

namespace laudc {
namespace cpu {

// One buffer holds queries, keys and values: token i at qkv + i * stride, a head's features one after another.
struct AttentionArgs {
  const float* qkv;
  int64_t stride;  // floats between tokens
  int key_at;      // where the keys begin in a token; queries begin at 0
  int value_at;
  int tokens;   // keys and values
  int queries;  // the first tokens of the list
  int head_dim;
  const std::vector<int32_t>* heads;  // which to compute
  float* out;                         // token i at out + i * out_stride, a head at head * head_dim
  int64_t out_stride;
};

struct AttentionScratch {
  Buffer keys;    // panels of kMaxPanel tokens: [head_dim][kMaxPanel]
  Buffer scores;  // [queries of a chunk][tokens]
};

// The scale of the scores is folded into the queries.
void attention(const Parallel& parallel, const AttentionArgs& args, IotaCache* iota, Pool<AttentionScratch>* scratch);

}  // namespace cpu
}  // namespace laudc
