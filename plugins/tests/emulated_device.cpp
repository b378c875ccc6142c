#include "tests/emulated_device.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace laudc {
namespace cuda {
namespace emulated {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr int kFarAhead = 1000;  // exchanges within a warp

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "emulated GPU: %s\n", what);
  std::abort();
}

// ---- switching stacks -----------------------------------------------------------------------------------------------

#if defined(__x86_64__)
struct Context {
  void* stack_pointer;
};
extern "C" void laudc_emulated_switch(void** save, void* load);
asm(R"(
.text
.globl laudc_emulated_switch
.hidden laudc_emulated_switch
.type laudc_emulated_switch, @function
laudc_emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size laudc_emulated_switch, .-laudc_emulated_switch
)");

void prepare(Context* context, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + kStackBytes);
  *--top = nullptr;  // keeps the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context->stack_pointer = top;
}
void change(Context* from, Context* to) { laudc_emulated_switch(&from->stack_pointer, to->stack_pointer); }
#else
struct Context {
  ucontext_t state;
};
void prepare(Context* context, char* stack, void (*entry)()) {
  getcontext(&context->state);
  context->state.uc_stack.ss_sp = stack;
  context->state.uc_stack.ss_size = kStackBytes;
  context->state.uc_link = nullptr;
  makecontext(&context->state, entry, 0);
}
void change(Context* from, Context* to) { swapcontext(&from->state, &to->state); }
#endif

// ---- one block ------------------------------------------------------------------------------------------------------

struct Copy {
  void* to;
  const void* from;
  int bytes;
  bool valid;
};

struct Fiber {
  Context context;
  std::unique_ptr<char[]> stack;
  void* sanitizer_stack;
  bool finished;
  std::deque<std::vector<Copy>> groups;  // committed, not yet there
  std::vector<Copy> open;
};

// Fibers that wait for each other.
struct Meeting {
  int arrived = 0;
  uint64_t round = 0;
};

struct Warp {
  Meeting meeting;
  LaneWords words[2][kWarp];
};

struct Machine {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Meeting block;
  Context scheduler;
  void* scheduler_stack = nullptr;
  const void* scheduler_bottom = nullptr;
  size_t scheduler_size = 0;
  const std::function<void()>* body = nullptr;
  std::unique_ptr<char[]> shared_memory;
  char* shared = nullptr;
  int current = 0, block_at = 0, grid = 0, threads = 0, alive = 0;
  bool progress = false;
  bool late_copies = false;
};

Machine machine;

void enter_fiber(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&machine.scheduler_stack, fiber->stack.get(), kStackBytes);
#endif
  change(&machine.scheduler, &fiber->context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(machine.scheduler_stack, nullptr, nullptr);
#endif
}

void leave_fiber(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fiber->finished ? nullptr : &fiber->sanitizer_stack, machine.scheduler_bottom,
                                 machine.scheduler_size);
#endif
  change(&fiber->context, &machine.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber->sanitizer_stack, &machine.scheduler_bottom, &machine.scheduler_size);
#endif
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &machine.scheduler_bottom, &machine.scheduler_size);
#endif
  (*machine.body)();
  Fiber* me = &machine.fibers[static_cast<size_t>(machine.current)];
  me->finished = true;
  machine.progress = true;
  if (machine.block.arrived > 0) die("a thread ended while others wait for it at a barrier");
  --machine.alive;
  leave_fiber(me);
  die("a finished thread went on");
}

void meet(Meeting* meeting, int parties) {
  const uint64_t round = meeting->round;
  if (++meeting->arrived == parties) {
    meeting->arrived = 0;
    ++meeting->round;
    machine.progress = true;
    return;
  }
  Fiber* me = &machine.fibers[static_cast<size_t>(machine.current)];
  while (meeting->round == round) leave_fiber(me);
}

// Lets every thread of a warp go on to where it has to wait, `passes` times. Whether anything came of it.
bool run_warp(uint32_t warp, int passes, std::minstd_rand* random) {
  bool progress = false;
  for (int pass = 0; pass < passes; ++pass) {
    machine.progress = false;
    const uint32_t first = static_cast<uint32_t>((*random)()), stride = static_cast<uint32_t>((*random)()) | 1u;
    for (uint32_t i = 0; i < static_cast<uint32_t>(kWarp); ++i) {
      machine.current = static_cast<int>(warp * kWarp + (first + i * stride) % kWarp);
      Fiber* fiber = &machine.fibers[static_cast<size_t>(machine.current)];
      if (!fiber->finished) enter_fiber(fiber);
    }
    if (!machine.progress) break;
    progress = true;
  }
  return progress;
}

void run_block(std::minstd_rand* random) {
  machine.block = Meeting();
  machine.alive = machine.threads;
  for (Warp& warp : machine.warps) warp.meeting = Meeting();
  for (Fiber& fiber : machine.fibers) {
    fiber.finished = false;
    fiber.groups.clear();
    fiber.open.clear();
    prepare(&fiber.context, fiber.stack.get(), fiber_main);
  }
  const uint32_t warps = static_cast<uint32_t>(machine.warps.size());
  while (machine.alive > 0) {
    bool progress = false;
    // An odd stride visits every warp once, as their number is a power of two.
    const uint32_t first = static_cast<uint32_t>((*random)()), stride = static_cast<uint32_t>((*random)()) | 1u;
    for (uint32_t i = 0; i < warps; ++i) {
      // Some warps run ahead of the others as far as barriers let them.
      const int passes = (*random)() % 4 == 0 ? kFarAhead : 1;
      progress = run_warp((first + i * stride) % warps, passes, random) || progress;
    }
    if (!progress) die("threads wait for each other in different places");
  }
}

void perform(const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    if (copy.valid) {
      std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    } else {
      std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
    }
  }
}

}  // namespace

void launch(int grid, int threads, size_t shared_bytes, uint32_t seed, const std::function<void()>& body) {
  if (grid < 1 || threads < kWarp || threads > 1024 || (threads & (threads - 1)) != 0) die("bad launch");
  std::minstd_rand random(seed + 1);
  machine.fibers.resize(static_cast<size_t>(threads));
  for (Fiber& fiber : machine.fibers) {
    if (fiber.stack == nullptr) fiber.stack.reset(new char[kStackBytes]);
  }
  machine.warps.resize(static_cast<size_t>(threads / kWarp));
  machine.body = &body;
  machine.grid = grid;
  machine.threads = threads;
  machine.late_copies = seed % 2 == 1;
  std::vector<int> order(static_cast<size_t>(grid));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  machine.shared_memory.reset(new char[shared_bytes + 128]);
  machine.shared = machine.shared_memory.get() + 128 - reinterpret_cast<uintptr_t>(machine.shared_memory.get()) % 128;
  for (const int block : order) {
    std::memset(machine.shared, 0xff, shared_bytes);
    machine.block_at = block;
    run_block(&random);
  }
}

void* dynamic_shared() { return machine.shared; }
int thread_index() { return machine.current; }
int block_index() { return machine.block_at; }
int grid_size() { return machine.grid; }
void sync_block() { meet(&machine.block, machine.threads); }

const LaneWords* exchange(const uint32_t* words, int count) {
  Warp& warp = machine.warps[static_cast<size_t>(machine.current / kWarp)];
  const size_t slot = warp.meeting.round % 2;
  if (count > 0) std::memcpy(warp.words[slot][machine.current % kWarp], words, static_cast<size_t>(count) * 4);
  meet(&warp.meeting, kWarp);
  return warp.words[slot];
}

void require_aligned(const void* address, uintptr_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) die("an address is not aligned");
}

void copy_async(void* to, const void* from, int bytes, bool valid) {
  require_aligned(to, static_cast<uintptr_t>(bytes));
  if (valid) require_aligned(from, static_cast<uintptr_t>(bytes));
  const Copy copy = {to, from, bytes, valid};
  if (machine.late_copies) {
    machine.fibers[static_cast<size_t>(machine.current)].open.push_back(copy);
  } else {
    perform({copy});
  }
}

void copy_commit() {
  Fiber& me = machine.fibers[static_cast<size_t>(machine.current)];
  me.groups.push_back(std::move(me.open));
  me.open.clear();
}

void copy_wait(int pending) {
  Fiber& me = machine.fibers[static_cast<size_t>(machine.current)];
  while (static_cast<int>(me.groups.size()) > pending) {
    perform(me.groups.front());
    me.groups.pop_front();
  }
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, exponent = bits >> 10 & 0x1fu;
  const uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  return as_float(sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13);
}

uint16_t float_to_half(float value) {
  const uint32_t bits = as_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {                                               // subnormal: a multiple of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(std::ldexp(as_float(magnitude), 24))));
  }
  const uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}

}  // namespace emulated
}  // namespace cuda
}  // namespace laudc
