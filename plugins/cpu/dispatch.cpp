#include <cstdlib>
#include <cstring>

#include "cpu/grid_conv.h"
#include "cpu/kernels.h"

namespace laudc {
namespace cpu {
namespace {

#if defined(LAUDC_HAVE_X86_KERNELS)
bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool runs_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}
#endif

bool wanted(const char* isa) {
  const char* name = std::getenv("LAUDC_ISA");
  return name != nullptr && std::strcmp(name, isa) == 0;
}

const KernelTable& choose() {
  if (wanted("portable")) return portable_kernels();
#if defined(LAUDC_HAVE_X86_KERNELS)
  if (!wanted("avx2") && runs_avx512()) return avx512_kernels();
  if (runs_avx2()) return avx2_kernels();
#endif
#if defined(LAUDC_HAVE_NEON_KERNELS)
  return neon_kernels();  // part of every AArch64
#endif
  return portable_kernels();
}

}  // namespace

const KernelTable& kernels() {
  static const KernelTable& table = choose();
  return table;
}

GridKernel grid_kernel(const KernelTable& table) {
#if defined(LAUDC_HAVE_X86_KERNELS)
  if (&table == &avx512_kernels()) return avx512_grid_kernel();
  if (&table == &avx2_kernels()) return avx2_grid_kernel();
#endif
  static_cast<void>(table);
  return {nullptr, 0, nullptr, 0};
}

}  // namespace cpu
}  // namespace laudc
