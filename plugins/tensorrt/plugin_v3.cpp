#include "tensorrt/plugin_v3.h"

#include "tensorrt/messages.h"
#include "tensorrt/names.h"

namespace laudc {
namespace trt {
namespace {

std::string metadata_of(const Executor& executor) {
  static const char* const kNames[] = {"fp32", "tf32", "fp16"};
  return "blocks=" + std::to_string(executor.block_count()) + " precision=" + kNames[executor.state().precision] +
         " state=" + fingerprint(executor.state());
}

}  // namespace

RunPluginV3::RunPluginV3(std::string layer, std::unique_ptr<Executor> executor)
    : layer_(std::move(layer)),
      executor_(std::move(executor)),
      timing_id_(std::string(kPluginNamespace) + "." + executor_->state().op + "." + kPluginVersion + "." +
                 fingerprint(executor_->state())),
      metadata_(metadata_of(*executor_)),
      stored_(serialize(executor_->state())),
      stored_field_(kStateField, stored_.data(), nvinfer1::PluginFieldType::kUNKNOWN,
                    static_cast<int32_t>(stored_.size())),
      stored_fields_{1, &stored_field_} {}

nvinfer1::IPluginCapability* RunPluginV3::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* RunPluginV3::clone() noexcept {
  return guarded(layer_, static_cast<RunPluginV3*>(nullptr),
                 [&] { return new RunPluginV3(layer_, executor_->clone()); });
}

const char* RunPluginV3::getPluginName() const noexcept { return executor_->state().op.c_str(); }

const char* RunPluginV3::getPluginVersion() const noexcept { return kPluginVersion; }

const char* RunPluginV3::getPluginNamespace() const noexcept { return kPluginNamespace; }

int32_t RunPluginV3::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                                     const nvinfer1::DynamicPluginTensorDesc*, int32_t outputs) noexcept {
  return guarded(layer_, 1, [&] {
    std::string error;
    std::vector<const nvinfer1::PluginTensorDesc*> tensors;
    for (int32_t i = 0; i < inputs; ++i) tensors.push_back(&in[i].desc);
    if (check_tensor_counts(*executor_, inputs, outputs, &error) && check_shapes(*executor_, tensors.data(), &error)) {
      return 0;
    }
    say(Severity::kError, layer_, error);
    return 1;
  });
}

int32_t RunPluginV3::getOutputDataTypes(nvinfer1::DataType* types, int32_t outputs,
                                        const nvinfer1::DataType* input_types, int32_t inputs) const noexcept {
  return guarded(layer_, 1, [&] {
    std::string error;
    if (!check_tensor_counts(*executor_, inputs, outputs, &error)) {
      say(Severity::kError, layer_, error);
      return 1;
    }
    // A weakly typed network may still be given the right type; a strongly typed one is about to fail.
    if (input_types[0] != map_type(*executor_)) {
      say(Severity::kWarning, layer_,
          std::string("precision asks for an ") + (executor_->half() ? "fp16" : "fp32") +
              " X, the network has another type: a strongly typed network needs a Cast before this layer");
    }
    for (int32_t i = 0; i < outputs; ++i) types[i] = output_type(*executor_, i);
    return 0;
  });
}

int32_t RunPluginV3::getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs*,
                                     int32_t, nvinfer1::DimsExprs* outputs, int32_t output_count,
                                     nvinfer1::IExprBuilder& builder) noexcept {
  return guarded(layer_, 1, [&] {
    std::string error;
    if (!check_tensor_counts(*executor_, input_count, output_count, &error)) {
      say(Severity::kError, layer_, error);
      return 1;
    }
    for (int32_t i = 0; i < output_count; ++i) outputs[i] = output_dims(*executor_, i, inputs[0], builder);
    return 0;
  });
}

bool RunPluginV3::supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                            int32_t inputs, int32_t outputs) noexcept {
  return guarded(layer_, false, [&] {
    std::string error;
    if (check_tensor_counts(*executor_, inputs, outputs, &error)) {
      return supports(*executor_, position, tensors[position].desc);
    }
    say(Severity::kError, layer_, error);
    return false;
  });
}

int32_t RunPluginV3::getNbOutputs() const noexcept { return kOutputs; }

size_t RunPluginV3::getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* in, int32_t,
                                     const nvinfer1::DynamicPluginTensorDesc*, int32_t) const noexcept {
  return guarded(layer_, size_t{0}, [&] {
    std::string error;
    const size_t bytes = executor_->workspace_bytes(in[0].max.d[0], &error);
    if (bytes == 0) say(Severity::kError, layer_, error);
    return bytes;
  });
}

const char* RunPluginV3::getTimingCacheID() noexcept { return timing_id_.c_str(); }

const char* RunPluginV3::getMetadataString() noexcept { return metadata_.c_str(); }

// Nothing depends on the batch but the workspace, which is planned anew in every call.
int32_t RunPluginV3::onShapeChange(const nvinfer1::PluginTensorDesc* in, int32_t inputs,
                                   const nvinfer1::PluginTensorDesc*, int32_t outputs) noexcept {
  return guarded(layer_, 1, [&] {
    std::string error;
    std::vector<const nvinfer1::PluginTensorDesc*> tensors;
    for (int32_t i = 0; i < inputs; ++i) tensors.push_back(&in[i]);
    if (check_tensor_counts(*executor_, inputs, outputs, &error) && check_shapes(*executor_, tensors.data(), &error)) {
      return 0;
    }
    say(Severity::kError, layer_, error);
    return 1;
  });
}

int32_t RunPluginV3::enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc*,
                             const void* const* inputs, void* const* outputs, void* workspace,
                             cudaStream_t stream) noexcept {
  return guarded(layer_, 1, [&] {
    std::string error;
    const CallTensors tensors = {inputs, outputs, workspace, in[0].dims.d[0]};
    if (executor_->enqueue(tensors, stream, &error)) return 0;
    say(Severity::kError, layer_, error);
    return 1;
  });
}

nvinfer1::IPluginV3* RunPluginV3::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
  return guarded(layer_, static_cast<RunPluginV3*>(nullptr), [&] {
    std::unique_ptr<RunPluginV3> copy(new RunPluginV3(layer_, executor_->clone()));
    std::string error;
    if (!copy->executor_->reserve(&error)) say(Severity::kWarning, layer_, error);  // the first call tries again
    return copy.release();
  });
}

const nvinfer1::PluginFieldCollection* RunPluginV3::getFieldsToSerialize() noexcept { return &stored_fields_; }

RunCreatorV3::RunCreatorV3(const char* op)
    : op_(op), fields_{static_cast<int32_t>(attribute_fields().size()), attribute_fields().data()} {}

// A node brings its attributes, an engine the stored state; which it is shows in the fields, so the phase does not
// matter.
nvinfer1::IPluginV3* RunCreatorV3::createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                                nvinfer1::TensorRTPhase) noexcept {
  return guarded("", static_cast<RunPluginV3*>(nullptr), [&] {
    const std::string layer = name == nullptr ? "" : name;
    std::unique_ptr<Executor> executor = make_executor(op_, layer, fields);
    return executor == nullptr ? nullptr : new RunPluginV3(layer, std::move(executor));
  });
}

const nvinfer1::PluginFieldCollection* RunCreatorV3::getFieldNames() noexcept { return &fields_; }

const char* RunCreatorV3::getPluginName() const noexcept { return op_; }

const char* RunCreatorV3::getPluginVersion() const noexcept { return kPluginVersion; }

const char* RunCreatorV3::getPluginNamespace() const noexcept { return kPluginNamespace; }

}  // namespace trt
}  // namespace laudc
