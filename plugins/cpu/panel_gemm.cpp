#include "cpu/panel_gemm.h"

#include <algorithm>

namespace laudc {
namespace cpu {
namespace {

const int32_t kNoOffset = 0;

// Work below this is not worth handing to another thread (some microseconds).
constexpr int64_t kMinMacsToShare = 300000;
constexpr int kMinRowsPerTask = 24;
constexpr int64_t kCacheFloats = 256 * 1024;  // rows a task multiplies at a time: fit a core's L2

int64_t share(int64_t count, size_t i, size_t parts) {
  return count * static_cast<int64_t>(i) / static_cast<int64_t>(parts);
}

Prefetch ahead_of(const float* data, int64_t floats) {
  Prefetch ahead;
  ahead.next = reinterpret_cast<const char*>(data);
  ahead.end = reinterpret_cast<const char*>(data + (data == nullptr ? 0 : floats));
  return ahead;
}

}  // namespace

Depth Depth::whole(int k_count) { return {1, k_count, &kNoOffset, nullptr}; }

void panel_gemm(const Parallel& parallel, GemmFunction gemm, const std::vector<PanelJob>& jobs, int panel,
                const Depth& depth, const TokenRows& rows, const float* next, int64_t next_floats) {
  if (rows.count == 0 || jobs.empty()) return;
  const int threads = parallel.width();
  const int64_t columns = static_cast<int64_t>(jobs.size()) * panel;
  const bool shared = threads > 1 && rows.count * depth.values() * columns >= kMinMacsToShare;
  // Threads share rows where there are enough, so that what one writes it reads again in the next phase.
  const bool by_rows = !shared || rows.count >= kMinRowsPerTask * threads;
  const size_t parts = by_rows && shared ? static_cast<size_t>(threads) : 1;
  const int64_t floats_per_part = rows.count * depth.values() / static_cast<int64_t>(parts);
  const size_t row_chunks = by_rows ? parts * static_cast<size_t>(1 + floats_per_part / kCacheFloats) : 1;
  const size_t job_chunks = by_rows ? 1 : std::min(jobs.size(), static_cast<size_t>(2 * threads));
  // Panels that are read with gaps are left to the hardware.
  const int64_t ahead_floats = depth.b_taps == nullptr ? depth.values() * panel : 0;
  parallel.for_each(row_chunks * job_chunks, [&](size_t task) {
    const size_t chunk = task / job_chunks, group = task % job_chunks;
    const int begin = static_cast<int>(share(rows.count, chunk, row_chunks));
    const int end = static_cast<int>(share(rows.count, chunk + 1, row_chunks));
    const int64_t job_count = static_cast<int64_t>(jobs.size());
    const int64_t last = share(job_count, group + 1, job_chunks);
    for (int64_t j = share(job_count, group, job_chunks); j < last; ++j) {
      const PanelJob& job = jobs[static_cast<size_t>(j)];
      Prefetch ahead =
          j + 1 < last ? ahead_of(jobs[static_cast<size_t>(j) + 1].b, ahead_floats) : ahead_of(next, next_floats);
      const GemmArgs args = {rows.a,
                             rows.a_rows,
                             depth.a_taps,
                             depth.taps,
                             depth.taps > 0 ? depth.k_count : 0,
                             job.b,
                             panel,
                             job.bias,
                             nullptr,
                             0,
                             nullptr,
                             rows.c + job.column,
                             rows.c_rows,
                             job.lanes,
                             &ahead,
                             nullptr,
                             depth.b_taps};
      gemm(args, begin, end);
    }
  });
}

}  // namespace cpu
}  // namespace laudc
