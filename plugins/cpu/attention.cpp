#include "cpu/attention.h"

#include <algorithm>

#include "core/packed_layout.h"
#include "cpu/token_kernels.h"

namespace laudc {
namespace cpu {
namespace {

const int32_t kNoOffset = 0;
const float kNoBias[kMaxPanel] = {};
constexpr int kQueriesPerChunk = 36;  // their scores stay in the first-level cache

class HeadTask {
 public:
  HeadTask(const AttentionArgs& args, IotaCache* iota)
      : args_(args),
        kernels_(kernels()),
        tokens_kernels_(token_kernels()),
        panels_(panel_count(args.tokens, kMaxPanel)),
        score_stride_(round_up(args.tokens, kAlign)),
        rows_(static_cast<size_t>(std::max(args.tokens, kQueriesPerChunk))),
        token_rows_(iota->get(args.stride, rows_)),
        score_rows_(iota->get(score_stride_, rows_)),
        out_rows_(iota->get(args.out_stride, rows_)) {}

  // Queries [begin, end) of a head.
  void run(int head, int begin, int end, AttentionScratch* scratch) const {
    const int64_t head_at = static_cast<int64_t>(head) * args_.head_dim;
    const float* keys = pack_keys(args_.qkv + args_.key_at + head_at, scratch);
    float* scores = scratch->scores.at_least(static_cast<size_t>(kQueriesPerChunk * score_stride_));
    for (int first = begin; first < end; first += kQueriesPerChunk) {
      const int count = std::min(kQueriesPerChunk, end - first);
      score(args_.qkv + head_at, first, count, keys, scores);
      tokens_kernels_.softmax(scores, count, args_.tokens, score_stride_);
      mix(args_.qkv + args_.value_at + head_at, scores, first, count, args_.out + head_at);
    }
  }

 private:
  int64_t panel_stride() const { return static_cast<int64_t>(args_.head_dim) * kMaxPanel; }
  int lanes(int panel) const { return std::min(kMaxPanel, args_.tokens - panel * kMaxPanel); }

  const float* pack_keys(const float* keys, AttentionScratch* scratch) const {
    float* packed = scratch->keys.at_least(static_cast<size_t>(panels_ * panel_stride()));
    for (int p = 0; p < panels_; ++p) {
      const PackArgs pack = {
          keys + p * kMaxPanel * args_.stride, args_.stride, nullptr, lanes(p), nullptr, args_.head_dim,
          packed + p * panel_stride(),         kMaxPanel};
      kernels_.pack(pack);
    }
    return packed;
  }

  void score(const float* queries, int first, int count, const float* keys, float* scores) const {
    for (int p = 0; p < panels_; ++p) {
      const int whole_vectors = static_cast<int>(round_up(lanes(p), kAlign));
      multiply(queries, token_rows_ + first, args_.head_dim, keys + p * panel_stride(), kMaxPanel,
               scores + p * kMaxPanel, score_rows_, whole_vectors, count);
    }
  }

  void mix(const float* values, const float* scores, int first, int count, float* out) const {
    for (int column = 0; column < args_.head_dim; column += kMaxPanel) {
      multiply(scores, score_rows_, args_.tokens, values + column, static_cast<int>(args_.stride), out + column,
               out_rows_ + first, std::min(kMaxPanel, args_.head_dim - column), count);
    }
  }

  void multiply(const float* a, const int32_t* a_rows, int depth, const float* b, int ldb, float* c,
                const int32_t* c_rows, int columns, int count) const {
    const GemmArgs gemm = {a,       a_rows, &kNoOffset, 1, depth,  b,       ldb,     kNoBias,
                           nullptr, 0,      nullptr,    c, c_rows, columns, nullptr, nullptr};
    kernels_.gemm_store(gemm, 0, count);
  }

  const AttentionArgs& args_;
  const KernelTable& kernels_;
  const TokenKernels& tokens_kernels_;
  const int panels_;
  const int64_t score_stride_;
  const size_t rows_;  // one length for all lists: where strides are equal a longer one would replace a shorter one
  const int32_t* token_rows_;
  const int32_t* score_rows_;
  const int32_t* out_rows_;
};

}  // namespace

void attention(const Parallel& parallel, const AttentionArgs& args, IotaCache* iota, Pool<AttentionScratch>* scratch) {
  const size_t heads = args.heads->size();
  if (heads == 0 || args.queries == 0) return;
  const HeadTask task(args, iota);
  // Splitting a head packs its keys twice; whole heads alone leave threads without work.
  const size_t threads = static_cast<size_t>(parallel.width());
  const size_t most = static_cast<size_t>((args.queries + kQueriesPerChunk - 1) / kQueriesPerChunk);
  const size_t parts = threads == 1 || heads % threads == 0 ? 1 : std::min(threads, most);
  parallel.for_each(heads * parts, [&](size_t i) {
    const int64_t part = static_cast<int64_t>(i % parts), count = args.queries;
    const int begin = static_cast<int>(count * part / static_cast<int64_t>(parts));
    const int end = static_cast<int>(count * (part + 1) / static_cast<int64_t>(parts));
    auto own = scratch->borrow();
    task.run((*args.heads)[i / parts], begin, end, &*own);
  });
}

}  // namespace cpu
}  // namespace laudc
