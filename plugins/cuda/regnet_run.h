// A run of LAUD-RegNetY's blocks: grouped convolution and squeeze-excitation.
#pragma once

#include "core/regnet_desc.h"
#include "cuda/conv_run.h"

namespace laudc {
namespace cuda {

class RegNetRun final : public ConvRun {
 public:
  static constexpr const char* kOp = "RegNetRun";
  enum Matrix : int { kConvA, kConvB, kConvC, kProjection };

  // Null and a sentence in `error` if the records are not for a GPU.
  static std::unique_ptr<Run> create(const int64_t* records, size_t count, const Setting& setting, std::string* error);

  int64_t packed_floats(size_t block) const override { return layouts_[block].total; }

 private:
  RegNetRun(const Setting& setting, std::vector<RegNetDesc> blocks);
  int launch_block(const CallContext& context, const BlockPlace& place) const override;

  const std::vector<RegNetDesc> descs_;
  std::vector<RegNetLayout> layouts_;
};

}  // namespace cuda
}  // namespace laudc
