// A run of transformer blocks (LAUD-T2T-ViT, DeiT): the tokens of an image are changed in place.
#pragma once

#include "core/vit_desc.h"
#include "cuda/run.h"
#include "cuda/vit_workspace.h"

namespace laudc {
namespace cuda {

class VitRun final : public Run {
 public:
  static constexpr const char* kOp = "VitRun";
  enum Matrix : int { kQkv, kProjection, kFc1, kFc2 };

  // Null and a sentence in `error` if the records are not for a GPU.
  static std::unique_ptr<Run> create(const int64_t* records, size_t count, const Setting& setting, std::string* error);

  int64_t block_count() const override { return static_cast<int64_t>(blocks_.size()); }
  int64_t packed_floats(size_t block) const override { return layouts_[block].total; }
  int64_t total_margins() const override;
  laudc_cuda_shape x_shape() const override;
  laudc_cuda_shape y_shape() const override;
  size_t workspace_bytes(int64_t batch) const override;

 private:
  VitRun(const Setting& setting, std::vector<VitDesc> blocks);
  int launch(const laudc_cuda_io& io, Stream stream) const override;
  // Only the class tokens leave the run.
  bool first_only() const { return blocks_.back().first_only; }

  const std::vector<VitDesc> blocks_;
  std::vector<VitLayout> layouts_;
};

}  // namespace cuda
}  // namespace laudc
