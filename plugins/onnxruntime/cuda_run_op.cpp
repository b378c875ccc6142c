// ai.laudc::BottleneckRun and its like, (X, packed_0, ..., packed_n-1) -> (Y, counts, margins), for ONNX Runtime's CUDA
// provider
#include "onnxruntime/cuda_run_op.h"

#include <map>
#include <memory>
#include <mutex>

#include "cuda/laudc_cuda.h"
#include "cuda/prepared_weights.h"
#include "onnxruntime/adapter.h"

// Tests run the operator, on emulated kernels, in the provider that every machine has.
#ifndef LAUDC_CUDA_PROVIDER
#define LAUDC_CUDA_PROVIDER "CUDAExecutionProvider"
#endif

namespace laudc {
namespace ort {
namespace {

// The scheduled ops; each becomes an operator of its own.
constexpr const char* kNames[] = {"BottleneckRun", "RegNetRun", "VitRun"};
constexpr int kCountsPerBlock = 4;
constexpr size_t kErrorSize = 512;

// What a stream needs for itself: work on one stream is done in order, so calls on it may share this.
class StreamMemory {
 public:
  ~StreamMemory() {
    if (workspace_ != nullptr) laudc_cuda_release(workspace_);
  }

  // Grows only, so a warm call allocates nothing.
  void* workspace(size_t bytes, void* stream) {
    if (bytes <= bytes_) return workspace_;
    if (laudc_cuda_is_capturing(stream) != 0) {
      throw Failure{kRuntimeException, "the first run cannot be captured into a CUDA graph: run once before capturing"};
    }
    if (workspace_ != nullptr) laudc_cuda_release(workspace_);
    bytes_ = 0;
    workspace_ = nullptr;
    char why[kErrorSize] = "";
    if (laudc_cuda_allocate(bytes, &workspace_, why, sizeof(why)) != 0) {
      workspace_ = nullptr;
      throw Failure{kRuntimeException,
                    "no device memory for a workspace of " + std::to_string(bytes) + " bytes: " + why};
    }
    bytes_ = bytes;
    return workspace_;
  }
  cuda::PreparedWeights weights;

 private:
  void* workspace_ = nullptr;
  size_t bytes_ = 0;
};

struct CudaRun {
  std::unique_ptr<laudc_cuda_run, void (*)(laudc_cuda_run*)> run{nullptr, laudc_cuda_destroy};
  int precision = LAUDC_CUDA_FP32;
  std::mutex mutex;  // calls may come from several threads
  std::map<void*, std::unique_ptr<StreamMemory>> memory;

  int64_t blocks() const { return laudc_cuda_blocks(run.get()); }
  int map_type() const { return precision == LAUDC_CUDA_FP16 ? kFloat16 : kFloat; }
};

void check_weights(const KernelInfo* info, const CudaRun& made) {
  size_t inputs = 0;
  check(api().input_count(info, &inputs));
  if (inputs != static_cast<size_t>(made.blocks()) + 1) {
    throw Failure{kInvalidGraph, std::to_string(made.blocks()) + " blocks but " + std::to_string(inputs) + " inputs"};
  }
  for (int64_t i = 0; i < made.blocks(); ++i) {
    const FloatTensor tensor =
        constant_input(api(), info, static_cast<size_t>(i) + 1, "packed weights " + std::to_string(i));
    const int64_t wanted = laudc_cuda_packed_floats(made.run.get(), i);
    if (tensor.count() == wanted) continue;
    throw Failure{kInvalidGraph, "block " + std::to_string(i) + ": packed weights hold " +
                                     std::to_string(tensor.count()) + " floats, the record says " +
                                     std::to_string(wanted)};
  }
}

std::unique_ptr<CudaRun> make_run(const char* op, const KernelInfo* info) {
  require_abi(api(), info);
  const std::vector<int64_t> records = ints_attribute(api(), info, "blocks");
  std::unique_ptr<CudaRun> made(new CudaRun());
  made->precision = static_cast<int>(int_attribute(api(), info, "precision"));
  char why[kErrorSize] = "";
  laudc_cuda_device device = {0, 0};
  if (laudc_cuda_current_device(&device, why, sizeof(why)) != 0) {
    throw Failure{kRuntimeException, std::string("no GPU can be used: ") + why};
  }
  made->run.reset(laudc_cuda_create(op, records.data(), records.size(), made->precision, &device, why, sizeof(why)));
  if (made->run == nullptr) throw Failure{kInvalidGraph, why};
  check_weights(info, *made);
  return made;
}

AnyTensor input_of(const KernelContext* context, size_t index) {
  const Value* value = nullptr;
  check(api().input(context, index, &value));
  if (value == nullptr) throw Failure{kInvalidArgument, "input " + std::to_string(index) + " is missing"};
  return any_tensor(api(), value);
}

AnyTensor checked_x(const CudaRun& made, const KernelContext* context) {
  const AnyTensor x = input_of(context, 0);
  const laudc_cuda_shape wanted = laudc_cuda_x_shape(made.run.get());
  if (x.type != made.map_type()) {
    throw Failure{kInvalidArgument, std::string("X must be ") + (made.map_type() == kFloat16 ? "float16" : "float32") +
                                        " at the precision the engine was built for"};
  }
  bool right = x.dims.size() == 1 + static_cast<size_t>(wanted.rank);
  std::string text = "(batch";
  for (int i = 0; i < wanted.rank; ++i) {
    right = right && x.dims[1 + static_cast<size_t>(i)] == wanted.dims[i];
    text += ", " + std::to_string(wanted.dims[i]);
  }
  if (!right) throw Failure{kInvalidArgument, "X must be " + text + "), the size the engine was built for"};
  return x;
}

void compute(CudaRun* made, KernelContext* context) {
  const AnyTensor x = checked_x(*made, context);
  std::vector<const float*> packed;
  for (int64_t i = 0; i < made->blocks(); ++i) {
    packed.push_back(static_cast<const float*>(input_of(context, static_cast<size_t>(i) + 1).data));
  }
  const int64_t batch = x.dims[0];
  const int64_t margins = laudc_cuda_margins(made->run.get());
  const laudc_cuda_shape y = laudc_cuda_y_shape(made->run.get());
  std::vector<int64_t> y_dims(y.dims, y.dims + y.rank);
  y_dims.insert(y_dims.begin(), batch);
  laudc_cuda_io io = {};
  io.x = x.data;
  io.packed = packed.data();
  io.y = output<void>(api(), context, 0, y_dims);
  io.counts = output<int32_t>(api(), context, 1, {batch, made->blocks(), kCountsPerBlock});
  io.margins = output<float>(api(), context, 2, {batch, margins});
  if (margins == 0) io.margins = nullptr;
  io.margins_stride = margins;
  io.batch = batch;
  if (batch == 0) return;

  void* stream = nullptr;
  check(api().gpu_stream(context, &stream));
  const std::lock_guard<std::mutex> lock(made->mutex);
  std::unique_ptr<StreamMemory>& memory = made->memory[stream];
  if (memory == nullptr) memory.reset(new StreamMemory());
  std::string error;
  if (!memory->weights.get(made->run.get(), packed, stream, &io.prepared, &error)) {
    throw Failure{kRuntimeException, error};
  }
  io.workspace_bytes = laudc_cuda_workspace_bytes(made->run.get(), batch);
  io.workspace = memory->workspace(io.workspace_bytes, stream);
  char why[kErrorSize] = "";
  if (laudc_cuda_enqueue(made->run.get(), &io, stream, why, sizeof(why)) != 0) throw Failure{kRuntimeException, why};
}

template <size_t kOp>
Status* create(const CustomOp*, const void*, const KernelInfo* info, void** kernel) {
  return guarded(api(), kNames[kOp], [&] { *kernel = make_run(kNames[kOp], info).release(); });
}

template <size_t kOp>
Status* run_kernel(void* kernel, KernelContext* context) {
  return guarded(api(), kNames[kOp], [&] { compute(static_cast<CudaRun*>(kernel), context); });
}

ElementType output_type(const CustomOp*, size_t index) {
  static const ElementType kTypes[] = {kUndefined, kInt32, kFloat};
  return kTypes[index];
}

// X may be fp16 while the weights are fp32: the one variadic parameter that takes all inputs leaves types open.
template <size_t kOp>
CustomOp run_op() {
  CustomOp op = {};
  op.get_name = [](const CustomOp*) -> const char* { return kNames[kOp]; };
  op.get_execution_provider = [](const CustomOp*) -> const char* { return LAUDC_CUDA_PROVIDER; };
  op.get_input_type = [](const CustomOp*, size_t) { return kUndefined; };
  op.get_input_count = [](const CustomOp*) -> size_t { return 1; };
  op.get_input_characteristic = [](const CustomOp*, size_t) { return kVariadic; };
  op.get_variadic_input_min_arity = [](const CustomOp*) { return 2; };
  op.get_variadic_input_homogeneity = [](const CustomOp*) { return 0; };
  op.get_output_type = output_type;
  op.get_output_count = [](const CustomOp*) -> size_t { return 3; };
  op.get_output_characteristic = [](const CustomOp*, size_t index) { return index == 0 ? kRequired : kOptional; };
  op.get_variadic_output_min_arity = [](const CustomOp*) { return 0; };
  op.get_variadic_output_homogeneity = [](const CustomOp*) { return 1; };
  op.get_input_memory_type = [](const CustomOp*, size_t) { return 0; };
  op.create_kernel_v2 = create<kOp>;
  op.kernel_compute_v2 = run_kernel<kOp>;
  op.kernel_destroy = [](void* kernel) { delete static_cast<CudaRun*>(kernel); };
  op.get_start_version = [](const CustomOp*) { return 1; };
  op.get_end_version = [](const CustomOp*) { return 1; };
  return op;
}

}  // namespace

std::vector<CustomOp> cuda_run_ops() { return {run_op<0>(), run_op<1>(), run_op<2>()}; }

}  // namespace ort
}  // namespace laudc
