// ai.laudc::BottleneckRun(X, packed_0, ..., packed_n-1) -> (Y, counts, margins, block_ns)
#include "cpu/bottleneck_run.h"
#include "onnxruntime/run_op.h"

namespace laudc {
namespace ort {
namespace {

constexpr char kName[] = "BottleneckRun";
typedef RunOp<cpu::BottleneckRun, BlockDesc> Op;

Status* create(const CustomOp*, const void*, const KernelInfo* info, void** kernel) {
  return guarded(api(), kName, [&] { *kernel = new Kernel<cpu::BottleneckRun>{Op::make(info, parse_blocks), {}}; });
}

Status* run_kernel(void* kernel, KernelContext* context) {
  return guarded(api(), kName, [&] { Op::compute(static_cast<Kernel<cpu::BottleneckRun>*>(kernel), context); });
}

}  // namespace

CustomOp bottleneck_run_op() {
  CustomOp op = Op::description();
  op.get_name = [](const CustomOp*) { return kName; };
  op.create_kernel_v2 = create;
  op.kernel_compute_v2 = run_kernel;
  return op;
}

}  // namespace ort
}  // namespace laudc
