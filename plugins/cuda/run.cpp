#include "cuda/run.h"

#include <cstring>

#include "core/packed_layout.h"
#include "cuda/bottleneck_run.h"
#include "cuda/regnet_run.h"
#include "cuda/vit_run.h"

namespace laudc {
namespace cuda {
namespace {

// What one thread loads of weights at once.
constexpr uintptr_t kVectorBytes = 16;
constexpr int kFirstVoltaSm = 70, kFirstTuringSm = 75, kFirstMmaSm = 80;

GemmKind kind_of(Precision precision, int sm) {
  if (precision == Precision::kFp16) {
    return sm >= kFirstMmaSm      ? GemmKind::kHalfMma
           : sm >= kFirstTuringSm ? GemmKind::kHalfTuring
           : sm >= kFirstVoltaSm  ? GemmKind::kHalfVolta
                                  : GemmKind::kHalf;
  }
  return precision == Precision::kTf32 && sm >= kFirstMmaSm ? GemmKind::kTf32 : GemmKind::kFloat;
}

bool aligned(const void* memory, uintptr_t to) { return reinterpret_cast<uintptr_t>(memory) % to == 0; }

}  // namespace

std::unique_ptr<Run> make_run(const char* op, const int64_t* records, size_t count, int precision,
                              const laudc_cuda_device& device, std::string* error) {
  if (precision < LAUDC_CUDA_FP32 || precision > LAUDC_CUDA_FP16) {
    *error = "precision is " + std::to_string(precision) + ", not 0 (fp32), 1 (tf32) or 2 (fp16)";
    return nullptr;
  }
  if (device.sm < 50 || device.multiprocessors < 1) {
    *error = "compute capability " + std::to_string(device.sm) + " is older than these kernels run on (sm_53)";
    return nullptr;
  }
  const Precision chosen = static_cast<Precision>(precision);
  const Setting setting = {chosen, kind_of(chosen, device.sm), device};
  if (std::strcmp(op, BottleneckRun::kOp) == 0) return BottleneckRun::create(records, count, setting, error);
  if (std::strcmp(op, RegNetRun::kOp) == 0) return RegNetRun::create(records, count, setting, error);
  if (std::strcmp(op, VitRun::kOp) == 0) return VitRun::create(records, count, setting, error);
  *error = std::string("there are no GPU kernels for ") + op;
  return nullptr;
}

void Run::place_matrices(std::vector<MatrixPlace> places) {
  for (MatrixPlace& place : places) {
    place.prepared_at = -1;
    if (place.elements == 0 || !(setting_.half() || place.rows)) continue;
    place.prepared_at = prepared_elements_;
    prepared_elements_ += round_up(place.elements, 128);
  }
  matrices_.push_back(std::move(places));
}

const void* Run::weights(const laudc_cuda_io& io, size_t block, int matrix) const {
  const MatrixPlace& place = matrices_[block][static_cast<size_t>(matrix)];
  if (place.prepared_at < 0) return io.packed[block] + place.packed_at;
  return static_cast<const char*>(io.prepared) + static_cast<size_t>(place.prepared_at) * setting_.element();
}

size_t Run::prepared_bytes() const { return static_cast<size_t>(prepared_elements_) * setting_.element(); }

bool Run::prepare(const float* const* packed, void* prepared, Stream stream, std::string* error) const {
  *error = complaint_about_packed(packed);
  if (!error->empty()) return false;
  for (size_t block = 0; block < matrices_.size(); ++block) {
    for (const MatrixPlace& place : matrices_[block]) {
      if (place.prepared_at < 0) continue;
      ConvertParams p = ConvertParams();
      p.from = packed[block] + place.packed_at;
      p.to = static_cast<char*>(prepared) + static_cast<size_t>(place.prepared_at) * setting_.element();
      p.count = place.elements;
      p.from_rows = place.rows ? 1 : 0;
      p.depth = place.depth;
      p.columns = place.columns;
      p.panel = place.panel;
      const int code = launch_convert(setting_.half(), p, 4 * setting_.device.multiprocessors, stream);
      if (code == 0) continue;
      *error = std::string("converting the weights failed: ") + error_text(code);
      return false;
    }
  }
  return true;
}

std::string Run::complaint_about_call(const laudc_cuda_io& io) const {
  const size_t needed = workspace_bytes(io.batch);
  if (needed == 0) return "a batch of " + std::to_string(io.batch) + " is too large for 32-bit indices";
  if (io.workspace_bytes < needed || !aligned(io.workspace, 256)) {
    return "the workspace has " + std::to_string(io.workspace_bytes) + " bytes, " + std::to_string(needed) +
           " aligned to 256 are needed";
  }
  if (prepared_elements_ > 0 && io.prepared == nullptr) return "the weights were not prepared";
  return complaint_about_packed(io.packed);
}

std::string Run::complaint_about_packed(const float* const* packed) const {
  for (int64_t block = 0; block < block_count(); ++block) {
    if (aligned(packed[block], kVectorBytes)) continue;
    return "the packed weights of block " + std::to_string(block) + " are not aligned to " +
           std::to_string(kVectorBytes) + " bytes";
  }
  return std::string();
}

bool Run::enqueue(const laudc_cuda_io& io, Stream stream, std::string* error) const {
  if (io.batch == 0) return true;
  *error = complaint_about_call(io);
  if (!error->empty()) return false;
  int code = 0;
  if (io.margins != nullptr && total_margins() == 0) {
    code = fill_zero(io.margins, static_cast<size_t>(io.batch * io.margins_stride) * sizeof(float), stream);
  }
  if (code == 0) code = launch(io, stream);
  if (code == 0) return true;
  *error = std::string("CUDA refused a launch: ") + error_text(code);
  return false;
}

}  // namespace cuda
}  // namespace laudc
