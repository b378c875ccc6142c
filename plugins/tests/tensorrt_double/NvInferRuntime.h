// A test double of TensorRT's plugin interfaces: as much as the plugin and its tests use, written from their
// documentation, so that both compile where NVIDIA's headers are not installed. Names and signatures are TensorRT's;
// layouts are not, so nothing built with it may meet a real TensorRT. It is never installed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "NvInferVersion.h"

typedef struct CUstream_st* cudaStream_t;
struct cudnnContext;
struct cublasContext;

namespace nvinfer1 {

typedef char AsciiChar;
#if NV_TENSORRT_MAJOR == 8
typedef int32_t DimensionValue;
#else
typedef int64_t DimensionValue;
#endif

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBOOL = 4 };
enum class TensorFormat : int32_t { kLINEAR = 0, kCHW2 = 1, kHWC8 = 2 };
enum class DimensionOperation : int32_t { kSUM = 0, kPROD = 1 };

struct Dims {
  static constexpr int32_t MAX_DIMS = 8;
  int32_t nbDims;
  DimensionValue d[MAX_DIMS];
};

struct PluginTensorDesc {
  Dims dims;
  DataType type;
  TensorFormat format;
  float scale;
};

struct DynamicPluginTensorDesc {
  PluginTensorDesc desc;
  Dims min, max;
};

enum class PluginFieldType : int32_t {
  kFLOAT16 = 0,
  kFLOAT32 = 1,
  kINT8 = 3,
  kINT32 = 5,
  kCHAR = 6,
  kUNKNOWN = 8,
#if NV_TENSORRT_MAJOR >= 10
  kINT64 = 10,
#endif
};

struct PluginField {
  PluginField(const AsciiChar* name_ = nullptr, const void* data_ = nullptr,
              PluginFieldType type_ = PluginFieldType::kUNKNOWN, int32_t length_ = 0) noexcept
      : name(name_), data(data_), type(type_), length(length_) {}
  const AsciiChar* name;
  const void* data;
  PluginFieldType type;
  int32_t length;
};

struct PluginFieldCollection {
  int32_t nbFields;
  const PluginField* fields;
};

namespace apiv {
class VDimensionExpr;
class VExprBuilder;
}  // namespace apiv

class IDimensionExpr {
 public:
  bool isConstant() const noexcept;
  DimensionValue getConstantValue() const noexcept;
  virtual ~IDimensionExpr() noexcept = default;

 protected:
  apiv::VDimensionExpr* mImpl;
};

class IExprBuilder {
 public:
  const IDimensionExpr* constant(DimensionValue value) noexcept;

 protected:
  apiv::VExprBuilder* mImpl;
  virtual ~IExprBuilder() noexcept = default;
};

namespace apiv {
class VDimensionExpr {
 public:
  virtual bool isConstant() const = 0;
  virtual DimensionValue getConstantValue() const = 0;
  virtual ~VDimensionExpr() noexcept = default;
#if NV_TENSORRT_MAJOR >= 10
  virtual bool isSizeTensor() const = 0;
#endif
};
class VExprBuilder {
 public:
  virtual const IDimensionExpr* constant(DimensionValue value) = 0;
  virtual const IDimensionExpr* operation(DimensionOperation op, const IDimensionExpr& first,
                                          const IDimensionExpr& second) = 0;
#if NV_TENSORRT_MAJOR >= 10
  virtual const IDimensionExpr* declareSizeTensor(int32_t output, const IDimensionExpr& opt,
                                                  const IDimensionExpr& upper) = 0;
#endif
  virtual ~VExprBuilder() noexcept = default;
};
}  // namespace apiv

inline bool IDimensionExpr::isConstant() const noexcept { return mImpl->isConstant(); }
inline DimensionValue IDimensionExpr::getConstantValue() const noexcept { return mImpl->getConstantValue(); }
inline const IDimensionExpr* IExprBuilder::constant(DimensionValue value) noexcept { return mImpl->constant(value); }

struct DimsExprs {
  int32_t nbDims;
  const IDimensionExpr* d[Dims::MAX_DIMS];
};

class ILogger {
 public:
  enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
  virtual void log(Severity severity, const AsciiChar* message) noexcept = 0;
  virtual ~ILogger() = default;
};

class IGpuAllocator;

#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 6
class ILoggerFinder {
 public:
  virtual ILogger* findLogger() = 0;

 protected:
  virtual ~ILoggerFinder() = default;
};
#endif

#if NV_TENSORRT_MAJOR == 8

class IPluginV2 {
 public:
  virtual const AsciiChar* getPluginType() const noexcept = 0;
  virtual const AsciiChar* getPluginVersion() const noexcept = 0;
  virtual int32_t getNbOutputs() const noexcept = 0;
  virtual int32_t initialize() noexcept = 0;
  virtual void terminate() noexcept = 0;
  virtual size_t getSerializationSize() const noexcept = 0;
  virtual void serialize(void* buffer) const noexcept = 0;
  virtual void destroy() noexcept = 0;
  virtual IPluginV2* clone() const noexcept = 0;
  virtual void setPluginNamespace(const AsciiChar* name) noexcept = 0;
  virtual const AsciiChar* getPluginNamespace() const noexcept = 0;
  virtual ~IPluginV2() noexcept = default;
};

class IPluginV2DynamicExt : public IPluginV2 {
 public:
  virtual DataType getOutputDataType(int32_t index, const DataType* types, int32_t count) const noexcept = 0;
  virtual void attachToContext(cudnnContext*, cublasContext*, IGpuAllocator*) noexcept {}
  virtual void detachFromContext() noexcept {}
  IPluginV2DynamicExt* clone() const noexcept override = 0;
  virtual DimsExprs getOutputDimensions(int32_t index, const DimsExprs* inputs, int32_t count,
                                        IExprBuilder& builder) noexcept = 0;
  virtual bool supportsFormatCombination(int32_t position, const PluginTensorDesc* tensors, int32_t inputs,
                                         int32_t outputs) noexcept = 0;
  virtual void configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs, const DynamicPluginTensorDesc* out,
                               int32_t outputs) noexcept = 0;
  virtual size_t getWorkspaceSize(const PluginTensorDesc* in, int32_t inputs, const PluginTensorDesc* out,
                                  int32_t outputs) const noexcept = 0;
  virtual int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc* out, const void* const* inputs,
                          void* const* outputs, void* workspace, cudaStream_t stream) noexcept = 0;
};

class IPluginCreator {
 public:
  virtual const AsciiChar* getPluginName() const noexcept = 0;
  virtual const AsciiChar* getPluginVersion() const noexcept = 0;
  virtual const PluginFieldCollection* getFieldNames() noexcept = 0;
  virtual IPluginV2* createPlugin(const AsciiChar* name, const PluginFieldCollection* fields) noexcept = 0;
  virtual IPluginV2* deserializePlugin(const AsciiChar* name, const void* data, size_t size) noexcept = 0;
  virtual void setPluginNamespace(const AsciiChar* name) noexcept = 0;
  virtual const AsciiChar* getPluginNamespace() const noexcept = 0;
  virtual ~IPluginCreator() = default;
};

class IPluginRegistry {
 public:
  virtual bool registerCreator(IPluginCreator& creator, const AsciiChar* name) noexcept = 0;
  virtual ~IPluginRegistry() noexcept = default;
};

#else

enum class PluginCapabilityType : int32_t { kCORE = 0, kBUILD = 1, kRUNTIME = 2 };
enum class TensorRTPhase : int32_t { kBUILD = 0, kRUNTIME = 1 };

class IVersionedInterface {
 public:
  virtual ~IVersionedInterface() noexcept = default;
};

class IPluginCapability : public IVersionedInterface {};
class IPluginResourceContext;

class IPluginV3 : public IVersionedInterface {
 public:
  virtual IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept = 0;
  virtual IPluginV3* clone() noexcept = 0;
};

class IPluginV3OneCore : public IPluginCapability {
 public:
  virtual const AsciiChar* getPluginName() const noexcept = 0;
  virtual const AsciiChar* getPluginVersion() const noexcept = 0;
  virtual const AsciiChar* getPluginNamespace() const noexcept = 0;
};

class IPluginV3OneBuild : public IPluginCapability {
 public:
  virtual int32_t configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs, const DynamicPluginTensorDesc* out,
                                  int32_t outputs) noexcept = 0;
  virtual int32_t getOutputDataTypes(DataType* types, int32_t outputs, const DataType* input_types,
                                     int32_t inputs) const noexcept = 0;
  virtual int32_t getOutputShapes(const DimsExprs* inputs, int32_t input_count, const DimsExprs* shape_inputs,
                                  int32_t shape_input_count, DimsExprs* outputs, int32_t output_count,
                                  IExprBuilder& builder) noexcept = 0;
  virtual bool supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors, int32_t inputs,
                                         int32_t outputs) noexcept = 0;
  virtual int32_t getNbOutputs() const noexcept = 0;
  virtual size_t getWorkspaceSize(const DynamicPluginTensorDesc*, int32_t, const DynamicPluginTensorDesc*,
                                  int32_t) const noexcept {
    return 0;
  }
  virtual const char* getTimingCacheID() noexcept { return nullptr; }
  virtual const char* getMetadataString() noexcept { return nullptr; }
};

class IPluginV3OneRuntime : public IPluginCapability {
 public:
  virtual int32_t onShapeChange(const PluginTensorDesc* in, int32_t inputs, const PluginTensorDesc* out,
                                int32_t outputs) noexcept = 0;
  virtual int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc* out, const void* const* inputs,
                          void* const* outputs, void* workspace, cudaStream_t stream) noexcept = 0;
  virtual IPluginV3* attachToContext(IPluginResourceContext* context) noexcept = 0;
  virtual const PluginFieldCollection* getFieldsToSerialize() noexcept = 0;
};

class IPluginCreatorInterface : public IVersionedInterface {};

class IPluginCreatorV3One : public IPluginCreatorInterface {
 public:
  virtual IPluginV3* createPlugin(const AsciiChar* name, const PluginFieldCollection* fields,
                                  TensorRTPhase phase) noexcept = 0;
  virtual const PluginFieldCollection* getFieldNames() noexcept = 0;
  virtual const AsciiChar* getPluginName() const noexcept = 0;
  virtual const AsciiChar* getPluginVersion() const noexcept = 0;
  virtual const AsciiChar* getPluginNamespace() const noexcept = 0;
};

#endif

}  // namespace nvinfer1
