#include "cpu/vit_run.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/packed_layout.h"
#include "cpu/attention.h"
#include "cpu/panel_gemm.h"
#include "cpu/token_kernels.h"
#include "cpu/workspace.h"

namespace laudc {
namespace cpu {
namespace {

// Images whose tokens are kept at once: the weights of a block are read once for all of them.
constexpr int64_t kSliceImages = 8;
constexpr int64_t kMinFloatsToShare = 32 * 1024;

struct Block {
  VitDesc desc;
  VitLayout layout;
  const float* weights;

  Block(const VitDesc& d, const float* w) : desc(d), layout(vit_layout(d)), weights(w) {}
  const float* at(int64_t offset) const { return weights + offset; }
};

// Everything one call needs.
struct Workspace {
  Buffer tokens;      // [images][tokens][dim]: the residual stream
  Buffer normalised;  // [tokens][dim]
  Buffer qkv;         // [kept tokens][3 * dim]
  Buffer mixed;       // [kept tokens][dim]: what attention gives
  Buffer hidden;      // [kept tokens][hidden]
  Buffer policy;      // [dim]: normalised class token
  Pool<AttentionScratch> attention;
  IotaCache iota;
  std::vector<float> margins;        // of one image and block, as in VitOutputs
  std::vector<int32_t> kept_tokens;  // offsets in the residual stream, the class token's first
  std::vector<int32_t> kept_heads, all_heads, dropped_heads;
  std::vector<int32_t> head_taps;
  std::vector<int64_t> head_panel_taps, part_panel_taps;
  std::vector<int32_t> part_taps;
  std::vector<PanelJob> jobs;
};

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// One block on one image.
class BlockCall {
 public:
  BlockCall(const Block& block, const Block* following, const Parallel& parallel, Workspace* ws, float* x)
      : b_(block), d_(block.desc), following_(following), parallel_(parallel), ws_(ws), x_(x) {}

  void run() {
    choose();
    if (attends_) attend();
    if (transforms_) transform();
  }

  void report(int32_t* counts, float* margins) const {
    if (counts != nullptr) {
      const int32_t values[kVitCountsPerBlock] = {attends_ ? computed(kept()) : 0, transforms_ ? computed(in_mlp()) : 0,
                                                  kept(), static_cast<int32_t>(ws_->kept_heads.size())};
      std::memcpy(counts, values, sizeof(values));
    }
    if (margins != nullptr) std::memcpy(margins, ws_->margins.data(), ws_->margins.size() * sizeof(float));
  }

 private:
  int kept() const { return static_cast<int>(ws_->kept_tokens.size()); }
  int in_mlp() const { return d_.tokens_in_mlp ? kept() : d_.tokens; }
  // Of `rows` tokens those whose results anybody reads.
  int computed(int rows) const { return d_.first_only ? 1 : rows; }
  int64_t qkv_stride() const { return round_up(3 * static_cast<int64_t>(d_.dim), kAlign); }
  int64_t hidden_stride() const { return round_up(d_.hidden, kAlign); }
  const int32_t* all_tokens() const { return ws_->iota.get(d_.dim, static_cast<size_t>(d_.tokens)); }
  float* normalised() const {
    return ws_->normalised.at_least(static_cast<size_t>(d_.tokens) * static_cast<size_t>(d_.dim));
  }

  // ---- decisions ----

  void choose() {
    ws_->margins.assign(static_cast<size_t>(d_.margins()), 0.0f);
    float* head_margins = ws_->margins.data() + d_.token_margins();
    float* layer_margins = head_margins + d_.head_margins();
    const float* policy = d_.head_policy || d_.layer_policy ? policy_token() : nullptr;
    judge(policy, b_.layout.head_w, b_.layout.head_b, d_.head_margins(), head_margins);
    judge(policy, b_.layout.layer_w, b_.layout.layer_b, d_.layer_margins(), layer_margins);
    attends_ = !d_.layer_policy || layer_margins[0] > 0;
    transforms_ = !d_.layer_policy || layer_margins[1] > 0;
    list_heads(head_margins);
    if (attends_ || d_.token_policy) normalise_all();
    list_tokens();
  }

  const float* policy_token() const {
    if (!d_.norm_policy) return x_;
    float* normal = ws_->policy.at_least(static_cast<size_t>(d_.dim));
    const LayerNormArgs norm = layer_norm_args(b_.layout.policy_w, b_.layout.policy_b, all_tokens(), normal);
    token_kernels().layer_norm(norm, 0, 1);
    return normal;
  }

  void judge(const float* policy, int64_t weights, int64_t bias, int decisions, float* margins) const {
    if (decisions == 0) return;
    const int32_t* rows = ws_->iota.get(d_.dim, static_cast<size_t>(decisions));
    kernels().row_dots(b_.at(weights), rows, 0, decisions, d_.dim, policy, margins);
    for (int i = 0; i < decisions; ++i) margins[i] += b_.at(bias)[i];
  }

  void list_heads(const float* margins) {
    ws_->kept_heads.clear();
    ws_->dropped_heads.clear();
    ws_->all_heads.clear();
    for (int h = 0; h < d_.heads; ++h) {
      const bool keep = !d_.head_policy || margins[h] > 0;
      (keep ? ws_->kept_heads : ws_->dropped_heads).push_back(h);
      ws_->all_heads.push_back(h);
    }
  }

  void list_tokens() {
    ws_->kept_tokens.clear();
    for (int t = 0; t < d_.tokens; ++t) {
      const bool keep = t == 0 || !d_.token_policy || ws_->margins[static_cast<size_t>(t - 1)] > 0;
      if (keep) ws_->kept_tokens.push_back(t * d_.dim);
    }
  }

  LayerNormArgs layer_norm_args(int64_t weight, int64_t bias, const int32_t* rows, float* to) const {
    return {x_, rows, to, d_.dim, d_.dim, b_.at(weight), b_.at(bias), *b_.at(b_.layout.epsilon)};
  }

  // Calls work(begin, end) for parts of `rows` rows of the residual stream.
  template <class Work>
  void share_rows(int rows, Work work) const {
    const bool alone = static_cast<int64_t>(rows) * d_.dim < kMinFloatsToShare;
    const int64_t parts = alone ? 1 : parallel_.width();
    parallel_.for_each(static_cast<size_t>(parts), [&](size_t i) {
      const int64_t part = static_cast<int64_t>(i);
      work(static_cast<int>(rows * part / parts), static_cast<int>(rows * (part + 1) / parts));
    });
  }

  void normalise_all() {
    const LayerNormArgs norm = layer_norm_args(b_.layout.norm1_w, b_.layout.norm1_b, all_tokens(), normalised());
    share_rows(d_.tokens, [&](int begin, int end) {
      token_kernels().layer_norm(norm, begin, end);
      if (d_.token_policy) judge_tokens(norm, std::max(begin, 1), end);
    });
  }

  void judge_tokens(const LayerNormArgs& norm, int begin, int end) {
    if (end <= begin) return;
    float* margins = ws_->margins.data() + begin - 1;
    kernels().row_dots(norm.y, norm.x_rows + begin, 0, end - begin, d_.dim, b_.at(b_.layout.token_w), margins);
    for (int i = 0; i < end - begin; ++i) margins[i] += *b_.at(b_.layout.token_b);
  }

  // ---- attention ----

  void attend() {
    const bool values_pass = d_.dropped_heads == DroppedHead::kValues;
    const int queries = computed(kept());
    float* qkv = ws_->qkv.at_least(static_cast<size_t>(kept() * qkv_stride()));
    float* mixed = ws_->mixed.at_least(static_cast<size_t>(kept()) * static_cast<size_t>(d_.dim));
    const int32_t* qkv_rows = ws_->iota.get(qkv_stride(), ws_->kept_tokens.size());
    // Positions in `normalised` are those of the residual stream.
    TokenRows rows = {normalised(), ws_->kept_tokens.data(), qkv, qkv_rows, queries};
    project(0, ws_->kept_heads, rows);
    rows.count = kept();
    project(1, ws_->kept_heads, rows);
    project(2, values_pass ? ws_->all_heads : ws_->kept_heads, rows);
    const AttentionArgs args = {qkv,     qkv_stride(),  d_.dim,           2 * d_.dim, kept(),
                                queries, d_.head_dim(), &ws_->kept_heads, mixed,      d_.dim};
    attention(parallel_, args, &ws_->iota, &ws_->attention);
    if (values_pass) pass_values(qkv, mixed, queries);
    add_projection(mixed, queries, values_pass);
  }

  // Query (0), key (1) or value (2) of some heads.
  void project(int part, const std::vector<int32_t>& heads, const TokenRows& rows) {
    ws_->jobs.clear();
    const int64_t head_floats = panel_floats(d_.dim, d_.head_dim(), d_.panel);
    for (const int32_t h : heads) {
      const int64_t head = part * d_.heads + h;
      add_jobs(b_.at(b_.layout.qkv_w + head * head_floats), d_.dim, d_.head_dim(), b_.at(b_.layout.qkv_b),
               part * d_.dim + h * d_.head_dim());
    }
    panel_gemm(parallel_, kernels().gemm_store, ws_->jobs, d_.panel, Depth::whole(d_.dim), rows, nullptr, 0);
  }

  // Panels of a matrix of `columns` columns, which are columns [first, first + columns) of the result.
  void add_jobs(const float* matrix, int64_t depth, int columns, const float* bias, int first) {
    for (int p = 0; p < panel_count(columns, d_.panel); ++p) {
      const int column = first + p * d_.panel;
      ws_->jobs.push_back(
          {matrix + p * depth * d_.panel, bias + column, column, std::min(d_.panel, columns - p * d_.panel)});
    }
  }

  void pass_values(const float* qkv, float* mixed, int queries) const {
    const int width = d_.head_dim();
    for (int i = 0; i < queries; ++i) {
      for (const int32_t h : ws_->dropped_heads) {
        std::memcpy(mixed + static_cast<int64_t>(i) * d_.dim + h * width,
                    qkv + i * qkv_stride() + 2 * d_.dim + h * width, static_cast<size_t>(width) * sizeof(float));
      }
    }
  }

  void add_projection(const float* mixed, int queries, bool all_heads) {
    ws_->jobs.clear();
    add_jobs(b_.at(b_.layout.proj_w), d_.dim, d_.dim, b_.at(b_.layout.proj_b), 0);
    const Depth depth = all_heads ? Depth::whole(d_.dim) : head_depth();
    const TokenRows rows = {mixed, ws_->iota.get(d_.dim, static_cast<size_t>(queries)), x_, ws_->kept_tokens.data(),
                            queries};
    const float* next = transforms_ && depth.b_taps == nullptr ? b_.at(b_.layout.fc1_w) : nullptr;
    panel_gemm(parallel_, token_kernels().gemm_add, ws_->jobs, d_.panel, depth, rows, next,
               static_cast<int64_t>(d_.dim) * d_.panel);
  }

  // The features of the kept heads.
  Depth head_depth() { return chosen(d_.heads, d_.head_dim(), &ws_->head_taps, &ws_->head_panel_taps); }

  // Of `parts` stretches of `width` values those that belong to kept heads.
  Depth chosen(int parts, int width, std::vector<int32_t>* taps, std::vector<int64_t>* panel_taps) {
    if (ws_->dropped_heads.empty()) return Depth::whole(parts * width);
    taps->clear();
    panel_taps->clear();
    for (const int32_t h : ws_->kept_heads) {
      taps->push_back(h * width);
      panel_taps->push_back(static_cast<int64_t>(h) * width * d_.panel);
    }
    return {static_cast<int>(taps->size()), width, taps->data(), panel_taps->data()};
  }

  // ---- MLP ----

  void transform() {
    const int count = computed(in_mlp());
    const int32_t* tokens = d_.tokens_in_mlp ? ws_->kept_tokens.data() : all_tokens();
    float* normal = normalised();
    const LayerNormArgs norm = layer_norm_args(b_.layout.norm2_w, b_.layout.norm2_b, tokens, normal);
    share_rows(count, [&](int begin, int end) { token_kernels().layer_norm(norm, begin, end); });
    float* hidden = ws_->hidden.at_least(static_cast<size_t>(count * hidden_stride()));
    const int32_t* hidden_rows = ws_->iota.get(hidden_stride(), static_cast<size_t>(count));
    const int32_t* normal_rows = ws_->iota.get(d_.dim, static_cast<size_t>(count));
    const Depth in = d_.head_width == MlpWidth::kInputs ? head_depth() : Depth::whole(d_.dim);
    list_hidden_jobs();
    panel_gemm(parallel_, token_kernels().gemm_gelu, ws_->jobs, d_.panel, in,
               {normal, normal_rows, hidden, hidden_rows, count}, b_.at(b_.layout.fc2_w),
               static_cast<int64_t>(d_.hidden) * d_.panel);
    ws_->jobs.clear();
    add_jobs(b_.at(b_.layout.fc2_w), d_.hidden, d_.dim, b_.at(b_.layout.fc2_b), 0);
    const float* next = following_ == nullptr ? nullptr : following_->at(following_->layout.qkv_w);
    panel_gemm(parallel_, token_kernels().gemm_add, ws_->jobs, d_.panel, hidden_depth(),
               {hidden, hidden_rows, x_, tokens, count}, next, static_cast<int64_t>(d_.dim) * d_.panel);
  }

  void list_hidden_jobs() {
    ws_->jobs.clear();
    const int parts = d_.hidden_parts(), columns = d_.hidden / parts;
    const int64_t part_floats = panel_floats(d_.dim, columns, d_.panel);
    const bool chosen_parts = d_.head_width == MlpWidth::kOutputs;
    for (int i = 0; i < (chosen_parts ? static_cast<int>(ws_->kept_heads.size()) : parts); ++i) {
      const int part = chosen_parts ? ws_->kept_heads[static_cast<size_t>(i)] : i;
      add_jobs(b_.at(b_.layout.fc1_w + part * part_floats), d_.dim, columns, b_.at(b_.layout.fc1_b), part * columns);
    }
  }

  Depth hidden_depth() {
    if (d_.head_width != MlpWidth::kOutputs) return Depth::whole(d_.hidden);
    return chosen(d_.heads, d_.hidden / d_.heads, &ws_->part_taps, &ws_->part_panel_taps);
  }

  const Block& b_;
  const VitDesc& d_;
  const Block* following_;
  const Parallel& parallel_;
  Workspace* ws_;
  float* x_;
  bool attends_ = true, transforms_ = true;
};

}  // namespace

struct VitRun::State {
  std::vector<Block> blocks;
  int64_t margins = 0;
  mutable Pool<Workspace> workspaces;

  void slice(const float* x, int64_t first, int64_t images, const Parallel& parallel, Workspace* ws,
             const VitOutputs& out) const;
};

VitRun::VitRun() : state_(new State) {}
VitRun::~VitRun() = default;

std::unique_ptr<VitRun> VitRun::create(std::vector<VitDesc> blocks, std::vector<const float*> weights,
                                       const std::vector<int64_t>& weight_floats, std::string* error) {
  if (blocks.empty() || blocks.size() != weights.size() || blocks.size() != weight_floats.size()) {
    *error =
        "the run has " + std::to_string(blocks.size()) + " blocks but " + std::to_string(weights.size()) + " weights";
    return nullptr;
  }
  std::unique_ptr<VitRun> run(new VitRun());
  for (size_t i = 0; i < blocks.size(); ++i) {
    Block block(blocks[i], weights[i]);
    if (block.layout.total != weight_floats[i]) {
      *error = "block " + std::to_string(i) + ": packed weights hold " + std::to_string(weight_floats[i]) +
               " floats, its record needs " + std::to_string(block.layout.total);
      return nullptr;
    }
    run->state_->margins += block.desc.margins();
    run->state_->blocks.push_back(block);
  }
  return run;
}

int VitRun::tokens() const { return state_->blocks.front().desc.tokens; }
int VitRun::out_tokens() const { return state_->blocks.back().desc.first_only ? 1 : tokens(); }
int VitRun::dim() const { return state_->blocks.front().desc.dim; }
int VitRun::block_count() const { return static_cast<int>(state_->blocks.size()); }
int64_t VitRun::total_margins() const { return state_->margins; }

void VitRun::State::slice(const float* x, int64_t first, int64_t images, const Parallel& parallel, Workspace* ws,
                          const VitOutputs& out) const {
  const VitDesc& head = blocks.front().desc;
  const size_t image_floats = static_cast<size_t>(head.tokens) * static_cast<size_t>(head.dim);
  float* tokens = ws->tokens.at_least(static_cast<size_t>(images) * image_floats);
  std::memcpy(tokens, x + static_cast<size_t>(first) * image_floats,
              static_cast<size_t>(images) * image_floats * sizeof(float));
  const int64_t count = static_cast<int64_t>(blocks.size());
  int64_t margin_at = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Block& block = blocks[static_cast<size_t>(i)];
    const Block* following = i + 1 < count ? &block + 1 : nullptr;
    const int64_t start = out.block_ns == nullptr ? 0 : now_ns();
    for (int64_t image = 0; image < images; ++image) {
      BlockCall call(block, following, parallel, ws, tokens + static_cast<size_t>(image) * image_floats);
      call.run();
      const int64_t sample = first + image;
      call.report(out.counts == nullptr ? nullptr : out.counts + (sample * count + i) * kVitCountsPerBlock,
                  out.margins == nullptr ? nullptr : out.margins + sample * margins + margin_at);
    }
    margin_at += block.desc.margins();
    if (out.block_ns != nullptr) out.block_ns[i] += now_ns() - start;
  }
  const size_t wanted =
      (blocks.back().desc.first_only ? 1 : static_cast<size_t>(head.tokens)) * static_cast<size_t>(head.dim);
  for (int64_t image = 0; image < images; ++image) {
    std::memcpy(out.y + static_cast<size_t>(first + image) * wanted, tokens + static_cast<size_t>(image) * image_floats,
                wanted * sizeof(float));
  }
}

void VitRun::execute(const float* x, int64_t batch, const Parallel& parallel, const VitOutputs& out) const {
  if (out.block_ns != nullptr) std::memset(out.block_ns, 0, state_->blocks.size() * sizeof(int64_t));
  auto ws = state_->workspaces.borrow();
  for (int64_t first = 0; first < batch; first += kSliceImages) {
    state_->slice(x, first, std::min(kSliceImages, batch - first), parallel, &*ws, out);
  }
}

}  // namespace cpu
}  // namespace laudc
