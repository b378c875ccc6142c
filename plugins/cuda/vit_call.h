// The launches of one transformer block.
#pragma once

#include "cuda/token_params.h"
#include "cuda/vit_run.h"

namespace laudc {
namespace cuda {

// What the blocks of one call share.
struct VitContext {
  const VitRun* run;
  const laudc_cuda_io* io;
  const VitPlan* plan;
  size_t blocks;
  void* tokens;  // [batch][tokens][dim], changed in place
  Stream stream;

  template <class T = void>
  T* section(size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(io->workspace) + offset);
  }
};

class VitCall {
 public:
  // `margin_at`: of the block's first decision among all of the run.
  VitCall(const VitContext& context, size_t index, const VitDesc& desc, const VitLayout& layout, int64_t margin_at)
      : c_(context), index_(index), d_(desc), l_(layout), margin_at_(margin_at) {}

  // Queues everything; 0 or the first error.
  int launch() const;

 private:
  int choose() const;
  int qkv() const;
  int attend() const;
  int project() const;
  int normalise() const;
  int fc1() const;
  int fc2() const;

  void add_decisions(ChooseParams* p) const;
  // Rows of the attention sublayer and of the MLP, `count` per image; all of them where nothing is left out.
  GemmParams attention_rows(TokenCounter count) const;
  GemmParams mlp_rows() const;
  GemmParams rows(bool all, TokenCounter count) const;
  void set_weights(int matrix, int depth, int columns, int parts, GemmParams* p) const;
  void add_to_tokens(int64_t bias, GemmParams* p) const;
  int start(GemmParams* p) const;

  bool values_pass() const { return d_.head_policy && d_.dropped_heads == DroppedHead::kValues; }
  // Whether dropped heads leave something out of fc1.
  bool narrows(MlpWidth how) const { return d_.head_policy && d_.head_width == how; }
  NormWeights norm(int64_t w, int64_t b) const { return {constants(w), constants(b), constants(l_.epsilon)}; }
  int batch() const { return static_cast<int>(c_.io->batch); }
  bool half() const { return c_.run->setting().half(); }
  int multiprocessors() const { return c_.run->setting().device.multiprocessors; }
  int* counter(TokenCounter which) const { return c_.section<int>(c_.plan->counter(index_, which)); }
  const float* constants(int64_t offset) const { return c_.io->packed[index_] + offset; }
  int token_vectors() const;

  const VitContext& c_;
  const size_t index_;
  const VitDesc& d_;
  const VitLayout& l_;
  const int64_t margin_at_;
};

}  // namespace cuda
}  // namespace laudc
