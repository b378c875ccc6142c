#include "cpu/team.h"

#include <thread>
#include <utility>

namespace laudc {
namespace cpu {
namespace {

// Looks before a thread offers its core to others. How long they take is up to the CPU: on x86-64, where a pause takes
// from ten to well over a hundred cycles, tens to hundreds of microseconds; on AArch64, where most cores take a yield
// for a no-op, about ten microseconds, which a section may well exceed (estimated from instructions, not measured).
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

uint64_t word(uint32_t section, size_t left) { return static_cast<uint64_t>(section) << 32 | left; }
uint32_t section_of(uint64_t word) { return static_cast<uint32_t>(word >> 32); }
uint32_t left_of(uint64_t word) { return static_cast<uint32_t>(word); }

}  // namespace

void Team::run(size_t count, void (*task)(void*, size_t), void* data) const {
  const uint32_t section = section_.load(std::memory_order_relaxed) + 1;
  // Numbers of sections are never used again: a member may have stood still since any of them. Without one, and with
  // more tasks than a word can hold, the leader works alone.
  if (section == kDismissed || count > kMostTasks) {
    for (size_t i = 0; i < count; ++i) task(data, i);
    return;
  }
  task_.store(task, std::memory_order_relaxed);
  data_.store(data, std::memory_order_relaxed);
  count_.store(count, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  for (int i = 0; i < width_; ++i) {
    shares_[i].left.store(word(section, share_begin(count, i + 1) - share_begin(count, i)), std::memory_order_release);
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

// A member's own share first, then what is left of the others'. What is read here may be of a later section, or of two,
// until take() gives a task.
void Team::work(uint32_t section, int member) const {
  void (*const task)(void*, size_t) = task_.load(std::memory_order_relaxed);
  void* const data = data_.load(std::memory_order_relaxed);
  const size_t count = count_.load(std::memory_order_relaxed);
  for (int turn = 0; turn < width_; ++turn) {
    const int share = (member + turn) % width_;
    while (const uint32_t left = take(section, share)) {
      try {
        task(data, share_begin(count, share + 1) - left);
      } catch (...) {
        if (!failed_.exchange(true)) error_ = std::current_exception();
      }
      finished_.fetch_add(1, std::memory_order_release);
    }
  }
}

// Takes the first of the tasks left in a share. Returns how many were left with it: 0 where there is none, or where the
// section is over. Only the word decides that. Nothing else that is read beside it may: the leader may be between two
// sections, with one part of the next written and another not.
// A word of the section with tasks left proves that the section is not over, and taking one that it cannot end before
// the taker adds to finished_. Acquired and released: what work() has read is of the word's section, and read before.
uint32_t Team::take(uint32_t section, int share) const {
  std::atomic<uint64_t>& left = shares_[share].left;
  uint64_t seen = left.load(std::memory_order_relaxed);
  do {
    if (section_of(seen) != section || left_of(seen) == 0) return 0;
  } while (!left.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_relaxed));
  return left_of(seen);
}

}  // namespace cpu
}  // namespace laudc
