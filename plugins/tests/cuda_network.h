// Runs with random weights on the tests' GPU, checked against the plain double-precision reference.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "cuda/laudc_cuda.h"
#include "tests/cuda_families.h"
#include "tests/emulated_device.h"
#include "tests/emulated_gpu.h"
#include "tests/gpu.h"

namespace laudc {
namespace test {

// Memory that starts as NaN and ends where it ends, aligned as cudaMalloc aligns.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : data_(gpu_allocate(bytes)) { std::memset(data_.get(), 0xff, bytes); }
  template <class T>
  explicit DeviceMemory(const std::vector<T>& values) : DeviceMemory(values.size() * sizeof(T)) {
    if (!values.empty()) std::memcpy(data_.get(), values.data(), values.size() * sizeof(T));
  }
  template <class T = void>
  T* as() const {
    return static_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(void* p) const { gpu_free(p); }
  };
  std::unique_ptr<void, Free> data_;
};

struct GpuResults {
  Floats y, margins;
  std::vector<int32_t> counts;
};

// Values that fp16 and TF32 hold exactly, so that only what a kernel computes is rounded.
inline void make_exact(Floats* values) {
  for (float& v : *values) v = std::nearbyint(v * 256.0f) / 256.0f;
}

template <class OneFamily>
struct GpuNetworkOf {
  typedef OneFamily Family;
  typedef typename Family::Desc Desc;

  std::vector<Record> records;
  std::vector<Desc> blocks;
  std::vector<typename Family::Weights> weights;
  std::vector<Floats> packed;
  int precision = LAUDC_CUDA_FP32;

  GpuNetworkOf(const std::vector<Record>& all, Random* random) : records(all), blocks(Family::parse(record_list())) {
    for (const Desc& desc : blocks) {
      weights.push_back(Family::random_weights(desc, random));
      for (Floats* values : Family::rounded(&weights.back())) make_exact(values);
    }
  }

  void lean(float spatial, float channel) {
    for (auto& w : weights) Family::lean(&w, spatial, channel);
  }

  Record record_list() const {
    Record list;
    for (const Record& record : records) list.insert(list.end(), record.begin(), record.end());
    return list;
  }

  static size_t product(const std::vector<int64_t>& dims) {
    int64_t all = 1;
    for (const int64_t dim : dims) all *= dim;
    return index(all);
  }
  size_t input_floats() const { return product(Family::x_dims(blocks.front())); }
  size_t output_floats() const { return product(Family::y_dims(blocks.back())); }
  int64_t decisions() const {
    int64_t total = 0;
    for (const Desc& desc : blocks) total += Family::margin_count(desc);
    return total;
  }

  Floats input(int batch, Random* random) const {
    Floats x = random->reals(input_floats() * index(batch));
    for (float& v : x) v = Family::input(v);
    make_exact(&x);
    return x;
  }

  void pack() {
    packed.clear();
    for (size_t i = 0; i < blocks.size(); ++i) packed.push_back(Family::pack(blocks[i], weights[i]));
  }

  // What the C interface is given.
  struct Call {
    std::unique_ptr<laudc_cuda_run, void (*)(laudc_cuda_run*)> run{nullptr, laudc_cuda_destroy};
    std::vector<const float*> packed;
    std::vector<DeviceMemory> weights;
    std::vector<DeviceMemory> memory;  // x, y, prepared, workspace, counts, margins
    size_t count_values, margin_values;
    laudc_cuda_io io;
  };

  Call prepare_call(const Floats& x) {
    pack();
    Call call;
    char error[256] = "";
    const Record list = record_list();
    const laudc_cuda_device device = gpu_for(cuda::emulated::the_gpu().device);
    call.run.reset(laudc_cuda_create(Family::op(), list.data(), list.size(), precision, &device, error, sizeof(error)));
    CHECK(call.run != nullptr && error[0] == '\0');
    if (call.run == nullptr) return call;
    const laudc_cuda_run* run = call.run.get();
    for (const Floats& p : packed) {
      call.weights.emplace_back(p);
      call.packed.push_back(call.weights.back().template as<float>());
    }
    const int64_t batch = static_cast<int64_t>(x.size() / input_floats());
    const size_t element = precision == LAUDC_CUDA_FP16 ? 2 : 4;
    const size_t workspace = laudc_cuda_workspace_bytes(run, batch);
    call.count_values = index(batch) * blocks.size() * 4;
    call.margin_values = index(batch * laudc_cuda_margins(run));
    for (const size_t bytes :
         {x.size() * element, index(batch) * output_floats() * element, laudc_cuda_prepared_bytes(run), workspace,
          call.count_values * sizeof(int32_t), call.margin_values * sizeof(float)}) {
      call.memory.emplace_back(bytes);
    }
    store(x, call.memory[0].as());
    CHECK(gpu_prepare(run, call.packed.data(), call.memory[2].as(), error, sizeof(error)) == 0);
    call.io = {call.memory[0].as(),
               call.packed.data(),
               call.memory[2].as(),
               call.memory[1].as(),
               call.memory[4].template as<int32_t>(),
               call.memory[5].template as<float>(),
               laudc_cuda_margins(run),
               call.memory[3].as(),
               workspace,
               batch};
    return call;
  }

  GpuResults execute(const Floats& x) {
    Call call = prepare_call(x);
    if (call.run == nullptr) return GpuResults();
    char error[256] = "";
    CHECK(gpu_run(call.run.get(), &call.io, error, sizeof(error)) == 0);
    GpuResults results;
    results.y = load(call.memory[1].as(), index(call.io.batch) * output_floats());
    results.counts.assign(call.io.counts, call.io.counts + call.count_values);
    results.margins.assign(call.io.margins, call.io.margins + call.margin_values);
    return results;
  }

  void store(const Floats& from, void* to) const {
    if (precision != LAUDC_CUDA_FP16) {
      std::memcpy(to, from.data(), from.size() * sizeof(float));
      return;
    }
    for (size_t i = 0; i < from.size(); ++i) cuda::from_float(from[i], static_cast<cuda::Half*>(to) + i);
  }
  Floats load(const void* from, size_t count) const {
    Floats to(count);
    for (size_t i = 0; i < count; ++i) {
      to[i] = precision == LAUDC_CUDA_FP16 ? cuda::to_float(static_cast<const cuda::Half*>(from)[i])
                                           : static_cast<const float*>(from)[i];
    }
    return to;
  }

  double tolerance() const { return precision == LAUDC_CUDA_FP32 ? 3e-5 : 4e-3; }

  void check(const Floats& x, const GpuResults& found) const {
    const size_t batch = x.size() / input_floats();
    const double rounding = tolerance() * static_cast<double>(blocks.size());
    size_t margin = 0;
    for (size_t s = 0; s < batch; ++s) {
      Doubles map(x.begin() + static_cast<std::ptrdiff_t>(s * input_floats()),
                  x.begin() + static_cast<std::ptrdiff_t>((s + 1) * input_floats()));
      for (size_t b = 0; b < blocks.size(); ++b) {
        // Maskers are exact in every precision, but the second block's input is already rounded.
        const double bound = b == 0 ? 1e-4 : std::max(1e-4, 10 * rounding);
        std::vector<bool> keep;
        for (const double value : Family::margins(blocks[b], weights[b], map)) {
          CHECK_NEAR(found.margins[margin], value, bound * std::max(1.0, std::abs(value)));
          keep.push_back(Family::keeps(found.margins[margin++]));
        }
        Family::check_counts(blocks[b], keep, found.counts.data() + (s * blocks.size() + b) * 4);
        map = Family::output(blocks[b], weights[b], map, keep);
      }
      double largest = 1;
      for (const double v : map) largest = std::max(largest, std::abs(v));
      for (size_t i = 0; i < map.size(); ++i) {
        CHECK(std::abs(found.y[s * map.size() + i] - map[i]) <= rounding * largest);
      }
    }
    CHECK(margin == found.margins.size());
  }
};

// What a run of these records says when it cannot be made; empty if it can.
inline std::string complaint(const char* op, const Record& records, int precision = LAUDC_CUDA_FP32, int sm = 80) {
  char error[256] = "";
  const laudc_cuda_device device = {sm, 2};
  laudc_cuda_run* run = laudc_cuda_create(op, records.data(), records.size(), precision, &device, error, sizeof(error));
  CHECK((run == nullptr) == (error[0] != '\0'));
  laudc_cuda_destroy(run);
  return error;
}

// No field takes a negative or an enormous value.
inline void check_bad_fields(const char* op, const Record& good, int fields) {
  for (int field = 0; field < fields; ++field) {
    for (const int64_t value : {INT64_C(-1), INT64_C(1) << 40}) {
      Record bad = good;
      bad[index(field)] = value;
      CHECK(complaint(op, bad).find("block 0: ") != std::string::npos);
    }
  }
}

// A runtime asks for the workspace of its largest batch and then runs smaller ones in it.
inline void check_workspace_grows(const char* op, const Record& records, int precision, int multiprocessors) {
  const laudc_cuda_device device = {80, multiprocessors};
  char error[256] = "";
  laudc_cuda_run* run = laudc_cuda_create(op, records.data(), records.size(), precision, &device, error, sizeof(error));
  if (!CHECK(run != nullptr)) return;
  for (int64_t batch = 1; batch < 40; ++batch) {
    CHECK(laudc_cuda_workspace_bytes(run, batch) <= laudc_cuda_workspace_bytes(run, batch + 1));
  }
  CHECK(laudc_cuda_workspace_bytes(run, INT64_C(1) << 40) == 0);
  laudc_cuda_destroy(run);
}

// Y does not depend on whether counts and margins are wanted.
template <class Network>
void check_outputs_left_out(Network* network, Random* random) {
  const Floats x = network->input(2, random);
  const GpuResults all = network->execute(x);
  typename Network::Call call = network->prepare_call(x);
  call.io.counts = nullptr;
  call.io.margins = nullptr;
  char error[256] = "";
  CHECK(gpu_run(call.run.get(), &call.io, error, sizeof(error)) == 0);
  CHECK(network->load(call.memory[1].as(), all.y.size()) == all.y);
  call.io.batch = 0;
  CHECK(gpu_run(call.run.get(), &call.io, error, sizeof(error)) == 0);
}

typedef GpuNetworkOf<BottleneckFamily> GpuNetwork;
typedef GpuNetworkOf<RegNetFamily> RegNetGpuNetwork;
typedef GpuNetworkOf<VitFamily> VitGpuNetwork;

// Sums in another order, other block orders, other times at which copies arrive: not one bit may differ.
template <class Network>
void check_network(Network* network, int batch, Random* random) {
  const Floats x = network->input(batch, random);
  const GpuResults found = network->execute(x);
  network->check(x, found);
  const GpuResults again = network->execute(x);
  CHECK(found.y == again.y && found.margins == again.margins && found.counts == again.counts);
}

enum class Mode { kStatic, kSpatial, kChannel, kBoth, kLayer };

// A record of one mode with odd sizes.
inline Record gpu_record(Mode mode, int masker, bool projection, int hin, int win, Random* random) {
  Record r(kBlockFieldCount, 0);
  r[kStride] = projection && random->coin() ? 2 : 1;
  r[kHin] = hin;
  r[kWin] = win;
  r[kProjection] = projection ? 1 : 0;
  r[kWidth] = 4 * random->between(1, 7);
  r[kCout] = 6 * random->between(1, 8);
  r[kCin] = projection ? random->between(1, 40) : r[kCout];
  r[kPanel] = 16 * random->between(1, 4);
  if (mode == Mode::kSpatial || mode == Mode::kBoth || mode == Mode::kLayer) {
    r[kMaskGroups] = random->between(1, 3);
    r[kMaskH] = mode == Mode::kLayer ? 1 : random->between(1, static_cast<int>((hin - 1) / r[kStride] + 1));
    r[kMaskW] = mode == Mode::kLayer ? 1 : random->between(1, static_cast<int>((win - 1) / r[kStride] + 1));
  }
  if (mode == Mode::kChannel || mode == Mode::kBoth) {
    const int sizes[] = {1, 2, 4};
    r[kChannelGroups] = r[kWidth] / sizes[random->between(0, 2)];
    r[kChannelMasker] = masker;
    r[kMaskerHidden] = masker == 1 ? 0 : random->between(1, 20);
  }
  return r;
}

}  // namespace test
}  // namespace laudc
