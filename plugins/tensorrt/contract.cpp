#include "tensorrt/contract.h"

#include "tensorrt/messages.h"

namespace laudc {
namespace trt {
namespace {

using nvinfer1::PluginFieldType;

FieldView::Type type_of(PluginFieldType type) {
  if (type == PluginFieldType::kINT32) return FieldView::Type::kInt32;
  // kINT64 exists since TensorRT 10; its number never meant anything else.
  if (static_cast<int>(type) == 10) return FieldView::Type::kInt64;
  if (type == PluginFieldType::kUNKNOWN || type == PluginFieldType::kCHAR || type == PluginFieldType::kINT8) {
    return FieldView::Type::kBytes;
  }
  return FieldView::Type::kOther;
}

std::string shape_text(const nvinfer1::Dims& dims) {
  std::string text = "(";
  for (int32_t i = 0; i < dims.nbDims; ++i) text += (i > 0 ? ", " : "") + std::to_string(dims.d[i]);
  return text + ")";
}

}  // namespace

nvinfer1::DimsExprs output_dims(const Executor& executor, int output, const nvinfer1::DimsExprs& x,
                                nvinfer1::IExprBuilder& builder) {
  nvinfer1::DimsExprs dims = {};
  dims.d[0] = x.d[0];
  if (output == kY) {
    const laudc_cuda_shape& y = executor.y_shape();
    dims.nbDims = 1 + y.rank;
    for (int32_t i = 0; i < y.rank; ++i) dims.d[1 + i] = builder.constant(static_cast<int32_t>(y.dims[i]));
  } else if (output == kCounts) {
    dims.nbDims = 3;
    dims.d[1] = builder.constant(executor.block_count());
    dims.d[2] = builder.constant(kCountsPerBlock);
  } else {
    dims.nbDims = 2;
    dims.d[1] = builder.constant(static_cast<int32_t>(executor.margin_columns()));
  }
  return dims;
}

bool check_tensor_counts(const Executor& executor, int inputs, int outputs, std::string* error) {
  if (inputs == executor.input_count() && outputs == kOutputs) return true;
  *error = std::to_string(executor.block_count()) + " blocks need " + std::to_string(executor.input_count()) +
           " inputs (X and the packed weights) and " + std::to_string(static_cast<int>(kOutputs)) +
           " outputs (Y, counts, margins); the layer has " + std::to_string(inputs) + " and " + std::to_string(outputs);
  return false;
}

bool check_shapes(const Executor& executor, const nvinfer1::PluginTensorDesc* const* inputs, std::string* error) {
  const laudc_cuda_shape& wanted = executor.x_shape();
  const nvinfer1::Dims& x = inputs[0]->dims;
  bool right = x.nbDims == 1 + wanted.rank;
  std::string text = "(batch";
  for (int32_t i = 0; i < wanted.rank; ++i) {
    right = right && x.d[1 + i] == wanted.dims[i];
    text += ", " + std::to_string(wanted.dims[i]);
  }
  if (!right) {
    *error = "X is " + shape_text(x) + ", not " + text + "), the size the network was scheduled for";
    return false;
  }
  for (int i = 0; i < executor.block_count(); ++i) {
    const nvinfer1::Dims& packed = inputs[1 + i]->dims;
    if (packed.nbDims == 1 && packed.d[0] == executor.packed_floats(i)) continue;
    *error = "packed weights of block " + std::to_string(i) + " are " + shape_text(packed) + ", not (" +
             std::to_string(executor.packed_floats(i)) + ")";
    return false;
  }
  return true;
}

std::vector<FieldView> views_of(const nvinfer1::PluginFieldCollection* fields) {
  std::vector<FieldView> views;
  if (fields == nullptr || fields->fields == nullptr) return views;
  for (int32_t i = 0; i < fields->nbFields; ++i) {
    const nvinfer1::PluginField& field = fields->fields[i];
    views.push_back({field.name, field.data, type_of(field.type), field.length});
  }
  return views;
}

const std::vector<nvinfer1::PluginField>& attribute_fields() {
  static const std::vector<nvinfer1::PluginField> fields = {
      {kAbiField, nullptr, PluginFieldType::kINT32, 1},
      {kBlocksField, nullptr, PluginFieldType::kINT32, 1},
      {kPrecisionField, nullptr, PluginFieldType::kINT32, 1},
  };
  return fields;
}

std::unique_ptr<Executor> make_executor(const std::string& op, const std::string& layer,
                                        const nvinfer1::PluginFieldCollection* fields) {
  clear_last_error();
  RunState state;
  std::string error;
  std::unique_ptr<Executor> executor;
  if (read_fields(op, views_of(fields), &state, &error)) executor = Executor::create(state, &error);
  if (executor == nullptr) say(Severity::kError, layer, error);
  return executor;
}

}  // namespace trt
}  // namespace laudc
