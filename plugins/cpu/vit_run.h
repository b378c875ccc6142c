// A run of consecutive transformer blocks, executed in place on the tokens of an image.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/vit_desc.h"
#include "cpu/parallel.h"

namespace laudc {
namespace cpu {

// Results besides the tokens; any pointer may be null.
struct VitOutputs {
  float* y;           // [batch][out_tokens()][dim]
  int32_t* counts;    // [batch][blocks][4]: tokens whose attention and whose MLP were computed, kept tokens, kept heads
  float* margins;     // [batch][total_margins()]: per block tokens but the first, heads, sublayers; kept where positive
  int64_t* block_ns;  // [blocks]: wall time, summed over the batch slices
};

constexpr int kVitCountsPerBlock = 4;

class VitRun {
 public:
  // `weights[i]` are vit_layout(blocks[i]).total floats that outlive this object. Returns null and sets `error` when
  // sizes disagree.
  static std::unique_ptr<VitRun> create(std::vector<VitDesc> blocks, std::vector<const float*> weights,
                                        const std::vector<int64_t>& weight_floats, std::string* error);
  ~VitRun();

  int tokens() const;
  int out_tokens() const;  // 1 where only the first token of the last block is wanted
  int dim() const;
  int block_count() const;
  int64_t total_margins() const;

  // x: [batch][tokens][dim]. Safe to call from several threads at once.
  void execute(const float* x, int64_t batch, const Parallel& parallel, const VitOutputs& out) const;

 private:
  VitRun();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cpu
}  // namespace laudc
