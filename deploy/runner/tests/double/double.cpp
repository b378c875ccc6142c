// Double: see README.md.
#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::string setting(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

bool fails(const char* where) { return setting("DOUBLE_FAIL", "") == where; }

bool registered = false;
bool capturing = false;

struct Block {
  int cells, groups;
};

struct LayerSpec {
  std::string name;
  bool plugin = false;
  int margins = 0;
  std::vector<Block> blocks;
};

struct Model {
  std::string input, output, text;
  int image[3] = {0, 0, 0};
  int classes = 0;
  std::vector<LayerSpec> layers;

  std::vector<const LayerSpec*> runs() const {
    std::vector<const LayerSpec*> found;
    for (const LayerSpec& layer : layers) {
      if (layer.plugin) found.push_back(&layer);
    }
    return found;
  }

  bool parse(const std::string& source) {
    text = source;
    std::istringstream lines(source);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string kind;
      words >> kind;
      if (kind == "input") words >> input >> image[0] >> image[1] >> image[2];
      if (kind == "output") words >> output >> classes;
      if (kind == "conv" || kind == "run") {
        LayerSpec layer;
        layer.plugin = kind == "run";
        words >> layer.name;
        if (layer.plugin) words >> layer.margins;
        for (std::string word; words >> word;) {
          layer.blocks.push_back({std::atoi(word.c_str()), std::atoi(word.c_str() + word.find(':') + 1)});
        }
        layers.push_back(layer);
      }
    }
    return !input.empty() && !output.empty();
  }
};

struct TensorSpec {
  std::string name;
  bool input = false, integer = false;
  std::vector<int> inner;  // without the batch
};

std::vector<TensorSpec> tensors_of(const Model& model) {
  std::vector<TensorSpec> all;
  all.push_back({model.input, true, false, {model.image[0], model.image[1], model.image[2]}});
  all.push_back({model.output, false, false, {model.classes}});
  int index = 0;
  for (const LayerSpec* run : model.runs()) {
    all.push_back({"laudc.counts." + std::to_string(index), false, true, {static_cast<int>(run->blocks.size()), 4}});
    all.push_back({"laudc.margins." + std::to_string(index++), false, false, {run->margins}});
  }
  return all;
}

nvinfer1::Dims dims_of(const TensorSpec& tensor, int batch) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<int32_t>(tensor.inner.size()) + 1;
  dims.d[0] = batch;
  for (size_t i = 0; i < tensor.inner.size(); ++i) dims.d[i + 1] = tensor.inner[i];
  return dims;
}

class Memory : public nvinfer1::IHostMemory {
 public:
  explicit Memory(std::string bytes) : bytes_(std::move(bytes)) {}
  void* data() const noexcept override { return const_cast<char*>(bytes_.data()); }
  size_t size() const noexcept override { return bytes_.size(); }

 private:
  std::string bytes_;
};

class Cache : public nvinfer1::ITimingCache {
 public:
  explicit Cache(std::string bytes) : bytes(std::move(bytes)) {}
  nvinfer1::IHostMemory* serialize() const noexcept override { return new Memory(bytes); }
  std::string bytes;
};

class Profile : public nvinfer1::IOptimizationProfile {
 public:
  bool setDimensions(const char*, nvinfer1::OptProfileSelector which, nvinfer1::Dims dims) noexcept override {
    batch[static_cast<int>(which)] = static_cast<int>(dims.d[0]);
    return true;
  }
  int batch[3] = {0, 0, 0};
};

class Config : public nvinfer1::IBuilderConfig {
 public:
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 4
  void setMemoryPoolLimit(nvinfer1::MemoryPoolType, size_t) noexcept override {}
#else
  void setMaxWorkspaceSize(size_t) noexcept override {}
#endif
  void setFlag(nvinfer1::BuilderFlag flag) noexcept override { flags |= 1u << static_cast<int>(flag); }
  void clearFlag(nvinfer1::BuilderFlag flag) noexcept override { flags &= ~(1u << static_cast<int>(flag)); }
  void setProfilingVerbosity(nvinfer1::ProfilingVerbosity) noexcept override {}
  int32_t addOptimizationProfile(const nvinfer1::IOptimizationProfile* added) noexcept override {
    profile = *static_cast<const Profile*>(added);
    delete added;
    return 0;
  }
  nvinfer1::ITimingCache* createTimingCache(const void* data, size_t size) const noexcept override {
    return new Cache(std::string(static_cast<const char*>(data), size));
  }
  bool setTimingCache(const nvinfer1::ITimingCache& added, bool) noexcept override {
    const std::string& bytes = static_cast<const Cache&>(added).bytes;
    if (!bytes.empty() && bytes.find("timings of " + setting("DOUBLE_SM", "5.3")) != 0) return false;
    cache.bytes = bytes;
    return true;
  }
  const nvinfer1::ITimingCache* getTimingCache() const noexcept override { return &cache; }
#if NV_TENSORRT_MAJOR >= 10
  void setProgressMonitor(nvinfer1::IProgressMonitor* added) noexcept override { monitor = added; }
  nvinfer1::IProgressMonitor* monitor = nullptr;
#endif
  uint32_t flags = 1u << static_cast<int>(nvinfer1::BuilderFlag::kTF32);
  Profile profile;
  Cache cache{""};
};

class Tensor : public nvinfer1::ITensor {
 public:
  explicit Tensor(TensorSpec spec) : spec_(std::move(spec)) {}
  const char* getName() const noexcept override { return spec_.name.c_str(); }
  nvinfer1::Dims getDimensions() const noexcept override { return dims_of(spec_, -1); }

 private:
  TensorSpec spec_;
};

class Layer : public nvinfer1::ILayer {
 public:
  explicit Layer(bool plugin) : plugin_(plugin) {}
  nvinfer1::LayerType getType() const noexcept override {
    if (!plugin_) return nvinfer1::LayerType::kCONVOLUTION;
#if NV_TENSORRT_MAJOR >= 10
    return nvinfer1::LayerType::kPLUGIN_V3;
#else
    return nvinfer1::LayerType::kPLUGIN_V2;
#endif
  }

 private:
  bool plugin_;
};

class Network : public nvinfer1::INetworkDefinition {
 public:
  void fill() {
    for (const LayerSpec& layer : model.layers) layers_.emplace_back(new Layer(layer.plugin && registered));
    for (const TensorSpec& tensor : tensors_of(model)) {
      (tensor.input ? inputs_ : outputs_).emplace_back(new Tensor(tensor));
    }
  }
  int32_t getNbLayers() const noexcept override { return static_cast<int32_t>(layers_.size()); }
  nvinfer1::ILayer* getLayer(int32_t index) const noexcept override {
    return layers_[static_cast<size_t>(index)].get();
  }
  int32_t getNbInputs() const noexcept override { return static_cast<int32_t>(inputs_.size()); }
  nvinfer1::ITensor* getInput(int32_t index) const noexcept override {
    return inputs_[static_cast<size_t>(index)].get();
  }
  int32_t getNbOutputs() const noexcept override { return static_cast<int32_t>(outputs_.size()); }
  nvinfer1::ITensor* getOutput(int32_t index) const noexcept override {
    return outputs_[static_cast<size_t>(index)].get();
  }
  Model model;

 private:
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<std::unique_ptr<Tensor>> inputs_, outputs_;
};

class ParserError : public nvonnxparser::IParserError {
 public:
  const char* desc() const override { return "No importer registered for op: BottleneckRun"; }
  int node() const override { return 7; }
};

class Parser : public nvonnxparser::IParser {
 public:
  explicit Parser(Network* network) : network_(network) {}
  bool parseFromFile(const char* path, int) override {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    // The weights must lie beside the model, as TensorRT's parser wants them.
    const std::string weights = std::string(path).substr(0, std::string(path).rfind('/')) + "/weights.bin";
    failed_ = fails("parse") || access(weights.c_str(), R_OK) != 0 || !network_->model.parse(text.str());
    if (!failed_) network_->fill();
    return !failed_;
  }
  int getNbErrors() const override { return failed_ ? 1 : 0; }
  const nvonnxparser::IParserError* getError(int) const override { return &error_; }

 private:
  Network* network_;
  ParserError error_;
  bool failed_ = false;
};

class Builder : public nvinfer1::IBuilder {
 public:
  explicit Builder(nvinfer1::ILogger& logger) : logger_(logger) {}
  nvinfer1::INetworkDefinition* createNetworkV2(uint32_t) noexcept override { return new Network; }
  nvinfer1::IBuilderConfig* createBuilderConfig() noexcept override { return new Config; }
  nvinfer1::IOptimizationProfile* createOptimizationProfile() noexcept override { return new Profile; }
  nvinfer1::IHostMemory* buildSerializedNetwork(nvinfer1::INetworkDefinition& network,
                                                nvinfer1::IBuilderConfig& config) noexcept override {
    Config& settings = static_cast<Config&>(config);
#if NV_TENSORRT_MAJOR >= 10
    if (settings.monitor != nullptr) {
      settings.monitor->phaseStart("Building Engine", nullptr, 2);
      settings.monitor->phaseStart("Timing Runner", "Building Engine", 5);
      settings.monitor->stepComplete("Building Engine", 0);
      settings.monitor->phaseFinish("Building Engine");
    }
#endif
    sleep(static_cast<unsigned>(std::atoi(setting("DOUBLE_BUILD_SECONDS", "0").c_str())));
    if (fails("build")) {
      logger_.log(nvinfer1::ILogger::Severity::kERROR, "Could not find any implementation for node conv1");
      return nullptr;
    }
    settings.cache.bytes = "timings of " + setting("DOUBLE_SM", "5.3");
    std::string precision = "Row major linear FP32";
#if NV_TENSORRT_MAJOR == 8
    if ((settings.flags >> static_cast<int>(nvinfer1::BuilderFlag::kFP16) & 1) != 0)
      precision = "Channel major FP16 format";
#else
    precision = "Half";
#endif
    if (fails("full-precision")) precision = "Row major linear FP32";
    const int* batch = settings.profile.batch;
    std::ostringstream plan;
    plan << "PLAN\n"
         << batch[0] << " " << batch[2] << "\n"
         << precision << "\n"
         << static_cast<Network&>(network).model.text;
    return new Memory(plan.str());
  }

 private:
  nvinfer1::ILogger& logger_;
};

class Inspector : public nvinfer1::IEngineInspector {
 public:
  explicit Inspector(std::string text) : text_(std::move(text)) {}
  const char* getEngineInformation(nvinfer1::LayerInformationFormat) const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

struct Plan {
  Model model;
  std::vector<TensorSpec> tensors;
  int least = 0, most = 0;
  std::string precision;
};

class Context : public nvinfer1::IExecutionContext {
 public:
  explicit Context(const Plan& plan) : plan_(plan), addresses_(plan.tensors.size()) {}
  void setProfiler(nvinfer1::IProfiler* profiler) noexcept override { profiler_ = profiler; }
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 5
  bool setInputShape(const char*, const nvinfer1::Dims& dims) noexcept override {
    return set_batch(static_cast<int>(dims.d[0]));
  }
  nvinfer1::Dims getTensorShape(const char* name) const noexcept override {
    return dims_of(plan_.tensors[index(name)], batch_);
  }
  bool setTensorAddress(const char* name, void* data) noexcept override {
    addresses_[index(name)] = data;
    return true;
  }
  bool enqueueV3(cudaStream_t) noexcept override { return compute(); }
#else
  bool setBindingDimensions(int32_t, nvinfer1::Dims dims) noexcept override {
    return set_batch(static_cast<int>(dims.d[0]));
  }
  nvinfer1::Dims getBindingDimensions(int32_t at) const noexcept override {
    return dims_of(plan_.tensors[static_cast<size_t>(at)], batch_);
  }
  bool enqueueV2(void* const* bindings, cudaStream_t, cudaEvent_t*) noexcept override {
    addresses_.assign(bindings, bindings + plan_.tensors.size());
    return compute();
  }
#endif

 private:
  size_t index(const std::string& name) const {
    size_t at = 0;
    while (plan_.tensors[at].name != name) ++at;
    return at;
  }
  bool set_batch(int batch) {
    if (batch < plan_.least || batch > plan_.most) return false;
    batch_ = batch;
    return true;
  }
  // Class c of an image scores its mean times c; odd images keep half of everything.
  bool compute() {
    if (fails("enqueue") || (capturing && fails("capture"))) return false;
    if (capturing) return true;
    const float* images = static_cast<const float*>(addresses_[0]);
    const int size = plan_.model.image[0] * plan_.model.image[1] * plan_.model.image[2];
    for (int b = 0; b < batch_; ++b) {
      float sum = 0.0f;
      for (int i = 0; i < size; ++i) sum += images[b * size + i];
      for (int c = 0; c < plan_.model.classes; ++c) {
        static_cast<float*>(addresses_[1])[b * plan_.model.classes + c] =
            sum / static_cast<float>(size) * static_cast<float>(c);
      }
      size_t at = 2;
      for (const LayerSpec* run : plan_.model.runs()) {
        const size_t n = run->blocks.size();
        int32_t* counts = static_cast<int32_t*>(addresses_[at++]) + static_cast<size_t>(b) * n * 4;
        for (size_t i = 0; i < n; ++i) {
          counts[4 * i] = 9;
          counts[4 * i + 1] = 8;
          counts[4 * i + 2] = run->blocks[i].cells / (1 + b % 2);
          counts[4 * i + 3] = run->blocks[i].groups / (1 + b % 2);
        }
        float* margins = static_cast<float*>(addresses_[at++]) + static_cast<size_t>(b * run->margins);
        for (int i = 0; i < run->margins; ++i) margins[i] = b % 2 == 0 ? 1.0f : -1.0f;
      }
    }
    if (profiler_ != nullptr) {
      for (const LayerSpec& layer : plan_.model.layers) profiler_->reportLayerTime(layer.name.c_str(), 0.125f);
    }
    return true;
  }

  const Plan& plan_;
  std::vector<void*> addresses_;
  int batch_ = 1;
  nvinfer1::IProfiler* profiler_ = nullptr;
};

class Engine : public nvinfer1::ICudaEngine {
 public:
  explicit Engine(Plan plan) : plan_(std::move(plan)) {}
  nvinfer1::IExecutionContext* createExecutionContext() noexcept override {
    return fails("context") ? nullptr : new Context(plan_);
  }
  nvinfer1::IEngineInspector* createEngineInspector() const noexcept override {
    std::string text = "{\"Layers\": [";
    for (const LayerSpec& layer : plan_.model.layers) {
      text += std::string(text.back() == '[' ? "" : ", ") + "{\"Name\": \"" + layer.name + "\", \"LayerType\": \"" +
              (layer.plugin ? "PluginV2" : "CaskConvolution") +
              "\", \"Outputs\": [{\"Name\": \"x\", \"Format/Datatype\": \"" + plan_.precision + "\"}]}";
    }
    return new Inspector(text + "], \"Bindings\": []}");
  }
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 5
  int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(plan_.tensors.size()); }
  const char* getIOTensorName(int32_t at) const noexcept override {
    return plan_.tensors[static_cast<size_t>(at)].name.c_str();
  }
  nvinfer1::TensorIOMode getTensorIOMode(const char* name) const noexcept override {
    return find(name)->input ? nvinfer1::TensorIOMode::kINPUT : nvinfer1::TensorIOMode::kOUTPUT;
  }
  nvinfer1::DataType getTensorDataType(const char* name) const noexcept override { return type(*find(name)); }
  nvinfer1::Dims getTensorShape(const char* name) const noexcept override {
    return find(name) != nullptr ? dims_of(*find(name), -1) : nvinfer1::Dims{};
  }
#else
  int32_t getNbBindings() const noexcept override { return static_cast<int32_t>(plan_.tensors.size()); }
  int32_t getBindingIndex(const char* name) const noexcept override {
    return find(name) != nullptr ? static_cast<int32_t>(find(name) - plan_.tensors.data()) : -1;
  }
  const char* getBindingName(int32_t at) const noexcept override {
    return plan_.tensors[static_cast<size_t>(at)].name.c_str();
  }
  bool bindingIsInput(int32_t at) const noexcept override { return plan_.tensors[static_cast<size_t>(at)].input; }
  nvinfer1::DataType getBindingDataType(int32_t at) const noexcept override {
    return type(plan_.tensors[static_cast<size_t>(at)]);
  }
  nvinfer1::Dims getBindingDimensions(int32_t at) const noexcept override {
    return at >= 0 ? dims_of(plan_.tensors[static_cast<size_t>(at)], -1) : nvinfer1::Dims{};
  }
#endif

 private:
  static nvinfer1::DataType type(const TensorSpec& tensor) {
    return tensor.integer ? nvinfer1::DataType::kINT32 : nvinfer1::DataType::kFLOAT;
  }
  const TensorSpec* find(const std::string& name) const {
    for (const TensorSpec& tensor : plan_.tensors) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  Plan plan_;
};

class Runtime : public nvinfer1::IRuntime {
 public:
  explicit Runtime(nvinfer1::ILogger& logger) : logger_(logger) {}
  nvinfer1::ICudaEngine* deserializeCudaEngine(const void* data, size_t size) noexcept override {
    std::istringstream stream(std::string(static_cast<const char*>(data), size));
    std::string magic, precision;
    Plan plan;
    std::getline(stream, magic);
    stream >> plan.least >> plan.most;
    stream.ignore();
    std::getline(stream, plan.precision);
    std::stringstream rest;
    rest << stream.rdbuf();
    if (fails("plan") || magic != "PLAN" || !registered || !plan.model.parse(rest.str())) {
      logger_.log(nvinfer1::ILogger::Severity::kERROR, "Serialization assertion failed: version tag does not match");
      return nullptr;
    }
    plan.tensors = tensors_of(plan.model);
    return new Engine(plan);
  }

 private:
  nvinfer1::ILogger& logger_;
};

class Registry : public nvinfer1::IPluginRegistry {
 public:
#if NV_TENSORRT_MAJOR > 8
  void* loadLibrary(const char* path) noexcept override {
    void* handle = dlopen(path, RTLD_NOW);
    if (handle == nullptr || dlsym(handle, "getCreators") == nullptr || dlsym(handle, "setLoggerFinder") == nullptr)
      return nullptr;
    registered = true;
    return handle;
  }
#endif
  void doubleRegister() noexcept override { registered = true; }
};

}  // namespace

namespace nvinfer1 {
IBuilder* createInferBuilder(ILogger& logger) noexcept { return new Builder(logger); }
IRuntime* createInferRuntime(ILogger& logger) noexcept { return new Runtime(logger); }
}  // namespace nvinfer1

namespace nvonnxparser {
IParser* createParser(nvinfer1::INetworkDefinition& network, nvinfer1::ILogger&) {
  return new Parser(static_cast<Network*>(&network));
}
}  // namespace nvonnxparser

int32_t getInferLibVersion() noexcept {
  return std::atoi(setting("DOUBLE_VERSION", NV_TENSORRT_MAJOR == 8    ? "8201"
                                             : NV_TENSORRT_MAJOR == 10 ? "100300"
                                                                       : "110100")
                       .c_str());
}

nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
  static Registry registry;
  return &registry;
}

// ---- CUDA --------------------------------------------------------------------------------------------------------

struct DoubleStream {};
struct DoubleEvent {};
struct DoubleGraph {};
struct DoubleGraphExec {};

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorNoDevice ? "no CUDA-capable device is detected" : "out of memory";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = fails("gpu") ? 0 : 1;
  return fails("gpu") ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const std::string sm = setting("DOUBLE_SM", "5.3");
  *value =
      attribute == cudaDevAttrComputeCapabilityMajor ? std::atoi(sm.c_str()) : std::atoi(sm.c_str() + sm.find('.') + 1);
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties->name, 0, sizeof properties->name);
  std::strncpy(properties->name, setting("DOUBLE_GPU", "NVIDIA Tegra X1").c_str(), sizeof properties->name - 1);
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = std::atoi(setting("DOUBLE_DRIVER", "10020").c_str());
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** data, size_t size) {
  if (fails("memory")) return cudaErrorMemoryAllocation;
  *data = std::calloc(size, 1);
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t size, cudaMemcpyKind, cudaStream_t) {
  if (size > 0) std::memcpy(target, source, size);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new DoubleStream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new DoubleEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  static int calls = 0;
  *milliseconds = 1.0f + 0.001f * static_cast<float>(calls++ % 10);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  capturing = true;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  capturing = false;
  *graph = fails("capture") ? nullptr : new DoubleGraph;
  return fails("capture") ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t, void*, char*, size_t) {
  *exec = new DoubleGraphExec;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
