// The scheduled runs on a GPU.
#pragma once

#include <vector>

#include "onnxruntime/ort_abi.h"

namespace laudc {
namespace ort {

// Versions filled in by the caller.
std::vector<CustomOp> cuda_run_ops();

}  // namespace ort
}  // namespace laudc
