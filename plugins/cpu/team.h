// Many parallel sections for one entry into a thread pool.
//
// A network of small blocks opens a section every few dozen microseconds. Entering a runtime's pool costs some
// microseconds each time, and the pool hands the first task to whichever thread comes first, so that a thread finds in
// its cache what another one needs. The members of a team stay inside the pool from the first section to the last,
// look for work in between, and take the same share of every section.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>

#include "cpu/parallel.h"

namespace laudc {
namespace cpu {

class Team final : public Parallel {
 public:
  // Calls body(parallel) on one thread of `pool`, the leader, while others that the pool provides stand by for the
  // sections that body opens. No section waits for a thread that has not come: the leader does what nobody else took.
  template <class Body>
  static void lead(const Parallel& pool, Body&& body) {
    if (pool.width() == 1) return body(pool);
    Team team(pool.width());
    std::atomic<int> arrived{0};
    pool.for_each(static_cast<size_t>(team.width()), [&](size_t) {
      const int member = arrived.fetch_add(1);
      if (member > 0) return team.stand_by(member);
      const Dismissal dismissal(&team);
      body(static_cast<const Parallel&>(team));
    });
  }

  int width() const override { return width_; }
  // To be called by the leader only, and not inside a task.
  void run(size_t count, void (*task)(void* data, size_t i), void* data) const override;

 private:
  static constexpr int kMostMembers = 64;
  // Tasks that a section shares out at most: the bounds of shares fit in 32 bits, also on the way to them.
  static constexpr size_t kMostTasks = UINT32_MAX / kMostMembers;
  static constexpr uint32_t kDismissed = UINT32_MAX;

  // Tasks of a member that nobody has taken yet. In one word, for one look must tell whether there is a task to take:
  // which section they belong to, and how many are left. Padded: members must not wait for each other's cache lines.
  struct alignas(64) Share {
    std::atomic<uint64_t> left{0};
  };
  struct Dismissal {
    explicit Dismissal(Team* team) : team(team) {}
    ~Dismissal() { team->section_.store(kDismissed, std::memory_order_release); }
    Team* team;
  };

  explicit Team(int width) : width_(width < kMostMembers ? width : kMostMembers) {}
  void stand_by(int member) const;
  void work(uint32_t section, int member) const;
  uint32_t take(uint32_t section, int share) const;
  size_t share_begin(size_t count, int share) const {
    return count * static_cast<size_t>(share) / static_cast<size_t>(width_);
  }

  const int width_;
  // What the section at hand calls. A member that comes late may read this while the leader changes it for the next
  // section; it then finds no task left in the section that it came for, and does not use what it read. Whoever takes a
  // task has read this before, so that the leader, who waits until that task is finished, had not changed it.
  mutable std::atomic<void (*)(void*, size_t)> task_{nullptr};
  mutable std::atomic<void*> data_{nullptr};
  mutable std::atomic<size_t> count_{0};
  mutable std::atomic<bool> failed_{false};
  mutable std::exception_ptr error_;
  alignas(64) mutable std::atomic<uint32_t> section_{0};
  alignas(64) mutable std::atomic<size_t> finished_{0};
  mutable Share shares_[kMostMembers];
};

}  // namespace cpu
}  // namespace laudc
