// Memory of one call. Buffers only grow, so a warm call allocates nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

namespace laudc {
namespace cpu {

// Floats on a cache-line boundary. Contents survive neither growth nor the caller's assumptions: see zeroed().
class Buffer {
 public:
  float* at_least(size_t floats) {
    if (floats > size_) reset(floats);
    return data_.get();
  }
  // All zero after growth; otherwise as the last call left it. Callers that rely on a zero border never write there.
  float* zeroed_at_least(size_t floats) {
    if (floats > size_) {
      reset(floats);
      std::memset(data_.get(), 0, size_ * sizeof(float));
    }
    return data_.get();
  }
  float* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  void reset(size_t floats) {
    const size_t bytes = (floats * sizeof(float) + 63) / 64 * 64 + 256;  // slack: kernels load whole vectors
    data_.reset();
    data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    size_ = data_ ? floats : 0;
    if (!data_) throw std::bad_alloc();
    std::memset(data_.get(), 0, bytes);  // never hand out uninitialised memory: garbage NaN would be slow and untidy
  }
  std::unique_ptr<float, Free> data_;
  size_t size_ = 0;
};

// A free list of objects that tasks borrow: as many as ever run at once. A thread gets what it had before, where that
// is free: what it wrote there is in its own cache, and memory that another one wrote is slow to write as well.
template <class T>
class Pool {
  struct Item {
    std::unique_ptr<T> object;
    std::thread::id user;  // the last one
  };

 public:
  class Lease {
   public:
    Lease(Pool* pool, std::unique_ptr<T> item) : pool_(pool), item_(std::move(item)) {}
    Lease(Lease&&) = default;
    ~Lease() {
      if (item_) pool_->give_back(std::move(item_));
    }
    T* operator->() const { return item_.get(); }
    T& operator*() const { return *item_; }

   private:
    Pool* pool_;
    std::unique_ptr<T> item_;
  };

  Lease borrow() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return Lease(this, std::unique_ptr<T>(new T()));
    const std::thread::id user = std::this_thread::get_id();
    // What it gave back last: a thread that borrowed two at once has two.
    auto found = std::find_if(free_.rbegin(), free_.rend(), [&](const Item& item) { return item.user == user; });
    if (found == free_.rend()) found = free_.rbegin();
    std::unique_ptr<T> object = std::move(found->object);
    free_.erase(std::next(found).base());
    return Lease(this, std::move(object));
  }

 private:
  void give_back(std::unique_ptr<T> object) {
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back({std::move(object), std::this_thread::get_id()});
  }
  std::mutex mutex_;
  std::vector<Item> free_;
};

// Row offsets 0, stride, 2 * stride, ...: the lists of dense and compact operands.
class IotaCache {
 public:
  const int32_t* get(int64_t stride, size_t count) {
    for (auto& entry : entries_) {
      if (entry->first == stride) return filled(*entry, count);
    }
    entries_.emplace_back(new std::pair<int64_t, std::vector<int32_t>>(stride, {}));
    return filled(*entries_.back(), count);
  }

 private:
  static const int32_t* filled(std::pair<int64_t, std::vector<int32_t>>& entry, size_t count) {
    std::vector<int32_t>& list = entry.second;
    for (size_t i = list.size(); i < count; ++i)
      list.push_back(static_cast<int32_t>(static_cast<int64_t>(i) * entry.first));
    return list.data();
  }
  std::vector<std::unique_ptr<std::pair<int64_t, std::vector<int32_t>>>> entries_;
};

// What one task needs for itself.
struct TaskScratch {
  Buffer packed;    // weight panels
  Buffer filters;   // some 3x3 filters on their way to Winograd's domain
  Buffer winograd;  // transformed inputs and products of a chunk of tiles
  IotaCache iota;
};

}  // namespace cpu
}  // namespace laudc
