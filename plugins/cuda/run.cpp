#include "cuda/run.h"

#include <algorithm>

#include "cuda/block_call.h"

namespace laudc {
namespace cuda {
namespace {

constexpr int64_t kMaxElements = INT64_C(1) << 31;
constexpr int kFirstVoltaSm = 70, kFirstTuringSm = 75, kFirstMmaSm = 80;

std::string complaint_about(const BlockDesc& d) {
  if (d.conv2_algo != Conv2Algo::kDirect)
    return "conv2 is scheduled as Winograd, which is for CPUs; schedule for a GPU";
  // Kernels count elements of one matrix in 32 bits.
  const int64_t largest = std::max({panel_floats(d.cin, d.width, d.panel), panel_floats(d.cin, d.cout, d.panel),
                                    panel_floats(9 * static_cast<int64_t>(d.width), d.width, d.panel),
                                    d.conv3_parts() * panel_floats(d.width, d.cout / d.conv3_parts(), d.panel)});
  return largest < kMaxElements ? std::string() : "a convolution has more weights than 32-bit offsets reach";
}

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

// Where each block reads and writes. Blocks that project start a new map: the last such map is Y, earlier ones take
// turns in the workspace; everything else happens in place.
class Maps {
 public:
  Maps(const CallContext& context) : c_(context) {
    const std::vector<BlockDesc>& blocks = c_.run->blocks();
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (blocks[i].projection) last_projection_ = i;
    }
  }

  void* output_of(size_t block, const void* in) {
    const bool elsewhere = c_.run->blocks()[block].projection || in == c_.io->x;
    if (!elsewhere) return const_cast<void*>(in);
    if (block >= last_projection_) return c_.io->y;
    turn_ = 1 - turn_;
    return c_.at(c_.plan->maps[turn_]);
  }

 private:
  const CallContext& c_;
  size_t last_projection_ = 0;
  int turn_ = 0;
};

}  // namespace

std::unique_ptr<Run> Run::create(const int64_t* records, size_t count, int precision, const laudc_cuda_device& device,
                                 std::string* error) {
  if (precision < LAUDC_CUDA_FP32 || precision > LAUDC_CUDA_FP16) {
    *error = "precision is " + std::to_string(precision) + ", not 0 (fp32), 1 (tf32) or 2 (fp16)";
    return nullptr;
  }
  if (device.sm < 50 || device.multiprocessors < 1) {
    *error = "compute capability " + std::to_string(device.sm) + " is older than these kernels run on (sm_53)";
    return nullptr;
  }
  std::unique_ptr<Run> run(new Run());
  if (!parse_blocks(records, count, &run->blocks_, error)) return nullptr;
  for (size_t i = 0; i < run->blocks_.size(); ++i) {
    const std::string complaint = complaint_about(run->blocks_[i]);
    if (!complaint.empty()) {
      *error = "block " + std::to_string(i) + ": " + complaint;
      return nullptr;
    }
    run->layouts_.push_back(packed_layout(run->blocks_[i]));
  }
  run->precision_ = static_cast<Precision>(precision);
  run->kind_ = kind_of(run->precision_, device.sm);
  run->device_ = device;
  run->place_matrices();
  return run;
}

// Kernels read panels of their own type. In fp16 that takes a copy of everything; in fp32 only of what is packed by
// output channel.
void Run::place_matrices() {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const BlockDesc& d = blocks_[i];
    const PackedLayout& l = layouts_[i];
    const int conv2_depth = 9 * d.width, share = d.cout / d.conv3_parts();
    const int64_t conv3 = d.conv3_parts() * panel_floats(d.width, share, d.panel);
    const MatrixPlace places[] = {
        {l.conv1_w, panel_floats(d.cin, d.width, d.panel), d.channel(), d.cin, d.width, -1},
        {l.conv2_w, panel_floats(conv2_depth, d.width, d.panel), d.channel(), conv2_depth, d.width, -1},
        {l.conv3_w, conv3, false, 0, 0, -1},
        {l.proj_w, d.projection ? panel_floats(d.cin, d.cout, d.panel) : 0, false, 0, 0, -1},
    };
    for (MatrixPlace place : places) {
      if (half() || place.rows) {
        place.prepared_at = prepared_elements_;
        prepared_elements_ += round_up(place.elements, 128);
      }
      matrices_.push_back(place);
    }
  }
}

const void* Run::weights(const laudc_cuda_io& io, size_t block, Matrix matrix) const {
  const MatrixPlace& place = matrices_[block * static_cast<size_t>(Matrix::kCount) + static_cast<size_t>(matrix)];
  if (place.prepared_at < 0) return io.packed[block] + place.packed_at;
  return static_cast<const char*>(io.prepared) + static_cast<size_t>(place.prepared_at) * element();
}

int64_t Run::total_margins() const {
  int64_t total = 0;
  for (const BlockDesc& d : blocks_) total += d.margins();
  return total;
}

size_t Run::workspace_bytes(int64_t batch) const {
  WorkspacePlan plan;
  return plan_workspace(blocks_, batch, traits(), &plan) ? plan.total : 0;
}

size_t Run::prepared_bytes() const { return static_cast<size_t>(prepared_elements_) * element(); }

bool Run::prepare(const float* const* packed, void* prepared, Stream stream, std::string* error) const {
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const MatrixPlace& place = matrices_[i];
    const size_t block = i / static_cast<size_t>(Matrix::kCount);
    if (place.prepared_at < 0 || place.elements == 0) continue;
    ConvertParams p = ConvertParams();
    p.from = packed[block] + place.packed_at;
    p.to = static_cast<char*>(prepared) + static_cast<size_t>(place.prepared_at) * element();
    p.count = place.elements;
    p.from_rows = place.rows ? 1 : 0;
    p.depth = place.depth;
    p.columns = place.columns;
    p.panel = blocks_[block].panel;
    const int code = launch_convert(half(), p, 4 * device_.multiprocessors, stream);
    if (code != 0) {
      *error = std::string("converting the weights failed: ") + error_text(code);
      return false;
    }
  }
  return true;
}

bool Run::enqueue(const laudc_cuda_io& io, Stream stream, std::string* error) const {
  if (io.batch == 0) return true;
  WorkspacePlan plan;
  if (!plan_workspace(blocks_, io.batch, traits(), &plan)) {
    *error = "a batch of " + std::to_string(io.batch) + " is too large for 32-bit indices";
    return false;
  }
  if (io.workspace_bytes < plan.total || !aligned(io.workspace, 256)) {
    *error = "the workspace has " + std::to_string(io.workspace_bytes) + " bytes, " + std::to_string(plan.total) +
             " aligned to 256 are needed";
    return false;
  }
  if (prepared_elements_ > 0 && io.prepared == nullptr) {
    *error = "the weights were not prepared";
    return false;
  }
  const CallContext context = {this, &io, &plan, stream};
  int code = fill_zero(context.at(plan.counters), plan.counter_bytes, stream);
  if (code == 0 && io.margins != nullptr && total_margins() == 0) {
    code = fill_zero(io.margins, static_cast<size_t>(io.batch * io.margins_stride) * sizeof(float), stream);
  }
  Maps maps(context);
  const void* in = io.x;
  int64_t margin_at = 0;
  for (size_t i = 0; code == 0 && i < blocks_.size(); ++i) {
    void* out = maps.output_of(i, in);
    code = BlockCall(context, i, margin_at, in, out).launch();
    margin_at += blocks_[i].margins();
    in = out;
  }
  if (code == 0) return true;
  *error = std::string("CUDA refused a launch: ") + error_text(code);
  return false;
}

}  // namespace cuda
}  // namespace laudc
