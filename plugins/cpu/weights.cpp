#include "cpu/weights.h"

namespace laudc {
namespace cpu {
namespace {

constexpr int64_t kGroupFloats = 128 * 1024;         // half of a core's second-level cache
constexpr int64_t kSharedGroupFloats = 1024 * 1024;  // last-level cache
constexpr int64_t kSliceFloats = 8 * 1024;           // worth a task of its own
constexpr int kWinogradSlice = 48;                   // input channels whose 9 taps fit into the first two caches

int64_t packed_floats(const Weights& w) {
  return static_cast<int64_t>(w.points) * w.taps * w.kept_inputs() * round_up(working_panel(w), 16);
}

}  // namespace

int working_panel(const Weights& w) {
  if (w.layout == Weights::kPanels) return w.panel;
  const int columns = w.kept_columns();
  const int least = panel_count(columns, w.panel);
  const int panels = std::max(1, std::min(static_cast<int>(round_up(least, w.shares)), columns / 16));
  return static_cast<int>(round_up((columns + panels - 1) / panels, 16));
}

int panels_per_group(const Weights& w, int threads) {
  const int panels = working_panels(w);
  if (!w.must_pack()) return panels;
  if (threads == 1 && w.points == 1) return 1;
  const int64_t budget = threads == 1 ? kGroupFloats : kSharedGroupFloats;
  const int64_t floats = std::max<int64_t>(1, packed_floats(w));  // 0: no input channel is kept
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(panels, budget / floats)));
}

namespace {

// The work of packing panels [first, first + count) of every point, cut into slices that tasks may do in any order.
class Packing {
 public:
  // Nothing is left to do when the panels are ready as they are.
  Packing(const Context& context, const Weights& w, int first, int count, Buffer* to);

  size_t slices() const { return slices_; }
  void pack(size_t slice) const;
  // Complete once all slices are packed.
  const PanelSet& set() const { return set_; }

 private:
  // Input channels, as counted among the kept ones.
  struct Range {
    int begin, end;
    int count() const { return end - begin; }
  };
  void cut(int threads);
  void pack_tap(int p, int tap, Range k, float* to) const;
  void copy_rows(int p, int tap, Range k, float* to) const;
  void transpose_rows(int p, int tap, Range k, float* to) const;
  void pack_filters(int p, Range k, float* to) const;

  const Context& context_;
  const Weights& w_;
  PanelSet set_;
  float* data_ = nullptr;
  int inputs_, taps_ = 1, cuts_ = 1;
  size_t slices_ = 0;
};

Packing::Packing(const Context& context, const Weights& w, int first, int count, Buffer* to)
    : context_(context),
      w_(w),
      set_{w.data, 0, working_panels(w), w.panel, w.kept_columns(), w.panel_stride(), w.point_stride()},
      inputs_(w.kept_inputs()) {
  if (w.packed != nullptr) set_ = *w.packed;
  if (!w.must_pack()) return;
  set_.first = first;
  set_.count = count;
  set_.width = working_panel(w);
  set_.panel_stride = packed_floats(w);
  set_.point_stride = set_.panel_stride / w.points;
  data_ = to->at_least(static_cast<size_t>(count * set_.panel_stride));
  set_.data = data_;
  cut(context.parallel->width());
}

// A slice is one tap (Winograd's filters: all taps) of some input channels of one panel.
void Packing::cut(int threads) {
  int64_t wanted = 1;
  if (w_.points == kWinogradPoints) {
    wanted = (inputs_ + kWinogradSlice - 1) / kWinogradSlice;
  } else {
    taps_ = w_.taps;
    if (threads > 1) wanted = static_cast<int64_t>(inputs_) * set_.width / kSliceFloats;
  }
  cuts_ = static_cast<int>(std::max<int64_t>(1, wanted));
  slices_ = static_cast<size_t>(set_.count) * static_cast<size_t>(taps_ * cuts_);
}

void Packing::pack(size_t slice) const {
  const int per_panel = taps_ * cuts_;
  const int panel = static_cast<int>(slice) / per_panel, part = static_cast<int>(slice) % per_panel;
  const int64_t at = part % cuts_;
  const Range k = {static_cast<int>(inputs_ * at / cuts_), static_cast<int>(inputs_ * (at + 1) / cuts_)};
  float* to = data_ + panel * set_.panel_stride + static_cast<int64_t>(k.begin) * set_.width;
  if (w_.points == kWinogradPoints) {
    pack_filters(set_.first + panel, k, to);
  } else {
    const int tap = part / cuts_;
    pack_tap(set_.first + panel, tap, k, to + static_cast<int64_t>(tap) * inputs_ * set_.width);
  }
}

void Packing::pack_tap(int p, int tap, Range k, float* to) const {
  if (w_.layout == Weights::kPanels) {
    copy_rows(p, tap, k, to);
  } else {
    transpose_rows(p, tap, k, to);
  }
}

// Kept rows of a stored panel one after another: gaps between them would waste the first-level cache in every tile.
void Packing::copy_rows(int p, int tap, Range k, float* to) const {
  const float* panel = w_.data + p * w_.panel_stride() + static_cast<int64_t>(tap) * w_.k_count * w_.panel;
  context_.kernels->copy_rows({panel, w_.k_kept->data() + k.begin, k.count(), w_.panel, to});
}

void Packing::transpose_rows(int p, int tap, Range k, float* to) const {
  const int first = p * set_.width;
  const float* src = w_.data + static_cast<int64_t>(tap) * w_.k_count;
  if (w_.n_kept == nullptr) src += first * w_.depth();
  if (w_.k_kept == nullptr) src += k.begin;
  const PackArgs args = {src,
                         w_.depth(),
                         w_.n_kept == nullptr ? nullptr : w_.n_kept->data() + first,
                         std::min(set_.width, set_.columns - first),
                         w_.k_kept == nullptr ? nullptr : w_.k_kept->data() + k.begin,
                         k.count(),
                         to,
                         set_.width};
  context_.kernels->pack(args);
}

// Nine taps, then the sixteen points that Winograd multiplies: a transform costs less than reading them from memory.
void Packing::pack_filters(int p, Range k, float* to) const {
  const int64_t tap_stride = static_cast<int64_t>(k.count()) * set_.width;
  auto scratch = context_.scratch->borrow();
  float* taps = scratch->filters.at_least(static_cast<size_t>(9 * tap_stride));
  for (int tap = 0; tap < 9; ++tap) pack_tap(p, tap, k, taps + tap * tap_stride);
  context_.kernels->winograd_filters({taps, tap_stride, tap_stride, to, set_.point_stride});
}

}  // namespace

PanelSet ready_panels(const Context& context, const Weights& w, int first, int count, Buffer* packed) {
  const Packing packing(context, w, first, count, packed);
  context.parallel->for_each(packing.slices(), [&](size_t i) { packing.pack(i); });
  return packing.set();
}

}  // namespace cpu
}  // namespace laudc
