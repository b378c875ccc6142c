#include "cuda/conv_run.h"

namespace laudc {
namespace cuda {
namespace {

// Where each block reads and writes. Blocks that project start a new map: the last such map is Y, earlier ones take
// turns in the workspace; everything else happens in place.
class Maps {
 public:
  explicit Maps(const CallContext& context) : c_(context) {
    const std::vector<BlockDesc>& blocks = c_.run->blocks();
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (blocks[i].projection) last_projection_ = i;
    }
  }

  void* output_of(size_t block, const void* in) {
    const bool elsewhere = c_.run->blocks()[block].projection || in == c_.io->x;
    if (!elsewhere) return const_cast<void*>(in);
    if (block >= last_projection_) return c_.io->y;
    turn_ = 1 - turn_;
    return c_.at(c_.plan->maps[turn_]);
  }

 private:
  const CallContext& c_;
  size_t last_projection_ = 0;
  int turn_ = 0;
};

}  // namespace

ConvRun::ConvRun(const Setting& setting, std::vector<BlockDesc> blocks, int most_squeeze)
    : Run(setting), blocks_(std::move(blocks)), most_squeeze_(most_squeeze) {}

int64_t ConvRun::total_margins() const {
  int64_t total = 0;
  for (const BlockDesc& d : blocks_) total += d.margins();
  return total;
}

laudc_cuda_shape ConvRun::x_shape() const {
  const BlockDesc& head = blocks_.front();
  return {3, {head.hin, head.win, head.cin}};
}

laudc_cuda_shape ConvRun::y_shape() const {
  const BlockDesc& tail = blocks_.back();
  return {3, {tail.hout(), tail.wout(), tail.cout}};
}

size_t ConvRun::workspace_bytes(int64_t batch) const {
  WorkspacePlan plan;
  return plan_workspace(blocks_, batch, traits(), &plan) ? plan.total : 0;
}

int ConvRun::launch(const laudc_cuda_io& io, Stream stream) const {
  WorkspacePlan plan;
  plan_workspace(blocks_, io.batch, traits(), &plan);
  const CallContext context = {this, &io, &plan, stream};
  int code = fill_zero(context.at(plan.counters), plan.counter_bytes, stream);
  Maps maps(context);
  BlockPlace place = {0, 0, io.x, nullptr};
  for (; code == 0 && place.index < blocks_.size(); ++place.index) {
    place.out = maps.output_of(place.index, place.in);
    code = launch_block(context, place);
    place.margin_at += blocks_[place.index].margins();
    place.in = place.out;
  }
  return code;
}

}  // namespace cuda
}  // namespace laudc
