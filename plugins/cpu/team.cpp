#include "cpu/team.h"

#include <thread>
#include <utility>

namespace laudc {
namespace cpu {
namespace {

// Looks before a thread offers its core to others: some hundred microseconds, far more than a section takes.
constexpr int kPatience = 8192;

// Waits between two looks at what another thread will write.
class Waiting {
 public:
  void once() {
    if (++looks_ > kPatience) {
      std::this_thread::yield();
      return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }

 private:
  int looks_ = 0;
};

uint64_t word(uint32_t section, size_t task) { return static_cast<uint64_t>(section) << 32 | task; }
uint32_t section_of(uint64_t word) { return static_cast<uint32_t>(word >> 32); }
size_t task_of(uint64_t word) { return static_cast<size_t>(word & UINT32_MAX); }

}  // namespace

void Team::run(size_t count, void (*task)(void*, size_t), void* data) const {
  const uint32_t section = section_.load(std::memory_order_relaxed) + 1;
  task_.store(task, std::memory_order_relaxed);
  data_.store(data, std::memory_order_relaxed);
  count_.store(count, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  for (int i = 0; i < width_; ++i) {
    shares_[i].next.store(word(section, share_begin(count, i)), std::memory_order_relaxed);
  }
  section_.store(section, std::memory_order_release);
  work(section, 0);
  for (Waiting waiting; finished_.load(std::memory_order_acquire) < count;) waiting.once();
  if (!failed_.exchange(false)) return;
  std::exception_ptr error;
  std::swap(error, error_);
  std::rethrow_exception(error);
}

void Team::stand_by(int member) const {
  uint32_t last = 0;
  Waiting waiting;
  while (true) {
    const uint32_t section = section_.load(std::memory_order_acquire);
    if (section == kDismissed) return;
    if (section == last) {
      waiting.once();
      continue;
    }
    work(section, member);
    last = section;
    waiting = Waiting();
  }
}

// A member's own share first, then what is left of the others'.
void Team::work(uint32_t section, int member) const {
  void (*const task)(void*, size_t) = task_.load(std::memory_order_relaxed);
  void* const data = data_.load(std::memory_order_relaxed);
  const size_t count = count_.load(std::memory_order_relaxed);
  for (int turn = 0; turn < width_; ++turn) {
    size_t i = 0;
    while (take(section, (member + turn) % width_, count, &i)) {
      try {
        task(data, i);
      } catch (...) {
        if (!failed_.exchange(true)) error_ = std::current_exception();
      }
      finished_.fetch_add(1, std::memory_order_release);
    }
  }
}

// False where nothing is left, or where the section is over. Released as well as acquired: what work() has read must
// have been read before the task is taken, for only that proves it to be of this section.
bool Team::take(uint32_t section, int share, size_t count, size_t* task) const {
  std::atomic<uint64_t>& next = shares_[share].next;
  uint64_t seen = next.load(std::memory_order_relaxed);
  do {
    if (section_of(seen) != section || task_of(seen) >= share_begin(count, share + 1)) return false;
  } while (!next.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel, std::memory_order_relaxed));
  *task = task_of(seen);
  return true;
}

}  // namespace cpu
}  // namespace laudc
