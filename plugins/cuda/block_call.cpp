#include "cuda/block_call.h"

#include <algorithm>

namespace laudc {
namespace cuda {
namespace {

constexpr int kCountsPerBlock = 4;

// The largest power of two that divides `value`, at most 64.
int run_length(int value) { return std::min(value & -value, 64); }

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tiles of a launch if every row were computed.
int64_t most_tiles(const GemmParams& p, const TileSize& size) {
  return p.segments * ceil_div(p.rows_max, size.m) * ceil_div(p.columns, size.n);
}

// The larger the tile, the less often operands are read, as long as there is one tile for every multiprocessor when
// half of the rows are skipped.
TileShape choose_shape(GemmKind kind, const GemmParams& p, int multiprocessors) {
  for (const TileShape shape : {TileShape::kBig, TileShape::kTall}) {
    const TileSize size = tile_size(kind, shape);
    const bool fits = p.columns > size.n / 2 || size.n <= 64;
    if (fits && most_tiles(p, size) / 2 >= multiprocessors) return shape;
  }
  return TileShape::kSmall;
}

// Few tiles are split along k until every multiprocessor has one, but not into pieces shorter than a pipeline.
int choose_splits(const GemmParams& p, const TileSize& size, int multiprocessors) {
  constexpr int64_t kShortest = 8;
  const int64_t tiles = most_tiles(p, size);
  if (tiles == 0 || tiles > max_split_tiles(multiprocessors)) return 1;
  const int64_t steps = p.taps * ceil_div(p.depth, size.step);
  const int64_t wanted = std::min<int64_t>({multiprocessors / tiles, steps / kShortest, 16});
  const int64_t room = max_partial_floats(multiprocessors) / (tiles * size.m * size.n);
  return static_cast<int>(std::max<int64_t>(1, std::min(wanted, room)));
}

}  // namespace

BlockCall::BlockCall(const CallContext& context, size_t index, int64_t margin_at, const void* in, void* out)
    : c_(context),
      index_(index),
      d_(context.run->blocks()[index]),
      l_(context.run->layout(index)),
      margin_at_(margin_at),
      in_(in),
      out_(out) {}

int BlockCall::launch() const {
  typedef int (BlockCall::*Step)() const;
  const Step steps[] = {&BlockCall::hidden_map, &BlockCall::decide, &BlockCall::residual,
                        &BlockCall::conv1,      &BlockCall::conv2,  &BlockCall::conv3};
  for (const Step step : steps) {
    const int error = (this->*step)();
    if (error != 0) return error;
  }
  return 0;
}

int* BlockCall::counters(int which) const { return c_.section<int>(c_.plan->block_counters(index_)) + which * batch(); }

int BlockCall::aligned(const void* memory, int64_t pixel) const {
  return pixel % vector() == 0 && reinterpret_cast<uintptr_t>(memory) % 16 == 0 ? 1 : 0;
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
  set_weights(constants(l_.masker1_w), 1, d_.cin, d_.masker_hidden, &p);
  p.out = c_.at(c_.plan->hidden_map);
  p.out_pixel = static_cast<int>(round_up(d_.masker_hidden, 8));
  p.out_vectors = p.out_padded = 1;
  p.bias = constants(l_.masker1_b);
  p.epilogue = Epilogue::kRelu;
  return start(c_.run->half() ? GemmKind::kHalfFloat : GemmKind::kFloat, &p);
}

MaskerParams BlockCall::masker_params() const {
  MaskerParams p = MaskerParams();
  const Chunks chunks = masker_chunks(d_, batch(), c_.run->device().multiprocessors);
  p.samples = static_cast<int>(batch());
  p.chunks = chunks.count;
  p.chunk_pixels = chunks.pixels;
  p.hin = d_.hin;
  p.win = d_.win;
  p.hout = d_.hout();
  p.wout = d_.wout();
  p.stride = d_.stride;
  p.x = in_;
  p.x_pixel = p.cin = d_.cin;
  p.x_vectors = aligned(in_, d_.cin);
  p.margin_count = d_.margins();
  p.margins = c_.io->margins == nullptr ? nullptr : c_.io->margins + margin_at_;
  p.margins_stride = static_cast<int>(c_.io->margins_stride);
  p.keep = c_.section<uint8_t>(c_.plan->keep);
  const int counts_each = kCountsPerBlock * static_cast<int>(c_.run->blocks().size());
  p.counts = c_.io->counts == nullptr ? nullptr : c_.io->counts + kCountsPerBlock * index_;
  p.counts_stride = counts_each;
  p.tickets = counters(3);
  return p;
}

int BlockCall::decide() const {
  MaskerParams p = masker_params();
  if (d_.spatial()) {
    p.spatial_w = constants(l_.spatial_w);
    p.spatial_b = constants(l_.spatial_b);
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
    p.conv1_count = counters(0);
    p.conv2_count = counters(1);
  }
  const bool conv = d_.channel_masker == ChannelMasker::kConv;
  if (d_.channel()) {
    p.features = conv ? c_.at(c_.plan->hidden_map) : in_;
    p.feature_pixel = conv ? static_cast<int>(round_up(d_.masker_hidden, 8)) : d_.cin;
    p.feature_count = conv ? d_.masker_hidden : d_.cin;
    p.hidden = d_.channel_masker == ChannelMasker::kMlp ? d_.masker_hidden : 0;
    p.hidden_w = constants(l_.masker1_w);
    p.hidden_b = constants(l_.masker1_b);
    p.channel_w = constants(l_.masker2_w);
    p.channel_b = constants(l_.masker2_b);
    p.channel_groups = d_.channel_groups;
    p.channels_per_group = d_.channels_per_group();
    p.partial_sums = c_.section<float>(c_.plan->partial_sums);
    p.mean = c_.section<float>(c_.plan->mean);
    p.hidden_values = c_.section<float>(c_.plan->hidden_values);
    p.kept = c_.section<int32_t>(c_.plan->kept);
    p.kept_count = counters(2);
    p.kept_stride = d_.width;
  }
  return launch_masker(c_.run->half(), !conv, p, c_.stream);
}

// ---- convolutions ---------------------------------------------------------------------------------------------------

// Rows of conv1: the input pixels that conv2 will read.
GemmParams BlockCall::rows_over_input() const {
  GemmParams p = GemmParams();
  const int pixels = d_.hin * d_.win;
  p.segments = d_.channel() ? static_cast<int>(batch()) : 1;
  p.rows_max = d_.channel() ? pixels : static_cast<int>(batch() * pixels);
  if (d_.spatial()) {
    p.list = c_.section<int32_t>(c_.plan->conv1_list);
    p.row_count = counters(0);
  }
  p.source = RowSource::kPixel;
  p.target = RowTarget::kPixel;
  p.hin = d_.hin;
  p.win = d_.win;
  p.hout = d_.hout();
  p.wout = d_.wout();
  p.stride = d_.stride;
  p.a = in_;
  p.a_pixel = d_.cin;
  p.a_vectors = aligned(in_, d_.cin);
  return p;
}

// Rows of conv2 and conv3: the output pixels that some mask group keeps.
GemmParams BlockCall::rows_over_output() const {
  GemmParams p = rows_over_input();
  const int pixels = d_.hout() * d_.wout();
  p.rows_max = d_.channel() ? pixels : static_cast<int>(batch() * pixels);
  if (d_.spatial()) {
    p.list = c_.section<int32_t>(c_.plan->conv2_list);
    p.row_count = counters(1);
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

// Restricts a convolution to the output channels that the sample keeps.
void BlockCall::keep_outputs(GemmParams* p) const {
  if (!d_.channel()) return;
  p->n_kept = c_.section<int32_t>(c_.plan->kept);
  p->n_count = counters(2);
  p->kept_stride = d_.width;
  p->n_run = std::min(16, run_length(d_.channels_per_group()));
}

void BlockCall::keep_inputs(GemmParams* p) const {
  if (!d_.channel()) return;
  p->k_kept = c_.section<int32_t>(c_.plan->kept);
  p->k_count = counters(2);
  p->kept_stride = d_.width;
}

int BlockCall::start(GemmKind kind, GemmParams* p) const {
  const int multiprocessors = c_.run->device().multiprocessors;
  const TileShape shape = kind == GemmKind::kHalfFloat ? TileShape::kSmall : choose_shape(kind, *p, multiprocessors);
  const TileSize size = tile_size(kind, shape);
  p->splits = shape == TileShape::kSmall ? choose_splits(*p, size, multiprocessors) : 1;
  p->partials = c_.section<float>(c_.plan->partials);
  p->tickets = c_.section<int>(c_.plan->split_tickets(c_.run->blocks().size()));
  const int64_t resident = static_cast<int64_t>(multiprocessors) * std::max(1, 512 / size.threads);
  const int64_t grid = std::min(most_tiles(*p, size) * p->splits, resident);
  return grid == 0 ? 0 : launch_gemm(kind, shape, *p, static_cast<int>(grid), c_.stream);
}

// Puts into `out` what conv3 adds to: the projection, or the input if it is elsewhere.
int BlockCall::residual() const {
  if (!d_.projection) {
    if (in_ == out_) return 0;
    const size_t element = c_.run->half() ? sizeof(Half) : sizeof(float);
    return copy_memory(in_, out_, static_cast<size_t>(batch() * d_.hin * d_.win * d_.cin) * element, c_.stream);
  }
  GemmParams p = rows_over_input();
  p.list = nullptr;
  p.row_count = nullptr;
  p.segments = 1;
  p.rows_max = static_cast<int>(batch() * d_.hout() * d_.wout());
  p.source = RowSource::kStrided;
  set_weights(matrix(Matrix::kProjection), 1, d_.cin, d_.cout, &p);
  p.epilogue = Epilogue::kProject;
  p.wanted = d_.spatial() ? c_.section<uint8_t>(c_.plan->wanted) : nullptr;
  p.out = out_;
  p.out_pixel = d_.cout;
  p.out_vectors = aligned(out_, d_.cout);
  p.bias = constants(l_.proj_b);
  return start(c_.run->kind(), &p);
}

int BlockCall::conv1() const {
  GemmParams p = rows_over_input();
  set_weights(matrix(Matrix::kConv1), 1, d_.cin, d_.width, &p);
  keep_outputs(&p);
  p.epilogue = Epilogue::kClamp;
  p.out = c_.at(c_.plan->h1);
  p.out_pixel = hidden_pixel(d_);
  p.out_vectors = p.out_padded = 1;
  p.bias = constants(l_.conv1_b);
  p.lo = constants(l_.conv1_lo);
  return start(c_.run->kind(), &p);
}

int BlockCall::conv2() const {
  GemmParams p = rows_over_output();
  p.source = RowSource::kTaps;
  p.target = RowTarget::kCompact;
  p.a = c_.at(c_.plan->h1);
  set_weights(matrix(Matrix::kConv2), 9, d_.width, d_.width, &p);
  keep_outputs(&p);
  keep_inputs(&p);
  p.epilogue = Epilogue::kClamp;
  p.out = c_.at(c_.plan->h2);
  p.out_pixel = hidden_pixel(d_);
  p.out_vectors = p.out_padded = 1;
  p.bias = constants(l_.conv2_b);
  p.bias_stride = l_.conv2_classes > 1 ? static_cast<int>(l_.bias_stride) : 0;
  p.lo = constants(l_.conv2_lo);
  return start(c_.run->kind(), &p);
}

int BlockCall::conv3() const {
  GemmParams p = rows_over_output();
  p.source = RowSource::kCompact;
  p.a = c_.at(c_.plan->h2);
  set_weights(matrix(Matrix::kConv3), 1, d_.width, d_.cout, &p);
  p.w_parts = d_.conv3_parts();
  p.w_part_size = static_cast<int>(panel_floats(d_.width, d_.cout / p.w_parts, d_.panel));
  if (p.w_parts > 1) p.n_run = std::min(16, run_length(d_.cout / p.w_parts));
  keep_inputs(&p);
  p.epilogue = Epilogue::kAddRelu;
  p.out = out_;
  p.out_pixel = d_.cout;
  p.out_vectors = aligned(out_, d_.cout);
  p.bias = constants(l_.conv3_b);
  if (d_.mask_groups > 1) {
    p.keep = c_.section<uint8_t>(c_.plan->keep);
    p.keep_stride = d_.margins();
    p.mask_groups = d_.mask_groups;
    p.mask_h = d_.mask_h;
    p.mask_w = d_.mask_w;
    p.row_scale = static_cast<float>(d_.mask_h) / static_cast<float>(d_.hout());
    p.col_scale = static_cast<float>(d_.mask_w) / static_cast<float>(d_.wout());
  }
  return start(c_.run->kind(), &p);
}

}  // namespace cuda
}  // namespace laudc
