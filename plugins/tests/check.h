// The whole test framework: TEST registers, CHECK counts and reports, LAUDC_TEST_MAIN runs.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

namespace laudc {
namespace test {

struct Case {
  const char* name;
  void (*body)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

inline bool check(bool ok, const char* file, int line, const char* what) {
  if (ok) return true;
  // One wrong element usually means thousands: the first few tell enough.
  if (++failures() <= 20) std::fprintf(stderr, "%s:%d: %s\n", file, line, what);
  return false;
}

inline int run_all() {
  for (const Case& c : cases()) {
    const int before = failures();
    c.body();
    std::printf("%s %s\n", failures() == before ? "ok    " : "FAILED", c.name);
  }
  return failures() == 0 ? 0 : 1;
}

// Seeded numbers: the same on every machine, unlike the distributions of the standard library.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  uint64_t bits() { return engine_(); }
  int between(int low, int high) {  // both included
    return low + static_cast<int>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  bool coin() { return (bits() & 1) != 0; }
  float real() { return static_cast<float>(static_cast<double>(bits() >> 11) / 4503599627370496.0 - 1.0); }  // [-1, 1)
  std::vector<float> reals(size_t count, float scale = 1.0f) {
    std::vector<float> values(count);
    for (float& v : values) v = scale * real();
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace test
}  // namespace laudc

#define TEST(name)                                                                        \
  static void name();                                                                     \
  static const bool name##_known = (laudc::test::cases().push_back({#name, name}), true); \
  static void name()
#define CHECK(condition) laudc::test::check(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define CHECK_NEAR(found, wanted, bound) CHECK(std::abs((found) - (wanted)) <= (bound))
#define LAUDC_TEST_MAIN \
  int main() { return laudc::test::run_all(); }
