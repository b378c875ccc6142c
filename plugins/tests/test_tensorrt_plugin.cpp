// The TensorRT plugin through the interfaces of one TensorRT major, hosted by a mock of TensorRT, computing on the
// emulated GPU.
#include "tensorrt/run_state.h"
#include "tests/cuda_network.h"
#include "tests/tensorrt_host.h"

namespace laudc {
namespace test {
namespace {

using cuda::emulated::the_gpu;

constexpr char kBottleneck[] = "BottleneckRun";

// A node's attributes as the ONNX parser passes them.
struct Attributes {
  std::vector<int32_t> blocks;
  int32_t abi = static_cast<int32_t>(kAbiVersion), precision = 0;

  template <class Network>
  explicit Attributes(const Network& network) : precision(network.precision) {
    for (const int64_t value : network.record_list()) blocks.push_back(static_cast<int32_t>(value));
  }
  std::vector<PluginField> fields() const {
    return {PluginField("abi", &abi, PluginFieldType::kINT32, 1),
            PluginField("blocks", blocks.data(), PluginFieldType::kINT32, static_cast<int32_t>(blocks.size())),
            PluginField("precision", &precision, PluginFieldType::kINT32, 1)};
  }
};

// Two blocks of a family, the second one in place.
template <class Family>
GpuNetworkOf<Family> network_of(Mode mode, int precision, uint32_t seed);

template <>
GpuNetwork network_of(Mode mode, int precision, uint32_t seed) {
  Random random(seed);
  Record first = gpu_record(mode, 2, true, 7, 6, &random);
  Record second = gpu_record(mode, 1, false, desc_of(first).hout(), desc_of(first).wout(), &random);
  second[kCin] = second[kCout] = first[kCout];
  second[kMaskGroups] = std::min<int64_t>(second[kMaskGroups], 1);
  GpuNetwork network({first, second}, &random);
  network.precision = precision;
  return network;
}

template <>
RegNetGpuNetwork network_of(Mode mode, int precision, uint32_t seed) {
  Random random(seed);
  const bool spatial = mode == Mode::kSpatial || mode == Mode::kBoth || mode == Mode::kLayer;
  Record first = random_regnet_record(spatial, mode == Mode::kChannel || mode == Mode::kBoth, false, true, &random);
  first[kHin] = 7;
  first[kWin] = 6;
  if (spatial) first[kMaskH] = first[kMaskW] = mode == Mode::kLayer ? 1 : 2;
  Record second = first;
  const BlockDesc before = RegNetFamily::parse(first).front().block;
  second[kHin] = before.hout();
  second[kWin] = before.wout();
  second[kCin] = before.cout;
  second[kStride] = 1;
  second[kProjection] = 0;
  second[kSePool] = spatial ? 1 : 0;
  RegNetGpuNetwork network({first, second}, &random);
  network.precision = precision;
  return network;
}

template <>
VitGpuNetwork network_of(Mode mode, int precision, uint32_t seed) {
  Random random(seed);
  VitDesc first = vit_desc(11, 3, 8, 48, 16);
  first.token_policy = first.tokens_in_mlp = mode == Mode::kSpatial || mode == Mode::kBoth;
  first.head_policy = mode == Mode::kChannel || mode == Mode::kBoth;
  first.layer_policy = mode == Mode::kLayer || mode == Mode::kBoth;
  if (!first.head_policy) first.head_width = MlpWidth::kFull;
  VitDesc second = first;
  second.first_only = mode == Mode::kBoth;
  VitGpuNetwork network({vit_record(first), vit_record(second)}, &random);
  network.precision = precision;
  return network;
}

// Calls body(family) for every family that the library has a plugin for.
template <class Body>
void for_every_family(const Body& body) {
  body(BottleneckFamily());
  body(RegNetFamily());
  body(VitFamily());
}

struct Tensors {
  std::vector<nvinfer1::PluginTensorDesc> in, out;

  template <class Network>
  Tensors(const Network& network, int64_t batch) {
    typedef typename Network::Family Family;
    const DataType map = network.precision == LAUDC_CUDA_FP16 ? DataType::kHALF : DataType::kFLOAT;
    in.push_back(tensor_of(batched(batch, Family::x_dims(network.blocks.front())), map));
    for (const auto& desc : network.blocks) in.push_back(tensor_of({Family::packed_floats(desc)}, DataType::kFLOAT));
    out.push_back(tensor_of(batched(batch, Family::y_dims(network.blocks.back())), map));
    out.push_back(tensor_of({batch, static_cast<int64_t>(network.blocks.size()), 4}, DataType::kINT32));
    out.push_back(tensor_of({batch, std::max<int64_t>(1, network.decisions())}, DataType::kFLOAT));
  }
  static std::vector<int64_t> batched(int64_t batch, std::vector<int64_t> dims) {
    dims.insert(dims.begin(), batch);
    return dims;
  }
  std::vector<nvinfer1::PluginTensorDesc> all() const {
    std::vector<nvinfer1::PluginTensorDesc> tensors = in;
    tensors.insert(tensors.end(), out.begin(), out.end());
    return tensors;
  }
  static std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic(const std::vector<nvinfer1::PluginTensorDesc>& from) {
    std::vector<nvinfer1::DynamicPluginTensorDesc> to;
    for (const auto& tensor : from) to.push_back(dynamic_tensor(tensor));
    return to;
  }
};

// Runs a plugin as an engine would; -1 in `status` where the plugin was not asked.
struct Execution {
  int status = -1;
  GpuResults results;

  template <class Network>
  Execution(const HostedPlugin& plugin, Network* network, const Floats& x) {
    const int64_t batch = static_cast<int64_t>(x.size() / network->input_floats());
    network->pack();
    const Tensors tensors(*network, batch);
    const size_t element = network->precision == LAUDC_CUDA_FP16 ? 2 : 4;
    const size_t outputs = index(batch) * network->output_floats();
    const DeviceMemory device_x(x.size() * element), y(outputs * element),
        workspace(plugin.workspace(tensors.in, tensors.out));
    network->store(x, device_x.as());
    results.counts.assign(index(batch) * network->blocks.size() * 4, -1);
    results.margins.assign(index(batch * std::max<int64_t>(1, network->decisions())), -1.0f);
    std::vector<const void*> in = {device_x.as()};
    for (const Floats& p : network->packed) in.push_back(p.data());
    status = plugin.enqueue(tensors.in, tensors.out, in, {y.as(), results.counts.data(), results.margins.data()},
                            workspace.as());
    results.y = network->load(y.as(), outputs);
  }
};

// Takes what the plugin complains of, so that it can be looked at.
#if LAUDC_HAS_LOGGER_FINDER
struct [[maybe_unused]] QuietErrors {
  RecordingLogger logger;
  Finder finder{&logger};
  QuietErrors() { setLoggerFinder(&finder); }
  ~QuietErrors() { setLoggerFinder(nullptr); }
  bool said(const char* what) const {
    return !logger.errors.empty() && logger.errors.back().find(what) != std::string::npos;
  }
};
#else
struct [[maybe_unused]] QuietErrors {
  bool said(const char*) const { return true; }
};
#endif

TEST(says_what_it_is) {
  for_every_family([](auto family) {
    auto* creator = HostedPlugin::creator(family.op());
    if (!CHECK(creator != nullptr)) return;
    CHECK(std::string(creator->getPluginVersion()) == "1");
    CHECK(std::string(creator->getPluginNamespace()) == "laudc");
    const nvinfer1::PluginFieldCollection* fields = creator->getFieldNames();
    std::vector<std::string> names;
    for (int32_t i = 0; i < fields->nbFields; ++i) names.push_back(fields->fields[i].name);
    CHECK((names == std::vector<std::string>{"abi", "blocks", "precision"}));
  });
  CHECK(HostedPlugin::creator("OtherRun") == nullptr);
  const std::string abi = laudc_abi();
  CHECK(abi.find("\"abi\": " + std::to_string(kAbiVersion) + ",") != std::string::npos);
  CHECK(abi.find("\"api\": \"trt" + std::to_string(NV_TENSORRT_MAJOR) + "\"") != std::string::npos);
}

template <class Family>
void shapes_and_types_of() {
  for (const int precision : {LAUDC_CUDA_FP32, LAUDC_CUDA_TF32, LAUDC_CUDA_FP16}) {
    const GpuNetworkOf<Family> network = network_of<Family>(Mode::kBoth, precision, 60);
    const auto plugin = HostedPlugin::create(Family::op(), Attributes(network).fields());
    if (!CHECK(plugin != nullptr)) return;
    CHECK(plugin->outputs() == 3 && plugin->space() == "laudc");
    const DataType map = precision == LAUDC_CUDA_FP16 ? DataType::kHALF : DataType::kFLOAT;
    const std::vector<DataType> types = {map, DataType::kFLOAT, DataType::kFLOAT};
    CHECK(plugin->output_type(0, types) == map);
    CHECK(plugin->output_type(1, types) == DataType::kINT32);
    CHECK(plugin->output_type(2, types) == DataType::kFLOAT);

    ExpressionBuilder builder;
    std::vector<nvinfer1::DimsExprs> inputs(1 + network.blocks.size());
    for (nvinfer1::DimsExprs& input : inputs) {
      input.nbDims = 4;
      for (auto& d : input.d) d = builder.unknown();
    }
    const Tensors wanted(network, 5);
    for (int output = 0; output < 3; ++output) {
      const nvinfer1::DimsExprs dims = plugin->output_dims(output, inputs, &builder);
      const nvinfer1::Dims& expected = wanted.out[index(output)].dims;
      CHECK(dims.nbDims == expected.nbDims);
      CHECK(dims.d[0] == inputs[0].d[0]);  // the batch, whatever it will be
      for (int32_t i = 1; i < dims.nbDims; ++i) {
        CHECK(dims.d[i]->isConstant() && dims.d[i]->getConstantValue() == expected.d[i]);
      }
    }
  }
}

TEST(shapes_and_types) {
  for_every_family([](auto family) { shapes_and_types_of<decltype(family)>(); });
}

// Exactly one combination of types and formats.
template <class Family>
void formats_of() {
  const QuietErrors quiet;
  for (const int precision : {LAUDC_CUDA_FP32, LAUDC_CUDA_FP16}) {
    const GpuNetworkOf<Family> network = network_of<Family>(Mode::kSpatial, precision, 61);
    const auto plugin = HostedPlugin::create(Family::op(), Attributes(network).fields());
    if (!CHECK(plugin != nullptr)) return;
    const std::vector<nvinfer1::PluginTensorDesc> good = Tensors(network, 1).all();
    for (size_t position = 0; position < good.size(); ++position) {
      CHECK(plugin->supports(static_cast<int>(position), good, 3));
      for (const DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kINT32, DataType::kINT8}) {
        std::vector<nvinfer1::PluginTensorDesc> other = good;
        other[position].type = type;
        CHECK(plugin->supports(static_cast<int>(position), other, 3) == (type == good[position].type));
      }
      std::vector<nvinfer1::PluginTensorDesc> other = good;
      other[position].format = nvinfer1::TensorFormat::kCHW2;
      CHECK(!plugin->supports(static_cast<int>(position), other, 3));
    }
    CHECK(!plugin->supports(0, good, 2));  // a weight input is missing
  }
}

TEST(formats) {
  for_every_family([](auto family) { formats_of<decltype(family)>(); });
}

template <class Family>
void computes_what_the_reference_does_of() {
  for (const Mode mode : {Mode::kStatic, Mode::kSpatial, Mode::kChannel, Mode::kBoth, Mode::kLayer}) {
    for (const int precision : {LAUDC_CUDA_FP32, LAUDC_CUDA_TF32, LAUDC_CUDA_FP16}) {
      GpuNetworkOf<Family> network = network_of<Family>(mode, precision, 62);
      the_gpu().device = {80, 3};
      const auto plugin = HostedPlugin::create(Family::op(), Attributes(network).fields());
      if (!CHECK(plugin != nullptr)) return;
      const Tensors tensors(network, 3);
      CHECK(plugin->configure(Tensors::dynamic(tensors.in), Tensors::dynamic(tensors.out)));
      Random random(63);
      const Floats x = network.input(3, &random);
      const Execution run(*plugin, &network, x);
      CHECK(run.status == 0);
      GpuResults found = run.results;
      if (network.decisions() == 0) {  // the extra column
        CHECK((found.margins == Floats(3, 0.0f)));
        found.margins.clear();
      }
      network.check(x, found);
      // Every copy gives the same, to the bit: a clone, one in a context, one from an engine.
      for (const auto& other :
           {plugin->clone(), plugin->attach(), HostedPlugin::restore(Family::op(), plugin->store())}) {
        if (!CHECK(other != nullptr)) return;
        const Execution again(*other, &network, x);
        CHECK(again.status == 0 && again.results.y == run.results.y && again.results.counts == run.results.counts);
        CHECK(again.results.margins == run.results.margins);
      }
    }
  }
}

TEST(computes_what_the_reference_does) {
  for_every_family([](auto family) { computes_what_the_reference_does_of<decltype(family)>(); });
}

template <class Family>
void storing_and_restoring_of() {
  const GpuNetworkOf<Family> network = network_of<Family>(Mode::kBoth, LAUDC_CUDA_FP16, 64);
  const auto plugin = HostedPlugin::create(Family::op(), Attributes(network).fields());
  if (!CHECK(plugin != nullptr)) return;
  const std::vector<uint8_t> bytes = plugin->store();
  const auto restored = HostedPlugin::restore(Family::op(), bytes);
  CHECK(restored != nullptr && restored->store() == bytes);
}

TEST(storing_and_restoring) {
  for_every_family([](auto family) { storing_and_restoring_of<decltype(family)>(); });
}

template <class Family>
void damaged_state_is_refused_of() {
  const QuietErrors quiet;
  const GpuNetworkOf<Family> network = network_of<Family>(Mode::kSpatial, LAUDC_CUDA_FP32, 65);
  const auto plugin = HostedPlugin::create(Family::op(), Attributes(network).fields());
  if (!CHECK(plugin != nullptr)) return;
  const std::vector<uint8_t> good = plugin->store();
  const auto refused = [&](const std::vector<uint8_t>& bytes) {
    const std::vector<uint8_t> exact(bytes);  // so that the sanitizer sees a read behind the end
    const bool none = HostedPlugin::restore(Family::op(), exact) == nullptr;
    return none && laudc_trt_last_error()[0] != '\0' && quiet.said("build the engine again");
  };
  for (size_t size = 0; size < good.size(); ++size) {
    CHECK(refused(std::vector<uint8_t>(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))));
  }
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::vector<uint8_t> flipped = good;
    flipped[bit / 8] = static_cast<uint8_t>(flipped[bit / 8] ^ 1u << bit % 8);
    CHECK(refused(flipped));
  }
  std::vector<uint8_t> longer = good;
  longer.push_back(0);
  CHECK(refused(longer));
  Random random(66);
  for (int i = 0; i < 2000; ++i) {
    std::vector<uint8_t> noise(index(random.between(0, 300)));
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random.bits());
    // Half of them look right at first sight: the header is.
    if (random.coin())
      std::copy(good.begin(), good.begin() + std::min<std::ptrdiff_t>(40, static_cast<std::ptrdiff_t>(noise.size())),
                noise.begin());
    CHECK(refused(noise));
  }
  CHECK(HostedPlugin::restore(Family::op(), good) != nullptr && laudc_trt_last_error()[0] == '\0');
}

TEST(damaged_state_is_refused) {
  for_every_family([](auto family) { damaged_state_is_refused_of<decltype(family)>(); });
}

// Well-formed state of a network that does not exist.
template <class Family>
void impossible_state_is_refused_of() {
  const QuietErrors quiet;
  const GpuNetworkOf<Family> network = network_of<Family>(Mode::kSpatial, LAUDC_CUDA_FP32, 67);
  for (size_t field = 0; field < network.record_list().size(); ++field) {
    trt::RunState state;
    state.op = Family::op();
    state.records = network.record_list();
    state.records[field] = INT64_C(1) << 40;
    CHECK(HostedPlugin::restore(Family::op(), trt::serialize(state)) == nullptr);
    state.records[field] = -1;
    CHECK(HostedPlugin::restore(Family::op(), trt::serialize(state)) == nullptr);
  }
  trt::RunState state;
  state.op = Family::op();
  CHECK(HostedPlugin::restore(Family::op(), trt::serialize(state)) == nullptr);
  state.records = network.record_list();
  state.precision = 7;
  CHECK(HostedPlugin::restore(Family::op(), trt::serialize(state)) == nullptr);
  state.precision = LAUDC_CUDA_FP32;
  CHECK(HostedPlugin::restore(Family::op(), trt::serialize(state)) != nullptr);
  for (const char* op : {"", "OtherRun", "NameThatIsTooLongForTheHeader"}) {
    state.op = op;
    CHECK(HostedPlugin::restore(Family::op(), trt::serialize(state)) == nullptr);
  }
}

// Plugins of one library do not take each other's state.
TEST(state_of_another_plugin_is_refused) {
  const QuietErrors quiet;
  const GpuNetwork network = network_of<BottleneckFamily>(Mode::kSpatial, LAUDC_CUDA_FP32, 67);
  const auto plugin = HostedPlugin::create(kBottleneck, Attributes(network).fields());
  if (!CHECK(plugin != nullptr)) return;
  CHECK(plugin->type() == kBottleneck);
  for_every_family([&](auto family) {
    const bool same = std::string(family.op()) == kBottleneck;
    CHECK((HostedPlugin::restore(family.op(), plugin->store()) != nullptr) == same);
    CHECK(same || std::string(laudc_trt_last_error()).find("that of a BottleneckRun, not of a") != std::string::npos);
  });
}

TEST(impossible_state_is_refused) {
  for_every_family([](auto family) { impossible_state_is_refused_of<decltype(family)>(); });
}

TEST(bad_attributes_are_refused) {
  const QuietErrors quiet;
  const GpuNetwork network = network_of<BottleneckFamily>(Mode::kSpatial, LAUDC_CUDA_FP32, 68);
  const Attributes good(network);
  const auto refused = [&](std::vector<PluginField> fields, const char* why) {
    const bool none = HostedPlugin::create(kBottleneck, fields) == nullptr;
    return none && std::string(laudc_trt_last_error()).find(why) != std::string::npos && quiet.said(why);
  };
  const auto without = [&](size_t field) {
    std::vector<PluginField> fields = good.fields();
    fields.erase(fields.begin() + static_cast<std::ptrdiff_t>(field));
    return fields;
  };
  CHECK(refused({}, "attribute abi is missing"));
  CHECK(refused(without(0), "attribute abi is missing"));
  CHECK(refused(without(1), "attribute blocks is missing"));
  CHECK(HostedPlugin::create(kBottleneck, without(2)) != nullptr);  // fp32 is the default

  Attributes future = good;
  future.abi = 99;
  CHECK(refused(future.fields(), "scheduled for laudc ABI 99"));
  Attributes precise = good;
  precise.precision = 3;
  CHECK(refused(precise.fields(), "precision is 3"));
  Attributes cut = good;
  cut.blocks.pop_back();
  CHECK(refused(cut.fields(), "blocks attribute holds"));
  Attributes wide = good;
  wide.blocks[kStride] = 3;
  CHECK(refused(wide.fields(), "block 0: stride is 3"));
  Attributes winograd = good;
  winograd.blocks[kConv2Algo] = 1;
  winograd.blocks[kStride] = 1;
  const std::string message =
      HostedPlugin::create(kBottleneck, winograd.fields()) == nullptr ? laudc_trt_last_error() : "";
  CHECK(message.find("Winograd") != std::string::npos || message.find("block") != std::string::npos);

  std::vector<PluginField> fields = good.fields();
  fields[1].type = PluginFieldType::kFLOAT32;
  CHECK(refused(fields, "attribute blocks does not hold integers"));
  fields = good.fields();
  fields[1].data = nullptr;
  CHECK(refused(fields, "attribute blocks does not hold integers"));
  fields = good.fields();
  fields[1].length = -5;
  CHECK(refused(fields, "attribute blocks does not hold integers"));
  fields = good.fields();
  fields[0].length = 2;
  const int32_t two[] = {1, 1};
  fields[0].data = two;
  CHECK(refused(fields, "attribute abi is not one integer"));
  fields = good.fields();
  fields.emplace_back(nullptr, nullptr, PluginFieldType::kCHAR, 0);  // a field without a name is nobody's
  CHECK(HostedPlugin::create(kBottleneck, fields) != nullptr);
}

#if NV_TENSORRT_MAJOR >= 10
TEST(wide_integers_are_accepted) {
  const GpuNetwork network = network_of<BottleneckFamily>(Mode::kSpatial, LAUDC_CUDA_FP32, 69);
  const Attributes good(network);
  std::vector<PluginField> fields = good.fields();
  const Record records = network.record_list();
  fields[1] = PluginField("blocks", records.data(), PluginFieldType::kINT64, static_cast<int32_t>(records.size()));
  const auto wide = HostedPlugin::create(kBottleneck, fields),
             narrow = HostedPlugin::create(kBottleneck, good.fields());
  CHECK(wide != nullptr && narrow != nullptr && wide->store() == narrow->store());
}

TEST(timing_cache_tells_networks_apart) {
  const GpuNetwork a = network_of<BottleneckFamily>(Mode::kSpatial, LAUDC_CUDA_FP32, 70);
  GpuNetwork b = a.precision == LAUDC_CUDA_FP32 ? network_of<BottleneckFamily>(Mode::kSpatial, LAUDC_CUDA_TF32, 70) : a;
  const auto one = HostedPlugin::create(kBottleneck, Attributes(a).fields()),
             same = HostedPlugin::create(kBottleneck, Attributes(a).fields()),
             other = HostedPlugin::create(kBottleneck, Attributes(b).fields());
  if (!CHECK(one != nullptr && same != nullptr && other != nullptr)) return;
  CHECK(one->timing_id() == same->timing_id() && one->timing_id() != other->timing_id());
  CHECK(one->timing_id().find("laudc.BottleneckRun.1.") == 0);
  CHECK(one->metadata().find("precision=fp32") != std::string::npos);
}
#endif

#if NV_TENSORRT_MAJOR == 8
TEST(namespaces_are_kept) {
  nvinfer1::IPluginCreator* creator = HostedPlugin::creator(kBottleneck);
  creator->setPluginNamespace("elsewhere");
  CHECK(std::string(creator->getPluginNamespace()) == "elsewhere");
  creator->setPluginNamespace(nullptr);
  CHECK(std::string(creator->getPluginNamespace()).empty());
  creator->setPluginNamespace("laudc");
}
#endif

template <class Family>
void wrong_tensors_are_refused_of() {
  const QuietErrors quiet;
  GpuNetworkOf<Family> network = network_of<Family>(Mode::kSpatial, LAUDC_CUDA_FP32, 71);
  the_gpu().device = {80, 3};
  Random random(72);
  const Floats x = network.input(1, &random);
  const Tensors good(network, 1);
  const auto refused = [&](Tensors tensors, const char* why) {
    const auto plugin = HostedPlugin::create(Family::op(), Attributes(network).fields());
    const bool configured = plugin->configure(Tensors::dynamic(tensors.in), Tensors::dynamic(tensors.out));
    return (!configured || Execution(*plugin, &network, x).status != 0) && quiet.said(why);
  };
  for (int axis = 1; axis < good.in[0].dims.nbDims; ++axis) {
    Tensors tensors = good;
    ++tensors.in[0].dims.d[axis];
    CHECK(refused(tensors, "the size the network was scheduled for"));
  }
  Tensors flat = good;
  --flat.in[0].dims.nbDims;
  CHECK(refused(flat, "the size the network was scheduled for"));
  Tensors small = good;
  --small.in[2].dims.d[0];
  CHECK(refused(small, "packed weights of block 1"));
  Tensors fewer = good;
  fewer.in.pop_back();
  CHECK(refused(fewer, "2 blocks need 3 inputs"));
  Tensors more = good;
  more.out.pop_back();
  CHECK(refused(more, "the layer has 3 and 2"));
}

TEST(wrong_tensors_are_refused) {
  for_every_family([](auto family) { wrong_tensors_are_refused_of<decltype(family)>(); });
}

template <class Family>
void trouble_with_the_gpu_is_told_of() {
  const QuietErrors quiet;
  GpuNetworkOf<Family> network = network_of<Family>(Mode::kSpatial, LAUDC_CUDA_FP16, 73);
  the_gpu().device = {80, 3};
  Random random(74);
  const Floats x = network.input(1, &random);
  const Tensors tensors(network, 1);

  the_gpu().missing = true;  // creation and storing need no GPU
  const auto plugin = HostedPlugin::create(Family::op(), Attributes(network).fields());
  if (!CHECK(plugin != nullptr)) return;
  CHECK(plugin->workspace(tensors.in, tensors.out) == 0 && quiet.said("no GPU can be used"));
  the_gpu().missing = false;

  the_gpu().out_of_memory = true;
  const auto context = plugin->attach();
  CHECK(context != nullptr && Execution(*context, &network, x).status != 0 && quiet.said("no device memory"));
  the_gpu().out_of_memory = false;

  the_gpu().capturing = true;
  const auto fresh = plugin->clone();
  CHECK(Execution(*fresh, &network, x).status != 0 && quiet.said("run the engine once before capturing"));
  // With memory at hand a capture works, and what follows does not rely on a graph that may never run.
  const auto attached = plugin->attach();
  const Execution captured(*attached, &network, x);
  the_gpu().capturing = false;
  const Execution direct(*attached, &network, x);
  CHECK(captured.status == 0 && direct.status == 0 && captured.results.y == direct.results.y);
}

TEST(trouble_with_the_gpu_is_told) {
  for_every_family([](auto family) { trouble_with_the_gpu_is_told_of<decltype(family)>(); });
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
