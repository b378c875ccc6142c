#include "cuda/bottleneck_run.h"

#include <algorithm>

#include "cuda/block_call.h"

namespace laudc {
namespace cuda {
namespace {

std::string complaint_about(const BlockDesc& d) {
  if (d.conv2_algo != Conv2Algo::kDirect)
    return "conv2 is scheduled as Winograd, which is for CPUs; schedule for a GPU";
  const int64_t largest = std::max({panel_floats(d.cin, d.width, d.panel), panel_floats(d.cin, d.cout, d.panel),
                                    panel_floats(9 * static_cast<int64_t>(d.width), d.width, d.panel),
                                    d.conv3_parts() * panel_floats(d.width, d.cout / d.conv3_parts(), d.panel)});
  return largest < kMaxMatrixElements ? std::string() : "a convolution has more weights than 32-bit offsets reach";
}

class BottleneckCall final : public BlockCall {
 public:
  BottleneckCall(const CallContext& context, const BlockPlace& place, const PackedLayout& layout)
      : BlockCall(context, place, context.run->blocks()[place.index], layout), l_(layout) {}

  int launch() const {
    int error = decide();
    if (error == 0) error = residual(matrix(BottleneckRun::kProjection), l_.proj_b);
    if (error == 0) error = conv1();
    if (error == 0) error = conv2();
    return error == 0 ? conv3() : error;
  }

 private:
  int conv1() const {
    GemmParams p = rows_over_input();
    set_weights(matrix(BottleneckRun::kConv1), 1, d_.cin, d_.width, &p);
    keep_outputs(&p);
    p.epilogue = Epilogue::kClamp;
    p.out = c_.at(c_.plan->h1);
    p.out_pixel = hidden_pixel(d_);
    p.out_vectors = p.out_padded = 1;
    p.bias = constants(l_.conv1_b);
    p.lo = constants(l_.conv1_lo);
    return start(&p);
  }

  int conv2() const {
    GemmParams p = rows_over_output();
    p.source = RowSource::kTaps;
    p.target = RowTarget::kCompact;
    p.a = c_.at(c_.plan->h1);
    set_weights(matrix(BottleneckRun::kConv2), 9, d_.width, d_.width, &p);
    keep_outputs(&p);
    keep_inputs(&p);
    p.epilogue = Epilogue::kClamp;
    p.out = c_.at(c_.plan->h2);
    p.out_pixel = hidden_pixel(d_);
    p.out_vectors = p.out_padded = 1;
    p.bias = constants(l_.conv2_b);
    p.bias_stride = l_.conv2_classes > 1 ? static_cast<int>(l_.bias_stride) : 0;
    p.lo = constants(l_.conv2_lo);
    return start(&p);
  }

  int conv3() const {
    GemmParams p = rows_over_output();
    p.source = RowSource::kCompact;
    return add_to_residual(matrix(BottleneckRun::kConv3), l_.conv3_b, &p);
  }

  const PackedLayout& l_;
};

}  // namespace

std::unique_ptr<Run> BottleneckRun::create(const int64_t* records, size_t count, const Setting& setting,
                                           std::string* error) {
  std::vector<BlockDesc> blocks;
  if (!parse_blocks(records, count, &blocks, error)) return nullptr;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string complaint = complaint_about(blocks[i]);
    if (complaint.empty()) continue;
    *error = in_block(i, complaint);
    return nullptr;
  }
  return std::unique_ptr<Run>(new BottleneckRun(setting, blocks));
}

BottleneckRun::BottleneckRun(const Setting& setting, const std::vector<BlockDesc>& blocks)
    : ConvRun(setting, blocks, 0) {
  for (const BlockDesc& d : blocks) {
    const PackedLayout l = packed_layout(d);
    const int conv2_depth = 9 * d.width, share = d.cout / d.conv3_parts();
    const int64_t conv3 = d.conv3_parts() * panel_floats(d.width, share, d.panel);
    place_matrices({
        {l.conv1_w, panel_floats(d.cin, d.width, d.panel), d.channel(), d.cin, d.width, d.panel, -1},
        {l.conv2_w, panel_floats(conv2_depth, d.width, d.panel), d.channel(), conv2_depth, d.width, d.panel, -1},
        {l.conv3_w, conv3, false, 0, 0, d.panel, -1},
        {l.proj_w, d.projection ? panel_floats(d.cin, d.cout, d.panel) : 0, false, 0, 0, d.panel, -1},
    });
    layouts_.push_back(l);
  }
}

int BottleneckRun::launch_block(const CallContext& context, const BlockPlace& place) const {
  return BottleneckCall(context, place, layouts_[place.index]).launch();
}

}  // namespace cuda
}  // namespace laudc
