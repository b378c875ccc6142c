#include "tensorrt/plugin_v2.h"

#include <cstring>

#include "tensorrt/messages.h"
#include "tensorrt/names.h"

namespace laudc {
namespace trt {
namespace {

std::string text_of(const char* name) { return name == nullptr ? std::string() : std::string(name); }

}  // namespace

RunPluginV2::RunPluginV2(std::string layer, std::unique_ptr<Executor> executor)
    : layer_(std::move(layer)), executor_(std::move(executor)), namespace_(kPluginNamespace) {}

const char* RunPluginV2::getPluginType() const noexcept { return executor_->state().op.c_str(); }

const char* RunPluginV2::getPluginVersion() const noexcept { return kPluginVersion; }

void RunPluginV2::setPluginNamespace(const char* name) noexcept {
  guarded(layer_, 0, [&] {
    namespace_ = text_of(name);
    return 0;
  });
}

const char* RunPluginV2::getPluginNamespace() const noexcept { return namespace_.c_str(); }

int32_t RunPluginV2::getNbOutputs() const noexcept { return kOutputs; }

// The GPU is looked at when it is first needed: an engine may be deserialised only to be inspected.
int32_t RunPluginV2::initialize() noexcept { return 0; }

void RunPluginV2::terminate() noexcept {}

size_t RunPluginV2::getSerializationSize() const noexcept {
  return guarded(layer_, size_t{0}, [&] { return trt::serialize(executor_->state()).size(); });
}

void RunPluginV2::serialize(void* buffer) const noexcept {
  guarded(layer_, 0, [&] {
    const std::vector<uint8_t> bytes = trt::serialize(executor_->state());
    std::memcpy(buffer, bytes.data(), bytes.size());
    return 0;
  });
}

void RunPluginV2::destroy() noexcept { delete this; }

nvinfer1::IPluginV2DynamicExt* RunPluginV2::clone() const noexcept {
  return guarded(layer_, static_cast<RunPluginV2*>(nullptr), [&] {
    RunPluginV2* copy = new RunPluginV2(layer_, executor_->clone());
    copy->namespace_ = namespace_;
    copy->refusal_ = refusal_;
    return copy;
  });
}

nvinfer1::DataType RunPluginV2::getOutputDataType(int32_t index, const nvinfer1::DataType*, int32_t) const noexcept {
  return output_type(*executor_, index);
}

void RunPluginV2::attachToContext(cudnnContext*, cublasContext*, nvinfer1::IGpuAllocator*) noexcept {
  guarded(layer_, 0, [&] {
    std::string error;
    if (!executor_->reserve(&error)) say(Severity::kWarning, layer_, error);  // the first call tries again
    return 0;
  });
}

void RunPluginV2::detachFromContext() noexcept {}

nvinfer1::DimsExprs RunPluginV2::getOutputDimensions(int32_t index, const nvinfer1::DimsExprs* inputs, int32_t,
                                                     nvinfer1::IExprBuilder& builder) noexcept {
  return output_dims(*executor_, index, inputs[0], builder);
}

bool RunPluginV2::supportsFormatCombination(int32_t position, const nvinfer1::PluginTensorDesc* tensors, int32_t inputs,
                                            int32_t outputs) noexcept {
  return guarded(layer_, false, [&] {
    std::string error;
    if (check_tensor_counts(*executor_, inputs, outputs, &error)) {
      return supports(*executor_, position, tensors[position]);
    }
    say(Severity::kError, layer_, error);
    return false;
  });
}

void RunPluginV2::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                                  const nvinfer1::DynamicPluginTensorDesc*, int32_t outputs) noexcept {
  guarded(layer_, 0, [&] {
    refusal_.clear();
    std::vector<const nvinfer1::PluginTensorDesc*> tensors;
    for (int32_t i = 0; i < inputs; ++i) tensors.push_back(&in[i].desc);
    const bool good = check_tensor_counts(*executor_, inputs, outputs, &refusal_) &&
                      check_shapes(*executor_, tensors.data(), &refusal_);
    if (!good) say(Severity::kError, layer_, refusal_);
    return 0;
  });
}

size_t RunPluginV2::getWorkspaceSize(const nvinfer1::PluginTensorDesc* in, int32_t, const nvinfer1::PluginTensorDesc*,
                                     int32_t) const noexcept {
  return guarded(layer_, size_t{0}, [&] {
    std::string error;
    const size_t bytes = executor_->workspace_bytes(in[0].dims.d[0], &error);
    if (bytes == 0) say(Severity::kError, layer_, error);
    return bytes;
  });
}

int32_t RunPluginV2::enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc*,
                             const void* const* inputs, void* const* outputs, void* workspace,
                             cudaStream_t stream) noexcept {
  return guarded(layer_, 1, [&] {
    std::string error = refusal_;
    const CallTensors tensors = {inputs, outputs, workspace, in[0].dims.d[0]};
    if (error.empty() && executor_->enqueue(tensors, stream, &error)) return 0;
    say(Severity::kError, layer_, error);
    return 1;
  });
}

RunCreatorV2::RunCreatorV2(const char* op) : op_(op), namespace_(kPluginNamespace) {
  fields_.nbFields = static_cast<int32_t>(attribute_fields().size());
  fields_.fields = attribute_fields().data();
}

const char* RunCreatorV2::getPluginName() const noexcept { return op_; }

const char* RunCreatorV2::getPluginVersion() const noexcept { return kPluginVersion; }

const nvinfer1::PluginFieldCollection* RunCreatorV2::getFieldNames() noexcept { return &fields_; }

nvinfer1::IPluginV2* RunCreatorV2::createPlugin(const char* name,
                                                const nvinfer1::PluginFieldCollection* fields) noexcept {
  return guarded("", static_cast<RunPluginV2*>(nullptr), [&] {
    std::unique_ptr<Executor> executor = make_executor(op_, text_of(name), fields);
    return executor == nullptr ? nullptr : new RunPluginV2(text_of(name), std::move(executor));
  });
}

nvinfer1::IPluginV2* RunCreatorV2::deserializePlugin(const char* name, const void* data, size_t size) noexcept {
  if (size > INT32_MAX) size = INT32_MAX;  // and be refused
  const nvinfer1::PluginField stored(kStateField, data, nvinfer1::PluginFieldType::kUNKNOWN,
                                     static_cast<int32_t>(size));
  nvinfer1::PluginFieldCollection fields = nvinfer1::PluginFieldCollection();
  fields.nbFields = 1;
  fields.fields = &stored;
  return createPlugin(name, &fields);
}

void RunCreatorV2::setPluginNamespace(const char* name) noexcept {
  guarded("", 0, [&] {
    namespace_ = text_of(name);
    return 0;
  });
}

const char* RunCreatorV2::getPluginNamespace() const noexcept { return namespace_.c_str(); }

}  // namespace trt
}  // namespace laudc
