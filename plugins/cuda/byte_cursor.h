// Hands out the sections of a workspace one after another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/packed_layout.h"

namespace laudc {
namespace cuda {

class ByteCursor {
 public:
  size_t take(int64_t count, size_t element) {
    const int64_t at = next_;
    next_ = round_up(next_ + count * static_cast<int64_t>(element), kAlignBytes);
    return static_cast<size_t>(at);
  }
  size_t position() const { return static_cast<size_t>(next_); }

 private:
  static constexpr int64_t kAlignBytes = 256;
  int64_t next_ = 0;
};

}  // namespace cuda
}  // namespace laudc
