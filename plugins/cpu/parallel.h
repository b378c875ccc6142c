// The executor's view of a thread pool. The runtime adapter supplies one; tests may use the inline one.
#pragma once

#include <cstddef>

namespace laudc {
namespace cpu {

class Parallel {
 public:
  virtual ~Parallel() = default;
  // Threads that take part in run(): how finely work is worth cutting.
  virtual int width() const = 0;
  // Calls task(data, i) for every i in [0, count), on any threads, and returns when all are done.
  virtual void run(size_t count, void (*task)(void* data, size_t i), void* data) const = 0;

  template <class Function>
  void for_each(size_t count, Function&& function) const {
    if (count == 0) return;
    if (count == 1) {
      function(static_cast<size_t>(0));
      return;
    }
    run(count, [](void* data, size_t i) { (*static_cast<Function*>(data))(i); }, &function);
  }
};

class Inline final : public Parallel {
 public:
  int width() const override { return 1; }
  void run(size_t count, void (*task)(void* data, size_t i), void* data) const override {
    for (size_t i = 0; i < count; ++i) task(data, i);
  }
};

}  // namespace cpu
}  // namespace laudc
