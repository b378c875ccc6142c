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
constexpr int kRowsPerRead = 8;
constexpr int kMinRowsPerTask = 48;
constexpr int kRowsPerTask = 192;
constexpr int kMinTilesPerTask = 16;
constexpr int64_t kCacheFloats = 192 * 1024;  // what a task works on at a time: fits a core's L2 with room to spare

int clamp_int(int64_t value, int low, int high) {
  return static_cast<int>(std::max<int64_t>(low, std::min<int64_t>(value, high)));
}

// How a rows x panels problem is cut: by rows alone, or into tasks of one panel each (of one of `row_chunks` ranges).
struct Grid {
  int row_chunks;
  bool by_panels;
};

// Threads share out rows where there are enough: then what a thread writes is what it reads in the next phase, and only
// weights are read by all of them. Sharing out panels instead makes every thread read all rows, half of them from
// another core's cache (measured: two threads were hardly faster than one). It remains the better cut for few rows.
Grid make_grid(const Weights& w, int rows, int panels, int threads) {
  const int64_t inputs = w.kept_inputs();
  // Few rows are bound by reading the weights, which takes as long as multiplying them with some more.
  const int64_t worth = std::max(rows, kRowsPerRead) * w.taps * inputs * w.kept_columns();
  if (threads == 1 || worth < kMinMacsToShare) {
    return {panels == 1 ? 1 : clamp_int(rows * inputs / kCacheFloats, 1, 64), false};
  }
  if (rows >= kMinRowsPerTask * threads || panels == 1) {
    const int rounds = clamp_int(rows / (kRowsPerTask * threads), 1, 4);
    return {std::min(rounds * threads, std::max(1, rows / kMinRowsPerTask)), false};
  }
  const bool uneven = w.ready() && panels < 2 * threads && panels % threads != 0;
  return {uneven ? std::min(threads, std::max(1, rows / kMinRowsPerTask)) : 1, true};
}

SampleRange part_of(SampleRange range, size_t i, int parts) {
  const int64_t count = range.end - range.begin;
  return {range.begin + static_cast<int>(count * static_cast<int64_t>(i) / parts),
          range.begin + static_cast<int>(count * static_cast<int64_t>(i + 1) / parts)};
}

Prefetch ahead_of(const float* data, int64_t floats) {
  Prefetch ahead;
  ahead.next = reinterpret_cast<const char*>(data);
  ahead.end = reinterpret_cast<const char*>(data + floats);
  return ahead;
}

Prefetch ahead_of(const PanelSet& set, int point, int p, int64_t depth) {
  return ahead_of(set.panel(point, p).b, depth * set.width);
}

// Rows of `matrices` matrices, one after another.
Prefetch ahead_of_rows(const float* data, const int32_t* rows, int64_t count, int64_t row_floats, int64_t matrices,
                       int64_t matrix_floats) {
  Prefetch ahead;
  if (count == 0) return ahead;
  ahead.base = reinterpret_cast<const char*>(data);
  ahead.rows = rows;
  ahead.row_count = static_cast<int>(count);
  ahead.row_bytes = row_floats * static_cast<int64_t>(sizeof(float));
  ahead.matrices = static_cast<int>(matrices);
  ahead.matrix_bytes = matrix_floats * static_cast<int64_t>(sizeof(float));
  return ahead;
}

// The part of `w` that task `i` of `n` will most likely begin with, as threads take neighbouring tasks: the first
// panel, or what is packed first.
Prefetch ahead_of(const Weights& w, int64_t i, int64_t n) {
  const int64_t panels = working_panels(w);
  if (w.ready()) return ahead_of(w.data + panels * i / n * w.panel_stride(), w.panel_stride());
  if (w.layout == Weights::kPanels) {
    return ahead_of_rows(w.data + panels * i / n * w.panel_stride(), w.k_kept->data(), w.kept_inputs(), w.panel,
                         panels * (i + 1) / n - panels * i / n, w.panel_stride());
  }
  if (w.n_kept == nullptr) return ahead_of(w.data + w.columns * i / n * w.depth(), w.columns / n * w.depth());
  const int64_t kept = w.kept_columns(), begin = kept * i / n;
  return ahead_of_rows(w.data, w.n_kept->data() + begin, kept * (i + 1) / n - begin, w.depth(), 1, 0);
}

Prefetch ahead_of(const Region& region, int64_t i, int64_t n) {
  if (region.data == nullptr) return Prefetch();
  const int64_t begin = region.floats * i / n, end = region.floats * (i + 1) / n;
  return ahead_of(region.data + begin, end - begin);
}

Prefetch ahead_of(const Following& next, size_t task, size_t tasks) {
  const int64_t i = static_cast<int64_t>(task), n = static_cast<int64_t>(tasks);
  return next.weights == nullptr ? ahead_of(next.region, i, n) : ahead_of(*next.weights, i, n);
}

class GemmTask {
 public:
  GemmTask(const Context& context, const Weights& weights, const Rows& rows, const Bias& bias, Epilogue epilogue,
           PartialSums* sums)
      : gemm_(epilogue == Epilogue::kStore ? context.kernels->gemm_store : context.kernels->gemm_add_relu),
        weights_(weights),
        rows_(rows),
        bias_(bias),
        sums_(sums) {}

  // Panel `p` times the rows of `part`, which is the `chunk`-th.
  void multiply(const PanelSet& set, int p, SampleRange part, size_t chunk, Prefetch ahead) const {
    const Panel panel = set.panel(0, p);
    float* sums = sums_ == nullptr ? nullptr : sums_->part(chunk) + panel.first_column;
    if (sums != nullptr) std::memset(sums, 0, static_cast<size_t>(round_up(panel.lanes, 16)) * sizeof(float));
    const GemmArgs args = {rows_.a,
                           rows_.a_rows,
                           rows_.tap_offsets == nullptr ? &kNoOffset : rows_.tap_offsets,
                           weights_.taps,
                           weights_.kept_inputs(),
                           panel.b,
                           panel.ldb,
                           bias_.bias + panel.first_column,
                           rows_.classes,
                           bias_.class_stride,
                           bias_.lo == nullptr ? nullptr : bias_.lo + panel.first_column,
                           rows_.c + panel.first_column,
                           rows_.c_rows,
                           rows_.padded ? static_cast<int>(round_up(panel.lanes, 16)) : panel.lanes,
                           &ahead,
                           sums};
    gemm_(args, part.begin, part.end);
  }

 private:
  void (*gemm_)(const GemmArgs&, int, int);
  const Weights& weights_;
  const Rows& rows_;
  const Bias& bias_;
  PartialSums* sums_;
};

// All panels times the rows of `range`, in `chunks` tasks; the sums of the first go to part `first_part`.
void by_rows(const Context& context, const GemmTask& task, const Weights& weights, SampleRange range, size_t chunks,
             size_t first_part, const Following& next) {
  const int panels = working_panels(weights);
  const int64_t depth = static_cast<int64_t>(weights.taps) * weights.kept_inputs();
  const int group = panels_per_group(weights, context.parallel->width());
  for (int first = 0; first < panels; first += group) {
    const int end = std::min(panels, first + group);
    const PanelSet set = ready_panels(context, weights, first, end - first, context.packed);
    context.parallel->for_each(chunks, [&](size_t chunk) {
      const SampleRange part = part_of(range, chunk, static_cast<int>(chunks));
      for (int p = first; p < end; ++p) {
        const Prefetch ahead = p + 1 < end    ? ahead_of(set, 0, p + 1, depth)
                               : end < panels ? ahead_of(weights, end, panels)
                                              : ahead_of(next, chunk, chunks);
        task.multiply(set, p, part, first_part + chunk, ahead);
      }
    });
  }
}

}  // namespace

void indexed_gemm(const Context& context, const Weights& weights, const Rows& rows, const Bias& bias, Epilogue epilogue,
                  const Following& next, PartialSums* sums) {
  const int row_count = rows.range.end - rows.range.begin;
  if (row_count == 0 || weights.kept_columns() == 0) {
    if (sums != nullptr) sums->resize(0, weights.kept_columns());
    return;
  }
  const int panels = working_panels(weights);
  const int threads = context.parallel->width();
  const int64_t depth = static_cast<int64_t>(weights.taps) * weights.kept_inputs();
  const Grid grid = make_grid(weights, row_count, panels, threads);
  if (sums != nullptr) sums->resize(static_cast<size_t>(grid.row_chunks), weights.kept_columns());
  const GemmTask task(context, weights, rows, bias, epilogue, sums);
  if (grid.by_panels) {
    const size_t tasks = static_cast<size_t>(grid.row_chunks) * static_cast<size_t>(panels);
    context.parallel->for_each(tasks, [&](size_t i) {
      const size_t chunk = i / static_cast<size_t>(panels);
      const int p = static_cast<int>(i) % panels;
      auto scratch = context.scratch->borrow();
      const PanelSet set = ready_panels(context.alone(), weights, p, 1, &scratch->packed);
      const Prefetch ahead = p + 1 == panels       ? ahead_of(next, i, tasks)
                             : weights.must_pack() ? ahead_of(weights, p + 1, panels)
                                                   : ahead_of(set, 0, p + 1, depth);
      task.multiply(set, p, part_of(rows.range, chunk, grid.row_chunks), chunk, ahead);
    });
    return;
  }
  by_rows(context, task, weights, rows.range, static_cast<size_t>(grid.row_chunks), 0, next);
}

namespace {

// The values of `range`, those of every other of `parts` parts from the last to the first; null if there are none.
template <class T>
const T* every_other_part_turned(const T* values, SampleRange range, int parts, std::vector<T>* to) {
  if (values == nullptr) return nullptr;
  to->assign(values + range.begin, values + range.end);
  for (int i = 0; i < parts; i += 2) {
    const SampleRange part = part_of({0, range.end - range.begin}, static_cast<size_t>(i), parts);
    std::reverse(to->begin() + part.begin, to->begin() + part.end);
  }
  return to->data();
}

Rows every_other_part_turned(const Rows& rows, int parts, ApartScratch* scratch) {
  Rows turned = rows;
  turned.a_rows = every_other_part_turned(rows.a_rows, rows.range, parts, &scratch->a_rows);
  turned.c_rows = every_other_part_turned(rows.c_rows, rows.range, parts, &scratch->c_rows);
  turned.classes = every_other_part_turned(rows.classes, rows.range, parts, &scratch->classes);
  turned.range = {0, rows.range.end - rows.range.begin};
  return turned;
}

}  // namespace

void indexed_gemm_apart(const Context& context, const Weights& weights, const Rows& rows, const Bias& bias,
                        Epilogue epilogue, const Following& following, PartialSums* sums, ApartScratch* scratch,
                        const std::function<void(SampleRange)>& before) {
  const int threads = context.parallel->width();
  const int count = rows.range.end - rows.range.begin;
  const int columns = weights.kept_columns();
  const int64_t macs = static_cast<int64_t>(count) * weights.taps * weights.kept_inputs() * columns;
  if (threads == 1 || count < kMinRowsPerTask * threads || macs < kMinMacsToShare) {
    if (before) before(rows.range);
    return indexed_gemm(context, weights, rows, bias, epilogue, following, sums);
  }
  const size_t chunks =
      static_cast<size_t>(make_grid(weights, (count + threads - 1) / threads, working_panels(weights), 1).row_chunks);
  if (sums != nullptr) sums->resize(chunks * static_cast<size_t>(threads), columns);
  if (scratch->panels.size() < static_cast<size_t>(threads)) scratch->panels.resize(static_cast<size_t>(threads));
  const Rows turned = every_other_part_turned(rows, threads, scratch);
  const GemmTask task(context, weights, turned, bias, epilogue, sums);
  context.parallel->for_each(static_cast<size_t>(threads), [&](size_t i) {
    Context alone = context.alone();
    alone.packed = &scratch->panels[i];
    if (before) before(part_of(rows.range, i, threads));
    by_rows(alone, task, weights, part_of(turned.range, i, threads), chunks, i * chunks, following);
  });
}

namespace {

// One chunk of tiles: transformed inputs [16][tiles][ldv], then for each panel products [16][tiles][64].
class WinogradTask {
 public:
  WinogradTask(const Context& context, const Weights& w, const Tiles& tiles, const Bias& bias)
      : context_(context), tiles_(tiles), bias_(bias), depth_(w.kept_inputs()) {}

  int depth() const { return depth_; }
  int64_t ldv() const { return round_up(depth_, 16); }
  int64_t floats_per_tile() const { return kWinogradPoints * (ldv() + kMaxPanel); }

  void transform(SampleRange part, float* v, int64_t point_stride) const {
    const WinogradInputArgs args = {tiles_.src,          tiles_.origins, part.begin, part.end,     tiles_.row_stride,
                                    tiles_.pixel_stride, depth_,         v,          point_stride, ldv()};
    context_.kernels->winograd_input(args);
  }

  // `v` holds `part` from its first tile on; `following` is fetched while the last point is multiplied.
  void multiply(SampleRange part, const float* v, int64_t point_stride, const PanelSet& set, int p, IotaCache* iota,
                float* products, const Prefetch& following) const {
    const int count = part.end - part.begin;
    const int ldm = static_cast<int>(round_up(set.panel(0, p).lanes, 16));
    const int64_t product_stride = static_cast<int64_t>(count) * ldm;
    const int32_t* v_rows = iota->get(ldv(), static_cast<size_t>(count));
    const int32_t* m_rows = iota->get(ldm, static_cast<size_t>(count));
    static const float kZeros[kMaxPanel] = {};
    for (int xi = 0; xi < kWinogradPoints; ++xi) {
      const Panel panel = set.panel(xi, p);
      Prefetch ahead = xi + 1 == kWinogradPoints ? following : ahead_of(set, xi + 1, p, depth_);
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
                             panel.lanes,
                             &ahead,
                             nullptr};
      context_.kernels->gemm_store(args, 0, count);
    }
    const Panel panel = set.panel(0, p);
    const int first = panel.first_column;
    const WinogradOutputArgs out = {products,           product_stride,     ldm,
                                    part.begin,         part.end,           tiles_.out_rows,
                                    tiles_.out_classes, bias_.bias + first, bias_.class_stride,
                                    bias_.lo + first,   tiles_.dst + first, ldm};
    context_.kernels->winograd_output(out);
  }

 private:
  const Context& context_;
  const Tiles& tiles_;
  const Bias& bias_;
  const int depth_;
};

int chunks_of(SampleRange range, int chunk_limit) { return (range.end - range.begin + chunk_limit - 1) / chunk_limit; }

// Tasks take ranges of tiles and do everything for them, in chunks that stay in cache.
void multiply_tiles(const Context& context, const WinogradTask& task, const PanelSet& set, SampleRange range, int tasks,
                    int chunk_limit, const Following& next) {
  context.parallel->for_each(static_cast<size_t>(tasks), [&](size_t i) {
    const SampleRange mine = part_of(range, i, tasks);
    const int chunks = chunks_of(mine, chunk_limit);
    auto scratch = context.scratch->borrow();
    float* v = scratch->winograd.at_least(static_cast<size_t>(chunk_limit * task.floats_per_tile()));
    for (int p = set.first; p < set.first + set.count; ++p) {
      for (int c = 0; c < chunks; ++c) {
        const SampleRange part = part_of(mine, static_cast<size_t>(c), chunks);
        const int64_t point_stride = (part.end - part.begin) * task.ldv();
        // With one chunk the transformed inputs of the first panel serve all panels.
        if (p == set.first || chunks > 1) task.transform(part, v, point_stride);
        const bool last_panel = p + 1 == set.first + set.count;
        const Prefetch following =
            last_panel ? ahead_of(next, i, static_cast<size_t>(tasks)) : ahead_of(set, 0, p + 1, task.depth());
        task.multiply(part, v, point_stride, set, p, &scratch->iota, v + kWinogradPoints * point_stride, following);
      }
    }
  });
}

// Threads take panels, at least one each, for tiles too few to be shared out. Each transforms all inputs for itself: a
// pixel becomes four times as many numbers, and to fetch those from another core's cache takes longer (a tenth of a
// block's time, measured on Zen 4).
void winograd_by_panels(const Context& context, const WinogradTask& task, const Weights& w, SampleRange range,
                        const Following& next) {
  const int panels = working_panels(w);
  const int threads = context.parallel->width();
  const int count = range.end - range.begin;
  const int64_t point_stride = count * task.ldv();
  context.parallel->for_each(static_cast<size_t>(threads), [&](size_t i) {
    const SampleRange mine = part_of({0, panels}, i, threads);
    auto scratch = context.scratch->borrow();
    float* v = scratch->winograd.at_least(static_cast<size_t>(count * task.floats_per_tile()));
    task.transform(range, v, point_stride);
    for (int p = mine.begin; p < mine.end; ++p) {
      const PanelSet set = ready_panels(context.alone(), w, p, 1, &scratch->packed);
      const Prefetch following = w.must_pack() ? ahead_of(next, static_cast<size_t>(p), static_cast<size_t>(panels))
                                 : p + 1 < mine.end ? ahead_of(set, 0, p + 1, task.depth())
                                                    : ahead_of(next, i, static_cast<size_t>(threads));
      task.multiply(range, v, point_stride, set, p, &scratch->iota, v + kWinogradPoints * point_stride, following);
    }
  });
}

// All panels times the tiles of `range`, in `tasks` tasks, after all threads of the context have packed them.
void winograd_by_tiles(const Context& context, const WinogradTask& task, const Weights& w, SampleRange range, int tasks,
                       int chunk_limit, const Following& next) {
  const int panels = working_panels(w);
  const int group = panels_per_group(w, context.parallel->width());
  for (int first = 0; first < panels; first += group) {
    const int in_group = std::min(group, panels - first);
    const PanelSet set = ready_panels(context, w, first, in_group, context.packed);
    const bool last = first + in_group == panels;
    multiply_tiles(context, task, set, range, tasks, chunk_limit, last ? next : Following());
  }
}

// As above, but each thread packs for itself what it multiplies its tiles with. Packing together saves work, but then
// half of the filters come out of another core's cache: with caches far apart that takes a fifth of a block's time, and
// with near ones as long as packing (measured on Zen 4).
void winograd_by_tiles_apart(const Context& context, const WinogradTask& task, const Weights& w, SampleRange range,
                             int chunk_limit, const Following& next) {
  const int threads = context.parallel->width();
  context.parallel->for_each(static_cast<size_t>(threads), [&](size_t i) {
    const SampleRange mine = part_of(range, i, threads);
    auto scratch = context.scratch->borrow();
    Context alone = context.alone();
    alone.packed = &scratch->packed;
    winograd_by_tiles(alone, task, w, mine, chunks_of(mine, chunk_limit), chunk_limit, next);
  });
}

}  // namespace

void winograd_conv(const Context& context, const Weights& weights, const Tiles& tiles, const Bias& bias,
                   const Following& next) {
  const int count = tiles.range.end - tiles.range.begin;
  if (count == 0 || weights.kept_columns() == 0) return;
  const WinogradTask task(context, weights, tiles, bias);
  const int threads = context.parallel->width();
  const int chunk_limit = clamp_int(kCacheFloats / task.floats_per_tile(), 16, 128);
  const bool few = count < kMinTilesPerTask * threads;
  if (threads > 1 && few && working_panels(weights) >= threads) {
    return winograd_by_panels(context, task, weights, tiles.range, next);
  }
  if (threads > 1 && !few && weights.must_pack()) {
    return winograd_by_tiles_apart(context, task, weights, tiles.range, chunk_limit, next);
  }
  const int wanted = std::max(threads, chunks_of(tiles.range, chunk_limit));
  const int tasks = threads == 1 ? 1 : clamp_int(wanted, 1, std::max(1, count / 8));
  winograd_by_tiles(context, task, weights, tiles.range, tasks, chunk_limit, next);
}

}  // namespace cpu
}  // namespace laudc
