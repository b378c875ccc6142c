#include "cpu/grouped_conv.h"

#include <algorithm>

#include "core/packed_layout.h"
#include "cpu/grid_conv.h"
#include "cpu/prefetch.h"

namespace laudc {
namespace cpu {
namespace {

constexpr int kTaps = 9;
constexpr int64_t kMinMacsToShare = 300000;
constexpr int kMinRowsPerTask = 48;
constexpr int kLinesPerFetch = 2;  // an even number: some kernels compute two lines at a time

struct Panel {
  const float* b;
  int ldb;
};

void compact_plain(const CompactArgs& p) {
  float* dst = p.dst;
  for (int t = 0; t < p.taps; ++t) {
    for (int k = 0; k < p.count; ++k, dst += p.dst_ld) {
      const float* row = p.src + (static_cast<int64_t>(t) * p.group_width + p.kept[k]) * p.src_ld;
      for (int i = 0; i < p.count; ++i) dst[i] = row[p.kept[i]];
    }
  }
}

class GroupedConv {
 public:
  GroupedConv(const Context& context, const GroupedWeights& w, const KeptGroups& kept, const Rows& rows,
              const Grid* grid, const float* bias, const Weights& next, PartialSums* sums)
      : context_(context),
        kernel_(grid_kernel(*context.kernels)),
        w_(w),
        kept_(kept),
        rows_(rows),
        grid_(grid),
        bias_(bias),
        next_(next),
        sums_(sums),
        zeros_(static_cast<size_t>(w.panel) + kMaxPanel, 0.0f) {}

  void run() const {
    const int count = rows_.range.end - rows_.range.begin;
    const int parts = static_cast<int>(kept_.parts().size());
    if (count == 0 || parts == 0) return;
    const int threads = context_.parallel->width();
    const int64_t macs = static_cast<int64_t>(count) * kTaps * parts * w_.group_width * w_.group_width;
    if (threads == 1 || macs < kMinMacsToShare) return part_of_work(0, 1, 0, 1);
    // Rows are shared out where there are enough, as in indexed_gemm: what a thread writes it reads again later.
    const bool by_rows = count >= kMinRowsPerTask * threads;
    const int tasks = by_rows ? threads : std::min(threads, parts);
    context_.parallel->for_each(static_cast<size_t>(tasks), [&](size_t task) {
      const int i = static_cast<int>(task);
      by_rows ? part_of_work(i, tasks, 0, 1) : part_of_work(0, 1, i, tasks);
    });
  }

 private:
  // Share `row_task` of `row_tasks` of the rows, share `group_task` of `group_tasks` of the groups.
  void part_of_work(int row_task, int row_tasks, int group_task, int group_tasks) const {
    const int64_t parts = static_cast<int64_t>(kept_.parts().size());
    const int64_t first = parts * group_task / group_tasks, last = parts * (group_task + 1) / group_tasks;
    auto scratch = context_.scratch->borrow();
    for (int64_t i = first; i < last; ++i) {
      const KeptGroups::Part& part = kept_.parts()[static_cast<size_t>(i)];
      // Whole vectors are written where what they write too much is overwritten by the next groups of the same task.
      // Near its end that would be another task's channels, unless nothing comes after them.
      const bool whole_vectors = last == parts || part.first + round_up(part.count, kAlign) <= channels_before(last);
      const Panel panel = panel_of(part, &scratch->packed);
      if (grid_ != nullptr && kernel_.run != nullptr && part.count <= kernel_.max_lanes) {
        Prefetch ahead = ahead_of(i, first, last, group_task, group_tasks);
        const SampleRange rows = rows_of(row_task, row_tasks);
        multiply_grid(part, panel, {rows.begin / grid_->width, rows.end / grid_->width}, whole_vectors, &ahead);
      } else {
        multiply_list(part, panel, rows_of(row_task, row_tasks), whole_vectors);
      }
    }
    sum_up(rows_of(row_task, row_tasks), channels_before(first), channels_before(last));
  }

  // Whole lines, where there are lines, or as many rows as are summed up together.
  SampleRange rows_of(int task, int tasks) const {
    const int unit = rows_per_sum(grid_), end = rows_.range.end;
    const SampleRange units = share(rows_.range.begin / unit, (end + unit - 1) / unit, task, tasks);
    return {std::min(units.begin * unit, end), std::min(units.end * unit, end)};
  }

  // One row after the other, so that every channel is summed up in the same order whatever stands beside it.
  void sum_up(SampleRange rows, int begin, int end) const {
    const int unit = rows_per_sum(grid_);
    for (int i = rows.begin; i < rows.end; ++i) {
      const float* pixel = rows_.c + rows_.c_rows[i];
      float* sums = sums_->part(static_cast<size_t>(i / unit));
      for (int c = begin; c < end; ++c) sums[c] += pixel[c];
    }
  }

  const float* group_panel(int group) const {
    return w_.panels + static_cast<int64_t>(group) * kTaps * w_.group_width * w_.panel;
  }

  // What is read after part `i` of [first, last): the panel of the next one, and a share of the rows that the first
  // panel of `next_` is packed from. The others are fetched one by one: all at once they push out what is needed sooner
  // (measured: conv b and c took up to a quarter longer).
  Prefetch ahead_of(int64_t i, int64_t first, int64_t last, int panel_share, int panel_shares) const {
    Prefetch ahead;
    if (i + 1 < last) {
      const float* panel = group_panel(kept_.parts()[static_cast<size_t>(i + 1)].group);
      ahead.next = reinterpret_cast<const char*>(panel);
      ahead.end = reinterpret_cast<const char*>(panel + static_cast<int64_t>(kTaps) * w_.group_width * w_.panel);
    }
    if (next_.k_kept == nullptr) return ahead;  // multiplied where they are: the hardware sees one long stream
    const int64_t parts = last - first, inputs = next_.kept_inputs();
    const int64_t begin = inputs * (i - first) / parts, end = inputs * (i + 1 - first) / parts;
    const int64_t panel = static_cast<int64_t>(panel_count(next_.columns, next_.panel)) * panel_share / panel_shares;
    ahead.base = reinterpret_cast<const char*>(next_.data + panel * next_.panel_stride());
    ahead.rows = next_.k_kept->data() + begin;
    ahead.row_count = static_cast<int>(end - begin);
    ahead.row_bytes = next_.panel * static_cast<int64_t>(sizeof(float));
    ahead.matrices = ahead.row_count == 0 ? 0 : 1;
    return ahead;
  }

  // Kept channels of the parts before part `i`.
  int channels_before(int64_t i) const {
    const auto& parts = kept_.parts();
    if (static_cast<size_t>(i) < parts.size()) return parts[static_cast<size_t>(i)].first;
    return parts.back().first + parts.back().count;
  }

  Panel panel_of(const KeptGroups::Part& part, Buffer* packed) const {
    if (part.count == w_.group_width) {
      return {group_panel(part.group), w_.panel};
    }
    const int ldd = static_cast<int>(round_up(part.count, kAlign));
    float* dst = packed->at_least(static_cast<size_t>(kTaps) * static_cast<size_t>(part.count * ldd));
    const int32_t* local = kept_.local(part);
    const CompactArgs args = {group_panel(part.group), kTaps, w_.group_width, w_.panel, local, part.count, dst, ldd};
    if (kernel_.compact != nullptr && w_.group_width <= kernel_.max_group_width) {
      kernel_.compact(args);
    } else {
      compact_plain(args);
    }
    return {dst, ldd};
  }

  static SampleRange share(int begin, int end, int task, int tasks) {
    const int64_t count = end - begin;
    return {begin + static_cast<int>(count * task / tasks), begin + static_cast<int>(count * (task + 1) / tasks)};
  }

  void multiply_grid(const KeptGroups::Part& part, const Panel& panel, SampleRange lines, bool whole_vectors,
                     Prefetch* ahead) const {
    const GridConvArgs args = {rows_.a + part.first,
                               grid_->in_row,
                               grid_->in_pixel,
                               grid_->stride,
                               part.count,
                               panel.b,
                               panel.ldb,
                               bias_ + part.first,
                               rows_.c + part.first,
                               grid_->out_pixel * grid_->width,
                               grid_->out_pixel,
                               grid_->width,
                               whole_vectors ? static_cast<int>(round_up(part.count, 8)) : part.count};
    for (int y = lines.begin; y < lines.end; y += kLinesPerFetch) {
      ahead->chunks_per_step =
          static_cast<int>(kLinesPerFetch * ahead->left() / ((lines.end - y) * Prefetch::kChunk) + 1);
      prefetch_step(ahead);
      kernel_.run(args, y, std::min(y + kLinesPerFetch, lines.end));
    }
  }

  void multiply_list(const KeptGroups::Part& part, const Panel& panel, SampleRange rows, bool whole_vectors) const {
    const GemmArgs args = {rows_.a + part.first,
                           rows_.a_rows,
                           rows_.tap_offsets,
                           kTaps,
                           part.count,
                           panel.b,
                           panel.ldb,
                           bias_ + part.first,
                           nullptr,
                           0,
                           zeros_.data(),
                           rows_.c + part.first,
                           rows_.c_rows,
                           whole_vectors ? static_cast<int>(round_up(part.count, kAlign)) : part.count,
                           nullptr,
                           nullptr};
    context_.kernels->gemm_store(args, rows.begin, rows.end);
  }

  const Context& context_;
  const GridKernel kernel_;
  const GroupedWeights& w_;
  const KeptGroups& kept_;
  const Rows& rows_;
  const Grid* grid_;
  const float* bias_;
  const Weights& next_;
  PartialSums* const sums_;
  const std::vector<float> zeros_;
};

}  // namespace

KeptGroups::KeptGroups(const std::vector<int32_t>* kept, int groups, int group_width) {
  if (kept == nullptr) {
    for (int g = 0; g < groups; ++g) parts_.push_back({g, g * group_width, group_width});
    return;
  }
  for (const int32_t channel : *kept) {
    const int group = channel / group_width;
    if (parts_.empty() || parts_.back().group != group) {
      parts_.push_back({group, static_cast<int>(local_.size()), 0});
    }
    ++parts_.back().count;
    local_.push_back(channel % group_width);
  }
}

void grouped_conv(const Context& context, const GroupedWeights& weights, const KeptGroups& kept, const Rows& rows,
                  const Grid* grid, const float* bias, const Weights& next, PartialSums* sums) {
  GroupedConv(context, weights, kept, rows, grid, bias, next, sums).run();
}

}  // namespace cpu
}  // namespace laudc
