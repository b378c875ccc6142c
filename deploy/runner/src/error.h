// What the runner says when it cannot go on: the same three parts, and exit codes, as the Python command line.
#pragma once

#include <stdexcept>
#include <string>

namespace laudc {
namespace runner {

constexpr int kExitInternal = 1;
constexpr int kExitUser = 2;
constexpr int kExitCheckFailed = 3;

// What happened, why, and what to do about it.
class Error : public std::runtime_error {
 public:
  Error(std::string what_happened, std::string cause, std::string remedy, int code = kExitUser)
      : std::runtime_error(what_happened + ". " + cause + ". " + remedy + "."),
        what_(std::move(what_happened)),
        why_(std::move(cause)),
        fix_(std::move(remedy)),
        exit_code_(code) {}

  const std::string& happened() const { return what_; }
  const std::string& why() const { return why_; }
  const std::string& fix() const { return fix_; }
  int exit_code() const { return exit_code_; }

 private:
  std::string what_, why_, fix_;
  int exit_code_;
};

}  // namespace runner
}  // namespace laudc
