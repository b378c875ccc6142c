// A Parallel over a few std::threads, started anew for every call: simple, and every task order is possible.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "cpu/parallel.h"

namespace laudc {
namespace test {

class Threads final : public cpu::Parallel {
 public:
  explicit Threads(int width) : width_(width) {}
  int width() const override { return width_; }
  void run(size_t count, void (*task)(void* data, size_t i), void* data) const override {
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) task(data, i);
    };
    std::vector<std::thread> helpers;
    for (int i = 1; i < width_; ++i) helpers.emplace_back(work);
    work();
    for (std::thread& helper : helpers) helper.join();
  }

 private:
  const int width_;
};

}  // namespace test
}  // namespace laudc
