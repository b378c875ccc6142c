// Sections of a team: every task once, whatever threads come, errors handed on, members of one call only.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#include "cpu/team.h"
#include "tests/check.h"
#include "tests/threads.h"

namespace laudc {
namespace test {
namespace {

using cpu::Parallel;
using cpu::Team;

// A pool that says it has `width` threads and gives one.
class Lonely final : public Parallel {
 public:
  explicit Lonely(int width) : width_(width) {}
  int width() const override { return width_; }
  void run(size_t count, void (*task)(void* data, size_t i), void* data) const override {
    for (size_t i = 0; i < count; ++i) task(data, i);
  }

 private:
  const int width_;
};

// A pool that says it has many threads and gives a few: the leader spends most of a section's time writing and looking
// through shares, so that the others often come late, or in between.
class Few final : public Parallel {
 public:
  Few(int width, int threads) : width_(width), threads_(threads) {}
  int width() const override { return width_; }
  void run(size_t count, void (*task)(void* data, size_t i), void* data) const override {
    threads_.run(count, task, data);
  }

 private:
  const int width_;
  const Threads threads_;
};

void check_sections(const Parallel& pool) {
  Team::lead(pool, [](const Parallel& team) {
    std::vector<size_t> sums;
    for (size_t section = 0; section < 500; ++section) {
      const size_t count = section % 37;
      std::vector<std::atomic<int>> done(count);
      for (auto& d : done) d = 0;
      std::vector<size_t> results(count);
      team.for_each(count, [&](size_t i) {
        ++done[i];
        results[i] = section + i;
      });
      for (size_t i = 0; i < count; ++i) CHECK(done[i] == 1 && results[i] == section + i);
    }
  });
}

TEST(every_task_of_every_section_runs_once) {
  for (const int width : {1, 2, 3, 5}) check_sections(Threads(width));
  for (const int width : {2, 70}) check_sections(Lonely(width));
}

TEST(width_is_that_of_the_pool_as_far_as_it_is_used) {
  Team::lead(Lonely(3), [](const Parallel& team) { CHECK(team.width() == 3); });
  Team::lead(Lonely(1), [](const Parallel& team) { CHECK(team.width() == 1); });
  Team::lead(Lonely(500), [](const Parallel& team) { CHECK(team.width() == 64); });
}

TEST(a_member_takes_its_own_share_first) {
  Team::lead(Threads(2), [](const Parallel& team) {
    const std::thread::id leader = std::this_thread::get_id();
    for (int section = 0; section < 20; ++section) {
      std::vector<std::thread::id> owners(2);
      std::atomic<int> begun{0};
      team.for_each(2, [&](size_t i) {
        owners[i] = std::this_thread::get_id();
        // Each thread gets one of them: nobody goes on before both have begun.
        for (++begun; begun < 2;) std::this_thread::yield();
      });
      CHECK(owners[0] == leader && owners[1] != leader);
    }
  });
}

// The leader often ends a section of next to no work before a member that has seen it begin looks for a task. Such a
// member must not take one that only the count of the next section makes it believe in.
TEST(a_member_late_for_a_section_takes_no_task_of_another) {
  for (const int threads : {2, 4}) {
    Team::lead(Few(64, threads), [](const Parallel& team) {
      std::vector<std::atomic<int>> done(64);
      for (auto& d : done) d = 0;
      std::atomic<int> strays{0};
      for (size_t section = 0; section < 150000; ++section) {
        const size_t count = section % 2 == 0 ? 2 : 64;
        team.for_each(count, [&done, &strays, count](size_t i) {
          if (i >= count) ++strays;
          if (i < done.size()) ++done[i];
        });
        CHECK(strays == 0);
        for (size_t i = 0; i < done.size(); ++i) CHECK(done[i].exchange(0) == (i < count ? 1 : 0));
      }
    });
  }
}

TEST(more_tasks_than_a_team_can_share_out_run_all_the_same) {
  Team::lead(Threads(2), [](const Parallel& team) {
    const size_t count = UINT32_MAX / 64 + static_cast<size_t>(1);
    std::atomic<size_t> calls{0};
    std::atomic<uint64_t> sum{0};
    team.for_each(count, [&](size_t i) {
      calls.fetch_add(1, std::memory_order_relaxed);
      sum.fetch_add(i, std::memory_order_relaxed);
    });
    CHECK(calls == count && sum == static_cast<uint64_t>(count) * (count - 1) / 2);
  });
}

TEST(an_error_in_a_task_reaches_the_leader_after_the_section) {
  for (const int width : {2, 3}) {
    Team::lead(Threads(width), [](const Parallel& team) {
      std::atomic<int> done{0};
      bool caught = false;
      try {
        team.for_each(20, [&](size_t i) {
          if (i % 7 == 3) throw std::runtime_error("on purpose");
          ++done;
        });
      } catch (const std::runtime_error&) {
        caught = true;
      }
      CHECK(caught && done == 17);
      done = 0;
      team.for_each(20, [&](size_t) { ++done; });
      CHECK(done == 20);
    });
  }
}

TEST(members_that_wait_long_are_there_again) {
  Team::lead(Threads(3), [](const Parallel& team) {
    for (int section = 0; section < 3; ++section) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      std::atomic<int> done{0};
      team.for_each(9, [&](size_t) { ++done; });
      CHECK(done == 9);
    }
  });
}

}  // namespace
}  // namespace test
}  // namespace laudc

LAUDC_TEST_MAIN
