#include "cuda/vit_call.h"

#include <algorithm>

#include "core/packed_layout.h"
#include "cuda/gemm_tiles.h"

namespace laudc {
namespace cuda {
namespace {

constexpr int kCountsPerBlock = 4;
constexpr int kBlocksPerMultiprocessor = 8;

// Thread blocks that share a sample's tokens: enough for every multiprocessor, a warp per token at most.
int chunks_of(int tokens, int batch, int multiprocessors) {
  const int wanted = (4 * multiprocessors + batch - 1) / batch;
  return std::max(1, std::min(wanted, (tokens + 7) / 8));
}

}  // namespace

int VitCall::launch() const {
  typedef int (VitCall::*Step)() const;
  for (const Step step : {&VitCall::choose, &VitCall::qkv, &VitCall::attend, &VitCall::project, &VitCall::normalise,
                          &VitCall::fc1, &VitCall::fc2}) {
    const int error = (this->*step)();
    if (error != 0) return error;
  }
  return 0;
}

int VitCall::token_vectors() const {
  const bool aligned = reinterpret_cast<uintptr_t>(c_.tokens) % 16 == 0;
  return aligned && d_.dim % (half() ? 8 : 4) == 0 ? 1 : 0;
}

// ---- decisions ------------------------------------------------------------------------------------------------------

int VitCall::choose() const {
  ChooseParams p = ChooseParams();
  p.samples = batch();
  p.chunks = chunks_of(d_.tokens, batch(), multiprocessors());
  p.chunk_tokens = (d_.tokens + p.chunks - 1) / p.chunks;
  p.tokens = d_.tokens;
  p.dim = d_.dim;
  p.heads = d_.heads;
  p.hidden = d_.hidden;
  p.x = c_.tokens;
  p.x_vectors = token_vectors();
  p.norm = norm(l_.norm1_w, l_.norm1_b);
  p.normalised = c_.section(c_.plan->normalised);
  p.pixel = padded(d_.dim);
  add_decisions(&p);
  p.attention_rows = counter(TokenCounter::kAttentionRows);
  p.projected_rows = counter(TokenCounter::kProjectedRows);
  p.mlp_rows = counter(TokenCounter::kMlpRows);
  p.tokens_in_mlp = d_.tokens_in_mlp ? 1 : 0;
  p.first_only = d_.first_only ? 1 : 0;
  p.counts = c_.io->counts == nullptr ? nullptr : c_.io->counts + kCountsPerBlock * index_;
  p.counts_stride = kCountsPerBlock * static_cast<int>(c_.blocks);
  p.tickets = counter(TokenCounter::kTickets);
  return launch_choose(half(), p, c_.stream);
}

void VitCall::add_decisions(ChooseParams* p) const {
  p->margin_count = d_.margins();
  p->margins = c_.io->margins == nullptr ? nullptr : c_.io->margins + margin_at_;
  p->margins_stride = static_cast<int>(c_.io->margins_stride);
  p->keep = c_.section<uint8_t>(c_.plan->keep);
  p->token_list = c_.section<int32_t>(c_.plan->token_list);
  p->token_count = counter(TokenCounter::kTokens);
  if (d_.token_policy) {
    p->token_w = constants(l_.token_w);
    p->token_b = constants(l_.token_b);
    p->scores = c_.section<float>(c_.plan->scores);
  }
  if (d_.head_policy || d_.layer_policy) p->policy = c_.section<float>(c_.plan->policy);
  if (d_.norm_policy) p->policy_norm = norm(l_.policy_w, l_.policy_b);
  if (d_.layer_policy) {
    p->layer_w = constants(l_.layer_w);
    p->layer_b = constants(l_.layer_b);
  }
  if (!d_.head_policy) return;
  p->head_w = constants(l_.head_w);
  p->head_b = constants(l_.head_b);
  p->head_list = c_.section<int32_t>(c_.plan->head_list);
  p->head_count = counter(TokenCounter::kHeads);
  p->values_pass = values_pass() ? 1 : 0;
  p->column_list = c_.section<int32_t>(c_.plan->column_list);
  p->column_count = counter(TokenCounter::kColumns);
  p->feature_list = c_.section<int32_t>(c_.plan->feature_list);
  p->feature_count = counter(TokenCounter::kFeatures);
  if (!narrows(MlpWidth::kOutputs)) return;
  p->hidden_list = c_.section<int32_t>(c_.plan->hidden_list);
  p->hidden_count = counter(TokenCounter::kHidden);
}

// ---- products -------------------------------------------------------------------------------------------------------

GemmParams VitCall::rows(bool all, TokenCounter count) const {
  GemmParams p = GemmParams();
  p.segments = all ? 1 : batch();
  p.rows_max = all ? batch() * d_.tokens : d_.tokens;
  p.row_count = all ? nullptr : counter(count);
  p.source = RowSource::kCompact;
  p.target = RowTarget::kPixel;
  p.a_vectors = 1;
  return p;
}

GemmParams VitCall::attention_rows(TokenCounter count) const {
  const bool all = !d_.token_policy && !d_.head_policy && !d_.layer_policy && !d_.first_only;
  GemmParams p = rows(all, count);
  if (!all) p.list = c_.section<int32_t>(c_.plan->token_list);
  return p;
}

GemmParams VitCall::mlp_rows() const {
  const bool narrow = narrows(MlpWidth::kInputs) || narrows(MlpWidth::kOutputs);
  GemmParams p = rows(!d_.tokens_in_mlp && !d_.layer_policy && !d_.first_only && !narrow, TokenCounter::kMlpRows);
  if (d_.tokens_in_mlp) p.list = c_.section<int32_t>(c_.plan->token_list);
  return p;
}

void VitCall::set_weights(int matrix, int depth, int columns, int parts, GemmParams* p) const {
  p->w = c_.run->weights(*c_.io, index_, matrix);
  p->taps = 1;
  p->depth = depth;
  p->columns = columns;
  p->panel = d_.panel;
  p->w_parts = parts;
  const int share = columns / parts;
  p->w_part_size = static_cast<int>(panel_floats(depth, share, d_.panel));
  p->n_run = parts == 1 ? 16 : std::min(16, share & -share);
}

void VitCall::add_to_tokens(int64_t bias, GemmParams* p) const {
  p->epilogue = Epilogue::kAdd;
  p->out = c_.tokens;
  p->out_pixel = d_.dim;
  p->out_vectors = token_vectors();
  p->bias = constants(bias);
}

int VitCall::start(GemmParams* p) const {
  p->partials = c_.section<float>(c_.plan->partials);
  p->tickets = c_.section<int>(c_.plan->split_tickets(c_.blocks));
  return queue_gemm(c_.run->setting().kind, multiprocessors(), p, c_.stream);
}

int VitCall::qkv() const {
  GemmParams p = attention_rows(TokenCounter::kAttentionRows);
  p.source = RowSource::kPixel;
  p.target = RowTarget::kCompact;
  p.a = c_.section(c_.plan->normalised);
  p.a_pixel = padded(d_.dim);
  set_weights(VitRun::kQkv, d_.dim, 3 * d_.dim, 3 * d_.heads, &p);
  if (d_.head_policy) {
    p.n_kept = c_.section<int32_t>(c_.plan->column_list);
    p.n_count = counter(TokenCounter::kColumns);
    p.kept_stride = 3 * d_.dim;
  }
  p.epilogue = Epilogue::kProject;
  p.out = c_.section(c_.plan->qkv);
  p.out_pixel = padded(3 * d_.dim);
  p.out_vectors = p.out_padded = 1;
  p.bias = constants(l_.qkv_b);
  return start(&p);
}

int VitCall::attend() const {
  const GemmParams rows = attention_rows(TokenCounter::kAttentionRows);
  AttentionParams p = AttentionParams();
  p.samples = batch();
  p.tokens = d_.tokens;
  p.heads = d_.heads;
  p.head_dim = d_.head_dim();
  p.qkv = c_.section(c_.plan->qkv);
  p.qkv_pixel = padded(3 * d_.dim);
  p.mixed = c_.section(c_.plan->mixed);
  p.mixed_pixel = padded(d_.dim);
  p.key_rows = rows.row_count;
  p.query_rows = rows.row_count == nullptr ? nullptr : counter(TokenCounter::kProjectedRows);
  p.head_list = c_.section<int32_t>(c_.plan->head_list);
  p.head_count = d_.head_policy ? counter(TokenCounter::kHeads) : nullptr;
  p.values_pass = values_pass() ? 1 : 0;
  return launch_attention(half(), p, kBlocksPerMultiprocessor * multiprocessors(), c_.stream);
}

int VitCall::project() const {
  GemmParams p = attention_rows(TokenCounter::kProjectedRows);
  p.a = c_.section(c_.plan->mixed);
  p.a_pixel = padded(d_.dim);
  set_weights(VitRun::kProjection, d_.dim, d_.dim, 1, &p);
  if (d_.head_policy && !values_pass()) {
    p.k_kept = c_.section<int32_t>(c_.plan->feature_list);
    p.k_count = counter(TokenCounter::kFeatures);
    p.kept_stride = d_.dim;
  }
  add_to_tokens(l_.proj_b, &p);
  return start(&p);
}

int VitCall::normalise() const {
  const GemmParams rows = mlp_rows();
  NormParams p = NormParams();
  p.list = rows.list;
  p.row_count = rows.row_count;
  p.segments = rows.segments;
  p.rows_max = rows.rows_max;
  p.tokens = d_.tokens;
  p.dim = d_.dim;
  p.x = c_.tokens;
  p.x_vectors = token_vectors();
  p.norm = norm(l_.norm2_w, l_.norm2_b);
  p.normalised = c_.section(c_.plan->normalised);
  p.pixel = padded(d_.dim);
  if (narrows(MlpWidth::kInputs)) {
    p.feature_list = c_.section<int32_t>(c_.plan->feature_list);
    p.feature_count = counter(TokenCounter::kFeatures);
  }
  return launch_normalise(half(), p, kBlocksPerMultiprocessor * multiprocessors(), c_.stream);
}

int VitCall::fc1() const {
  GemmParams p = mlp_rows();
  p.source = RowSource::kPixel;
  p.target = RowTarget::kCompact;
  p.a = c_.section(c_.plan->normalised);
  p.a_pixel = padded(d_.dim);
  set_weights(VitRun::kFc1, d_.dim, d_.hidden, d_.hidden_parts(), &p);
  if (narrows(MlpWidth::kInputs)) {
    p.k_kept = c_.section<int32_t>(c_.plan->feature_list);
    p.k_count = counter(TokenCounter::kFeatures);
    p.kept_stride = d_.dim;
  }
  if (narrows(MlpWidth::kOutputs)) {
    p.n_kept = c_.section<int32_t>(c_.plan->hidden_list);
    p.n_count = counter(TokenCounter::kHidden);
    p.kept_stride = d_.hidden;
  }
  p.epilogue = Epilogue::kGelu;
  p.out = c_.section(c_.plan->hidden);
  p.out_pixel = padded(d_.hidden);
  p.out_vectors = p.out_padded = 1;
  p.bias = constants(l_.fc1_b);
  return start(&p);
}

int VitCall::fc2() const {
  GemmParams p = mlp_rows();
  p.a = c_.section(c_.plan->hidden);
  p.a_pixel = padded(d_.hidden);
  set_weights(VitRun::kFc2, d_.hidden, d_.dim, 1, &p);
  if (narrows(MlpWidth::kOutputs)) {
    p.k_kept = c_.section<int32_t>(c_.plan->hidden_list);
    p.k_count = counter(TokenCounter::kHidden);
    p.kept_stride = d_.hidden;
  }
  add_to_tokens(l_.fc2_b, &p);
  return start(&p);
}

}  // namespace cuda
}  // namespace laudc
