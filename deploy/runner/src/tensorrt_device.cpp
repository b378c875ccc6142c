// TensorRT 8.2 to 11 behind one interface; the versions differ in names more than in kind.
#include <NvInfer.h>
#include <NvOnnxParser.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <map>

#include "device.h"
#include "error.h"
#include "json.h"

// Tensors have names instead of binding numbers from 8.5 on.
#define LAUDC_NAMED_TENSORS (NV_TENSORRT_MAJOR > 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 5))

namespace laudc {
namespace runner {

namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::string why = cudaGetErrorString(status);
  std::string fix = "Check the GPU with nvidia-smi or tegrastats and try again";
  if (status == cudaErrorMemoryAllocation) {
    why += ": the GPU's memory is full";
    fix = "End other programs, or use a smaller batch";
  }
  throw Error(std::string("the GPU failed while ") + what, why, fix);
}

class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity > Severity::kERROR) return;
    if (complaints_.size() < 4000) complaints_ += (complaints_.empty() ? "" : "; ") + std::string(message);
  }
  std::string take() {
    std::string text;
    text.swap(complaints_);
    return text;
  }

 private:
  std::string complaints_;
};

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "running the engine"); }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "making an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class DeviceMemory {
 public:
  explicit DeviceMemory(size_t size) : size_(size) {
    check(cudaMalloc(&data_, size > 0 ? size : 1), "allocating memory");
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_;
};

nvinfer1::Dims dims_of(int64_t batch, const std::array<int64_t, 3>& image) {
  nvinfer1::Dims dims{};
  dims.nbDims = 4;
  dims.d[0] = static_cast<decltype(dims.d[0] + 0)>(batch);
  for (int i = 0; i < 3; ++i) dims.d[i + 1] = static_cast<decltype(dims.d[0] + 0)>(image[static_cast<size_t>(i)]);
  return dims;
}

size_t size_of(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
    case nvinfer1::DataType::kINT32:
      return 4;
    default:
      return 0;
  }
}

// Layer names and output types from the engine's own description.
std::vector<Layer> inspect(nvinfer1::ICudaEngine& engine) {
  std::vector<Layer> layers;
  std::unique_ptr<nvinfer1::IEngineInspector> inspector(engine.createEngineInspector());
  const char* text = inspector ? inspector->getEngineInformation(nvinfer1::LayerInformationFormat::kJSON) : nullptr;
  if (text == nullptr) return layers;
  try {
    const Json description = Json::parse(text);
    for (const Json& entry : description.get("Layers").items()) {
      Layer layer;
      if (entry.kind() == Json::Kind::kString) {
        layer.name = entry.as_string();
      } else {
        layer.name = entry.get("Name").as_string();
        const Json* kind = entry.find("LayerType");
        layer.plugin = kind != nullptr && kind->as_string().find("Plugin") != std::string::npos;
        const Json* outputs = entry.find("Outputs");
        if (outputs != nullptr) {
          for (const Json& output : outputs->items()) {
            const Json* format = output.find("Format/Datatype");
            if (format == nullptr) format = output.find("Datatype");
            if (format != nullptr) layer.types += (layer.types.empty() ? "" : ", ") + format->as_string();
          }
        }
      }
      layers.push_back(layer);
    }
  } catch (const JsonError&) {
    layers.clear();  // a description in another form than we know proves nothing either way
  }
  return layers;
}

#if NV_TENSORRT_MAJOR >= 10
class ProgressMonitor : public nvinfer1::IProgressMonitor {
 public:
  explicit ProgressMonitor(const Progress& progress) : progress_(progress) {}
  void phaseStart(const char* phase, const char* parent, int32_t steps) noexcept override {
    if (parent != nullptr) return;  // inner phases go by in milliseconds
    steps_ = steps;
    name_ = phase;
    progress_(name_);
  }
  bool stepComplete(const char* phase, int32_t step) noexcept override {
    if (name_ == phase && steps_ > 0) {
      progress_(name_ + " " + std::to_string(step + 1) + "/" + std::to_string(steps_));
    }
    return true;
  }
  void phaseFinish(const char*) noexcept override {}

 private:
  const Progress& progress_;
  std::string name_;
  int32_t steps_ = 0;
};
#endif

class LayerProfiler : public nvinfer1::IProfiler {
 public:
  void reportLayerTime(const char* name, float milliseconds) noexcept override {
    const auto found = index_.find(name);
    if (found != index_.end()) {
      times_[found->second].samples_us.push_back(milliseconds * 1000.0);
    } else {
      index_[name] = times_.size();
      times_.push_back(LayerTime{name, {milliseconds * 1000.0}});
    }
  }
  const std::vector<LayerTime>& times() const { return times_; }

 private:
  std::map<std::string, size_t> index_;
  std::vector<LayerTime> times_;
};

struct Tensor {
  std::string name;
  bool input = false;
  nvinfer1::DataType type = nvinfer1::DataType::kFLOAT;
  std::vector<int64_t> shape;
  std::unique_ptr<DeviceMemory> memory;

  size_t elements() const {
    size_t count = 1;
    for (int64_t size : shape) count *= static_cast<size_t>(size);
    return count;
  }
};

class TensorRtSession : public Session {
 public:
  TensorRtSession(std::unique_ptr<nvinfer1::ICudaEngine> engine, std::string input_name, bool graph)
      : engine_(std::move(engine)),
        context_(engine_->createExecutionContext()),
        input_name_(input_name),
        graph_(graph) {
    if (!context_) {
      throw Error("the engine cannot be made ready to run",
                  "TensorRT made no execution context, usually for want of memory",
                  "End other programs that use the GPU, or build with a smaller --workspace");
    }
  }
  ~TensorRtSession() override { drop_graph(); }

  void set_input(const std::vector<float>& images, int64_t batch) override {
    if (batch != batch_) bind(batch);
    for (Tensor& tensor : tensors_) {
      if (!tensor.input) continue;
      if (tensor.elements() != images.size()) {
        throw Error("the input does not fit the engine", "it has another number of values than the engine takes",
                    "Give images of the size that the engine was built for");
      }
      check(cudaMemcpyAsync(tensor.memory->data(), images.data(), images.size() * sizeof(float), cudaMemcpyHostToDevice,
                            stream_.get()),
            "copying the input");
    }
    stream_.wait();
  }

  std::vector<Output> run() override {
    enqueue();
    std::vector<Output> outputs;
    for (Tensor& tensor : tensors_) {
      if (tensor.input) continue;
      Output output;
      output.name = tensor.name;
      output.shape = tensor.shape;
      void* target = nullptr;
      if (tensor.type == nvinfer1::DataType::kINT32) {
        output.counts.resize(tensor.elements());
        target = output.counts.data();
      } else {
        output.values.resize(tensor.elements());
        target = output.values.data();
      }
      check(cudaMemcpyAsync(target, tensor.memory->data(), tensor.elements() * size_of(tensor.type),
                            cudaMemcpyDeviceToHost, stream_.get()),
            "copying the results");
      stream_.wait();
      outputs.push_back(std::move(output));
    }
    return outputs;
  }

  double time_us() override {
    if (graph_ && executable_ == nullptr) capture();
    check(cudaEventRecord(start_.get(), stream_.get()), "starting the clock");
    if (executable_ != nullptr) {
      check(cudaGraphLaunch(executable_, stream_.get()), "launching the graph");
    } else {
      enqueue();
    }
    check(cudaEventRecord(stop_.get(), stream_.get()), "stopping the clock");
    check(cudaEventSynchronize(stop_.get()), "running the engine");
    float milliseconds = 0.0f;
    check(cudaEventElapsedTime(&milliseconds, start_.get(), stop_.get()), "reading the clock");
    return milliseconds * 1000.0;
  }

  bool uses_graph() const override { return executable_ != nullptr; }

  std::vector<LayerTime> layer_times(int64_t runs) override {
    LayerProfiler profiler;
    context_->setProfiler(&profiler);
    for (int64_t run = 0; run < runs; ++run) {
      enqueue();
      stream_.wait();
    }
    context_->setProfiler(nullptr);
    return profiler.times();
  }

 private:
  // Shapes and memory for this number of images.
  void bind(int64_t batch) {
    drop_graph();
    tensors_.clear();
#if LAUDC_NAMED_TENSORS
    nvinfer1::Dims input = engine_->getTensorShape(input_name_.c_str());
#else
    nvinfer1::Dims input = engine_->getBindingDimensions(engine_->getBindingIndex(input_name_.c_str()));
#endif
    if (input.nbDims != 4) {
      throw Error("the engine has another input than its manifest says", "there is no input '" + input_name_ + "'",
                  "Build the engine again");
    }
    input.d[0] = static_cast<decltype(input.d[0] + 0)>(batch);
#if LAUDC_NAMED_TENSORS
    const bool accepted = context_->setInputShape(input_name_.c_str(), input);
    const int count = engine_->getNbIOTensors();
#else
    const bool accepted = context_->setBindingDimensions(engine_->getBindingIndex(input_name_.c_str()), input);
    const int count = engine_->getNbBindings();
#endif
    if (!accepted) {
      throw Error(
          "the engine cannot run a batch of " + std::to_string(batch), "that is outside the sizes it was built for",
          "Use another --batch, or build the engine again with laudc build-engine --batch " + std::to_string(batch));
    }
    for (int i = 0; i < count; ++i) tensors_.push_back(tensor(i));
    addresses_.clear();
    for (Tensor& tensor : tensors_) {
      tensor.memory.reset(new DeviceMemory(tensor.elements() * size_of(tensor.type)));
      addresses_.push_back(tensor.memory->data());
#if LAUDC_NAMED_TENSORS
      context_->setTensorAddress(tensor.name.c_str(), tensor.memory->data());
#endif
    }
    batch_ = batch;
    // The first run allocates what later ones use; it may not happen while a graph is captured.
    enqueue();
    stream_.wait();
  }

  Tensor tensor(int index) {
    Tensor tensor;
#if LAUDC_NAMED_TENSORS
    tensor.name = engine_->getIOTensorName(index);
    tensor.input = engine_->getTensorIOMode(tensor.name.c_str()) == nvinfer1::TensorIOMode::kINPUT;
    tensor.type = engine_->getTensorDataType(tensor.name.c_str());
    const nvinfer1::Dims dims = context_->getTensorShape(tensor.name.c_str());
#else
    tensor.name = engine_->getBindingName(index);
    tensor.input = engine_->bindingIsInput(index);
    tensor.type = engine_->getBindingDataType(index);
    const nvinfer1::Dims dims = context_->getBindingDimensions(index);
#endif
    if (size_of(tensor.type) == 0) {
      throw Error("the engine has an output of an unexpected type", "'" + tensor.name + "' is neither float nor int32",
                  "Build the engine again");
    }
    for (int i = 0; i < dims.nbDims; ++i) tensor.shape.push_back(dims.d[i]);
    for (int64_t size : tensor.shape) {
      if (size < 0) {
        throw Error("the engine has an output of unknown size", "'" + tensor.name + "' depends on data",
                    "Build the engine again");
      }
    }
    return tensor;
  }

  void enqueue() {
#if LAUDC_NAMED_TENSORS
    const bool done = context_->enqueueV3(stream_.get());
#else
    const bool done = context_->enqueueV2(addresses_.data(), stream_.get(), nullptr);
#endif
    if (!done) {
      throw Error("the engine failed while running", "TensorRT or a plugin refused the call",
                  "Run it again with -v for what TensorRT says");
    }
  }

  // One run as a CUDA graph; where it cannot be captured, calls stay ordinary ones.
  void capture() {
    graph_ = false;
    cudaGraph_t graph = nullptr;
    if (cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal) != cudaSuccess) return;
    bool done = true;
    try {
      enqueue();
    } catch (const Error&) {
      done = false;
    }
    const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &graph);
    if (done && ended == cudaSuccess && graph != nullptr) {
#if CUDART_VERSION >= 12000
      const cudaError_t made = cudaGraphInstantiate(&executable_, graph, 0);
#else
      const cudaError_t made = cudaGraphInstantiate(&executable_, graph, nullptr, nullptr, 0);
#endif
      if (made != cudaSuccess) executable_ = nullptr;
    }
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // a capture that failed is no error of what follows
    if (executable_ != nullptr) graph_ = true;
  }

  void drop_graph() {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
    executable_ = nullptr;
  }

  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  std::string input_name_;
  bool graph_;
  cudaGraphExec_t executable_ = nullptr;
  Stream stream_;
  Event start_, stop_;
  int64_t batch_ = -1;
  std::vector<Tensor> tensors_;
  std::vector<void*> addresses_;
};

class TensorRtDevice : public Device {
 public:
  TensorRtDevice() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count == 0) {
      throw Error("there is no GPU here", status != cudaSuccess ? cudaGetErrorString(status) : "the driver lists none",
                  "Check the driver with nvidia-smi; in a container, pass the GPU through");
    }
  }

  Gpu gpu() const override {
    int device = 0, major = 0, minor = 0, runtime = 0, driver = 0;
    check(cudaGetDevice(&device), "asking for the GPU");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking for the GPU");
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "asking for the GPU");
    check(cudaRuntimeGetVersion(&runtime), "asking for CUDA");
    check(cudaDriverGetVersion(&driver), "asking for the driver");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "asking for the GPU");
    return Gpu{properties.name, std::to_string(major) + "." + std::to_string(minor), cuda_version(runtime),
               cuda_version(driver)};
  }

  std::string tensorrt() const override {
    const int version = getInferLibVersion();
    // 8.2.1 is 8201, 10.3.0 is 100300.
    const int scale = version >= 100000 ? 10000 : 1000;
    return std::to_string(version / scale) + "." + std::to_string(version % scale / 100) + "." +
           std::to_string(version % 100);
  }

  void load_plugins(const PluginLibrary& library) override {
#if NV_TENSORRT_MAJOR == 8
    // TensorRT has a loader of its own from 8.6 on only.
    using Register = bool (*)(void*);
    const Register add = reinterpret_cast<Register>(library.symbol("laudc_trt_register"));
    const bool loaded = add != nullptr && add(getPluginRegistry());
#else
    const bool loaded = getPluginRegistry()->loadLibrary(library.path().c_str()) != nullptr;
#endif
    plugins_ = &library;
    if (!loaded) {
      throw Error("TensorRT does not load the plugins of " + library.path(), reason("it does not say why"),
                  "Build the library on this device, from the same version of laudc as the runner");
    }
  }

  BuildOutput build(const BuildInput& input, const Progress& progress) override {
    std::unique_ptr<nvinfer1::IBuilder> builder(nvinfer1::createInferBuilder(logger_));
    if (!builder) throw Error("TensorRT cannot compile here", reason("it made no builder"), "Check GPU and driver");
    std::unique_ptr<nvinfer1::INetworkDefinition> network(builder->createNetworkV2(network_flags()));
    std::unique_ptr<nvonnxparser::IParser> parser(nvonnxparser::createParser(*network, logger_));
    progress("reading the model");
    if (!parser->parseFromFile(input.model_path.c_str(), static_cast<int>(nvinfer1::ILogger::Severity::kWARNING))) {
      throw Error("TensorRT does not read the model", parser_errors(*parser),
                  "Check that the engine was written for this TensorRT (laudc inspect); else report this");
    }
    BuildOutput output;
    output.plugin_layers = require_plugins(*network);
    std::unique_ptr<nvinfer1::IBuilderConfig> config(builder->createBuilderConfig());
    configure(input, *builder, *network, *config);
    std::unique_ptr<nvinfer1::ITimingCache> cache = timing_cache(input, *config, &output);
#if NV_TENSORRT_MAJOR >= 10
    ProgressMonitor monitor(progress);
    config->setProgressMonitor(&monitor);
#endif
    progress("compiling; this can take many minutes");
    std::unique_ptr<nvinfer1::IHostMemory> plan(builder->buildSerializedNetwork(*network, *config));
    if (!plan) {
      throw Error("TensorRT could not compile the engine", reason("it does not say why"),
                  "If memory is short: end other programs, or build with a smaller --workspace");
    }
    const char* bytes = static_cast<const char*>(plan->data());
    output.plan.assign(bytes, bytes + plan->size());
    save_timing_cache(*config, &output);
    progress("checking the engine");
    output.layers = inspect(*deserialize(output.plan));
    return output;
  }

  std::unique_ptr<Session> load(const std::vector<char>& plan, const std::string& input_name, bool graph) override {
    return std::unique_ptr<Session>(new TensorRtSession(deserialize(plan), input_name, graph));
  }

  std::string complaints() override { return logger_.take(); }

 private:
  static std::string cuda_version(int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
  }

  std::string reason(const char* otherwise) {
    const std::string text = logger_.take();
    return text.empty() ? otherwise : "TensorRT says: " + text;
  }

  static uint32_t network_flags() {
#if NV_TENSORRT_MAJOR == 8
    return 1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#elif NV_TENSORRT_MAJOR == 10
    return 1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#else
    return 0;  // there are no other networks any more
#endif
  }

  static bool is_plugin(nvinfer1::LayerType type) {
#if NV_TENSORRT_MAJOR >= 10
    if (type == nvinfer1::LayerType::kPLUGIN_V3) return true;
#endif
    return type == nvinfer1::LayerType::kPLUGIN_V2;
  }

  // A run that is no plugin layer would be computed by something else, or by nothing. Returns the number of plugins.
  int64_t require_plugins(const nvinfer1::INetworkDefinition& network) {
    int64_t plugins = 0, runs = 0;
    for (int i = 0; i < network.getNbLayers(); ++i) plugins += is_plugin(network.getLayer(i)->getType()) ? 1 : 0;
    for (int i = 0; i < network.getNbOutputs(); ++i) {
      runs += std::strncmp(network.getOutput(i)->getName(), kCountsPrefix, std::strlen(kCountsPrefix)) == 0 ? 1 : 0;
    }
    if (plugins >= runs) return plugins;
    const std::string why = plugins_ != nullptr ? plugins_->last_error() : "";
    throw Error("TensorRT did not use the plugins",
                !why.empty() ? why
                             : "it made " + std::to_string(plugins) + " plugin layers of " + std::to_string(runs) +
                                   " runs of blocks",
                "Check the plugin library with laudc-runner check, and report this");
  }

  std::string parser_errors(const nvonnxparser::IParser& parser) {
    std::string text;
    if (plugins_ != nullptr) text = plugins_->last_error();
    for (int i = 0; i < parser.getNbErrors() && i < 3; ++i) {
      const nvonnxparser::IParserError& error = *parser.getError(i);
      text += (text.empty() ? "" : "; ") + std::string(error.desc()) + " (node " + std::to_string(error.node()) + ")";
    }
    return text.empty() ? reason("its parser gives no reason") : text;
  }

  void configure(const BuildInput& input, nvinfer1::IBuilder& builder, nvinfer1::INetworkDefinition& network,
                 nvinfer1::IBuilderConfig& config) {
    const size_t workspace = static_cast<size_t>(input.workspace_mib) << 20;
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 4
    config.setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, workspace);
#else
    config.setMaxWorkspaceSize(workspace);
#endif
    if (input.precision == "fp32") config.clearFlag(nvinfer1::BuilderFlag::kTF32);
#if NV_TENSORRT_MAJOR == 8
    if (input.precision == "fp16") config.setFlag(nvinfer1::BuilderFlag::kFP16);
#endif
    config.setProfilingVerbosity(nvinfer1::ProfilingVerbosity::kDETAILED);
    nvinfer1::ITensor* tensor = network.getNbInputs() == 1 ? network.getInput(0) : nullptr;
    if (tensor == nullptr || input.input_name != tensor->getName()) {
      throw Error("the model has another input than its manifest says",
                  "'" + input.input_name + "' is not its one input", "Build the bundle again with laudc build-engine");
    }
    if (tensor->getDimensions().d[0] >= 0) return;
    nvinfer1::IOptimizationProfile* profile = builder.createOptimizationProfile();
    const char* name = input.input_name.c_str();
    profile->setDimensions(name, nvinfer1::OptProfileSelector::kMIN, dims_of(input.batch[0], input.image));
    profile->setDimensions(name, nvinfer1::OptProfileSelector::kOPT, dims_of(input.batch[1], input.image));
    profile->setDimensions(name, nvinfer1::OptProfileSelector::kMAX, dims_of(input.batch[2], input.image));
    config.addOptimizationProfile(profile);
  }

  // A cache of another device or version is refused by TensorRT; then it begins anew.
  static std::unique_ptr<nvinfer1::ITimingCache> timing_cache(const BuildInput& input, nvinfer1::IBuilderConfig& config,
                                                              BuildOutput* output) {
    std::unique_ptr<nvinfer1::ITimingCache> cache;
    if (!input.timing_cache.empty()) {
      cache.reset(config.createTimingCache(input.timing_cache.data(), input.timing_cache.size()));
      output->cache_used = cache && config.setTimingCache(*cache, false);
    }
    if (!output->cache_used) {
      cache.reset(config.createTimingCache(nullptr, 0));
      if (cache) config.setTimingCache(*cache, false);
    }
    return cache;
  }

  static void save_timing_cache(nvinfer1::IBuilderConfig& config, BuildOutput* output) {
    const nvinfer1::ITimingCache* cache = config.getTimingCache();
    if (cache == nullptr) return;
    std::unique_ptr<nvinfer1::IHostMemory> bytes(cache->serialize());
    if (!bytes) return;
    const char* data = static_cast<const char*>(bytes->data());
    output->timing_cache.assign(data, data + bytes->size());
  }

  std::unique_ptr<nvinfer1::ICudaEngine> deserialize(const std::vector<char>& plan) {
    if (!runtime_) runtime_.reset(nvinfer1::createInferRuntime(logger_));
    std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime_ ? runtime_->deserializeCudaEngine(plan.data(), plan.size())
                                                           : nullptr);
    if (!engine) {
      throw Error("TensorRT does not load the engine", reason("it does not say why"),
                  "Build it again on this device: laudc-runner build ENGINE.laudc -o ENGINE.laudc");
    }
    return engine;
  }

  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  const PluginLibrary* plugins_ = nullptr;
};

}  // namespace

std::unique_ptr<Device> open_device() { return std::unique_ptr<Device>(new TensorRtDevice); }

}  // namespace runner
}  // namespace laudc
