#include "console.h"

#include <unistd.h>

#include <cstdio>

#include "files.h"

namespace laudc {
namespace runner {

namespace {
constexpr int64_t kSchemaVersion = 1;
}

void Console::say(const std::string& text) const {
  if (quiet) return;
  std::fprintf(json_target == "-" ? stderr : stdout, "%s\n", text.c_str());
}

void Console::clear() {
  if (shown_) std::fprintf(stderr, "\r\x1b[K");
  shown_ = false;
}

void Console::progress(const std::string& step) {
  if (quiet) return;
  if (isatty(STDERR_FILENO) != 0) {
    std::fprintf(stderr, "\r\x1b[K%s ...", step.c_str());
    shown_ = true;
  } else {
    std::fprintf(stderr, "laudc-runner: %s\n", step.c_str());
  }
  std::fflush(stderr);
}

void Console::warn(const std::string& text) {
  clear();
  std::fprintf(stderr, "laudc-runner: warning: %s\n", text.c_str());
}

void Console::write(Json result) {
  if (json_target.empty()) return;
  clear();
  result.set("schema_version", Json::integer(kSchemaVersion));
  const std::string text = result.dump(2) + "\n";
  if (json_target == "-") {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    return;
  }
  write_file(json_target, text.data(), text.size());
}

void Console::write_error(const Error& error) {
  clear();
  std::fprintf(stderr, "laudc-runner: %s\n", error.what());
  if (error.exit_code() == kExitCheckFailed) return;  // a check's own result is not overwritten
  Json facts = Json::object();
  facts.set("what", Json::string(error.happened()));
  facts.set("why", Json::string(error.why()));
  facts.set("fix", Json::string(error.fix()));
  facts.set("exit_code", Json::integer(error.exit_code()));
  Json result = Json::object();
  result.set("kind", Json::string("error"));
  result.set("error", facts);
  try {
    write(result);
  } catch (const Error&) {
    // The file may be the very thing that could not be written; the paragraph has been shown already.
  }
}

}  // namespace runner
}  // namespace laudc
