#include "cpu/phases.h"

#include <algorithm>

#include "core/packed_layout.h"

namespace laudc {
namespace cpu {
namespace {

const int32_t kNoOffset = 0;

// Long enough that handing a task to another thread (some microseconds) does not show, short enough to balance.
constexpr int64_t kMacsPerTask = 1500000;
constexpr int kMinRowsPerTask = 48;
constexpr int64_t kWinogradChunkFloats = 192 * 1024;  // transformed inputs and products of a chunk: stay in a core's L2

int clamp_int(int64_t value, int low, int high) {
  return static_cast<int>(std::max<int64_t>(low, std::min<int64_t>(value, high)));
}

// How a rows x panels problem is cut: every task takes `panels_per_task` panels of one of `row_chunks` row ranges.
struct Grid {
  int row_chunks;
  int panels_per_task;
  int panel_tasks;
  size_t count() const { return static_cast<size_t>(row_chunks) * static_cast<size_t>(panel_tasks); }
};

// Rows are cut when there are more of them than columns (the operand that every task reads is then the smaller one),
// else panels.
Grid make_grid(int rows, int columns, int panels, int64_t depth) {
  const int64_t macs = static_cast<int64_t>(rows) * columns * depth;
  const int wanted = clamp_int(macs / kMacsPerTask, 1, 32);
  const int most_chunks = std::max(1, rows / kMinRowsPerTask);
  if (rows > columns || panels == 1) return {std::min(wanted, most_chunks), panels, 1};
  if (wanted == 1) return {1, panels, 1};
  const int chunks = panels == 3 ? std::min(2, most_chunks) : 1;  // 3 panels cannot be shared evenly by 2 threads
  return {chunks, 1, panels};
}

SampleRange part_of(SampleRange range, size_t i, int parts) {
  const int64_t count = range.end - range.begin;
  return {range.begin + static_cast<int>(count * static_cast<int64_t>(i) / parts),
          range.begin + static_cast<int>(count * static_cast<int64_t>(i + 1) / parts)};
}

// Width of the panels that a task multiplies with: as stored, or as packed on the fly.
int working_panel(const Weights& w) { return w.n_kept == nullptr ? w.panel : kMaxPanel; }

// Source columns of the packed lanes [begin, begin + lanes), as single offsets and as compressible groups of 16.
struct LanePlan {
  int32_t offsets[kMaxPanel];
  PackMove moves[kMaxPanel];
  int move_count = 0;

  LanePlan(const Weights& w, int begin, int lanes, int64_t panel_stride) {
    int64_t open_group = -1;
    for (int n = 0; n < lanes; ++n) {
      const int column = w.n_kept == nullptr ? begin + n : (*w.n_kept)[static_cast<size_t>(begin + n)];
      const int64_t offset = column / w.panel * panel_stride + column % w.panel;
      offsets[n] = static_cast<int32_t>(offset);
      const int64_t group = offset / 16;
      if (group != open_group) {
        moves[move_count++] = {static_cast<int32_t>(group * 16), 0, static_cast<uint16_t>(n)};
        open_group = group;
      }
      moves[move_count - 1].mask = static_cast<uint16_t>(moves[move_count - 1].mask | 1u << (offset % 16));
    }
  }
};

struct Panel {
  const float* b;
  int ldb;
  int lanes;
  int first_column;  // of the result
};

int lanes_of_panel(const Weights& w, int p) {
  const int width = working_panel(w);
  return std::min(width, w.kept_columns() - p * width);
}

// Selected rows and columns of one panel, packed into `dst`; every tap's rows follow one another.
void pack_panel(const KernelTable& kernels, const Weights& w, int p, int64_t panel_stride, float* dst, int ldd) {
  const int lanes = lanes_of_panel(w, p);
  const LanePlan plan(w, p * working_panel(w), lanes, panel_stride);
  const int rows = w.kept_rows_per_tap();
  for (int t = 0; t < w.taps; ++t) {
    const float* src = w.data + static_cast<int64_t>(t) * w.k_count * w.panel;
    const PackArgs args = {src, w.k_kept == nullptr ? nullptr : w.k_kept->data(), rows, w.panel, plan.offsets, lanes,
                           dst + static_cast<int64_t>(t) * rows * ldd, ldd};
    kernels.pack(args, plan.moves, plan.move_count);
  }
}

// Vector stores of the last packed row may run one vector past it.
size_t packed_floats(const Weights& w, int ldd) {
  return static_cast<size_t>(w.taps) * static_cast<size_t>(w.kept_rows_per_tap()) * static_cast<size_t>(ldd) + 64;
}

Panel ready_panel(const Context& context, const Weights& w, int p, TaskScratch* scratch) {
  const int lanes = lanes_of_panel(w, p);
  const int first = p * working_panel(w);
  if (w.whole()) return {w.data + p * w.panel_stride(), w.panel, lanes, first};
  const int ldd = static_cast<int>(round_up(lanes, 16));
  float* packed = scratch->packed.at_least(packed_floats(w, ldd));
  pack_panel(*context.kernels, w, p, w.panel_stride(), packed, ldd);
  return {packed, ldd, lanes, first};
}

}  // namespace

void indexed_gemm(const Context& context, const Weights& weights, const Rows& rows, const Bias& bias,
                  Epilogue epilogue) {
  const int row_count = rows.range.end - rows.range.begin;
  const int columns = weights.kept_columns();
  if (row_count == 0 || columns == 0) return;
  const int panels = panel_count(columns, working_panel(weights));
  const int k_count = weights.kept_rows_per_tap();
  const Grid grid = make_grid(row_count, columns, panels, static_cast<int64_t>(weights.taps) * k_count);
  const auto gemm = epilogue == Epilogue::kStore ? context.kernels->gemm_store : context.kernels->gemm_add_relu;
  const int32_t* taps = rows.tap_offsets == nullptr ? &kNoOffset : rows.tap_offsets;
  context.parallel->for_each(grid.count(), [&](size_t task) {
    const SampleRange part = part_of(rows.range, task / grid.panel_tasks, grid.row_chunks);
    const int first = static_cast<int>(task % grid.panel_tasks) * grid.panels_per_task;
    auto scratch = context.scratch->borrow();
    for (int p = first; p < first + grid.panels_per_task; ++p) {
      const Panel panel = ready_panel(context, weights, p, &*scratch);
      const GemmArgs args = {rows.a,
                             rows.a_rows,
                             taps,
                             weights.taps,
                             k_count,
                             panel.b,
                             panel.ldb,
                             bias.bias + panel.first_column,
                             rows.classes,
                             bias.class_stride,
                             bias.lo == nullptr ? nullptr : bias.lo + panel.first_column,
                             rows.c + panel.first_column,
                             rows.c_rows,
                             panel.lanes};
      gemm(args, part.begin, part.end);
    }
  });
}

namespace {

// One chunk of tiles: transformed inputs [16][tiles][ldv], then for each panel products [16][tiles][64].
class WinogradTask {
 public:
  WinogradTask(const Context& context, const Weights& w, const Tiles& tiles, const Bias& bias)
      : context_(context), w_(w), tiles_(tiles), bias_(bias), depth_(w.kept_rows_per_tap()) {}

  int64_t ldv() const { return round_up(depth_, 16); }

  void transform(SampleRange part, float* v, int64_t point_stride) const {
    const WinogradInputArgs args = {tiles_.src,           tiles_.origins, part.begin,   part.end, tiles_.row_stride,
                                    tiles_.pixel_stride,  depth_,         v,            point_stride, ldv()};
    context_.kernels->winograd_input(args);
  }

  // `v` holds `part` from its first tile on.
  void multiply(SampleRange part, const float* v, int64_t point_stride, int p, IotaCache* iota, float* products,
                Buffer* packed) const {
    const int count = part.end - part.begin;
    const int lanes = lanes_of_panel(w_, p);
    const int ldm = static_cast<int>(round_up(lanes, 16));
    const int64_t product_stride = static_cast<int64_t>(count) * ldm;
    const int32_t* v_rows = iota->get(ldv(), static_cast<size_t>(count));
    const int32_t* m_rows = iota->get(ldm, static_cast<size_t>(count));
    static const float kZeros[kMaxPanel] = {};
    for (int xi = 0; xi < kWinogradPoints; ++xi) {
      Weights point = w_;
      point.data = w_.data + xi * panel_count(w_.columns, w_.panel) * w_.panel_stride();
      const Panel panel = point_panel(point, p, packed);
      const GemmArgs args = {v + xi * point_stride, v_rows, &kNoOffset, 1,      depth_, panel.b, panel.ldb, kZeros, nullptr, 0,
                             nullptr,               products + xi * product_stride, m_rows, lanes};
      context_.kernels->gemm_store(args, 0, count);
    }
    const int first = p * working_panel(w_);
    const WinogradOutputArgs out = {products,         product_stride,       ldm,
                                    part.begin,       part.end,             tiles_.out_rows,
                                    tiles_.out_classes, bias_.bias + first, bias_.class_stride,
                                    bias_.lo + first, tiles_.dst + first,   lanes};
    context_.kernels->winograd_output(out);
  }

 private:
  Panel point_panel(const Weights& point, int p, Buffer* packed) const {
    const int lanes = lanes_of_panel(point, p);
    if (point.whole()) return {point.data + p * point.panel_stride(), point.panel, lanes, 0};
    const int ldd = static_cast<int>(round_up(lanes, 16));
    float* dst = packed->at_least(packed_floats(point, ldd));
    pack_panel(*context_.kernels, point, p, point.panel_stride(), dst, ldd);
    return {dst, ldd, lanes, 0};
  }

  const Context& context_;
  const Weights& w_;
  const Tiles& tiles_;
  const Bias& bias_;
  const int depth_;
};

}  // namespace

void winograd_conv(const Context& context, const Weights& weights, const Tiles& tiles, const Bias& bias,
                   Buffer* transformed) {
  const int count = tiles.range.end - tiles.range.begin;
  const int columns = weights.kept_columns();
  if (count == 0 || columns == 0) return;
  const WinogradTask task(context, weights, tiles, bias);
  const int panels = panel_count(columns, working_panel(weights));
  const int64_t floats_per_tile = kWinogradPoints * (task.ldv() + kMaxPanel);
  const int chunk_limit = clamp_int(kWinogradChunkFloats / floats_per_tile, 16, 128);
  const bool by_tiles = count >= 2 * chunk_limit || panels == 1;
  if (by_tiles) {
    const int chunks = (count + chunk_limit - 1) / chunk_limit;
    context.parallel->for_each(static_cast<size_t>(chunks), [&](size_t i) {
      const SampleRange part = part_of(tiles.range, i, chunks);
      const int64_t point_stride = (part.end - part.begin) * task.ldv();
      auto scratch = context.scratch->borrow();
      float* v = scratch->winograd.at_least(static_cast<size_t>(chunk_limit) * static_cast<size_t>(floats_per_tile));
      task.transform(part, v, point_stride);
      for (int p = 0; p < panels; ++p) {
        task.multiply(part, v, point_stride, p, &scratch->iota, v + kWinogradPoints * point_stride, &scratch->packed);
      }
    });
    return;
  }
  const int64_t point_stride = count * task.ldv();
  float* v = transformed->at_least(static_cast<size_t>(kWinogradPoints * point_stride));
  const int transforms = (count + 15) / 16;
  context.parallel->for_each(static_cast<size_t>(transforms), [&](size_t i) {
    const SampleRange part = part_of(tiles.range, i, transforms);
    task.transform(part, v + (part.begin - tiles.range.begin) * task.ldv(), point_stride);
  });
  context.parallel->for_each(static_cast<size_t>(panels), [&](size_t p) {
    auto scratch = context.scratch->borrow();
    float* products = scratch->winograd.at_least(static_cast<size_t>(kWinogradPoints) * count * kMaxPanel);
    task.multiply(tiles.range, v, point_stride, static_cast<int>(p), &scratch->iota, products, &scratch->packed);
  });
}

}  // namespace cpu
}  // namespace laudc
