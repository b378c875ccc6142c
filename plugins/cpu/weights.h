// The weights of a convolution, and their panels made ready to multiply with: where they are stored, or packed for the
// channels that a sample keeps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/packed_layout.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/workspace.h"

namespace laudc {
namespace cpu {

struct Context {
  const KernelTable* kernels;
  const Parallel* parallel;
  Pool<TaskScratch>* scratch;
  Buffer* packed;  // panels that all tasks of a phase share

  // For work inside one task.
  Context alone() const {
    static const Inline inline_parallel;
    return {kernels, &inline_parallel, scratch, nullptr};
  }
};

struct Panel {
  const float* b;  // [taps * kept inputs][ldb]
  int ldb;
  int lanes;
  int first_column;  // of the result
};

// Panels [first, first + count) of every point, in memory.
struct PanelSet {
  const float* data;
  int first, count;
  int width;    // columns of a panel, and floats between its rows
  int columns;  // of all panels of the convolution: the last one may be narrower
  int64_t panel_stride, point_stride;

  Panel panel(int point, int p) const {
    return {data + point * point_stride + (p - first) * panel_stride, width, std::min(width, columns - p * width),
            p * width};
  }
};

// Weights of a convolution, possibly restricted to some of their input channels (k) and output channels (n).
struct Weights {
  enum Layout { kPanels, kRows };  // see core/packed_layout.h
  Layout layout;
  const float* data;
  int k_count;                         // input channels
  int taps;                            // of a direct convolution
  int points;                          // matrices that are multiplied with (Winograd: 16); else 1
  int columns;                         // output channels
  int panel;                           // columns of a panel: as stored, or at most as packed
  const std::vector<int32_t>* k_kept;  // null: all
  const std::vector<int32_t>* n_kept;  // null: all; only with kRows
  int shares;                          // kRows: threads that should get equal numbers of panels
  const PanelSet* packed = nullptr;    // all panels, where they were packed before; null: not

  int kept_inputs() const { return k_kept == nullptr ? k_count : static_cast<int>(k_kept->size()); }
  int kept_columns() const { return n_kept == nullptr ? columns : static_cast<int>(n_kept->size()); }
  // Multiplied where they are stored.
  bool ready() const { return layout == kPanels && k_kept == nullptr; }
  bool must_pack() const { return !ready() && packed == nullptr; }
  // Rows hold 3x3 filters as they are: Winograd's transform follows once they are packed.
  int stored_taps() const { return layout == kRows && points == kWinogradPoints ? 9 : taps; }
  int64_t depth() const { return static_cast<int64_t>(stored_taps()) * k_count; }
  int64_t panel_stride() const { return depth() * panel; }
  int64_t point_stride() const { return panel_count(columns, panel) * panel_stride(); }
};

// Columns of a panel as it is multiplied with: as stored, or equal shares of the kept columns.
int working_panel(const Weights& w);
inline int working_panels(const Weights& w) { return panel_count(w.kept_columns(), working_panel(w)); }

// How many panels are worth having ready at once: all, where nothing is packed; else what stays in cache until it is
// used. One thread packs each panel when it needs it, from memory that is fetched while it multiplies with the one
// before. Several threads pack together and wait for each other, so they do more at a time.
int panels_per_group(const Weights& w, int threads);

// Packs with all threads of the context.
PanelSet ready_panels(const Context& context, const Weights& w, int first, int count, Buffer* packed);

}  // namespace cpu
}  // namespace laudc
