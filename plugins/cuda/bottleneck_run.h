// A run of LAUD-ResNet's bottleneck blocks.
#pragma once

#include "core/packed_layout.h"
#include "cuda/conv_run.h"

namespace laudc {
namespace cuda {

class BottleneckRun final : public ConvRun {
 public:
  static constexpr const char* kOp = "BottleneckRun";
  enum Matrix : int { kConv1, kConv2, kConv3, kProjection };

  // Null and a sentence in `error` if the records are not for a GPU.
  static std::unique_ptr<Run> create(const int64_t* records, size_t count, const Setting& setting, std::string* error);

  int64_t packed_floats(size_t block) const override { return layouts_[block].total; }

 private:
  BottleneckRun(const Setting& setting, const std::vector<BlockDesc>& blocks);
  int launch_block(const CallContext& context, const BlockPlace& place) const override;

  std::vector<PackedLayout> layouts_;
};

}  // namespace cuda
}  // namespace laudc
