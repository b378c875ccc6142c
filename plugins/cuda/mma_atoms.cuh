// What the tensor cores of each generation multiply: 16 rows of a by 16 columns of w, a few inputs at a time.
//
// An atom knows which elements a lane holds. Its fragments are those of the PTX ISA, "Matrix Fragments for mma"
// (m8n8k4, m16n8k8 and m16n8k16). `at` points into a stage in shared memory: at the first input of the first row of a,
// or at the first column of the first input of w; rows are `stride` elements apart. `sums` of a lane are the elements
// at (row(lane, e), column(lane, e)).
#pragma once

#include "cuda/device.h"

namespace laudc {
namespace cuda {

// Fragments that ldmatrix loads, and sums of two m16n8 products side by side.
struct MatrixLoads {
  LAUDC_DEVICE static int row(int lane, int e) { return lane / 4 + e % 4 / 2 * 8; }
  LAUDC_DEVICE static int column(int lane, int e) { return e / 4 * 8 + lane % 4 * 2 + e % 2; }
};

struct HalfMatrixLoads : MatrixLoads {
  typedef Half Element;
  static constexpr int kDepth = 16, kWords = 4;

  LAUDC_DEVICE static void load_a(const Half* at, int stride, int lane, uint32_t a[kWords]) {
    load_matrices(at + lane % 16 * stride + lane / 16 * 8, a);
  }
  LAUDC_DEVICE static void load_w(const Half* at, int stride, int lane, uint32_t w[kWords]) {
    load_matrices_transposed(at + lane % 16 * stride + lane / 16 * 8, w);
  }
};

// sm_70. Each of the four groups of eight lanes (l % 16 / 4) multiplies 8 rows by 8 columns. The first two groups take
// the upper rows, and odd groups the columns 4-7 and 12-15, so that what the lanes of one access read lies in different
// banks or is the same word.
struct VoltaHalf {
  typedef Half Element;
  static constexpr int kFirstSm = 70, kEndSm = 75, kDepth = 8, kWords = 4;
  static constexpr bool kBackgroundCopies = false;

  LAUDC_DEVICE static void load_a(const Half* at, int stride, int lane, uint32_t a[kWords]) {
    const int row = lane / 8 % 2 * 8 + lane / 16 * 4 + lane % 4;
    const Bytes16 inputs = *reinterpret_cast<const Bytes16*>(at + row * stride);
    LAUDC_UNROLL
    for (int i = 0; i < kWords; ++i) a[i] = inputs.word[i];
  }
  LAUDC_DEVICE static void load_w(const Half* at, int stride, int lane, uint32_t w[kWords]) {
    LAUDC_UNROLL
    for (int four = 0; four < 2; ++four) {
      const int k = four * 4 + lane % 4, column = lane / 16 * 8 + lane / 4 % 2 * 4;
      const Bytes8 columns = *reinterpret_cast<const Bytes8*>(at + k * stride + column);
      w[2 * four] = columns.word[0];
      w[2 * four + 1] = columns.word[1];
    }
  }
  LAUDC_DEVICE static void multiply(float sums[8], const uint32_t a[kWords], const uint32_t w[kWords]) {
    multiply_half_8x8x4(sums, a, w);
    multiply_half_8x8x4(sums, a + 2, w + 2);
  }
  LAUDC_DEVICE static int row(int lane, int e) { return lane / 8 % 2 * 8 + lane / 16 * 4 + lane % 2 + e / 2 % 2 * 2; }
  LAUDC_DEVICE static int column(int lane, int e) { return e / 4 * 8 + lane / 4 % 2 * 4 + lane / 2 % 2 * 2 + e % 2; }
};

// sm_75.
struct TuringHalf : HalfMatrixLoads {
  static constexpr int kFirstSm = 75, kEndSm = 80;
  static constexpr bool kBackgroundCopies = false;

  LAUDC_DEVICE static void multiply(float sums[8], const uint32_t a[kWords], const uint32_t w[kWords]) {
    LAUDC_UNROLL
    for (int j = 0; j < 2; ++j) {
      multiply_half_16x8x8(sums + 4 * j, a, w[2 * j]);
      multiply_half_16x8x8(sums + 4 * j, a + 2, w[2 * j + 1]);
    }
  }
};

// sm_80 and later.
struct AmpereHalf : HalfMatrixLoads {
  static constexpr int kFirstSm = 80, kEndSm = 1 << 30;
  static constexpr bool kBackgroundCopies = true;

  LAUDC_DEVICE static void multiply(float sums[8], const uint32_t a[kWords], const uint32_t w[kWords]) {
    multiply_half_16x8x16(sums, a, w);
    multiply_half_16x8x16(sums + 4, a, w + 2);
  }
};

struct AmpereTf32 : MatrixLoads {
  typedef float Element;
  static constexpr int kFirstSm = 80, kEndSm = 1 << 30, kDepth = 8, kWords = 4;
  static constexpr bool kBackgroundCopies = true;

  LAUDC_DEVICE static void load_a(const float* at, int stride, int lane, uint32_t a[kWords]) {
    // An 8x8 matrix of 16-bit elements is an 8x4 matrix of floats.
    load_matrices(at + lane % 16 * stride + lane / 16 * 4, a);
    LAUDC_UNROLL
    for (int i = 0; i < kWords; ++i) a[i] = to_tf32(a[i]);
  }
  LAUDC_DEVICE static void load_w(const float* at, int stride, int lane, uint32_t w[kWords]) {
    LAUDC_UNROLL
    for (int i = 0; i < kWords; ++i) {
      const float* from = at + (i % 2 * 4 + lane % 4) * stride + i / 2 * 8 + lane / 4;
      w[i] = to_tf32(*reinterpret_cast<const uint32_t*>(from));
    }
  }
  LAUDC_DEVICE static void multiply(float sums[8], const uint32_t a[kWords], const uint32_t w[kWords]) {
    multiply_tf32_16x8x8(sums, a, w);
    multiply_tf32_16x8x8(sums + 4, a, w + 2);
  }
};

// The newest atom of a type.
template <class T>
struct NewestAtom;
template <>
struct NewestAtom<Half> {
  typedef AmpereHalf Atom;
};
template <>
struct NewestAtom<float> {
  typedef AmpereTf32 Atom;
};

}  // namespace cuda
}  // namespace laudc
