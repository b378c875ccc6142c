#include "cuda/gemm_tiles.h"

#include <algorithm>

namespace laudc {
namespace cuda {
namespace {

constexpr int kSmallTile = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tiles of a launch if every row were computed.
int64_t most_tiles(const GemmParams& p, const TileSize& size) {
  return p.segments * ceil_div(p.rows_max, size.m) * ceil_div(p.columns, size.n);
}

// The larger the tile, the less often operands are read, as long as there is one tile for every multiprocessor when
// half of the rows are skipped.
TileShape choose_shape(GemmKind kind, const GemmParams& p, int multiprocessors) {
  for (const TileShape shape : {TileShape::kBig, TileShape::kTall}) {
    const TileSize size = tile_size(kind, shape);
    const bool fits = p.columns > size.n / 2 || size.n <= 64;
    if (fits && most_tiles(p, size) / 2 >= multiprocessors) return shape;
  }
  return TileShape::kSmall;
}

// Few tiles are split along k until every multiprocessor has one, but not into pieces shorter than a pipeline.
int choose_splits(const GemmParams& p, const TileSize& size, int multiprocessors) {
  constexpr int64_t kShortest = 8;
  const int64_t tiles = most_tiles(p, size);
  if (tiles == 0 || tiles > max_split_tiles(multiprocessors)) return 1;
  const int64_t steps = p.taps * ceil_div(p.depth, size.step);
  const int64_t wanted = std::min<int64_t>({multiprocessors / tiles, steps / kShortest, 16});
  const int64_t room = max_partial_floats(multiprocessors) / (tiles * size.m * size.n);
  return static_cast<int>(std::max<int64_t>(1, std::min(wanted, room)));
}

}  // namespace

int max_split_tiles(int multiprocessors) { return 2 * multiprocessors; }

int64_t max_partial_floats(int multiprocessors) { return INT64_C(4) * multiprocessors * kSmallTile * kSmallTile; }

int queue_gemm(GemmKind kind, int multiprocessors, GemmParams* params, Stream stream) {
  const TileShape shape =
      kind == GemmKind::kHalfFloat ? TileShape::kSmall : choose_shape(kind, *params, multiprocessors);
  const TileSize size = tile_size(kind, shape);
  params->splits = shape == TileShape::kSmall ? choose_splits(*params, size, multiprocessors) : 1;
  const int64_t resident = static_cast<int64_t>(multiprocessors) * std::max(1, 512 / size.threads);
  const int64_t grid = std::min(most_tiles(*params, size) * params->splits, resident);
  return grid == 0 ? 0 : launch_gemm(kind, shape, *params, static_cast<int>(grid), stream);
}

}  // namespace cuda
}  // namespace laudc
