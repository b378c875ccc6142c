#include "cuda/vit_run.h"

#include "core/packed_layout.h"
#include "cuda/vit_call.h"

namespace laudc {
namespace cuda {
namespace {

// The features of a head that attention.cuh has room for.
constexpr int kWidestHead = 128;

std::vector<MatrixPlace> places_of(const VitDesc& d, const VitLayout& l) {
  const int parts = d.hidden_parts();
  const int64_t qkv = 3 * d.heads * panel_floats(d.dim, d.head_dim(), d.panel);
  const int64_t fc1 = parts * panel_floats(d.dim, d.hidden / parts, d.panel);
  return {
      {l.qkv_w, qkv, false, 0, 0, d.panel, -1},
      {l.proj_w, panel_floats(d.dim, d.dim, d.panel), false, 0, 0, d.panel, -1},
      {l.fc1_w, fc1, false, 0, 0, d.panel, -1},
      {l.fc2_w, panel_floats(d.hidden, d.dim, d.panel), false, 0, 0, d.panel, -1},
  };
}

}  // namespace

std::unique_ptr<Run> VitRun::create(const int64_t* records, size_t count, const Setting& setting, std::string* error) {
  std::vector<VitDesc> blocks;
  if (!parse_vit_blocks(records, count, &blocks, error)) return nullptr;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i].head_dim() <= kWidestHead) continue;
    *error = "block " + std::to_string(i) + ": attention heads of " + std::to_string(blocks[i].head_dim()) +
             " features are wider than the GPU kernels take (" + std::to_string(kWidestHead) + ")";
    return nullptr;
  }
  return std::unique_ptr<Run>(new VitRun(setting, std::move(blocks)));
}

VitRun::VitRun(const Setting& setting, std::vector<VitDesc> blocks) : Run(setting), blocks_(std::move(blocks)) {
  for (const VitDesc& d : blocks_) {
    layouts_.push_back(vit_layout(d));
    place_matrices(places_of(d, layouts_.back()));
  }
}

int64_t VitRun::total_margins() const {
  int64_t total = 0;
  for (const VitDesc& d : blocks_) total += d.margins();
  return total;
}

laudc_cuda_shape VitRun::x_shape() const { return {2, {blocks_.front().tokens, blocks_.front().dim, 0}}; }

laudc_cuda_shape VitRun::y_shape() const {
  laudc_cuda_shape shape = x_shape();
  if (first_only()) shape.dims[0] = 1;
  return shape;
}

size_t VitRun::workspace_bytes(int64_t batch) const {
  VitPlan plan;
  return plan_vit_workspace(blocks_, batch, setting(), &plan) ? plan.total : 0;
}

int VitRun::launch(const laudc_cuda_io& io, Stream stream) const {
  VitPlan plan;
  plan_vit_workspace(blocks_, io.batch, setting(), &plan);
  VitContext context = {this, &io, &plan, blocks_.size(), io.y, stream};
  if (first_only()) context.tokens = context.section(plan.stream);
  const size_t token = static_cast<size_t>(blocks_.front().dim) * setting().element();
  const size_t image = static_cast<size_t>(blocks_.front().tokens) * token;
  int code = fill_zero(context.section(plan.counters), plan.counter_bytes, stream);
  if (code == 0) code = copy_memory(io.x, context.tokens, static_cast<size_t>(io.batch) * image, stream);
  int64_t margin_at = 0;
  for (size_t i = 0; code == 0 && i < blocks_.size(); ++i) {
    code = VitCall(context, i, blocks_[i], layouts_[i], margin_at).launch();
    margin_at += blocks_[i].margins();
  }
  if (code != 0 || !first_only()) return code;
  return copy_rows(context.tokens, image, io.y, token, token, static_cast<size_t>(io.batch), stream);
}

}  // namespace cuda
}  // namespace laudc
