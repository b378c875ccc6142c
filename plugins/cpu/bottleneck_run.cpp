#include "cpu/bottleneck_run.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "cpu/team.h"

namespace laudc {
namespace cpu {
namespace {

// Samples whose maps are kept at once: enough to share every weight that is read, few enough for the caches.
constexpr int64_t kSliceSamples = 4;

struct Block {
  BlockDesc desc;
  PackedLayout layout;
  BlockGeometry geometry;
  const float* weights;
  int h1_buffer;  // blocks of equal geometry share a zero-bordered map

  Block(const BlockDesc& d, const float* w)
      : desc(d), layout(packed_layout(d)), geometry(d), weights(w), h1_buffer(0) {}
};

// Everything one call needs.
struct Workspace {
  Buffer maps[2];  // block input and output, swapped by projecting blocks
  std::vector<Buffer> h1;
  Buffer h2, packed;
  ApartScratch apart;
  std::vector<RowSets> rows;         // per block
  std::vector<PartialSums> sums[2];  // per sample, of the outputs of even and odd blocks
  RowSetScratch row_scratch;
  Decisions decisions;
  IotaCache iota;
  Pool<TaskScratch> tasks;
  std::vector<int32_t> kept_channels;
  std::vector<float> channel_vectors;  // bias and clamp of the kept channels
  std::vector<float> zeros;
};

bool same_h1(const BlockDesc& a, const BlockDesc& b) { return a.hin == b.hin && a.win == b.win && a.width == b.width; }

// Bias and clamp vectors of conv1 and conv2 restricted to the kept channels.
struct ChannelVectors {
  Bias conv1, conv2;
};

class BlockCall {
 public:
  // `index`: of the block in its run. `following`: what the next block reads first. `input_sums_known`: the block
  // before left the column sums of `in`.
  BlockCall(const Block& block, size_t index, Region following, bool input_sums_known, const Context& context,
            Workspace* ws, const float* in, int64_t in_pixel, int samples)
      : b_(block),
        d_(block.desc),
        following_(following),
        input_sums_known_(input_sums_known),
        sums_slot_(index % 2),
        context_(context),
        ws_(ws),
        rows_(&ws->rows[index]),
        in_(in),
        samples_(samples),
        strides_(map_strides(block.desc, in_pixel)) {}

  // Every pixel of the output passes through one conv3, which then sums up what the next channel masker averages.
  bool leaves_sums() const { return d_.channel() && !d_.spatial(); }

  // Computes into `out` (which is `in` for an identity block).
  void run(float* out) {
    decide_masks();
    list_rows();
    if (d_.projection) project(out);
    float* h1 = ws_->h1[static_cast<size_t>(b_.h1_buffer)].zeroed_at_least(floats(samples_, strides_.h1_sample));
    float* h2 = ws_->h2.at_least(floats(rows_->h2_rows, strides_.h2_pixel));
    if (d_.channel()) {
      for (int s = 0; s < samples_; ++s) channel_sample(s, h1, h2, out);
    } else {
      const Everything all = everything();
      convolve(all.conv1, all.conv2, all.tiles, nullptr, plain_vectors(), h1, h2);
      for (int part = 0; part < d_.conv3_parts(); ++part) conv3(part, all_of(part), nullptr, h2, out, nullptr);
    }
    finish_partial_groups(out);
  }

  void report(int64_t first_sample, int64_t block, int64_t blocks, int64_t margin_offset, int64_t total_margins,
              const RunOutputs& out) const {
    const size_t per_sample = static_cast<size_t>(d_.margins());
    for (int s = 0; s < samples_; ++s) {
      const uint8_t* keep = ws_->decisions.keep.data() + per_sample * static_cast<size_t>(s);
      if (out.counts != nullptr) count(s, keep, out.counts + ((first_sample + s) * blocks + block) * kCountsPerBlock);
      if (out.margins != nullptr && per_sample > 0) {
        std::memcpy(out.margins + (first_sample + s) * total_margins + margin_offset,
                    ws_->decisions.margins.data() + per_sample * static_cast<size_t>(s), per_sample * sizeof(float));
      }
    }
  }

 private:
  struct Everything {
    SampleRange conv1, conv2, tiles;
  };

  static size_t floats(int64_t count, int64_t stride) { return static_cast<size_t>(count * stride); }
  static SampleRange whole(const std::vector<int32_t>& list) { return {0, static_cast<int>(list.size())}; }
  Everything everything() const { return {whole(rows_->conv1_in), whole(rows_->conv2_in), whole(rows_->tile_in)}; }
  SampleRange all_of(int part) const { return whole(rows_->conv3[static_cast<size_t>(part)].in); }
  const float* at(int64_t offset) const { return b_.weights + offset; }

  void decide_masks() {
    const int32_t* in_rows = ws_->iota.get(strides_.in_pixel, static_cast<size_t>(samples_) * d_.hin * d_.win);
    decide(context_, d_, b_.layout, b_.weights, in_, in_rows, samples_,
           input_sums_known_ ? ws_->sums[1 - sums_slot_].data() : nullptr, &ws_->iota, &ws_->decisions);
  }

  void list_rows() {
    // Without a spatial mask every call has the same lists, once the last of them was filled.
    if (!d_.spatial() && !rows_->conv3.empty() && static_cast<int>(rows_->conv3.back().samples.size()) == samples_ &&
        rows_->in_pixel == strides_.in_pixel)
      return;
    rows_->clear(d_);
    rows_->in_pixel = strides_.in_pixel;
    for (int s = 0; s < samples_; ++s) {
      const uint8_t* keep = ws_->decisions.keep.data() + static_cast<size_t>(d_.margins()) * static_cast<size_t>(s);
      append_rows(d_, b_.geometry, strides_, s, keep, &ws_->row_scratch, rows_);
    }
  }

  // Pixels that conv3 will add to keep the raw projection; the others get their ReLU here.
  void project(float* out) {
    const Weights w = {Weights::kPanels, at(b_.layout.proj_w), d_.cin, 1, 1, d_.cout, d_.panel, nullptr, nullptr, 1};
    const Weights conv1 = conv1_weights(nullptr);
    ws_->zeros.resize(static_cast<size_t>(d_.cout) + kMaxPanel, 0.0f);
    for (int kind = 0; kind < 2; ++kind) {
      const std::vector<int32_t>& in_rows = rows_->proj_in[kind];
      const Rows rows = {in_,     in_rows.data(), nullptr, out, rows_->proj_out[kind].data(),
                         nullptr, whole(in_rows), true};
      const float* lo = kind == 0 ? ws_->zeros.data() : nullptr;
      indexed_gemm(context_, w, rows, {at(b_.layout.proj_b), 0, lo}, Epilogue::kStore, {&conv1, {nullptr, 0}}, nullptr);
    }
  }

  ChannelVectors plain_vectors() const {
    return {{at(b_.layout.conv1_b), 0, at(b_.layout.conv1_lo)},
            {at(b_.layout.conv2_b), b_.layout.bias_stride, at(b_.layout.conv2_lo)}};
  }

  // Gathers the kept entries: conv1 bias, conv1 clamp, conv2 clamp, conv2 bias of every border class.
  ChannelVectors kept_vectors() {
    const std::vector<int32_t>& kept = ws_->kept_channels;
    const int64_t stride = round_up(static_cast<int64_t>(kept.size()), kAlign);
    ws_->channel_vectors.resize(static_cast<size_t>((3 + b_.layout.conv2_classes) * stride + kMaxPanel));
    float* to = ws_->channel_vectors.data();
    const auto gather = [&](const float* from) {
      for (size_t i = 0; i < kept.size(); ++i) to[i] = from[kept[i]];
      to += stride;
      return to - stride;
    };
    const float* bias1 = gather(at(b_.layout.conv1_b));
    const float* lo1 = gather(at(b_.layout.conv1_lo));
    const float* lo2 = gather(at(b_.layout.conv2_lo));
    const float* bias2 = to;
    for (int cls = 0; cls < b_.layout.conv2_classes; ++cls) gather(at(b_.layout.conv2_b + cls * b_.layout.bias_stride));
    return {{bias1, 0, lo1}, {bias2, stride, lo2}};
  }

  void channel_sample(int s, float* h1, float* h2, float* out) {
    list_kept_channels(s);
    const size_t i = static_cast<size_t>(s);
    const SampleRange conv2 = b_.desc.conv2_algo == Conv2Algo::kDirect ? rows_->conv2_samples[i] : SampleRange{0, 0};
    const SampleRange tiles =
        b_.desc.conv2_algo == Conv2Algo::kWinograd2x2 ? rows_->tile_samples[i] : SampleRange{0, 0};
    const bool all_kept = static_cast<int>(ws_->kept_channels.size()) == d_.width;
    const std::vector<int32_t>* kept = all_kept ? nullptr : &ws_->kept_channels;
    if (!ws_->kept_channels.empty()) {
      convolve(rows_->conv1_samples[i], conv2, tiles, kept, all_kept ? plain_vectors() : kept_vectors(), h1, h2);
    }
    // With nothing kept conv3 still adds its constant, as the authors' network does.
    for (int part = 0; part < d_.conv3_parts(); ++part) {
      conv3(part, rows_->conv3[static_cast<size_t>(part)].samples[i], kept, h2, out,
            leaves_sums() ? &ws_->sums[sums_slot_][i] : nullptr);
    }
  }

  void list_kept_channels(int s) {
    const uint8_t* keep = ws_->decisions.keep.data() + static_cast<size_t>(d_.margins()) * static_cast<size_t>(s) +
                          (d_.margins() - d_.channel_groups);
    ws_->kept_channels.clear();
    const int per_group = d_.channels_per_group();
    for (int g = 0; g < d_.channel_groups; ++g) {
      if (!keep[g]) continue;
      for (int c = 0; c < per_group; ++c) ws_->kept_channels.push_back(g * per_group + c);
    }
  }

  Weights::Layout layout() const { return d_.channel() ? Weights::kRows : Weights::kPanels; }

  // Few pixels are shared out by channels, many by pixels.
  int shares() const { return d_.hin * d_.win < 96 ? context_.parallel->width() : 1; }

  // Threads pack Winograd's filters by panels: as many panels as threads, so that each packs rows of its own, unless
  // they would be too narrow to be multiplied with at full speed.
  int winograd_shares(const std::vector<int32_t>* kept) const {
    constexpr int kWide = 32;
    const int columns = kept == nullptr ? d_.width : static_cast<int>(kept->size());
    return std::max(shares(), std::min(context_.parallel->width(), columns / kWide));
  }

  Weights conv1_weights(const std::vector<int32_t>* kept) const {
    return {layout(), at(b_.layout.conv1_w), d_.cin, 1, 1, d_.width, d_.panel, nullptr, kept, shares()};
  }

  Weights conv2_weights(const std::vector<int32_t>* kept) const {
    const bool winograd = d_.conv2_algo == Conv2Algo::kWinograd2x2;
    return {layout(),
            at(b_.layout.conv2_w),
            d_.width,
            winograd ? 1 : 9,
            winograd ? kWinogradPoints : 1,
            d_.width,
            d_.panel,
            kept,
            kept,
            winograd ? winograd_shares(kept) : shares()};
  }

  Weights conv3_weights(int part, const std::vector<int32_t>* kept) const {
    const int columns = d_.cout / d_.conv3_parts();
    const int64_t part_floats = panel_floats(d_.width, columns, d_.panel);
    return {Weights::kPanels,
            at(b_.layout.conv3_w + part * part_floats),
            d_.width,
            1,
            1,
            columns,
            d_.panel,
            kept,
            nullptr,
            1};
  }

  void convolve(SampleRange conv1, SampleRange conv2, SampleRange tiles, const std::vector<int32_t>* kept,
                const ChannelVectors& vectors, float* h1, float* h2) {
    const RowSets& lists = *rows_;
    const Weights w2 = conv2_weights(kept);
    const Weights w3 = conv3_weights(0, kept);
    gemm(conv1_weights(kept), {in_, lists.conv1_in.data(), nullptr, h1, lists.conv1_out.data(), nullptr, conv1, true},
         vectors.conv1, Epilogue::kStore, {&w2, {nullptr, 0}}, nullptr);
    if (d_.conv2_algo == Conv2Algo::kWinograd2x2) {
      const Tiles work = {h1,
                          lists.tile_in.data(),
                          lists.tile_out.data(),
                          classes(lists.tile_class),
                          strides_.h1_row,
                          strides_.h1_pixel,
                          h2,
                          tiles};
      winograd_conv(context_, w2, work, vectors.conv2, {&w3, {nullptr, 0}});
      return;
    }
    int32_t taps[9];
    for (int t = 0; t < 9; ++t) taps[t] = static_cast<int32_t>(t / 3 * strides_.h1_row + t % 3 * strides_.h1_pixel);
    const int32_t* h2_rows = ws_->iota.get(strides_.h2_pixel, lists.conv2_in.size());
    gemm(w2, {h1, lists.conv2_in.data(), taps, h2, h2_rows, classes(lists.conv2_class), conv2, true}, vectors.conv2,
         Epilogue::kStore, {&w3, {nullptr, 0}}, nullptr);
  }

  // What threads pack for kept channels, each packs for itself.
  void gemm(const Weights& weights, const Rows& rows, const Bias& bias, Epilogue epilogue, const Following& next,
            PartialSums* sums) {
    if (weights.must_pack()) {
      indexed_gemm_apart(context_, weights, rows, bias, epilogue, next, sums, &ws_->apart, nullptr);
    } else {
      indexed_gemm(context_, weights, rows, bias, epilogue, next, sums);
    }
  }

  static const uint8_t* classes(const std::vector<uint8_t>& list) { return list.empty() ? nullptr : list.data(); }

  void conv3(int part, SampleRange range, const std::vector<int32_t>* kept, const float* h2, float* out,
             PartialSums* sums) {
    const RowSets::Conv3& lists = rows_->conv3[static_cast<size_t>(part)];
    const int first = part * (d_.cout / d_.conv3_parts());
    gemm(conv3_weights(part, kept),
         {h2, lists.in.data(), nullptr, out + first, lists.out.data(), nullptr, range, d_.conv3_parts() == 1},
         {at(b_.layout.conv3_b + first), 0, nullptr}, Epilogue::kAddRelu, {nullptr, following_}, sums);
  }

  void finish_partial_groups(float* out) {
    const int columns = d_.cout / d_.conv3_parts();
    for (int part = 0; part < d_.conv3_parts(); ++part) {
      for (const int32_t offset : rows_->conv3[static_cast<size_t>(part)].dropped) {
        float* pixel = out + offset + part * columns;
        for (int c = 0; c < columns; ++c) pixel[c] = pixel[c] < 0 ? 0 : pixel[c];
      }
    }
  }

  void count(int s, const uint8_t* keep, int32_t* to) const {
    const size_t i = static_cast<size_t>(s);
    const SampleRange conv1 = rows_->conv1_samples[i];
    const int cells = d_.mask_groups * d_.mask_h * d_.mask_w;
    int32_t wanted = 0, kept_cells = 0, kept_groups = 0;
    const auto& direct = rows_->conv2_samples;
    if (!direct.empty()) wanted = direct[i].end - direct[i].begin;
    if (direct.empty()) {
      for (int t = 4 * rows_->tile_samples[i].begin; t < 4 * rows_->tile_samples[i].end; ++t) {
        wanted += rows_->tile_out[static_cast<size_t>(t)] >= 0 ? 1 : 0;
      }
    }
    for (int c = 0; c < cells; ++c) kept_cells += keep[c];
    for (int c = cells; c < d_.margins(); ++c) kept_groups += keep[c];
    const int32_t values[kCountsPerBlock] = {conv1.end - conv1.begin, wanted, kept_cells, kept_groups};
    std::memcpy(to, values, sizeof(values));
  }

  const Block& b_;
  const BlockDesc& d_;
  const Region following_;
  const bool input_sums_known_;
  const size_t sums_slot_;
  const Context& context_;
  Workspace* ws_;
  RowSets* rows_;
  const float* in_;
  const int samples_;
  const MapStrides strides_;
};

// What a block reads first, before its masks are known: its channel masker, or the first panels of its weights.
Region first_reads(const Block& block) {
  const BlockDesc& d = block.desc;
  const PackedLayout& l = block.layout;
  if (d.channel()) return {block.weights + l.masker1_w, l.total - l.masker1_w};
  constexpr int64_t kEnough = 64 * 1024;
  const int64_t begin = d.projection ? l.proj_w : l.conv1_w, end = d.projection ? l.proj_b : l.conv1_b;
  return {block.weights + begin, std::min(end - begin, kEnough)};
}

void copy_pixels(const float* from, int64_t from_pixel, float* to, int64_t to_pixel, int64_t pixels, int channels) {
  for (int64_t i = 0; i < pixels; ++i) {
    std::memcpy(to + i * to_pixel, from + i * from_pixel, static_cast<size_t>(channels) * sizeof(float));
  }
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

struct BottleneckRun::State {
  std::vector<Block> blocks;
  int h1_buffers = 0;
  int64_t margins = 0;
  Pool<Workspace> workspaces;

  void slice(const float* x, int64_t first_sample, int samples, const Parallel& parallel, Workspace* ws,
             const RunOutputs& out);
};

BottleneckRun::BottleneckRun() : state_(new State) {}
BottleneckRun::~BottleneckRun() = default;

std::unique_ptr<BottleneckRun> BottleneckRun::create(std::vector<BlockDesc> blocks, std::vector<const float*> weights,
                                                     const std::vector<int64_t>& weight_floats, std::string* error) {
  if (blocks.empty() || blocks.size() != weights.size() || blocks.size() != weight_floats.size()) {
    *error =
        "the run has " + std::to_string(blocks.size()) + " blocks but " + std::to_string(weights.size()) + " weights";
    return nullptr;
  }
  std::unique_ptr<BottleneckRun> run(new BottleneckRun());
  for (size_t i = 0; i < blocks.size(); ++i) {
    Block block(blocks[i], weights[i]);
    if (block.layout.total != weight_floats[i]) {
      *error = "block " + std::to_string(i) + ": packed weights hold " + std::to_string(weight_floats[i]) +
               " floats, its record needs " + std::to_string(block.layout.total);
      return nullptr;
    }
    block.h1_buffer = run->state_->h1_buffers;
    for (const Block& other : run->state_->blocks) {
      if (same_h1(other.desc, block.desc)) block.h1_buffer = other.h1_buffer;
    }
    run->state_->h1_buffers = std::max(run->state_->h1_buffers, block.h1_buffer + 1);
    run->state_->margins += block.desc.margins();
    run->state_->blocks.push_back(std::move(block));
  }
  return run;
}

const BlockDesc& BottleneckRun::first() const { return state_->blocks.front().desc; }
const BlockDesc& BottleneckRun::last() const { return state_->blocks.back().desc; }
int BottleneckRun::block_count() const { return static_cast<int>(state_->blocks.size()); }
int64_t BottleneckRun::total_margins() const { return state_->margins; }

void BottleneckRun::State::slice(const float* x, int64_t first_sample, int samples, const Parallel& parallel,
                                 Workspace* ws, const RunOutputs& out) {
  const Context context = {&kernels(), &parallel, &ws->tasks, &ws->packed};
  const BlockDesc& head = blocks.front().desc;
  const float* in = x;
  int64_t in_pixel = head.cin;
  int current = 0;
  if (!head.projection) {
    // An identity block updates its input, which here belongs to the caller.
    in_pixel = round_up(head.cin, kAlign);
    const int64_t pixels = static_cast<int64_t>(samples) * head.hin * head.win;
    float* map = ws->maps[current].at_least(static_cast<size_t>(pixels * in_pixel));
    copy_pixels(x, head.cin, map, in_pixel, pixels, head.cin);
    in = map;
  }
  int64_t margin_offset = 0;
  bool sums_known = false;
  ws->rows.resize(blocks.size());
  for (auto& sums : ws->sums) sums.resize(kSliceSamples);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockDesc& d = blocks[i].desc;
    const int64_t start = out.block_ns == nullptr ? 0 : now_ns();
    const int64_t out_pixel = round_up(d.cout, kAlign);
    if (d.projection) current = 1 - current;
    float* result = ws->maps[current].at_least(
        static_cast<size_t>(static_cast<int64_t>(samples) * d.hout() * d.wout() * out_pixel));
    const Region following = i + 1 < blocks.size() ? first_reads(blocks[i + 1]) : Region{nullptr, 0};
    BlockCall call(blocks[i], i, following, sums_known, context, ws, in, in_pixel, samples);
    call.run(result);
    call.report(first_sample, static_cast<int64_t>(i), static_cast<int64_t>(blocks.size()), margin_offset, margins,
                out);
    margin_offset += d.margins();
    sums_known = call.leaves_sums();
    in = result;
    in_pixel = out_pixel;
    if (out.block_ns != nullptr) out.block_ns[i] += now_ns() - start;
  }
  const BlockDesc& tail = blocks.back().desc;
  const int64_t pixels = static_cast<int64_t>(tail.hout()) * tail.wout();
  copy_pixels(in, in_pixel, out.y + first_sample * pixels * tail.cout, tail.cout, samples * pixels, tail.cout);
}

void BottleneckRun::execute(const float* x, int64_t batch, const Parallel& parallel, const RunOutputs& out) const {
  if (out.block_ns != nullptr) std::memset(out.block_ns, 0, state_->blocks.size() * sizeof(int64_t));
  auto ws = state_->workspaces.borrow();
  ws->h1.resize(static_cast<size_t>(state_->h1_buffers));
  const int64_t input_floats = static_cast<int64_t>(first().hin) * first().win * first().cin;
  Team::lead(parallel, [&](const Parallel& team) {
    for (int64_t s = 0; s < batch; s += kSliceSamples) {
      const int samples = static_cast<int>(std::min(kSliceSamples, batch - s));
      state_->slice(x + s * input_floats, s, samples, team, &*ws, out);
    }
  });
}

}  // namespace cpu
}  // namespace laudc
