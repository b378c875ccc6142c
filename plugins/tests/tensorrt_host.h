// As much of TensorRT as a plugin meets: makes it, asks it what a builder would, runs it, stores and restores it. The
// same for the interfaces of every major, so that one set of tests serves all.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensorrt/headers.h"

#if NV_TENSORRT_MAJOR == 8
extern "C" nvinfer1::IPluginCreator* const* getPluginCreators(int32_t& count);
extern "C" bool laudc_trt_register(void* registry);
#else
extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
#endif
#if LAUDC_HAS_LOGGER_FINDER
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);
#endif
extern "C" const char* laudc_trt_last_error();
extern "C" const char* laudc_abi();

namespace laudc {
namespace test {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

// ---- expressions of dimensions --------------------------------------------------------------------------------------

#if NV_TENSORRT_MAJOR == 8
typedef int32_t DimensionValue;
#else
typedef int64_t DimensionValue;
#endif

class Expression final : public nvinfer1::IDimensionExpr, public nvinfer1::apiv::VDimensionExpr {
 public:
  Expression(bool constant, int64_t value) : constant_(constant), value_(value) { mImpl = this; }
  bool isConstant() const noexcept override { return constant_; }
  DimensionValue getConstantValue() const noexcept override { return static_cast<DimensionValue>(value_); }
#if NV_TENSORRT_MAJOR >= 10
  bool isSizeTensor() const noexcept override { return false; }
#endif

 private:
  const bool constant_;
  const int64_t value_;
};

class ExpressionBuilder final : public nvinfer1::IExprBuilder, public nvinfer1::apiv::VExprBuilder {
 public:
  ExpressionBuilder() { mImpl = this; }
  const nvinfer1::IDimensionExpr* constant(DimensionValue value) noexcept override { return make(true, value); }
  const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation, const nvinfer1::IDimensionExpr&,
                                            const nvinfer1::IDimensionExpr&) noexcept override {
    return nullptr;
  }
#if NV_TENSORRT_MAJOR >= 10
  const nvinfer1::IDimensionExpr* declareSizeTensor(int32_t, const nvinfer1::IDimensionExpr&,
                                                    const nvinfer1::IDimensionExpr&) override {
    return nullptr;
  }
#endif
  const nvinfer1::IDimensionExpr* unknown() { return make(false, -1); }

 private:
  const Expression* make(bool constant, int64_t value) {
    made_.emplace_back(new Expression(constant, value));
    return made_.back().get();
  }
  std::vector<std::unique_ptr<Expression>> made_;
};

// ---- messages -------------------------------------------------------------------------------------------------------

#if LAUDC_HAS_LOGGER_FINDER
class RecordingLogger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    (severity == Severity::kERROR ? errors : others).push_back(message);
  }
  std::vector<std::string> errors, others;
};

class Finder final : public nvinfer1::ILoggerFinder {
 public:
  explicit Finder(nvinfer1::ILogger* logger) : logger_(logger) {}
  nvinfer1::ILogger* findLogger() override { return logger_; }

 private:
  nvinfer1::ILogger* logger_;
};
#endif

// ---- the plugin -----------------------------------------------------------------------------------------------------

inline nvinfer1::PluginTensorDesc tensor_of(const std::vector<int64_t>& dims, DataType type) {
  nvinfer1::PluginTensorDesc desc = nvinfer1::PluginTensorDesc();
  desc.dims.nbDims = static_cast<int32_t>(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) desc.dims.d[i] = static_cast<DimensionValue>(dims[i]);
  desc.type = type;
  desc.format = nvinfer1::TensorFormat::kLINEAR;
  return desc;
}

inline nvinfer1::DynamicPluginTensorDesc dynamic_tensor(const nvinfer1::PluginTensorDesc& desc) {
  nvinfer1::DynamicPluginTensorDesc dynamic = nvinfer1::DynamicPluginTensorDesc();
  dynamic.desc = desc;
  dynamic.min = dynamic.max = desc.dims;
  return dynamic;
}

#if NV_TENSORRT_MAJOR == 8

struct DestroyPlugin {
  void operator()(nvinfer1::IPluginV2* plugin) const { plugin->destroy(); }
};

class HostedPlugin {
 public:
  typedef nvinfer1::IPluginV2DynamicExt Plugin;

  // Null if the library has none of that name.
  static nvinfer1::IPluginCreator* creator(const std::string& op) {
    int32_t count = 0;
    nvinfer1::IPluginCreator* const* all = getPluginCreators(count);
    for (int32_t i = 0; i < count; ++i) {
      if (op == all[i]->getPluginName()) return all[i];
    }
    return nullptr;
  }
  static std::unique_ptr<HostedPlugin> create(const std::string& op, const std::vector<PluginField>& fields) {
    nvinfer1::PluginFieldCollection all = nvinfer1::PluginFieldCollection();
    all.nbFields = static_cast<int32_t>(fields.size());
    all.fields = fields.data();
    return hosted(creator(op)->createPlugin("layer", &all));
  }
  static std::unique_ptr<HostedPlugin> restore(const std::string& op, const std::vector<uint8_t>& bytes) {
    return hosted(creator(op)->deserializePlugin("layer", bytes.data(), bytes.size()));
  }
  std::vector<uint8_t> store() const {
    std::vector<uint8_t> bytes(plugin_->getSerializationSize());
    plugin_->serialize(bytes.data());
    return bytes;
  }
  std::unique_ptr<HostedPlugin> clone() const { return hosted(plugin_->clone()); }
  std::unique_ptr<HostedPlugin> attach() const {
    std::unique_ptr<HostedPlugin> copy = clone();
    copy->plugin_->attachToContext(nullptr, nullptr, nullptr);
    return copy;
  }
  int outputs() const { return plugin_->getNbOutputs(); }
  std::string type() const { return plugin_->getPluginType(); }
  std::string space() const { return plugin_->getPluginNamespace(); }
  DataType output_type(int output, const std::vector<DataType>& inputs) const {
    return plugin_->getOutputDataType(output, inputs.data(), static_cast<int32_t>(inputs.size()));
  }
  nvinfer1::DimsExprs output_dims(int output, const std::vector<nvinfer1::DimsExprs>& inputs,
                                  ExpressionBuilder* builder) const {
    return plugin_->getOutputDimensions(output, inputs.data(), static_cast<int32_t>(inputs.size()), *builder);
  }
  bool supports(int position, const std::vector<nvinfer1::PluginTensorDesc>& tensors, int inputs) const {
    return plugin_->supportsFormatCombination(position, tensors.data(), inputs,
                                              static_cast<int32_t>(tensors.size()) - inputs);
  }
  // What configuration finds wrong shows in the first call.
  bool configure(const std::vector<nvinfer1::DynamicPluginTensorDesc>& in,
                 const std::vector<nvinfer1::DynamicPluginTensorDesc>& out) const {
    plugin_->configurePlugin(in.data(), static_cast<int32_t>(in.size()), out.data(), static_cast<int32_t>(out.size()));
    return true;
  }
  size_t workspace(const std::vector<nvinfer1::PluginTensorDesc>& in,
                   const std::vector<nvinfer1::PluginTensorDesc>& out) const {
    return plugin_->getWorkspaceSize(in.data(), static_cast<int32_t>(in.size()), out.data(),
                                     static_cast<int32_t>(out.size()));
  }
  int enqueue(const std::vector<nvinfer1::PluginTensorDesc>& in, const std::vector<nvinfer1::PluginTensorDesc>& out,
              const std::vector<const void*>& inputs, const std::vector<void*>& outputs, void* workspace) const {
    return plugin_->enqueue(in.data(), out.data(), inputs.data(), outputs.data(), workspace, nullptr);
  }

 private:
  static std::unique_ptr<HostedPlugin> hosted(nvinfer1::IPluginV2* plugin) {
    if (plugin == nullptr) return nullptr;
    std::unique_ptr<HostedPlugin> host(new HostedPlugin());
    host->plugin_.reset(static_cast<Plugin*>(plugin));
    return host;
  }
  std::unique_ptr<Plugin, DestroyPlugin> plugin_;
};

#else

class HostedPlugin {
 public:
  // Null if the library has none of that name.
  static nvinfer1::IPluginCreatorV3One* creator(const std::string& op) {
    int32_t count = 0;
    nvinfer1::IPluginCreatorInterface* const* all = getCreators(count);
    for (int32_t i = 0; i < count; ++i) {
      auto* one = static_cast<nvinfer1::IPluginCreatorV3One*>(all[i]);
      if (op == one->getPluginName()) return one;
    }
    return nullptr;
  }
  static std::unique_ptr<HostedPlugin> create(const std::string& op, const std::vector<PluginField>& fields) {
    return make(op, fields, nvinfer1::TensorRTPhase::kBUILD);
  }
  static std::unique_ptr<HostedPlugin> restore(const std::string& op, const std::vector<uint8_t>& bytes) {
    return make(op, {PluginField("state", bytes.data(), PluginFieldType::kUNKNOWN, static_cast<int32_t>(bytes.size()))},
                nvinfer1::TensorRTPhase::kRUNTIME);
  }
  std::vector<uint8_t> store() const {
    const nvinfer1::PluginFieldCollection* fields = runtime()->getFieldsToSerialize();
    const uint8_t* data = static_cast<const uint8_t*>(fields->fields[0].data);
    return std::vector<uint8_t>(data, data + fields->fields[0].length);
  }
  std::unique_ptr<HostedPlugin> clone() const { return hosted(plugin_->clone()); }
  std::unique_ptr<HostedPlugin> attach() const { return hosted(runtime()->attachToContext(nullptr)); }
  int outputs() const { return build()->getNbOutputs(); }
  std::string type() const { return core()->getPluginName(); }
  std::string space() const { return core()->getPluginNamespace(); }
  std::string timing_id() const { return build()->getTimingCacheID(); }
  std::string metadata() const { return build()->getMetadataString(); }
  DataType output_type(int output, const std::vector<DataType>& inputs) const {
    DataType types[3] = {};
    build()->getOutputDataTypes(types, 3, inputs.data(), static_cast<int32_t>(inputs.size()));
    return types[output];
  }
  nvinfer1::DimsExprs output_dims(int output, const std::vector<nvinfer1::DimsExprs>& inputs,
                                  ExpressionBuilder* builder) const {
    nvinfer1::DimsExprs all[3] = {};
    build()->getOutputShapes(inputs.data(), static_cast<int32_t>(inputs.size()), nullptr, 0, all, 3, *builder);
    return all[output];
  }
  bool supports(int position, const std::vector<nvinfer1::PluginTensorDesc>& tensors, int inputs) const {
    std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic;
    for (const auto& tensor : tensors) dynamic.push_back(dynamic_tensor(tensor));
    return build()->supportsFormatCombination(position, dynamic.data(), inputs,
                                              static_cast<int32_t>(tensors.size()) - inputs);
  }
  bool configure(const std::vector<nvinfer1::DynamicPluginTensorDesc>& in,
                 const std::vector<nvinfer1::DynamicPluginTensorDesc>& out) const {
    return build()->configurePlugin(in.data(), static_cast<int32_t>(in.size()), out.data(),
                                    static_cast<int32_t>(out.size())) == 0;
  }
  size_t workspace(const std::vector<nvinfer1::PluginTensorDesc>& in,
                   const std::vector<nvinfer1::PluginTensorDesc>& out) const {
    std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic_in, dynamic_out;
    for (const auto& tensor : in) dynamic_in.push_back(dynamic_tensor(tensor));
    for (const auto& tensor : out) dynamic_out.push_back(dynamic_tensor(tensor));
    return build()->getWorkspaceSize(dynamic_in.data(), static_cast<int32_t>(in.size()), dynamic_out.data(),
                                     static_cast<int32_t>(out.size()));
  }
  int enqueue(const std::vector<nvinfer1::PluginTensorDesc>& in, const std::vector<nvinfer1::PluginTensorDesc>& out,
              const std::vector<const void*>& inputs, const std::vector<void*>& outputs, void* workspace) const {
    const int changed = runtime()->onShapeChange(in.data(), static_cast<int32_t>(in.size()), out.data(),
                                                 static_cast<int32_t>(out.size()));
    if (changed != 0) return changed;
    return runtime()->enqueue(in.data(), out.data(), inputs.data(), outputs.data(), workspace, nullptr);
  }

 private:
  nvinfer1::IPluginV3OneCore* core() const {
    return static_cast<nvinfer1::IPluginV3OneCore*>(
        plugin_->getCapabilityInterface(nvinfer1::PluginCapabilityType::kCORE));
  }
  nvinfer1::IPluginV3OneBuild* build() const {
    return static_cast<nvinfer1::IPluginV3OneBuild*>(
        plugin_->getCapabilityInterface(nvinfer1::PluginCapabilityType::kBUILD));
  }
  nvinfer1::IPluginV3OneRuntime* runtime() const {
    return static_cast<nvinfer1::IPluginV3OneRuntime*>(
        plugin_->getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME));
  }
  static std::unique_ptr<HostedPlugin> make(const std::string& op, const std::vector<PluginField>& fields,
                                            nvinfer1::TensorRTPhase phase) {
    const nvinfer1::PluginFieldCollection all = {static_cast<int32_t>(fields.size()), fields.data()};
    return hosted(creator(op)->createPlugin("layer", &all, phase));
  }
  static std::unique_ptr<HostedPlugin> hosted(nvinfer1::IPluginV3* plugin) {
    if (plugin == nullptr) return nullptr;
    std::unique_ptr<HostedPlugin> host(new HostedPlugin());
    host->plugin_.reset(plugin);
    return host;
  }
  std::unique_ptr<nvinfer1::IPluginV3> plugin_;
};

#endif

}  // namespace test
}  // namespace laudc
