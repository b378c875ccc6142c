// ai.laudc::BottleneckRun on a GPU.
#pragma once

#include "onnxruntime/ort_abi.h"

namespace laudc {
namespace ort {

// Version filled in by the caller.
CustomOp cuda_bottleneck_run_op();

}  // namespace ort
}  // namespace laudc
