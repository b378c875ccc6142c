// A GPU for tests: cuda/device.h on the host.
//
// Kernels run unchanged. Every thread of a block is a fiber of its own; barriers and warp operations are where fibers
// wait for each other, and between them they run in shuffled order, as do the blocks of a launch. Shared memory starts
// as NaN, copy_async arrives as early or as late as the rules allow, and a barrier that some threads miss ends the
// program. So what the emulation finds right does not hang on luck with timing; it says nothing about speed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "cuda/types.h"

#define LAUDC_DEVICE inline
#define LAUDC_KERNEL(threads, blocks_per_sm) void
#define LAUDC_SHARED static
#define LAUDC_UNROLL
#define LAUDC_DYNAMIC_SHARED(name) char* name = static_cast<char*>(laudc::cuda::emulated::dynamic_shared())

namespace laudc {
namespace cuda {
namespace emulated {

// Runs `body` as every thread of every block. Different seeds give different orders.
void launch(int grid, int threads, size_t shared_bytes, uint32_t seed, const std::function<void()>& body);

void* dynamic_shared();
int thread_index();
int block_index();
int grid_size();
void sync_block();

// What every lane of the calling thread's warp passed, [lane]; valid until the warp's next exchange but one.
constexpr int kWords = 8;
typedef uint32_t LaneWords[kWords];
const LaneWords* exchange(const uint32_t* words, int count);

// Queue of background copies of the calling thread.
void copy_async(void* to, const void* from, int bytes, bool valid);
void copy_commit();
void copy_wait(int pending);

// Ends the program if the address is not a multiple of `bytes`, as the GPU would.
void require_aligned(const void* address, uintptr_t bytes);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);

}  // namespace emulated

// The emulated GPU has the tensor cores of every generation.
constexpr bool compiled_between(int, int) { return true; }

inline int thread_index() { return emulated::thread_index(); }
inline int block_index() { return emulated::block_index(); }
inline int grid_size() { return emulated::grid_size(); }
inline void sync_block() { emulated::sync_block(); }
inline void sync_warp() { emulated::exchange(nullptr, 0); }
inline void fence() {}
inline int bit_count(uint32_t bits) { return __builtin_popcount(bits); }
inline float fused(float a, float b, float c) { return a * b + c; }
inline float exponential(float value) { return std::exp(value); }
inline float error_function(float value) { return std::erf(value); }
inline float square_root(float value) { return std::sqrt(value); }
inline float load_shared_result(const float* address) { return *address; }

inline uint32_t as_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t ballot(bool vote) {
  const uint32_t mine = vote ? 1 : 0;
  const emulated::LaneWords* lanes = emulated::exchange(&mine, 1);
  uint32_t bits = 0;
  for (int i = 0; i < kWarp; ++i) bits |= lanes[i][0] << i;
  return bits;
}
inline float shuffle_xor(float value, int lanes_apart) {
  const uint32_t mine = as_bits(value);
  return as_float(emulated::exchange(&mine, 1)[(thread_index() % kWarp) ^ lanes_apart][0]);
}
inline int atomic_add(int* address, int value) {
  const int before = *address;
  *address = before + value;
  return before;
}

inline float to_float(float value) { return value; }
inline float to_float(Half value) { return emulated::half_to_float(value.bits); }
inline void from_float(float value, float* out) { *out = value; }
inline void from_float(float value, Half* out) { out->bits = emulated::float_to_half(value); }

template <int kBytes>
inline void copy_async(void* to, const void* from, bool valid) {
  emulated::copy_async(to, from, kBytes, valid);
}
inline void copy_commit() { emulated::copy_commit(); }
template <int kPending>
inline void copy_wait() {
  emulated::copy_wait(kPending);
}

// Lane l of the result holds elements 2 * (l % 4) and the next one of row l / 4 (or column, transposed) of each matrix.
inline void load_matrices(const void* row, uint32_t out[4], bool transposed) {
  uint32_t words[2];
  std::memcpy(words, &row, sizeof(row));
  const emulated::LaneWords* lanes = emulated::exchange(words, 2);
  const int lane = thread_index() % kWarp;
  emulated::require_aligned(row, 16);
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t pair[2];
    for (int e = 0; e < 2; ++e) {
      const int r = transposed ? lane % 4 * 2 + e : lane / 4, c = transposed ? lane / 4 : lane % 4 * 2 + e;
      const char* address;
      std::memcpy(&address, lanes[matrix * 8 + r], sizeof(address));
      std::memcpy(&pair[e], address + 2 * c, 2);
    }
    out[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
  }
}
inline void load_matrices(const void* row, uint32_t out[4]) { load_matrices(row, out, false); }
inline void load_matrices_transposed(const void* row, uint32_t out[4]) { load_matrices(row, out, true); }

inline const emulated::LaneWords* exchange_operands(const uint32_t a[4], const uint32_t b[2]) {
  const uint32_t words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  return emulated::exchange(words, 6);
}

inline float half_of(uint32_t word, int which) {
  return emulated::half_to_float(static_cast<uint16_t>(word >> (16 * which)));
}

// Fragments as PTX defines them for mma.m8n8k4 (a and b by rows), mma.m16n8k8 (16-bit and tf32) and mma.m16n8k16.
inline void multiply_half_8x8x4(float c[8], const uint32_t a[2], const uint32_t b[2]) {
  const uint32_t words[4] = {a[0], a[1], b[0], b[1]};
  const emulated::LaneWords* lanes = emulated::exchange(words, 4);
  const int lane = thread_index() % kWarp, first = lane % 16 / 4 * 4;  // of the eight lanes that multiply together
  for (int i = 0; i < 8; ++i) {
    const int row = (lane & 1) + (i & 2) + (lane < 16 ? 0 : 4), column = (i & 4) + (lane & 2) + (i & 1);
    for (int k = 0; k < 4; ++k) {
      const uint32_t word_a = lanes[first + row % 4 + row / 4 * 16][k / 2];
      const uint32_t word_b = lanes[first + k + column / 4 * 16][2 + column % 4 / 2];
      c[i] += half_of(word_a, k % 2) * half_of(word_b, column % 2);
    }
  }
}
inline void multiply_half_16x8x8(float c[4], const uint32_t a[2], uint32_t b) {
  const uint32_t words[3] = {a[0], a[1], b};
  const emulated::LaneWords* lanes = emulated::exchange(words, 3);
  const int lane = thread_index() % kWarp;
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
    for (int k = 0; k < 8; ++k) {
      c[e] += half_of(lanes[row % 8 * 4 + k / 2][row / 8], k % 2) * half_of(lanes[column * 4 + k / 2][2], k % 2);
    }
  }
}
inline void multiply_half_16x8x16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
  const emulated::LaneWords* lanes = exchange_operands(a, b);
  const int lane = thread_index() % kWarp;
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
    for (int k = 0; k < 16; ++k) {
      const uint32_t word_a = lanes[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
      const uint32_t word_b = lanes[column * 4 + k % 8 / 2][4 + k / 8];
      c[e] += half_of(word_a, k % 2) * half_of(word_b, k % 2);
    }
  }
}
inline void multiply_tf32_16x8x8(float c[4], const uint32_t a[4], const uint32_t b[2]) {
  const emulated::LaneWords* lanes = exchange_operands(a, b);
  const int lane = thread_index() % kWarp;
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
    for (int k = 0; k < 8; ++k) {
      const uint32_t word_a = lanes[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2];
      const uint32_t word_b = lanes[column * 4 + k % 4][4 + k / 4];
      c[e] += as_float(word_a) * as_float(word_b);
    }
  }
}
inline uint32_t to_tf32(uint32_t bits) { return (bits + 0x1000u) & ~0x1fffu; }

}  // namespace cuda
}  // namespace laudc
