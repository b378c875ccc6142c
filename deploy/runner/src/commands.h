// The commands. Each returns the exit code and throws Error for what its user can change.
#pragma once

#include "console.h"
#include "options.h"

namespace laudc {
namespace runner {

int build_command(const Options& options, Console* console);
int run_command(const Options& options, Console* console);
int profile_command(const Options& options, Console* console);
int check_command(const Options& options, Console* console);
int device_command(const Options& options, Console* console);

}  // namespace runner
}  // namespace laudc
