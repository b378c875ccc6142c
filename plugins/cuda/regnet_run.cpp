#include "cuda/regnet_run.h"

#include <algorithm>

#include "cuda/block_call.h"

namespace laudc {
namespace cuda {
namespace {

constexpr int64_t kBlocksPerMultiprocessor = 8;

int64_t group_floats(const RegNetDesc& desc) {
  return static_cast<int64_t>(desc.group) * 9 * desc.group_width() * desc.group_panel();
}

std::string complaint_about(const RegNetDesc& desc) {
  const BlockDesc& d = desc.block;
  const int64_t largest = std::max({panel_floats(d.cin, d.width, d.panel), group_floats(desc),
                                    d.conv3_parts() * panel_floats(d.width, d.cout / d.conv3_parts(), d.panel)});
  return largest < kMaxMatrixElements ? std::string() : "a convolution has more weights than 32-bit offsets reach";
}

int most_squeeze(const std::vector<RegNetDesc>& descs) {
  int most = 0;
  for (const RegNetDesc& desc : descs) most = std::max(most, desc.squeeze);
  return most;
}

std::vector<BlockDesc> blocks_of(const std::vector<RegNetDesc>& descs) {
  std::vector<BlockDesc> blocks;
  for (const RegNetDesc& desc : descs) blocks.push_back(desc.block);
  return blocks;
}

// h1 and h2 are addressed by pixel: squeeze-excitation may average over more of them than conv c reads.
class RegNetCall final : public BlockCall {
 public:
  RegNetCall(const CallContext& context, const BlockPlace& place, const RegNetDesc& desc, const RegNetLayout& layout)
      : BlockCall(context, place, context.run->blocks()[place.index], layout), desc_(desc), l_(layout) {}

  int launch() const {
    typedef int (RegNetCall::*Step)() const;
    int error = decide();
    if (error == 0) error = residual(matrix(RegNetRun::kProjection), l_.proj_b);
    for (const Step step :
         {&RegNetCall::conv_a, &RegNetCall::conv_b, &RegNetCall::excite, &RegNetCall::scale, &RegNetCall::conv_c}) {
      if (error == 0) error = (this->*step)();
    }
    return error;
  }

 private:
  bool pools_all() const { return d_.spatial() && !desc_.pool_active; }

  void extend(MaskerParams* p) const override {
    if (!d_.spatial()) return;
    p->wanted_count = counters(Counter::kWantedRows);
    if (!pools_all()) return;
    p->pooled_list = c_.section<int32_t>(c_.plan->pooled_list);
    p->pooled_count = counters(Counter::kPooledRows);
  }

  int conv_a() const {
    GemmParams p = rows_over_input();
    set_weights(matrix(RegNetRun::kConvA), 1, d_.cin, d_.width, &p);
    keep_outputs(&p);
    p.epilogue = Epilogue::kRelu;
    p.out = c_.at(c_.plan->h1);
    p.out_pixel = hidden_pixel(d_);
    p.out_vectors = p.out_padded = 1;
    p.bias = constants(l_.a_b);
    return start(&p);
  }

  int conv_b() const {
    const GemmParams rows = rows_over_output();
    GroupedParams p = GroupedParams();
    p.list = pools_all() ? c_.section<int32_t>(c_.plan->pooled_list) : rows.list;
    p.row_count = pools_all() ? counters(Counter::kPooledRows) : rows.row_count;
    p.segments = rows.segments;
    p.rows_max = rows.rows_max;
    p.hin = d_.hin;
    p.win = d_.win;
    p.hout = d_.hout();
    p.wout = d_.wout();
    p.stride = d_.stride;
    p.groups = desc_.group;
    p.group_width = desc_.group_width();
    p.group_panel = desc_.group_panel();
    p.a = c_.at(c_.plan->h1);
    p.out = c_.at(c_.plan->h2);
    p.pixel = hidden_pixel(d_);
    p.w = matrix(RegNetRun::kConvB);
    p.bias = constants(l_.b_b);
    if (d_.channel()) {
      p.kept = c_.section<int32_t>(c_.plan->kept);
      p.kept_count = counters(Counter::kKeptChannels);
      p.kept_stride = d_.width;
    }
    return launch_grouped(half(), p, kBlocksPerMultiprocessor * multiprocessors(), c_.stream);
  }

  int excite() const {
    const Chunks chunks = pool_chunks(d_, batch(), multiprocessors());
    ExciteParams p = ExciteParams();
    p.samples = static_cast<int>(batch());
    p.chunks = chunks.count;
    p.chunk_pixels = chunks.pixels;
    p.map = c_.at(c_.plan->h2);
    p.pixels = d_.hout() * d_.wout();
    p.pixel = hidden_pixel(d_);
    p.width = d_.width;
    if (d_.spatial()) p.wanted_count = counters(Counter::kWantedRows);
    if (desc_.skips_early()) p.wanted = c_.section<uint8_t>(c_.plan->wanted);
    if (d_.channel()) {
      p.kept = c_.section<int32_t>(c_.plan->kept);
      p.kept_count = counters(Counter::kKeptChannels);
    }
    p.squeeze_w = constants(l_.squeeze_w);
    p.squeeze_b = constants(l_.squeeze_b);
    p.excite_w = constants(l_.excite_w);
    p.excite_b = constants(l_.excite_b);
    p.squeeze = desc_.squeeze;
    p.panel = d_.panel;
    p.sums = c_.section<float>(c_.plan->pooled_sums);
    p.squeezed = c_.section<float>(c_.plan->squeezed);
    p.factors = c_.section<float>(c_.plan->factors);
    p.tickets = counters(Counter::kPoolTickets);
    return launch_excite(half(), p, c_.stream);
  }

  int scale() const {
    const GemmParams rows = rows_over_output();
    ScaleParams p = ScaleParams();
    p.list = rows.list;
    p.row_count = rows.row_count;
    p.segments = rows.segments;
    p.rows_max = rows.rows_max;
    p.pixels = d_.hout() * d_.wout();
    p.map = c_.at(c_.plan->h2);
    p.pixel = hidden_pixel(d_);
    p.width = d_.width;
    p.kept_count = d_.channel() ? counters(Counter::kKeptChannels) : nullptr;
    p.factors = c_.section<float>(c_.plan->factors);
    return launch_scale(half(), p, kBlocksPerMultiprocessor * multiprocessors(), c_.stream);
  }

  int conv_c() const {
    GemmParams p = rows_over_output();
    return add_to_residual(matrix(RegNetRun::kConvC), l_.c_b, &p);
  }

  const RegNetDesc& desc_;
  const RegNetLayout& l_;
};

}  // namespace

std::unique_ptr<Run> RegNetRun::create(const int64_t* records, size_t count, const Setting& setting,
                                       std::string* error) {
  std::vector<RegNetDesc> blocks;
  if (!parse_regnet_blocks(records, count, &blocks, error)) return nullptr;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string complaint = complaint_about(blocks[i]);
    if (complaint.empty()) continue;
    *error = in_block(i, complaint);
    return nullptr;
  }
  return std::unique_ptr<Run>(new RegNetRun(setting, std::move(blocks)));
}

RegNetRun::RegNetRun(const Setting& setting, std::vector<RegNetDesc> blocks)
    : ConvRun(setting, blocks_of(blocks), most_squeeze(blocks)), descs_(std::move(blocks)) {
  for (const RegNetDesc& desc : descs_) {
    const BlockDesc& d = desc.block;
    const RegNetLayout l = regnet_layout(desc);
    const int64_t conv_c = d.conv3_parts() * panel_floats(d.width, d.width / d.conv3_parts(), d.panel);
    place_matrices({
        {l.a_w, panel_floats(d.cin, d.width, d.panel), d.channel(), d.cin, d.width, d.panel, -1},
        {l.b_panels, group_floats(desc), false, 0, 0, 0, -1},
        {l.c_w, conv_c, false, 0, 0, d.panel, -1},
        {l.proj_w, d.projection ? panel_floats(d.cin, d.width, d.panel) : 0, false, 0, 0, d.panel, -1},
    });
    layouts_.push_back(l);
  }
}

int RegNetRun::launch_block(const CallContext& context, const BlockPlace& place) const {
  return RegNetCall(context, place, descs_[place.index], layouts_[place.index]).launch();
}

}  // namespace cuda
}  // namespace laudc
