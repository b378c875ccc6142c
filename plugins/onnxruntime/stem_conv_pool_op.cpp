// ai.laudc::StemConvPool(X, packed) -> Y and ai.laudc::StemConv(X, packed) -> Y: the stems of ResNet and RegNet.
#include <memory>

#include "cpu/stem.h"
#include "onnxruntime/adapter.h"

namespace laudc {
namespace ort {
namespace {

struct Pooled {
  static constexpr char kName[] = "StemConvPool";
  static cpu::StemDesc desc(int cout, int panel) { return cpu::StemDesc::resnet(cout, panel); }
};
struct Plain {
  static constexpr char kName[] = "StemConv";
  static cpu::StemDesc desc(int cout, int panel) { return cpu::StemDesc::regnet(cout, panel); }
};

constexpr int64_t kMaxSide = 1 << 13;

template <class Kind>
std::unique_ptr<cpu::Stem> make_stem(const KernelInfo* info) {
  require_abi(api(), info);
  const int64_t channels = int_attribute(api(), info, "channels");
  const int64_t panel = int_attribute(api(), info, "panel");
  if (channels < 1 || channels > (1 << 16)) throw Failure{kInvalidGraph, "channels out of range"};
  if (panel < 16 || panel > cpu::kMaxPanel || panel % 16 != 0) throw Failure{kInvalidGraph, "panel out of range"};
  const cpu::StemDesc desc = Kind::desc(static_cast<int>(channels), static_cast<int>(panel));
  const FloatTensor packed = constant_input(api(), info, 1, "packed weights");
  if (packed.count() != desc.packed_floats()) {
    throw Failure{kInvalidGraph, "packed weights hold " + std::to_string(packed.count()) + " floats, expected " +
                                     std::to_string(desc.packed_floats())};
  }
  return std::unique_ptr<cpu::Stem>(new cpu::Stem(desc, packed.data));
}

void compute(Kernel<cpu::Stem>* kernel, KernelContext* context) {
  const cpu::Stem& stem = *kernel->work;
  const FloatTensor x = context_input(api(), context, 0, "X");
  if (x.dims.size() != 4 || x.dims[1] != cpu::StemDesc::kChannels) {
    throw Failure{kInvalidArgument, "X must be (batch, 3, height, width)"};
  }
  if (x.dims[2] < 1 || x.dims[2] > kMaxSide || x.dims[3] < 1 || x.dims[3] > kMaxSide) {
    throw Failure{kInvalidArgument, "image sides must be between 1 and " + std::to_string(kMaxSide)};
  }
  const int h = static_cast<int>(x.dims[2]), w = static_cast<int>(x.dims[3]);
  float* y =
      output<float>(api(), context, 0, {x.dims[0], stem.desc().out_size(h), stem.desc().out_size(w), stem.desc().cout});
  stem.execute(x.data, x.dims[0], h, w, RuntimePool(api(), context, kernel->width.of(api(), context)), y);
}

template <class Kind>
Status* create(const CustomOp*, const void*, const KernelInfo* info, void** kernel) {
  return guarded(api(), Kind::kName, [&] { *kernel = new Kernel<cpu::Stem>{make_stem<Kind>(info), {}}; });
}

template <class Kind>
Status* run_kernel(void* kernel, KernelContext* context) {
  return guarded(api(), Kind::kName, [&] { compute(static_cast<Kernel<cpu::Stem>*>(kernel), context); });
}

template <class Kind>
CustomOp stem_op() {
  CustomOp op = {};
  op.get_name = [](const CustomOp*) { return Kind::kName; };
  op.get_execution_provider = [](const CustomOp*) -> const char* { return nullptr; };
  op.get_input_type = [](const CustomOp*, size_t) { return kFloat; };
  op.get_input_count = [](const CustomOp*) -> size_t { return 2; };
  op.get_input_characteristic = [](const CustomOp*, size_t) { return kRequired; };
  op.get_variadic_input_min_arity = [](const CustomOp*) { return 0; };
  op.get_variadic_input_homogeneity = [](const CustomOp*) { return 1; };
  op.get_output_type = [](const CustomOp*, size_t) { return kFloat; };
  op.get_output_count = [](const CustomOp*) -> size_t { return 1; };
  op.get_output_characteristic = [](const CustomOp*, size_t) { return kRequired; };
  op.get_variadic_output_min_arity = [](const CustomOp*) { return 0; };
  op.get_variadic_output_homogeneity = [](const CustomOp*) { return 1; };
  op.get_input_memory_type = [](const CustomOp*, size_t) { return 0; };
  op.create_kernel_v2 = create<Kind>;
  op.kernel_compute_v2 = run_kernel<Kind>;
  op.kernel_destroy = [](void* kernel) { delete static_cast<Kernel<cpu::Stem>*>(kernel); };
  op.get_start_version = [](const CustomOp*) { return 1; };
  op.get_end_version = [](const CustomOp*) { return 1; };
  return op;
}

}  // namespace

CustomOp stem_conv_pool_op() { return stem_op<Pooled>(); }
CustomOp stem_conv_op() { return stem_op<Plain>(); }

}  // namespace ort
}  // namespace laudc
