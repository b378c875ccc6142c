#include <cstdio>
#include <exception>

#include "commands.h"
#include "console.h"
#include "error.h"
#include "options.h"

namespace {

using laudc::runner::Console;
using laudc::runner::Error;
using laudc::runner::Options;

int dispatch(const Options& options, Console* console) {
  if (options.verb.empty()) {
    std::printf("%s\n", options.text.c_str());
    return 0;
  }
  if (options.verb == "build") return laudc::runner::build_command(options, console);
  if (options.verb == "run") return laudc::runner::run_command(options, console);
  if (options.verb == "profile") return laudc::runner::profile_command(options, console);
  if (options.verb == "device") return laudc::runner::device_command(options, console);
  return laudc::runner::check_command(options, console);
}

}  // namespace

int main(int count, char** words) {
  Console console;
  try {
    const Options options = laudc::runner::parse_options({words + 1, words + count});
    console.json_target = options.get("json");
    console.quiet = options.has("quiet");
    return dispatch(options, &console);
  } catch (const Error& error) {
    console.write_error(error);
    return error.exit_code();
  } catch (const std::exception& error) {
    console.write_error(Error("laudc-runner met an error that it does not know", error.what(),
                              "Run the command again and please report it", laudc::runner::kExitInternal));
    return laudc::runner::kExitInternal;
  }
}
