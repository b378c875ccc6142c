// The whole test framework, as in plugins/tests: TEST registers, CHECK counts and reports, RUNNER_TEST_MAIN runs.
#pragma once

#include <cstdio>
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

inline void check(bool ok, const char* file, int line, const char* what) {
  if (!ok && ++failures() <= 20) std::fprintf(stderr, "%s:%d: %s\n", file, line, what);
}

inline int run_all() {
  for (const Case& c : cases()) {
    const int before = failures();
    c.body();
    std::printf("%s %s\n", failures() == before ? "ok    " : "FAILED", c.name);
  }
  return failures() == 0 ? 0 : 1;
}

// The message of the error that `call` throws; empty when it throws none.
template <typename ErrorType, typename Call>
const char* thrown(Call call, std::vector<char>* keep) {
  keep->assign(1, '\0');
  try {
    call();
  } catch (const ErrorType& error) {
    const char* text = error.what();
    while (*text != '\0') keep->insert(keep->end() - 1, *text++);
  }
  return keep->data();
}

}  // namespace test
}  // namespace laudc

#define TEST(name)                                                                        \
  static void name();                                                                     \
  static const bool name##_known = (laudc::test::cases().push_back({#name, name}), true); \
  static void name()
#define CHECK(condition) laudc::test::check(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define RUNNER_TEST_MAIN \
  int main() { return laudc::test::run_all(); }
