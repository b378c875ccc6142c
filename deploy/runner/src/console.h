// Where results, progress and errors go; the same channels as in the Python command line.
#pragma once

#include <string>

#include "error.h"
#include "json.h"

namespace laudc {
namespace runner {

class Console {
 public:
  std::string json_target;  // file, "-" for standard output, or empty
  bool quiet = false;

  void say(const std::string& text) const;  // a result, for people
  void progress(const std::string& step);   // standard error; one line that is overwritten on a terminal
  void warn(const std::string& text);       // standard error
  void write(Json result);                  // adds the schema's version; throws Error when it cannot
  void write_error(const Error& error);     // never throws
  void clear();

 private:
  bool shown_ = false;
};

}  // namespace runner
}  // namespace laudc
