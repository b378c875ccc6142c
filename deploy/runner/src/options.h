// The command line.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace laudc {
namespace runner {

struct Options {
  std::string verb;  // empty: --help or --version, whose text is in `text`
  std::string text;
  std::vector<std::string> arguments;
  std::map<std::string, std::string> values;  // by long name without dashes; flags hold "1"

  bool has(const std::string& name) const { return values.count(name) != 0; }
  std::string get(const std::string& name, const std::string& otherwise = "") const;
  int64_t number(const std::string& name, int64_t otherwise, int64_t least) const;  // throws Error
};

// Throws Error for an unknown command or option, a missing value, or a wrong number of arguments.
Options parse_options(const std::vector<std::string>& arguments);

}  // namespace runner
}  // namespace laudc
