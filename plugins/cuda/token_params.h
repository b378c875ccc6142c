// What the launches of a run of transformer blocks pass to their own kernels: plain records, shared by host and device.
#pragma once

#include "cuda/types.h"

namespace laudc {
namespace cuda {

struct NormWeights {
  const float *w, *b;  // [dim]
  const float* epsilon;
};

// The decisions of one block, and what follows from them. Lists are ascending, one per sample; those that the block has
// no policy for are null.
struct ChooseParams {
  int samples, chunks, chunk_tokens;  // grid: samples * chunks
  int tokens, dim, heads, hidden;
  const void* x;  // [samples * tokens][dim]
  int x_vectors;  // tokens start at vector boundaries
  NormWeights norm;
  void* normalised;  // [samples * tokens][pixel], zeros behind the last feature up to a multiple of 8
  int pixel;

  const float *token_w, *token_b;  // [dim], [1]
  float* scores;                   // [samples * tokens]
  NormWeights policy_norm;         // of the class token before heads and sublayers are chosen; null: none
  float* policy;                   // [samples][dim]
  const float *head_w, *head_b;    // [heads][dim]
  const float *layer_w, *layer_b;  // [2][dim]

  int margin_count;
  float* margins;  // [samples][margins_stride], may be null
  int margins_stride;
  uint8_t* keep;  // [samples][margin_count]: tokens but the first, heads, sublayers

  int32_t* token_list;  // [samples][tokens]: numbered over all samples
  int* token_count;
  int32_t* head_list;  // [samples][heads]
  int* head_count;
  int values_pass;       // dropped heads give their values
  int32_t* column_list;  // [samples][3 * dim]: of query, key and value
  int* column_count;
  int32_t* feature_list;  // [samples][dim]: those of kept heads
  int* feature_count;
  int32_t* hidden_list;  // [samples][hidden]: those of kept heads
  int* hidden_count;

  // Rows to compute, [samples]: of query, key and value; of what attention adds; of the MLP.
  int *attention_rows, *projected_rows, *mlp_rows;
  int tokens_in_mlp, first_only;

  int32_t* counts;  // [samples][counts_stride], may be null
  int counts_stride;
  int* tickets;  // [samples], zero at launch
};

// normalised[v][i] = the i-th feature of a list of the normalised token v.
struct NormParams {
  const int32_t* list;   // [segments][rows_max] or null: all, one segment after another
  const int* row_count;  // [segments] or null: rows_max
  int segments, rows_max;
  int tokens, dim;
  const void* x;
  int x_vectors;
  NormWeights norm;
  void* normalised;
  int pixel;
  const int32_t* feature_list;  // [samples][dim] or null: all
  const int* feature_count;
};

// softmax(Q K') V, head by head. The rows of a sample lie one after another from row sample * tokens; a row of `qkv`
// holds the kept heads' queries, their keys, and values: of kept heads, or of all where values pass.
struct AttentionParams {
  int samples, tokens, heads, head_dim;
  const void* qkv;
  int qkv_pixel;
  void* mixed;  // kept heads one after another, or all where values pass; zeros behind them up to a multiple of 8
  int mixed_pixel;
  const int* key_rows;    // [samples] or null: tokens
  const int* query_rows;  // [samples] or null: tokens
  const int32_t* head_list;
  const int* head_count;  // null: all heads
  int values_pass;
};

}  // namespace cuda
}  // namespace laudc
