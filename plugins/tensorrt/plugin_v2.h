// The plugin as TensorRT 8 sees it.
#pragma once

#include <memory>
#include <string>

#include "tensorrt/contract.h"
#include "tensorrt/headers.h"

namespace laudc {
namespace trt {

class RunPluginV2 final : public nvinfer1::IPluginV2DynamicExt {
 public:
  RunPluginV2(std::string layer, std::unique_ptr<Executor> executor);

  const char* getPluginType() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  void setPluginNamespace(const char* name) noexcept override;
  const char* getPluginNamespace() const noexcept override;
  int32_t getNbOutputs() const noexcept override;
  int32_t initialize() noexcept override;
  void terminate() noexcept override;
  size_t getSerializationSize() const noexcept override;
  void serialize(void* buffer) const noexcept override;
  void destroy() noexcept override;
  nvinfer1::IPluginV2DynamicExt* clone() const noexcept override;

  nvinfer1::DataType getOutputDataType(int32_t index, const nvinfer1::DataType* types,
                                       int32_t count) const noexcept override;
  void attachToContext(cudnnContext* cudnn, cublasContext* cublas,
                       nvinfer1::IGpuAllocator* allocator) noexcept override;
  void detachFromContext() noexcept override;

  nvinfer1::DimsExprs getOutputDimensions(int32_t index, const nvinfer1::DimsExprs* inputs, int32_t count,
                                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::PluginTensorDesc* tensors, int32_t inputs,
                                 int32_t outputs) noexcept override;
  void configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                       const nvinfer1::DynamicPluginTensorDesc* out, int32_t outputs) noexcept override;
  size_t getWorkspaceSize(const nvinfer1::PluginTensorDesc* in, int32_t inputs, const nvinfer1::PluginTensorDesc* out,
                          int32_t outputs) const noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                  const void* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override;

 private:
  const std::string layer_;
  const std::unique_ptr<Executor> executor_;
  std::string namespace_;
  std::string refusal_;  // why configurePlugin(), which cannot fail, should have failed; every call repeats it
};

class RunCreatorV2 final : public nvinfer1::IPluginCreator {
 public:
  explicit RunCreatorV2(const char* op);
  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
  nvinfer1::IPluginV2* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields) noexcept override;
  nvinfer1::IPluginV2* deserializePlugin(const char* name, const void* data, size_t size) noexcept override;
  void setPluginNamespace(const char* name) noexcept override;
  const char* getPluginNamespace() const noexcept override;

 private:
  const char* const op_;
  nvinfer1::PluginFieldCollection fields_;
  std::string namespace_;
};

}  // namespace trt
}  // namespace laudc
