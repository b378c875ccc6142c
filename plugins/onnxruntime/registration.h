// Making the operators of a library known to a session.
#pragma once

#include <vector>

#include "onnxruntime/ort_abi.h"

namespace laudc {
namespace ort {

// A library has one set of operators, the first that it is called with.
Status* register_ops(const std::vector<CustomOp>& ops, SessionOptions* options, const ApiBase* base);

}  // namespace ort
}  // namespace laudc
