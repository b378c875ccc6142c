// What the plugin promises about its tensors, in TensorRT's types: shared by the interfaces of every TensorRT major.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensorrt/executor.h"
#include "tensorrt/headers.h"

namespace laudc {
namespace trt {

inline nvinfer1::DataType map_type(const Executor& executor) {
  return executor.half() ? nvinfer1::DataType::kHALF : nvinfer1::DataType::kFLOAT;
}

inline nvinfer1::DataType output_type(const Executor& executor, int output) {
  if (output == kY) return map_type(executor);
  return output == kCounts ? nvinfer1::DataType::kINT32 : nvinfer1::DataType::kFLOAT;
}

// Inputs first, then outputs.
inline bool supports(const Executor& executor, int position, const nvinfer1::PluginTensorDesc& tensor) {
  const int inputs = executor.input_count();
  nvinfer1::DataType wanted = nvinfer1::DataType::kFLOAT;
  if (position == 0) wanted = map_type(executor);
  if (position >= inputs) wanted = output_type(executor, position - inputs);
  return tensor.format == nvinfer1::TensorFormat::kLINEAR && tensor.type == wanted;
}

nvinfer1::DimsExprs output_dims(const Executor& executor, int output, const nvinfer1::DimsExprs& x,
                                nvinfer1::IExprBuilder& builder);

// Whether the tensors are those of this run. False and a sentence in `error` otherwise.
bool check_tensor_counts(const Executor& executor, int inputs, int outputs, std::string* error);
bool check_shapes(const Executor& executor, const nvinfer1::PluginTensorDesc* const* inputs, std::string* error);

std::vector<FieldView> views_of(const nvinfer1::PluginFieldCollection* fields);

// The node's attributes, for getFieldNames().
const std::vector<nvinfer1::PluginField>& attribute_fields();

// Logs why and returns null if the fields make no run.
std::unique_ptr<Executor> make_executor(const std::string& op, const std::string& layer,
                                        const nvinfer1::PluginFieldCollection* fields);

}  // namespace trt
}  // namespace laudc
