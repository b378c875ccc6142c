// ai.laudc::VitRun(X, packed_0, ..., packed_n-1) -> (Y, counts, margins, block_ns)
#include "core/vit_desc.h"
#include "cpu/vit_run.h"
#include "onnxruntime/run_op.h"

namespace laudc {
namespace ort {
namespace {

constexpr char kName[] = "VitRun";

typedef RunOp<cpu::VitRun, VitDesc> Op;

void compute(Kernel<cpu::VitRun>* kernel, KernelContext* context) {
  const cpu::VitRun& run = *kernel->work;
  const FloatTensor x = context_input(api(), context, 0, "X");
  if (x.dims.size() != 3 || x.dims[1] != run.tokens() || x.dims[2] != run.dim()) {
    throw Failure{kInvalidArgument, "X must be (batch, " + std::to_string(run.tokens()) + ", " +
                                        std::to_string(run.dim()) + "), the size the engine was built for"};
  }
  const int64_t batch = x.dims[0];
  cpu::VitOutputs out;
  out.y = output<float>(api(), context, 0, {batch, run.out_tokens(), run.dim()});
  out.counts = output<int32_t>(api(), context, 1, {batch, run.block_count(), cpu::kVitCountsPerBlock});
  out.margins = output<float>(api(), context, 2, {batch, run.total_margins()});
  out.block_ns = output<int64_t>(api(), context, 3, {run.block_count()});
  run.execute(x.data, batch, RuntimePool(api(), context, kernel->width.of(api(), context)), out);
}

Status* create(const CustomOp*, const void*, const KernelInfo* info, void** kernel) {
  return guarded(api(), kName, [&] { *kernel = new Kernel<cpu::VitRun>{Op::make(info, parse_vit_blocks), {}}; });
}

Status* run_kernel(void* kernel, KernelContext* context) {
  return guarded(api(), kName, [&] { compute(static_cast<Kernel<cpu::VitRun>*>(kernel), context); });
}

}  // namespace

CustomOp vit_run_op() {
  CustomOp op = Op::description();
  op.get_name = [](const CustomOp*) { return kName; };
  op.create_kernel_v2 = create;
  op.kernel_compute_v2 = run_kernel;
  return op;
}

}  // namespace ort
}  // namespace laudc
