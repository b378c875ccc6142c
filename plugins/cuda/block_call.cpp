#include "cuda/block_call.h"

#include <algorithm>

#include "cuda/gemm_tiles.h"

namespace laudc {
namespace cuda {
namespace {

constexpr int kCountsPerBlock = 4;

// The largest power of two that divides `value`, at most 64.
int run_length(int value) { return std::min(value & -value, 64); }

}  // namespace

int* BlockCall::counters(Counter which) const {
  return c_.section<int>(c_.plan->block_counters(place_.index)) + static_cast<int>(which) * batch();
}

int BlockCall::aligned(const void* memory, int64_t pixel) const {
  const int vector = half() ? 8 : 4;
  return pixel % vector == 0 && reinterpret_cast<uintptr_t>(memory) % 16 == 0 ? 1 : 0;
}

// ---- decisions ------------------------------------------------------------------------------------------------------

// Conv masker: relu(1x1 convolution) of every pixel, in fp32 whatever the precision.
int BlockCall::hidden_map() const {
  if (d_.channel_masker != ChannelMasker::kConv) return 0;
  GemmParams p = rows_over_input();
  p.list = nullptr;
  p.row_count = nullptr;
  p.segments = 1;
  p.rows_max = static_cast<int>(batch() * d_.hin * d_.win);
  set_weights(constants(maskers_.masker1_w), 1, d_.cin, d_.masker_hidden, &p);
  p.out = c_.at(c_.plan->hidden_map);
  p.out_pixel = static_cast<int>(round_up(d_.masker_hidden, 8));
  p.out_vectors = p.out_padded = 1;
  p.bias = constants(maskers_.masker1_b);
  p.epilogue = Epilogue::kRelu;
  return start(half() ? GemmKind::kHalfFloat : GemmKind::kFloat, &p);
}

MaskerParams BlockCall::masker_params() const {
  MaskerParams p = MaskerParams();
  const Chunks chunks = masker_chunks(d_, batch(), multiprocessors());
  p.samples = static_cast<int>(batch());
  p.chunks = chunks.count;
  p.chunk_pixels = chunks.pixels;
  p.hin = d_.hin;
  p.win = d_.win;
  p.hout = d_.hout();
  p.wout = d_.wout();
  p.stride = d_.stride;
  p.x = place_.in;
  p.x_pixel = p.cin = d_.cin;
  p.x_vectors = aligned(place_.in, d_.cin);
  p.margin_count = d_.margins();
  p.margins = c_.io->margins == nullptr ? nullptr : c_.io->margins + place_.margin_at;
  p.margins_stride = static_cast<int>(c_.io->margins_stride);
  p.keep = c_.section<uint8_t>(c_.plan->keep);
  const int counts_each = kCountsPerBlock * static_cast<int>(c_.run->blocks().size());
  p.counts = c_.io->counts == nullptr ? nullptr : c_.io->counts + kCountsPerBlock * place_.index;
  p.counts_stride = counts_each;
  p.tickets = counters(Counter::kMaskerTickets);
  return p;
}

int BlockCall::decide() const {
  const int error = hidden_map();
  if (error != 0) return error;
  MaskerParams p = masker_params();
  if (d_.spatial()) {
    p.spatial_w = constants(maskers_.spatial_w);
    p.spatial_b = constants(maskers_.spatial_b);
    p.mask_groups = d_.mask_groups;
    p.mask_h = d_.mask_h;
    p.mask_w = d_.mask_w;
    p.row_scale = static_cast<float>(d_.mask_h) / static_cast<float>(d_.hout());
    p.col_scale = static_cast<float>(d_.mask_w) / static_cast<float>(d_.wout());
    p.scores = c_.section<float>(c_.plan->scores);
    p.wanted = c_.section<uint8_t>(c_.plan->wanted);
    p.per_sample_lists = d_.channel() ? 1 : 0;
    p.conv1_list = c_.section<int32_t>(c_.plan->conv1_list);
    p.conv2_list = c_.section<int32_t>(c_.plan->conv2_list);
    p.conv1_count = counters(Counter::kConv1Rows);
    p.conv2_count = counters(Counter::kConv2Rows);
  }
  const bool conv = d_.channel_masker == ChannelMasker::kConv;
  if (d_.channel()) {
    p.features = conv ? c_.at(c_.plan->hidden_map) : place_.in;
    p.feature_pixel = conv ? static_cast<int>(round_up(d_.masker_hidden, 8)) : d_.cin;
    p.feature_count = conv ? d_.masker_hidden : d_.cin;
    p.hidden = d_.channel_masker == ChannelMasker::kMlp ? d_.masker_hidden : 0;
    p.hidden_w = constants(maskers_.masker1_w);
    p.hidden_b = constants(maskers_.masker1_b);
    p.channel_w = constants(maskers_.masker2_w);
    p.channel_b = constants(maskers_.masker2_b);
    p.channel_groups = d_.channel_groups;
    p.channels_per_group = d_.channels_per_group();
    p.partial_sums = c_.section<float>(c_.plan->partial_sums);
    p.mean = c_.section<float>(c_.plan->mean);
    p.hidden_values = c_.section<float>(c_.plan->hidden_values);
    p.kept = c_.section<int32_t>(c_.plan->kept);
    p.kept_count = counters(Counter::kKeptChannels);
    p.kept_stride = d_.width;
  }
  extend(&p);
  return launch_masker(half(), !conv, p, c_.stream);
}

// ---- convolutions ---------------------------------------------------------------------------------------------------

GemmParams BlockCall::rows_over_input() const {
  GemmParams p = GemmParams();
  const int pixels = d_.hin * d_.win;
  p.segments = d_.channel() ? static_cast<int>(batch()) : 1;
  p.rows_max = d_.channel() ? pixels : static_cast<int>(batch() * pixels);
  if (d_.spatial()) {
    p.list = c_.section<int32_t>(c_.plan->conv1_list);
    p.row_count = counters(Counter::kConv1Rows);
  }
  p.source = RowSource::kPixel;
  p.target = RowTarget::kPixel;
  p.hin = d_.hin;
  p.win = d_.win;
  p.hout = d_.hout();
  p.wout = d_.wout();
  p.stride = d_.stride;
  p.a = place_.in;
  p.a_pixel = d_.cin;
  p.a_vectors = aligned(place_.in, d_.cin);
  return p;
}

GemmParams BlockCall::rows_over_output() const {
  GemmParams p = rows_over_input();
  const int pixels = d_.hout() * d_.wout();
  p.rows_max = d_.channel() ? pixels : static_cast<int>(batch() * pixels);
  if (d_.spatial()) {
    p.list = c_.section<int32_t>(c_.plan->conv2_list);
    p.row_count = counters(Counter::kConv2Rows);
  }
  p.a_pixel = hidden_pixel(d_);
  p.a_vectors = 1;
  return p;
}

void BlockCall::set_weights(const void* weights, int taps, int depth, int columns, GemmParams* p) const {
  p->w = weights;
  p->taps = taps;
  p->depth = depth;
  p->columns = columns;
  p->panel = d_.panel;
  p->w_parts = 1;
  p->n_run = 16;
}

void BlockCall::keep_outputs(GemmParams* p) const {
  if (!d_.channel()) return;
  p->n_kept = c_.section<int32_t>(c_.plan->kept);
  p->n_count = counters(Counter::kKeptChannels);
  p->kept_stride = d_.width;
  p->n_run = std::min(16, run_length(d_.channels_per_group()));
}

void BlockCall::keep_inputs(GemmParams* p) const {
  if (!d_.channel()) return;
  p->k_kept = c_.section<int32_t>(c_.plan->kept);
  p->k_count = counters(Counter::kKeptChannels);
  p->kept_stride = d_.width;
}

int BlockCall::start(GemmKind kind, GemmParams* p) const {
  p->partials = c_.section<float>(c_.plan->partials);
  p->tickets = c_.section<int>(c_.plan->split_tickets(c_.run->blocks().size()));
  return queue_gemm(kind, multiprocessors(), p, c_.stream);
}

int BlockCall::residual(const void* weights, int64_t bias) const {
  if (!d_.projection) {
    if (place_.in == place_.out) return 0;
    const size_t elements = static_cast<size_t>(batch() * d_.hin * d_.win * d_.cin);
    return copy_memory(place_.in, place_.out, elements * c_.run->setting().element(), c_.stream);
  }
  GemmParams p = rows_over_input();
  p.list = nullptr;
  p.row_count = nullptr;
  p.segments = 1;
  p.rows_max = static_cast<int>(batch() * d_.hout() * d_.wout());
  p.source = RowSource::kStrided;
  set_weights(weights, 1, d_.cin, d_.cout, &p);
  p.epilogue = Epilogue::kProject;
  p.wanted = d_.spatial() ? c_.section<uint8_t>(c_.plan->wanted) : nullptr;
  p.out = place_.out;
  p.out_pixel = d_.cout;
  p.out_vectors = aligned(place_.out, d_.cout);
  p.bias = constants(bias);
  return start(&p);
}

int BlockCall::add_to_residual(const void* weights, int64_t bias, GemmParams* p) const {
  p->a = c_.at(c_.plan->h2);
  set_weights(weights, 1, d_.width, d_.cout, p);
  p->w_parts = d_.conv3_parts();
  p->w_part_size = static_cast<int>(panel_floats(d_.width, d_.cout / p->w_parts, d_.panel));
  if (p->w_parts > 1) p->n_run = std::min(16, run_length(d_.cout / p->w_parts));
  keep_inputs(p);
  p->epilogue = Epilogue::kAddRelu;
  p->out = place_.out;
  p->out_pixel = d_.cout;
  p->out_vectors = aligned(place_.out, d_.cout);
  p->bias = constants(bias);
  if (d_.mask_groups > 1) {
    p->keep = c_.section<uint8_t>(c_.plan->keep);
    p->keep_stride = d_.margins();
    p->mask_groups = d_.mask_groups;
    p->mask_h = d_.mask_h;
    p->mask_w = d_.mask_w;
    p->row_scale = static_cast<float>(d_.mask_h) / static_cast<float>(d_.hout());
    p->col_scale = static_cast<float>(d_.mask_w) / static_cast<float>(d_.wout());
  }
  return start(p);
}

}  // namespace cuda
}  // namespace laudc
