// A run of consecutive bottleneck blocks, executed in place on one NHWC feature map.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/block_desc.h"
#include "core/packed_layout.h"
#include "cpu/maskers.h"
#include "cpu/row_sets.h"

namespace laudc {
namespace cpu {

// Results besides the feature map; any pointer may be null.
struct RunOutputs {
  float* y;           // [batch][hout][wout][cout]
  int32_t* counts;    // [batch][blocks][4]: conv1 rows, conv2/3 rows, kept mask cells, kept channel groups
  float* margins;     // [batch][total_margins()]
  int64_t* block_ns;  // [blocks]: wall time, summed over the batch slices
};

constexpr int kCountsPerBlock = 4;

class BottleneckRun {
 public:
  // `weights[i]` are packed_layout(blocks[i]).total floats that outlive this object. Returns null and sets `error` when
  // sizes disagree.
  static std::unique_ptr<BottleneckRun> create(std::vector<BlockDesc> blocks, std::vector<const float*> weights,
                                               const std::vector<int64_t>& weight_floats, std::string* error);
  ~BottleneckRun();

  const BlockDesc& first() const;
  const BlockDesc& last() const;
  int block_count() const;
  int64_t total_margins() const;

  // x: [batch][hin][win][cin], non-negative (it follows a ReLU). Safe to call from several threads at once.
  void execute(const float* x, int64_t batch, const Parallel& parallel, const RunOutputs& out) const;

 private:
  BottleneckRun();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cpu
}  // namespace laudc
