// The adapter of every scheduled run: (X, packed_0, ..., packed_n-1) -> (Y, counts, margins, block_ns).
//
// `Run` is an executor with the interface of cpu::BottleneckRun; `Desc` the record of one of its blocks.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/block_desc.h"
#include "cpu/bottleneck_run.h"
#include "onnxruntime/adapter.h"

namespace laudc {
namespace ort {

template <class Run, class Desc>
struct RunOp {
  typedef bool (*Parse)(const int64_t*, size_t, std::vector<Desc>*, std::string*);

  // All inputs form one variadic parameter: ONNX Runtime wants a variadic parameter last, and X has their type.
  static std::unique_ptr<Run> make(const KernelInfo* info, Parse parse) {
    require_abi(api(), info);
    const std::vector<int64_t> records = ints_attribute(api(), info, "blocks");
    std::vector<Desc> blocks;
    std::string error;
    if (!parse(records.data(), records.size(), &blocks, &error)) throw Failure{kInvalidGraph, error};
    size_t inputs = 0;
    check(api().input_count(info, &inputs));
    if (inputs != blocks.size() + 1) {
      throw Failure{kInvalidGraph, std::to_string(blocks.size()) + " blocks but " + std::to_string(inputs) + " inputs"};
    }
    std::vector<const float*> weights;
    std::vector<int64_t> sizes;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const FloatTensor tensor = constant_input(api(), info, i + 1, "packed weights " + std::to_string(i));
      weights.push_back(tensor.data);
      sizes.push_back(tensor.count());
    }
    auto run = Run::create(std::move(blocks), std::move(weights), sizes, &error);
    if (run == nullptr) throw Failure{kInvalidGraph, error};
    return run;
  }

  static void compute(Kernel<Run>* kernel, KernelContext* context) {
    const Run& run = *kernel->work;
    const FloatTensor x = context_input(api(), context, 0, "X");
    const BlockDesc& head = run.first();
    if (x.dims.size() != 4 || x.dims[1] != head.hin || x.dims[2] != head.win || x.dims[3] != head.cin) {
      throw Failure{kInvalidArgument, "X must be (batch, " + std::to_string(head.hin) + ", " +
                                          std::to_string(head.win) + ", " + std::to_string(head.cin) +
                                          "), the size the engine was built for"};
    }
    const int64_t batch = x.dims[0];
    const BlockDesc& tail = run.last();
    cpu::RunOutputs out;
    out.y = output<float>(api(), context, 0, {batch, tail.hout(), tail.wout(), tail.cout});
    out.counts = output<int32_t>(api(), context, 1, {batch, run.block_count(), cpu::kCountsPerBlock});
    out.margins = output<float>(api(), context, 2, {batch, run.total_margins()});
    out.block_ns = output<int64_t>(api(), context, 3, {run.block_count()});
    run.execute(x.data, batch, RuntimePool(api(), context, kernel->width.of(api(), context)), out);
  }

  // What does not depend on the op's name: the caller adds get_name, create_kernel_v2 and kernel_compute_v2.
  static CustomOp description() {
    CustomOp op = {};
    op.get_execution_provider = [](const CustomOp*) -> const char* { return nullptr; };
    op.get_input_type = [](const CustomOp*, size_t) { return kFloat; };
    op.get_input_count = [](const CustomOp*) -> size_t { return 1; };
    op.get_input_characteristic = [](const CustomOp*, size_t) { return kVariadic; };
    op.get_variadic_input_min_arity = [](const CustomOp*) { return 2; };
    op.get_variadic_input_homogeneity = [](const CustomOp*) { return 1; };
    op.get_output_type = [](const CustomOp*, size_t index) {
      static const ElementType kTypes[] = {kFloat, kInt32, kFloat, kInt64};
      return kTypes[index];
    };
    op.get_output_count = [](const CustomOp*) -> size_t { return 4; };
    op.get_output_characteristic = [](const CustomOp*, size_t index) { return index == 0 ? kRequired : kOptional; };
    op.get_variadic_output_min_arity = [](const CustomOp*) { return 0; };
    op.get_variadic_output_homogeneity = [](const CustomOp*) { return 1; };
    op.get_input_memory_type = [](const CustomOp*, size_t) { return 0; };
    op.kernel_destroy = [](void* kernel) { delete static_cast<Kernel<Run>*>(kernel); };
    op.get_start_version = [](const CustomOp*) { return 1; };
    op.get_end_version = [](const CustomOp*) { return 1; };
    return op;
  }
};

}  // namespace ort
}  // namespace laudc
