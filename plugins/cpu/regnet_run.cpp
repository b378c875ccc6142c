#include "cpu/regnet_run.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/index_lists.h"
#include "cpu/grouped_conv.h"
#include "cpu/maskers.h"
#include "cpu/squeeze_excitation.h"
#include "cpu/team.h"

namespace laudc {
namespace cpu {
namespace {

// Samples whose maps are kept at once: enough to share every weight that is read, few enough for the caches.
constexpr int64_t kSliceSamples = 4;

struct Strides {
  int64_t in_pixel, in_sample;
  int64_t h1_pixel, h1_row;  // conv a's output, zero-bordered: (hin + 3) x (win + 3) pixels
  int64_t h2_pixel;          // conv b's output, one pixel per row of its list, with a vector of slack
  int64_t out_pixel, out_sample;
};

Strides strides_of(const BlockDesc& d, int64_t in_pixel) {
  Strides s;
  s.in_pixel = in_pixel;
  s.in_sample = in_pixel * d.hin * d.win;
  s.h1_pixel = round_up(d.width, kAlign);
  s.h1_row = (d.win + 3) * s.h1_pixel;
  s.h2_pixel = round_up(d.width, kAlign) + kAlign;
  s.out_pixel = round_up(d.cout, kAlign);
  s.out_sample = s.out_pixel * d.hout() * d.wout();
  return s;
}

// All panels of a convolution, packed once for all calls.
struct WholePanels {
  Buffer panels;
  PanelSet set;
  bool done = false;
};

struct Block {
  RegNetDesc desc;
  RegNetLayout layout;
  std::vector<int> row_lut, col_lut;  // output pixel -> mask cell
  const float* weights;
  int h1_buffer;        // blocks of equal geometry share a zero-bordered map
  WholePanels a_whole;  // conv a for samples that keep every channel: packing it costs a fifth of its time

  Block(const RegNetDesc& d, const float* w) : desc(d), layout(regnet_layout(d)), weights(w), h1_buffer(0) {
    if (!d.block.spatial()) return;
    row_lut = nearest_lut(d.block.mask_h, d.block.hout());
    col_lut = nearest_lut(d.block.mask_w, d.block.wout());
  }
};

Weights a_weights(const Block& block, const std::vector<int32_t>* kept, int shares) {
  const BlockDesc& d = block.desc.block;
  Weights w = {d.channel() ? Weights::kRows : Weights::kPanels,
               block.weights + block.layout.a_w,
               d.cin,
               1,
               1,
               d.width,
               d.panel,
               nullptr,
               kept,
               kept == nullptr ? 1 : shares};
  if (kept == nullptr && block.a_whole.done) w.packed = &block.a_whole.set;
  return w;
}

void pack_whole(Block* block) {
  if (!block->desc.block.channel()) return;
  const Inline inline_parallel;
  Pool<TaskScratch> scratch;
  const Weights w = a_weights(*block, nullptr, 1);
  const Context context = {&kernels(), &inline_parallel, &scratch, nullptr};
  block->a_whole.set = ready_panels(context, w, 0, working_panels(w), &block->a_whole.panels);
  block->a_whole.done = true;
}

// What a block multiplies with first, as far as that is known before its masks: a sample of which the block before kept
// everything will probably need all channels again.
Region first_reads(const Block& block, bool all_kept) {
  constexpr int64_t kEnough = 128 * 1024;
  const RegNetLayout& l = block.layout;
  if (block.a_whole.done && all_kept) {
    const PanelSet& set = block.a_whole.set;
    return {set.data, std::min(set.count * set.panel_stride, kEnough)};
  }
  return {block.weights + l.a_w, std::min(l.a_b - l.a_w, kEnough)};
}

// Offsets within one sample.
struct Lists {
  std::vector<int32_t> a_in, a_out;  // conv a: input pixel, place in h1
  std::vector<int32_t> b_in;         // conv b: window in h1; its output goes to the next place in h2
  std::vector<int32_t> h2_of;        // output pixel -> place in h2, -1: none
  struct C {
    std::vector<int32_t> in, out;  // conv c: place in h2, output pixel
    std::vector<int32_t> dropped;  // projected pixels another mask group keeps but this one does not
  };
  std::vector<C> c;                              // per mask group (one without)
  std::vector<int32_t> proj_in[2], proj_out[2];  // [0] pixels no mask group keeps, [1] the others
  int32_t wanted = 0;                            // output pixels that some mask group keeps
  int64_t in_pixel = 0;                          // input stride that the lists of conv a and b were made for

  void clear_kept(int parts) {
    for (auto* list : {&proj_in[0], &proj_in[1], &proj_out[0], &proj_out[1]}) list->clear();
    c.resize(static_cast<size_t>(parts));
    for (C& part : c) {
      part.in.clear();
      part.out.clear();
      part.dropped.clear();
    }
  }
};

struct Workspace {
  Buffer maps[2];  // block input and output, swapped by projecting blocks
  std::vector<Buffer> h1;
  Buffer h2, packed, a_packed;
  ApartScratch apart;
  std::vector<PartialSums> sums[2];  // per sample, of the outputs of even and odd blocks
  PartialSums h2_sums;
  Decisions decisions;
  IotaCache iota;
  Pool<TaskScratch> tasks;
  std::vector<Lists> lists;  // per block
  std::vector<uint8_t> wanted, group, needed, scratch;
  std::vector<int32_t> kept_channels;
  std::vector<float> a_bias, b_bias, zeros;  // a_bias, b_bias: of the kept channels
  SqueezeExcitation excitation;
};

bool same_h1(const BlockDesc& a, const BlockDesc& b) { return a.hin == b.hin && a.win == b.win && a.width == b.width; }

SampleRange whole(const std::vector<int32_t>& list) { return {0, static_cast<int>(list.size())}; }

// One block for the samples of a slice, one after the other: weights stay in cache, lists and maps are of one sample.
class BlockCall {
 public:
  // `following`: the next block, or null.
  BlockCall(const Block& block, const Block* following, size_t index, bool input_sums_known, const Context& context,
            Workspace* ws, const float* in, int64_t in_pixel, int samples)
      : b_(block),
        following_(following),
        d_(block.desc.block),
        input_sums_known_(input_sums_known),
        sums_slot_(index % 2),
        context_(context),
        ws_(ws),
        lists_(ws->lists[index]),
        in_(in),
        samples_(samples),
        s_(strides_of(block.desc.block, in_pixel)) {}

  // Every pixel of the output passes through one conv c, which then sums up what the next channel masker averages.
  bool leaves_sums() const { return d_.channel() && !d_.spatial(); }

  // Computes into `out` (which is `in` for an identity block). `report` points at the counts of this block and sample
  // 0, `report_stride` apart; null for none.
  void run(float* out, int32_t* report, int64_t report_stride) {
    decide_masks();
    ws_->zeros.assign(static_cast<size_t>(d_.width) + kMaxPanel, 0.0f);
    for (int s = 0; s < samples_; ++s) {
      list_rows(keep_of(s));
      list_kept_channels(keep_of(s));
      sample(s, in_ + s * s_.in_sample, out + s * s_.out_sample);
      if (report != nullptr) count(keep_of(s), report + s * report_stride);
    }
  }

 private:
  const float* at(int64_t offset) const { return b_.weights + offset; }
  const uint8_t* keep_of(int s) const {
    return ws_->decisions.keep.data() + static_cast<size_t>(d_.margins()) * static_cast<size_t>(s);
  }
  bool all_kept() const { return static_cast<int>(ws_->kept_channels.size()) == d_.width; }
  const std::vector<int32_t>* kept() const { return !d_.channel() || all_kept() ? nullptr : &ws_->kept_channels; }
  bool anything_kept() const {
    for (const Lists::C& part : lists_.c) {
      if (!part.in.empty()) return true;
    }
    return false;
  }

  void decide_masks() {
    const int32_t* in_rows = ws_->iota.get(s_.in_pixel, static_cast<size_t>(samples_) * d_.hin * d_.win);
    decide(context_, d_, b_.layout, b_.weights, in_, in_rows, samples_,
           input_sums_known_ ? ws_->sums[1 - sums_slot_].data() : nullptr, &ws_->iota, &ws_->decisions);
  }

  void list_kept_channels(const uint8_t* keep) {
    ws_->kept_channels.clear();
    const int per_group = d_.channels_per_group();
    const uint8_t* groups = keep + d_.margins() - d_.channel_groups;
    for (int g = 0; g < d_.channel_groups; ++g) {
      if (!groups[g]) continue;
      for (int c = 0; c < per_group; ++c) ws_->kept_channels.push_back(g * per_group + c);
    }
  }

  void mark(const uint8_t* keep, int group, std::vector<uint8_t>* map) const {
    upsample_or(keep + group * d_.mask_h * d_.mask_w, d_.mask_w, b_.row_lut, b_.col_lut, map->data());
  }

  void list_rows(const uint8_t* keep) {
    const bool known = lists_.in_pixel == s_.in_pixel;
    if (known && !d_.spatial()) return;
    ws_->wanted.assign(static_cast<size_t>(d_.hout()) * d_.wout(), d_.spatial() ? 0 : 1);
    for (int g = 0; g < d_.mask_groups; ++g) mark(keep, g, &ws_->wanted);
    lists_.wanted = 0;
    for (const uint8_t wanted : ws_->wanted) lists_.wanted += wanted;
    // Squeeze-excitation averages over all positions, so conv a and b must know them all, whatever the mask.
    if (!known || b_.desc.skips_early()) {
      list_a();
      list_b();
      lists_.in_pixel = s_.in_pixel;
    }
    lists_.clear_kept(d_.conv3_parts());
    for (int part = 0; part < d_.conv3_parts(); ++part) list_c(keep, part);
    if (d_.projection) list_projection();
  }

  void list_a() {
    ws_->needed.assign(static_cast<size_t>(d_.hin) * d_.win, 1);
    if (b_.desc.skips_early()) {
      ws_->scratch.resize(static_cast<size_t>(d_.hin) * d_.wout());
      dilate(ws_->wanted.data(), d_.hout(), d_.wout(), d_.stride, d_.hin, d_.win, ws_->scratch.data(),
             ws_->needed.data());
    }
    lists_.a_in.clear();
    lists_.a_out.clear();
    for (int y = 0; y < d_.hin; ++y) {
      for (int x = 0; x < d_.win; ++x) {
        const int p = y * d_.win + x;
        if (!ws_->needed[static_cast<size_t>(p)]) continue;
        lists_.a_in.push_back(static_cast<int32_t>(p * s_.in_pixel));
        lists_.a_out.push_back(static_cast<int32_t>((y + 1) * s_.h1_row + (x + 1) * s_.h1_pixel));
      }
    }
  }

  void list_b() {
    lists_.b_in.clear();
    lists_.h2_of.assign(static_cast<size_t>(d_.hout()) * d_.wout(), -1);
    for (int y = 0; y < d_.hout(); ++y) {
      for (int x = 0; x < d_.wout(); ++x) {
        const size_t p = static_cast<size_t>(y * d_.wout() + x);
        if (b_.desc.skips_early() && !ws_->wanted[p]) continue;
        lists_.h2_of[p] = static_cast<int32_t>(static_cast<int64_t>(lists_.b_in.size()) * s_.h2_pixel);
        lists_.b_in.push_back(static_cast<int32_t>(y * d_.stride * s_.h1_row + x * d_.stride * s_.h1_pixel));
      }
    }
  }

  void list_c(const uint8_t* keep, int part) {
    const uint8_t* kept_pixels = ws_->wanted.data();
    if (d_.mask_groups > 1) {
      ws_->group.assign(ws_->wanted.size(), 0);
      mark(keep, part, &ws_->group);
      kept_pixels = ws_->group.data();
    }
    Lists::C& lists = lists_.c[static_cast<size_t>(part)];
    for (size_t p = 0; p < ws_->wanted.size(); ++p) {
      const int32_t out = static_cast<int32_t>(static_cast<int64_t>(p) * s_.out_pixel);
      if (kept_pixels[p]) {
        lists.in.push_back(lists_.h2_of[p]);
        lists.out.push_back(out);
      } else if (ws_->wanted[p] && d_.projection) {
        lists.dropped.push_back(out);
      }
    }
  }

  void list_projection() {
    for (int y = 0; y < d_.hout(); ++y) {
      for (int x = 0; x < d_.wout(); ++x) {
        const int p = y * d_.wout() + x;
        const int kind = ws_->wanted[static_cast<size_t>(p)] ? 1 : 0;
        const int64_t source = static_cast<int64_t>(y) * d_.stride * d_.win + x * d_.stride;
        lists_.proj_in[kind].push_back(static_cast<int32_t>(source * s_.in_pixel));
        lists_.proj_out[kind].push_back(static_cast<int32_t>(p * s_.out_pixel));
      }
    }
  }

  void sample(int s, const float* in, float* out) {
    if (d_.projection) project(in, out);
    // With no position kept, nothing that conv a and b make would be used. With no channel kept, conv c still adds its
    // bias.
    if (!anything_kept()) return;
    const bool channels = !d_.channel() || !ws_->kept_channels.empty();
    float* h1 =
        ws_->h1[static_cast<size_t>(b_.h1_buffer)].zeroed_at_least(static_cast<size_t>((d_.hin + 3) * s_.h1_row));
    const size_t b_rows = lists_.b_in.size();
    float* h2 = ws_->h2.at_least(static_cast<size_t>(static_cast<int64_t>(b_rows) * s_.h2_pixel));
    if (channels) {
      conv_a_and_b(in, h1, h2);
      excite(h2);
    }
    PartialSums* sums = leaves_sums() ? &ws_->sums[sums_slot_][static_cast<size_t>(s)] : nullptr;
    for (int part = 0; part < d_.conv3_parts(); ++part) conv_c(part, h2, out, sums);
    finish_partial_groups(out);
  }

  // Pixels that conv c will add to keep the raw projection; the others get their ReLU here.
  void project(const float* in, float* out) {
    const Weights w = {Weights::kPanels, at(b_.layout.proj_w), d_.cin, 1, 1, d_.cout, d_.panel, nullptr, nullptr, 1};
    for (int kind = 0; kind < 2; ++kind) {
      const std::vector<int32_t>& in_rows = lists_.proj_in[kind];
      const Rows rows = {in, in_rows.data(), nullptr, out, lists_.proj_out[kind].data(), nullptr, whole(in_rows), true};
      const float* lo = kind == 0 ? ws_->zeros.data() : nullptr;
      indexed_gemm(context_, w, rows, {at(b_.layout.proj_b), 0, lo}, Epilogue::kStore, Following(), nullptr);
    }
  }

  // Few pixels are shared out by channels, many by pixels.
  int shares() const { return d_.hin * d_.win < 96 ? context_.parallel->width() : 1; }

  // Conv a and b in bands of lines: what conv a writes is still in the second-level cache when conv b reads it.
  void conv_a_and_b(const float* in, float* h1, float* h2) {
    Weights a = a_weights(b_, kept(), shares());
    const KeptGroups groups(kept(), b_.desc.group, b_.desc.group_width());
    const int count = bands();
    PanelSet packed;
    if (count > 1 && a.must_pack()) {
      packed = ready_panels(context_, a, 0, working_panels(a), &ws_->a_packed);
      a.packed = &packed;
    }
    const Grid grid = {s_.h1_row, s_.h1_pixel, d_.stride, s_.h2_pixel, d_.wout()};
    const Grid* lines = b_.desc.skips_early() ? nullptr : &grid;
    const size_t unit = static_cast<size_t>(rows_per_sum(lines));
    ws_->h2_sums.resize((lists_.b_in.size() + unit - 1) / unit, d_.width);
    ws_->h2_sums.zero();
    int a_done = 0;
    for (int band = 0; band < count; ++band) {
      const int begin = d_.hout() * band / count, end = d_.hout() * (band + 1) / count;
      const bool last = band + 1 == count;
      // A window ends one line below its centre.
      const int a_end = last ? d_.hin : std::min(d_.hin, (end - 1) * d_.stride + 2);
      conv_a(a, in, h1, count == 1 ? whole(lists_.a_in) : SampleRange{a_done * d_.win, a_end * d_.win});
      conv_b(groups, lines, h1, h2, count == 1 ? whole(lists_.b_in) : SampleRange{begin * d_.wout(), end * d_.wout()});
      a_done = a_end;
    }
  }

  int bands() const {
    constexpr int64_t kBandFloats = 128 * 1024;  // per thread: half of a core's second-level cache
    if (b_.desc.skips_early()) return 1;
    const int64_t budget = kBandFloats * context_.parallel->width();
    return static_cast<int>(std::min<int64_t>(d_.hout(), (d_.hin * s_.h1_row + budget - 1) / budget));
  }

  void conv_a(const Weights& weights, const float* in, float* h1, SampleRange range) {
    const float* bias = kept_bias(b_.layout.a_b, &ws_->a_bias);
    indexed_gemm_apart(
        context_, weights, {in, lists_.a_in.data(), nullptr, h1, lists_.a_out.data(), nullptr, range, true},
        {bias, 0, ws_->zeros.data()}, Epilogue::kStore, {nullptr, excitation_weights()}, nullptr, &ws_->apart, nullptr);
  }

  // Conv b fetches its own weights, group by group; those of squeeze-excitation have no other time to come.
  Region excitation_weights() const {
    constexpr int64_t kEnough = 64 * 1024;
    return {at(b_.layout.squeeze_w), std::min(b_.layout.excite_b - b_.layout.squeeze_w, kEnough)};
  }

  void conv_b(const KeptGroups& groups, const Grid* lines, const float* h1, float* h2, SampleRange range) {
    const GroupedWeights w = {at(b_.layout.b_panels), b_.desc.group, b_.desc.group_width(), b_.desc.group_panel()};
    int32_t taps[9];
    for (int t = 0; t < 9; ++t) taps[t] = static_cast<int32_t>(t / 3 * s_.h1_row + t % 3 * s_.h1_pixel);
    const std::vector<int32_t>& list = lists_.b_in;
    grouped_conv(context_, w, groups,
                 {h1, list.data(), taps, h2, ws_->iota.get(s_.h2_pixel, list.size()), nullptr, range, true}, lines,
                 kept_bias(b_.layout.b_b, &ws_->b_bias), c_weights(0), &ws_->h2_sums);
  }

  // The bias of the kept channels, with room for whole vectors.
  const float* kept_bias(int64_t offset, std::vector<float>* to) const {
    if (kept() == nullptr) return at(offset);
    to->resize(ws_->kept_channels.size() + kMaxPanel);
    for (size_t i = 0; i < ws_->kept_channels.size(); ++i) (*to)[i] = at(offset)[ws_->kept_channels[i]];
    return to->data();
  }

  void excite(float* h2) {
    const int count = static_cast<int>(lists_.b_in.size());
    ws_->excitation.decide(context_, b_.desc, b_.layout, b_.weights, ws_->h2_sums, count, kept());
    if (scales_late()) return;
    const int32_t* rows = ws_->iota.get(s_.h2_pixel, lists_.b_in.size());
    const int threads = context_.parallel->width();
    context_.parallel->for_each(static_cast<size_t>(threads), [&](size_t i) {
      const int64_t share = static_cast<int64_t>(i);
      scale(h2, rows, {static_cast<int>(count * share / threads), static_cast<int>(count * (share + 1) / threads)});
    });
  }

  // Pixels are scaled when conv c is about to read them, unless several mask groups may read the same ones.
  bool scales_late() const { return d_.conv3_parts() == 1; }

  void scale(float* h2, const int32_t* rows, SampleRange range) const {
    const size_t channels = kept() == nullptr ? static_cast<size_t>(d_.width) : kept()->size();
    scale_rows(h2, rows, range, ws_->excitation.factors(), static_cast<int>(channels));
  }

  Weights c_weights(int part) const {
    const int columns = d_.cout / d_.conv3_parts();
    const int64_t part_floats = panel_floats(d_.width, columns, d_.panel);
    return {Weights::kPanels,
            at(b_.layout.c_w + part * part_floats),
            d_.width,
            1,
            1,
            columns,
            d_.panel,
            kept(),
            nullptr,
            1};
  }

  void conv_c(int part, float* h2, float* out, PartialSums* sums) {
    const Lists::C& lists = lists_.c[static_cast<size_t>(part)];
    const int first = part * (d_.cout / d_.conv3_parts());
    const Region next = following_ == nullptr ? Region{nullptr, 0} : first_reads(*following_, kept() == nullptr);
    const auto excited = [&](SampleRange rows) {
      if (scales_late()) scale(h2, lists.in.data(), rows);
    };
    indexed_gemm_apart(
        context_, c_weights(part),
        {h2, lists.in.data(), nullptr, out + first, lists.out.data(), nullptr, whole(lists.in), d_.conv3_parts() == 1},
        {at(b_.layout.c_b + first), 0, nullptr}, Epilogue::kAddRelu, {nullptr, next}, sums, &ws_->apart, excited);
  }

  void finish_partial_groups(float* out) {
    const int columns = d_.cout / d_.conv3_parts();
    for (int part = 0; part < d_.conv3_parts(); ++part) {
      for (const int32_t offset : lists_.c[static_cast<size_t>(part)].dropped) {
        float* pixel = out + offset + part * columns;
        for (int c = 0; c < columns; ++c) pixel[c] = pixel[c] < 0 ? 0 : pixel[c];
      }
    }
  }

  void count(const uint8_t* keep, int32_t* to) const {
    const int cells = d_.mask_groups * d_.mask_h * d_.mask_w;
    const bool skipped = !anything_kept();
    int32_t kept_cells = 0, kept_groups = 0;
    for (int c = 0; c < cells; ++c) kept_cells += keep[c];
    for (int c = cells; c < d_.margins(); ++c) kept_groups += keep[c];
    const int32_t rows = skipped ? 0 : static_cast<int32_t>(lists_.a_in.size());
    const int32_t values[kCountsPerBlock] = {rows, lists_.wanted, kept_cells, kept_groups};
    std::memcpy(to, values, sizeof(values));
  }

  const Block& b_;
  const Block* following_;
  const BlockDesc& d_;
  const bool input_sums_known_;
  const size_t sums_slot_;
  const Context& context_;
  Workspace* ws_;
  Lists& lists_;
  const float* in_;
  const int samples_;
  const Strides s_;
};

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

struct RegNetRun::State {
  std::vector<Block> blocks;
  int h1_buffers = 0;
  int64_t margins = 0;
  Pool<Workspace> workspaces;

  void slice(const float* x, int64_t first_sample, int samples, const Parallel& parallel, Workspace* ws,
             const RunOutputs& out);
  void report_margins(const Workspace& ws, const BlockDesc& d, int64_t first_sample, int samples, int64_t offset,
                      float* to) const;
};

RegNetRun::RegNetRun() : state_(new State) {}
RegNetRun::~RegNetRun() = default;

std::unique_ptr<RegNetRun> RegNetRun::create(std::vector<RegNetDesc> blocks, std::vector<const float*> weights,
                                             const std::vector<int64_t>& weight_floats, std::string* error) {
  if (blocks.empty() || blocks.size() != weights.size() || blocks.size() != weight_floats.size()) {
    *error =
        "the run has " + std::to_string(blocks.size()) + " blocks but " + std::to_string(weights.size()) + " weights";
    return nullptr;
  }
  std::unique_ptr<RegNetRun> run(new RegNetRun());
  for (size_t i = 0; i < blocks.size(); ++i) {
    Block block(blocks[i], weights[i]);
    if (block.layout.total != weight_floats[i]) {
      *error = in_block(i, "packed weights hold " + std::to_string(weight_floats[i]) + " floats, its record needs " +
                               std::to_string(block.layout.total));
      return nullptr;
    }
    block.h1_buffer = run->state_->h1_buffers;
    for (const Block& other : run->state_->blocks) {
      if (same_h1(other.desc.block, block.desc.block)) block.h1_buffer = other.h1_buffer;
    }
    run->state_->h1_buffers = std::max(run->state_->h1_buffers, block.h1_buffer + 1);
    run->state_->margins += block.desc.block.margins();
    pack_whole(&block);
    run->state_->blocks.push_back(std::move(block));
  }
  return run;
}

const BlockDesc& RegNetRun::first() const { return state_->blocks.front().desc.block; }
const BlockDesc& RegNetRun::last() const { return state_->blocks.back().desc.block; }
int RegNetRun::block_count() const { return static_cast<int>(state_->blocks.size()); }
int64_t RegNetRun::total_margins() const { return state_->margins; }

void RegNetRun::State::report_margins(const Workspace& ws, const BlockDesc& d, int64_t first_sample, int samples,
                                      int64_t offset, float* to) const {
  const size_t per_sample = static_cast<size_t>(d.margins());
  if (to == nullptr || per_sample == 0) return;
  for (int s = 0; s < samples; ++s) {
    std::memcpy(to + (first_sample + s) * margins + offset,
                ws.decisions.margins.data() + per_sample * static_cast<size_t>(s), per_sample * sizeof(float));
  }
}

void RegNetRun::State::slice(const float* x, int64_t first_sample, int samples, const Parallel& parallel, Workspace* ws,
                             const RunOutputs& out) {
  const Context context = {&kernels(), &parallel, &ws->tasks, &ws->packed};
  const BlockDesc& head = blocks.front().desc.block;
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
  const int64_t count = static_cast<int64_t>(blocks.size());
  int64_t margin_offset = 0;
  bool sums_known = false;
  ws->lists.resize(blocks.size());
  for (auto& sums : ws->sums) sums.resize(kSliceSamples);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockDesc& d = blocks[i].desc.block;
    const int64_t start = out.block_ns == nullptr ? 0 : now_ns();
    if (d.projection) current = 1 - current;
    const int64_t out_pixel = round_up(d.cout, kAlign);
    float* result = ws->maps[current].at_least(
        static_cast<size_t>(static_cast<int64_t>(samples) * d.hout() * d.wout() * out_pixel));
    const Block* following = i + 1 < blocks.size() ? &blocks[i + 1] : nullptr;
    BlockCall call(blocks[i], following, i, sums_known, context, ws, in, in_pixel, samples);
    int32_t* counts = nullptr;
    if (out.counts != nullptr) {
      counts = out.counts + (first_sample * count + static_cast<int64_t>(i)) * kCountsPerBlock;
    }
    call.run(result, counts, count * kCountsPerBlock);
    report_margins(*ws, d, first_sample, samples, margin_offset, out.margins);
    margin_offset += d.margins();
    sums_known = call.leaves_sums();
    in = result;
    in_pixel = out_pixel;
    if (out.block_ns != nullptr) out.block_ns[i] += now_ns() - start;
  }
  const BlockDesc& tail = blocks.back().desc.block;
  const int64_t pixels = static_cast<int64_t>(tail.hout()) * tail.wout();
  copy_pixels(in, in_pixel, out.y + first_sample * pixels * tail.cout, tail.cout, samples * pixels, tail.cout);
}

void RegNetRun::execute(const float* x, int64_t batch, const Parallel& parallel, const RunOutputs& out) const {
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
