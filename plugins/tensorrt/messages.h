// What the plugin says: through TensorRT's logger where it has been told of one, else on stderr.
#pragma once

#include <exception>
#include <string>

#include "tensorrt/headers.h"
#include "tensorrt/names.h"

namespace laudc {
namespace trt {

enum class Severity { kError, kWarning, kInfo };

// `layer` may be empty. Errors also become the calling thread's last error.
void say(Severity severity, const std::string& layer, const std::string& what) noexcept;

const char* last_error() noexcept;
void clear_last_error() noexcept;

#if LAUDC_HAS_LOGGER_FINDER
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;
#endif

// Runs `body`, which returns a result or throws; `failed` is the result if it throws. No exception passes.
template <class Result, class Body>
Result guarded(const std::string& layer, Result failed, Body&& body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    say(Severity::kError, layer, error.what());
  } catch (...) {
    say(Severity::kError, layer, "unknown internal error");
  }
  return failed;
}

}  // namespace trt
}  // namespace laudc
