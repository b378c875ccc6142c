#include "tensorrt/messages.h"

#include <atomic>
#include <cstdio>

namespace laudc {
namespace trt {
namespace {

// Fixed memory: errors must be tellable when there is no more to be had.
constexpr size_t kMessageSize = 1024;
thread_local char last_message[kMessageSize] = "";

#if LAUDC_HAS_LOGGER_FINDER

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

nvinfer1::ILogger* find_logger() noexcept {
  nvinfer1::ILoggerFinder* finder = logger_finder.load();
  return finder == nullptr ? nullptr : finder->findLogger();
}

nvinfer1::ILogger::Severity level_of(Severity severity) {
  if (severity == Severity::kError) return nvinfer1::ILogger::Severity::kERROR;
  if (severity == Severity::kWarning) return nvinfer1::ILogger::Severity::kWARNING;
  return nvinfer1::ILogger::Severity::kINFO;
}

bool logged(Severity severity, const char* text) noexcept {
  nvinfer1::ILogger* logger = find_logger();
  if (logger == nullptr) return false;
  logger->log(level_of(severity), text);
  return true;
}

#else

bool logged(Severity, const char*) noexcept { return false; }

#endif

}  // namespace

void say(Severity severity, const std::string& layer, const std::string& what) noexcept {
  char text[kMessageSize];
  std::snprintf(text, sizeof(text), "laudc plugin%s%s: %s", layer.empty() ? "" : " ", layer.c_str(), what.c_str());
  if (severity == Severity::kError) std::snprintf(last_message, sizeof(last_message), "%s", text);
  if (!logged(severity, text) && severity != Severity::kInfo) std::fprintf(stderr, "%s\n", text);
}

const char* last_error() noexcept { return last_message; }

void clear_last_error() noexcept { last_message[0] = '\0'; }

#if LAUDC_HAS_LOGGER_FINDER
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { logger_finder.store(finder); }
#endif

}  // namespace trt
}  // namespace laudc
