#include "cpu/phases.h"

#include <algorithm>
#include <cstring>

#include "core/packed_layout.h"

namespace laudc {
namespace cpu {
namespace {

const int32_t kNoOffset = 0;

// Work below this is not worth handing to another thread (some microseconds).
constexpr int64_t kMinMacsToShare = 300000;
constexpr int kMinRowsPerTask = 48;
constexpr int kRowsPerTask = 192;
constexpr int64_t kCacheFloats = 192 * 1024;  // what a task works on at a time: fits a core's L2 with room to spare

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

// Threads share out rows where there are enough: then what a thread writes is what it reads in the next phase, and only
// weights are read by all of them. Sharing out panels instead makes every thread read all rows, half of them from
// another core's cache (measured: two threads were hardly faster than one). It remains the better cut for few rows.
Grid make_grid(const Weights& w, int rows, int panels, int threads) {
  const int64_t depth = static_cast<int64_t>(w.taps) * w.kept_inputs();
  const bool packs = w.layout == Weights::kRows;
  if (threads == 1 || rows * depth * w.kept_columns() < kMinMacsToShare) {
    const int chunks = packs || panels == 1 ? 1 : clamp_int(rows * depth / w.taps / kCacheFloats, 1, 64);
    return {chunks, panels, 1};
  }
  if (rows >= kMinRowsPerTask * threads || panels == 1) {
    const int rounds = packs ? 1 : clamp_int(rows / (kRowsPerTask * threads), 1, 4);
    return {std::min(rounds * threads, std::max(1, rows / kMinRowsPerTask)), panels, 1};
  }
  const bool uneven = !packs && panels < 2 * threads && panels % threads != 0;
  return {uneven ? std::min(threads, std::max(1, rows / kMinRowsPerTask)) : 1, 1, panels};
}

SampleRange part_of(SampleRange range, size_t i, int parts) {
  const int64_t count = range.end - range.begin;
  return {range.begin + static_cast<int>(count * static_cast<int64_t>(i) / parts),
          range.begin + static_cast<int>(count * static_cast<int64_t>(i + 1) / parts)};
}

// Width of the panels that a task multiplies with: as stored, or as packed on the fly, then equal shares of the kept
// columns.
int working_panel(const Weights& w) {
  if (w.layout == Weights::kPanels) return w.panel;
  const int columns = w.kept_columns();
  const int least = panel_count(columns, kMaxPanel);
  const int panels = std::max(1, std::min(static_cast<int>(round_up(least, w.shares)), columns / 16));
  return static_cast<int>(round_up((columns + panels - 1) / panels, 16));
}

int lanes_of_panel(const Weights& w, int p) {
  const int width = working_panel(w);
  return std::min(width, w.kept_columns() - p * width);
}

struct Panel {
  const float* b;
  int ldb;
  int lanes;
  int first_column;  // of the result
};

// Kept rows one after another: gaps between them would waste the first-level cache in every tile.
const float* copy_rows(const float* panel, int width, const std::vector<int32_t>& rows, Buffer* packed) {
  float* dst = packed->at_least(rows.size() * static_cast<size_t>(width));
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(dst + i * static_cast<size_t>(width), panel + static_cast<int64_t>(rows[i]) * width,
                static_cast<size_t>(width) * sizeof(float));
  }
  return dst;
}

// Panel `p` of matrix `point`: where it is stored, or packed into `packed`.
Panel ready_panel(const KernelTable& kernels, const Weights& w, int point, int p, Buffer* packed) {
  const int lanes = lanes_of_panel(w, p);
  const int first = p * working_panel(w);
  const float* matrix = w.data + point * w.point_stride();
  if (w.layout == Weights::kPanels) {
    const float* panel = matrix + p * w.panel_stride();
    if (w.k_kept == nullptr) return {panel, w.panel, lanes, first};
    return {copy_rows(panel, w.panel, *w.k_kept, packed), w.panel, lanes, first};
  }
  const int ldd = static_cast<int>(round_up(lanes, 16));
  const int inputs = w.kept_inputs();
  float* dst = packed->at_least(static_cast<size_t>(w.taps) * static_cast<size_t>(inputs) * static_cast<size_t>(ldd));
  const int32_t* lane_rows = w.n_kept == nullptr ? nullptr : w.n_kept->data() + first;
  const float* src = w.n_kept == nullptr ? matrix + first * w.depth() : matrix;
  for (int t = 0; t < w.taps; ++t) {
    const PackArgs args = {src + static_cast<int64_t>(t) * w.k_count,
                           w.depth(),
                           lane_rows,
                           lanes,
                           w.k_kept == nullptr ? nullptr : w.k_kept->data(),
                           inputs,
                           dst + static_cast<int64_t>(t) * inputs * ldd,
                           ldd};
    kernels.pack(args);
  }
  return {dst, ldd, lanes, first};
}

Prefetch ahead_of(const float* data, int64_t floats) {
  Prefetch ahead;
  ahead.next = reinterpret_cast<const char*>(data);
  ahead.end = reinterpret_cast<const char*>(data + floats);
  return ahead;
}

// What panel `p` of matrix `point` will read. Nothing for weights that are packed or copied on the fly: that reads long
// rows, which the hardware prefetches well, while fetching them between multiplications slowed those down (measured).
Prefetch ahead_of(const Weights& w, int point, int p) {
  if (w.layout == Weights::kRows || w.k_kept != nullptr) return Prefetch();
  return ahead_of(w.data + point * w.point_stride() + p * w.panel_stride(), w.panel_stride());
}

Prefetch ahead_of_region(const Region& region, size_t task, size_t tasks) {
  const int64_t begin = region.floats * static_cast<int64_t>(task) / static_cast<int64_t>(tasks);
  const int64_t end = region.floats * static_cast<int64_t>(task + 1) / static_cast<int64_t>(tasks);
  return region.data == nullptr ? Prefetch() : ahead_of(region.data + begin, end - begin);
}

// The part of what follows that task `task` of `tasks` will most likely begin with: threads take neighbouring tasks.
Prefetch ahead_of_following(const Following& next, size_t task, size_t tasks) {
  const Weights* w = next.weights;
  if (w == nullptr) return ahead_of_region(next.region, task, tasks);
  if (w->kept_columns() == 0 || w->kept_inputs() == 0) return Prefetch();
  const int panels = panel_count(w->kept_columns(), working_panel(*w));
  return ahead_of(*w, 0, static_cast<int>(task * static_cast<size_t>(panels) / tasks));
}

}  // namespace

void indexed_gemm(const Context& context, const Weights& weights, const Rows& rows, const Bias& bias, Epilogue epilogue,
                  const Following& next, PartialSums* sums) {
  const int row_count = rows.range.end - rows.range.begin;
  const int columns = weights.kept_columns();
  if (row_count == 0 || columns == 0) return;
  const int panels = panel_count(columns, working_panel(weights));
  const int inputs = weights.kept_inputs();
  const Grid grid = make_grid(weights, row_count, panels, context.parallel->width());
  const KernelTable& kernels = *context.kernels;
  const auto gemm = epilogue == Epilogue::kStore ? kernels.gemm_store : kernels.gemm_add_relu;
  if (sums != nullptr) sums->resize(static_cast<size_t>(grid.row_chunks), columns);
  const int32_t* taps = rows.tap_offsets == nullptr ? &kNoOffset : rows.tap_offsets;
  context.parallel->for_each(grid.count(), [&](size_t task) {
    const SampleRange part = part_of(rows.range, task / grid.panel_tasks, grid.row_chunks);
    const int first = static_cast<int>(task % grid.panel_tasks) * grid.panels_per_task;
    auto scratch = context.scratch->borrow();
    for (int p = first; p < first + grid.panels_per_task; ++p) {
      const Panel panel = ready_panel(kernels, weights, 0, p, &scratch->packed);
      Prefetch ahead = p + 1 < panels ? ahead_of(weights, 0, p + 1) : ahead_of_following(next, task, grid.count());
      const GemmArgs args = {rows.a,
                             rows.a_rows,
                             taps,
                             weights.taps,
                             inputs,
                             panel.b,
                             panel.ldb,
                             bias.bias + panel.first_column,
                             rows.classes,
                             bias.class_stride,
                             bias.lo == nullptr ? nullptr : bias.lo + panel.first_column,
                             rows.c + panel.first_column,
                             rows.c_rows,
                             rows.padded ? static_cast<int>(round_up(panel.lanes, 16)) : panel.lanes,
                             &ahead,
                             sums == nullptr ? nullptr : sums->part(task / grid.panel_tasks) + panel.first_column};
      gemm(args, part.begin, part.end);
    }
  });
}

namespace {

// One chunk of tiles: transformed inputs [16][tiles][ldv], then for each panel products [16][tiles][64].
class WinogradTask {
 public:
  WinogradTask(const Context& context, const Weights& w, const Tiles& tiles, const Bias& bias)
      : context_(context), w_(w), tiles_(tiles), bias_(bias), depth_(w.kept_inputs()) {}

  int64_t ldv() const { return round_up(depth_, 16); }
  int64_t floats_per_tile() const { return kWinogradPoints * (ldv() + kMaxPanel); }

  void transform(SampleRange part, float* v, int64_t point_stride) const {
    const WinogradInputArgs args = {tiles_.src,          tiles_.origins, part.begin, part.end,     tiles_.row_stride,
                                    tiles_.pixel_stride, depth_,         v,          point_stride, ldv()};
    context_.kernels->winograd_input(args);
  }

  // The 16 matrices of panel `p`, packed if they have to be.
  struct Points {
    Panel panels[kWinogradPoints];
  };
  Points prepare(int p, TaskScratch* scratch) const {
    Points points;
    for (int xi = 0; xi < kWinogradPoints; ++xi) {
      points.panels[xi] = ready_panel(*context_.kernels, w_, xi, p, &scratch->points[xi]);
    }
    return points;
  }

  // `v` holds `part` from its first tile on; `following` is fetched while the last point is multiplied.
  void multiply(SampleRange part, const float* v, int64_t point_stride, int p, const Points& points, IotaCache* iota,
                float* products, const Prefetch& following) const {
    const int count = part.end - part.begin;
    const int lanes = lanes_of_panel(w_, p);
    const int ldm = static_cast<int>(round_up(lanes, 16));
    const int64_t product_stride = static_cast<int64_t>(count) * ldm;
    const int32_t* v_rows = iota->get(ldv(), static_cast<size_t>(count));
    const int32_t* m_rows = iota->get(ldm, static_cast<size_t>(count));
    static const float kZeros[kMaxPanel] = {};
    for (int xi = 0; xi < kWinogradPoints; ++xi) {
      const Panel& panel = points.panels[xi];
      const bool last = xi + 1 == kWinogradPoints;
      Prefetch ahead = last ? following : w_.layout == Weights::kPanels ? ahead_of(w_, xi + 1, p) : Prefetch();
      const GemmArgs args = {v + xi * point_stride,
                             v_rows,
                             &kNoOffset,
                             1,
                             depth_,
                             panel.b,
                             panel.ldb,
                             kZeros,
                             nullptr,
                             0,
                             nullptr,
                             products + xi * product_stride,
                             m_rows,
                             lanes,
                             &ahead,
                             nullptr};
      context_.kernels->gemm_store(args, 0, count);
    }
    const int first = p * working_panel(w_);
    const WinogradOutputArgs out = {products,           product_stride,     ldm,
                                    part.begin,         part.end,           tiles_.out_rows,
                                    tiles_.out_classes, bias_.bias + first, bias_.class_stride,
                                    bias_.lo + first,   tiles_.dst + first, ldm};
    context_.kernels->winograd_output(out);
  }

 private:
  const Context& context_;
  const Weights& w_;
  const Tiles& tiles_;
  const Bias& bias_;
  const int depth_;
};

}  // namespace

namespace {

// Tasks take ranges of tiles and do everything for them, in chunks that stay in cache.
void winograd_by_tiles(const Context& context, const WinogradTask& task, const Weights& w, SampleRange range, int tasks,
                       int chunk_limit, int panels, const Following& next) {
  context.parallel->for_each(static_cast<size_t>(tasks), [&](size_t i) {
    const SampleRange mine = part_of(range, i, tasks);
    const int chunks = (mine.end - mine.begin + chunk_limit - 1) / chunk_limit;
    auto scratch = context.scratch->borrow();
    float* v = scratch->winograd.at_least(static_cast<size_t>(chunk_limit * task.floats_per_tile()));
    for (int p = 0; p < panels; ++p) {
      const WinogradTask::Points points = task.prepare(p, &*scratch);
      for (int c = 0; c < chunks; ++c) {
        const SampleRange part = part_of(mine, static_cast<size_t>(c), chunks);
        const int64_t point_stride = (part.end - part.begin) * task.ldv();
        // With one chunk the transformed inputs of the first panel serve all panels.
        if (p == 0 || chunks > 1) task.transform(part, v, point_stride);
        const bool last_panel = p + 1 == panels;
        const Prefetch following =
            last_panel ? ahead_of_following(next, i, static_cast<size_t>(tasks)) : ahead_of(w, 0, p + 1);
        task.multiply(part, v, point_stride, p, points, &scratch->iota, v + kWinogradPoints * point_stride, following);
      }
    }
  });
}

// Tasks take panels; the transformed inputs are shared.
void winograd_by_panels(const Context& context, const WinogradTask& task, const Weights& w, SampleRange range,
                        int panels, const Following& next, Buffer* transformed) {
  const int count = range.end - range.begin;
  const int64_t point_stride = count * task.ldv();
  float* v = transformed->at_least(static_cast<size_t>(kWinogradPoints * point_stride));
  const int transforms = std::min((count + 7) / 8, 2 * context.parallel->width());
  context.parallel->for_each(static_cast<size_t>(transforms), [&](size_t i) {
    const SampleRange part = part_of(range, i, transforms);
    task.transform(part, v + (part.begin - range.begin) * task.ldv(), point_stride);
  });
  context.parallel->for_each(static_cast<size_t>(panels), [&](size_t i) {
    const int p = static_cast<int>(i);
    auto scratch = context.scratch->borrow();
    float* products =
        scratch->winograd.at_least(static_cast<size_t>(kWinogradPoints) * static_cast<size_t>(count) * kMaxPanel);
    const Prefetch following =
        p + 1 < panels ? ahead_of(w, 0, p + 1) : ahead_of_following(next, i, static_cast<size_t>(panels));
    task.multiply(range, v, point_stride, p, task.prepare(p, &*scratch), &scratch->iota, products, following);
  });
}

}  // namespace

void winograd_conv(const Context& context, const Weights& weights, const Tiles& tiles, const Bias& bias,
                   const Following& next, Buffer* transformed) {
  const int count = tiles.range.end - tiles.range.begin;
  const int columns = weights.kept_columns();
  if (count == 0 || columns == 0) return;
  const WinogradTask task(context, weights, tiles, bias);
  const int panels = panel_count(columns, working_panel(weights));
  const int threads = context.parallel->width();
  const int chunk_limit = clamp_int(kCacheFloats / task.floats_per_tile(), 16, 128);
  if (threads > 1 && panels >= threads && count < 2 * chunk_limit) {
    winograd_by_panels(context, task, weights, tiles.range, panels, next, transformed);
    return;
  }
  const bool packs = weights.layout == Weights::kRows;
  const int tasks =
      threads == 1 ? 1 : std::max(1, std::min(packs ? threads : (count + chunk_limit - 1) / chunk_limit, count / 8));
  winograd_by_tiles(context, task, weights, tiles.range, tasks, chunk_limit, panels, next);
}

}  // namespace cpu
}  // namespace laudc
