// A run of consecutive RegNetY blocks, executed in place on one NHWC feature map.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/regnet_desc.h"
#include "cpu/bottleneck_run.h"

namespace laudc {
namespace cpu {

class RegNetRun {
 public:
  // `weights[i]` are regnet_layout(blocks[i]).total floats that outlive this object. Returns null and sets `error` when
  // sizes disagree.
  static std::unique_ptr<RegNetRun> create(std::vector<RegNetDesc> blocks, std::vector<const float*> weights,
                                           const std::vector<int64_t>& weight_floats, std::string* error);
  ~RegNetRun();

  const BlockDesc& first() const;
  const BlockDesc& last() const;
  int block_count() const;
  int64_t total_margins() const;

  // x: [batch][hin][win][cin], non-negative (it follows a ReLU). Of the counts, the first is the rows of conv a (and of
  // b, where all are computed), the second those of conv c. Safe to call from several threads at once.
  void execute(const float* x, int64_t batch, const Parallel& parallel, const RunOutputs& out) const;

 private:
  RegNetRun();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cpu
}  // namespace laudc
