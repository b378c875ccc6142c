// Double: see README.md. NV_TENSORRT_MAJOR and NV_TENSORRT_MINOR come from the command line.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_runtime_api.h"

namespace nvinfer1 {

struct Dims {
  int32_t nbDims;
#if NV_TENSORRT_MAJOR >= 10
  int64_t d[8];
#else
  int32_t d[8];
#endif
};

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3 };
enum class LayerType : int32_t {
  kCONVOLUTION = 0,
  kPLUGIN_V2 = 22,
#if NV_TENSORRT_MAJOR >= 10
  kPLUGIN_V3 = 46
#endif
};
enum class OptProfileSelector : int32_t { kMIN = 0, kOPT = 1, kMAX = 2 };
enum class BuilderFlag : int32_t {
#if NV_TENSORRT_MAJOR < 11
  kFP16 = 0,
#endif
  kTF32 = 7
};
enum class ProfilingVerbosity : int32_t { kLAYER_NAMES_ONLY = 0, kNONE = 1, kDETAILED = 2 };
enum class LayerInformationFormat : int32_t { kONELINE = 0, kJSON = 1 };
enum class MemoryPoolType : int32_t { kWORKSPACE = 0 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class NetworkDefinitionCreationFlag : int32_t {
#if NV_TENSORRT_MAJOR == 8
  kEXPLICIT_BATCH = 0
#else
  kSTRONGLY_TYPED = 1
#endif
};

class ILogger {
 public:
  enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
  virtual void log(Severity severity, const char* message) noexcept = 0;
  virtual ~ILogger() = default;
};

class IProfiler {
 public:
  virtual void reportLayerTime(const char* name, float milliseconds) noexcept = 0;
  virtual ~IProfiler() = default;
};

#if NV_TENSORRT_MAJOR >= 10
class IProgressMonitor {
 public:
  virtual void phaseStart(const char* phase, const char* parent, int32_t steps) noexcept = 0;
  virtual bool stepComplete(const char* phase, int32_t step) noexcept = 0;
  virtual void phaseFinish(const char* phase) noexcept = 0;
  virtual ~IProgressMonitor() = default;
};
#endif

class ITensor {
 public:
  virtual ~ITensor() = default;
  virtual const char* getName() const noexcept = 0;
  virtual Dims getDimensions() const noexcept = 0;
};

class ILayer {
 public:
  virtual ~ILayer() = default;
  virtual LayerType getType() const noexcept = 0;
};

class INetworkDefinition {
 public:
  virtual ~INetworkDefinition() = default;
  virtual int32_t getNbLayers() const noexcept = 0;
  virtual ILayer* getLayer(int32_t index) const noexcept = 0;
  virtual int32_t getNbInputs() const noexcept = 0;
  virtual ITensor* getInput(int32_t index) const noexcept = 0;
  virtual int32_t getNbOutputs() const noexcept = 0;
  virtual ITensor* getOutput(int32_t index) const noexcept = 0;
};

class IHostMemory {
 public:
  virtual ~IHostMemory() = default;
  virtual void* data() const noexcept = 0;
  virtual size_t size() const noexcept = 0;
};

class ITimingCache {
 public:
  virtual ~ITimingCache() = default;
  virtual IHostMemory* serialize() const noexcept = 0;
};

class IOptimizationProfile {
 public:
  virtual ~IOptimizationProfile() = default;
  virtual bool setDimensions(const char* name, OptProfileSelector which, Dims dims) noexcept = 0;
};

class IBuilderConfig {
 public:
  virtual ~IBuilderConfig() = default;
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 4
  virtual void setMemoryPoolLimit(MemoryPoolType pool, size_t size) noexcept = 0;
#else
  virtual void setMaxWorkspaceSize(size_t size) noexcept = 0;
#endif
  virtual void setFlag(BuilderFlag flag) noexcept = 0;
  virtual void clearFlag(BuilderFlag flag) noexcept = 0;
  virtual void setProfilingVerbosity(ProfilingVerbosity verbosity) noexcept = 0;
  virtual int32_t addOptimizationProfile(const IOptimizationProfile* profile) noexcept = 0;
  virtual ITimingCache* createTimingCache(const void* data, size_t size) const noexcept = 0;
  virtual bool setTimingCache(const ITimingCache& cache, bool ignore_mismatch) noexcept = 0;
  virtual const ITimingCache* getTimingCache() const noexcept = 0;
#if NV_TENSORRT_MAJOR >= 10
  virtual void setProgressMonitor(IProgressMonitor* monitor) noexcept = 0;
#endif
};

class IBuilder {
 public:
  virtual ~IBuilder() = default;
  virtual INetworkDefinition* createNetworkV2(uint32_t flags) noexcept = 0;
  virtual IBuilderConfig* createBuilderConfig() noexcept = 0;
  virtual IOptimizationProfile* createOptimizationProfile() noexcept = 0;
  virtual IHostMemory* buildSerializedNetwork(INetworkDefinition& network, IBuilderConfig& config) noexcept = 0;
};

class IEngineInspector {
 public:
  virtual ~IEngineInspector() = default;
  virtual const char* getEngineInformation(LayerInformationFormat format) const noexcept = 0;
};

class IExecutionContext {
 public:
  virtual ~IExecutionContext() = default;
  virtual void setProfiler(IProfiler* profiler) noexcept = 0;
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 5
  virtual bool setInputShape(const char* name, const Dims& dims) noexcept = 0;
  virtual Dims getTensorShape(const char* name) const noexcept = 0;
  virtual bool setTensorAddress(const char* name, void* data) noexcept = 0;
  virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
#else
  virtual bool setBindingDimensions(int32_t index, Dims dims) noexcept = 0;
  virtual Dims getBindingDimensions(int32_t index) const noexcept = 0;
  virtual bool enqueueV2(void* const* bindings, cudaStream_t stream, cudaEvent_t* consumed) noexcept = 0;
#endif
};

class ICudaEngine {
 public:
  virtual ~ICudaEngine() = default;
  virtual IExecutionContext* createExecutionContext() noexcept = 0;
  virtual IEngineInspector* createEngineInspector() const noexcept = 0;
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 5
  virtual int32_t getNbIOTensors() const noexcept = 0;
  virtual const char* getIOTensorName(int32_t index) const noexcept = 0;
  virtual TensorIOMode getTensorIOMode(const char* name) const noexcept = 0;
  virtual DataType getTensorDataType(const char* name) const noexcept = 0;
  virtual Dims getTensorShape(const char* name) const noexcept = 0;
#else
  virtual int32_t getNbBindings() const noexcept = 0;
  virtual int32_t getBindingIndex(const char* name) const noexcept = 0;
  virtual const char* getBindingName(int32_t index) const noexcept = 0;
  virtual bool bindingIsInput(int32_t index) const noexcept = 0;
  virtual DataType getBindingDataType(int32_t index) const noexcept = 0;
  virtual Dims getBindingDimensions(int32_t index) const noexcept = 0;
#endif
};

class IRuntime {
 public:
  virtual ~IRuntime() = default;
  virtual ICudaEngine* deserializeCudaEngine(const void* data, size_t size) noexcept = 0;
};

class IPluginRegistry {
 public:
  virtual ~IPluginRegistry() = default;
#if NV_TENSORRT_MAJOR > 8
  virtual void* loadLibrary(const char* path) noexcept = 0;
#endif
  virtual void doubleRegister() noexcept = 0;  // what the double of the plugin library calls
};

IBuilder* createInferBuilder(ILogger& logger) noexcept;
IRuntime* createInferRuntime(ILogger& logger) noexcept;

}  // namespace nvinfer1

extern "C" int32_t getInferLibVersion() noexcept;
extern "C" nvinfer1::IPluginRegistry* getPluginRegistry() noexcept;
