// Does an engine fit this device? The same fields, in the same words, as laudc/engine/compat.py.
#pragma once

#include <string>
#include <vector>

#include "device.h"
#include "manifest.h"
#include "plugin.h"

namespace laudc {
namespace runner {

struct Difference {
  std::string field, engine, here;
};

int major_of(const std::string& version);

// What keeps a compiled engine from running, or an uncompiled one from being compiled, here. The most telling first.
std::vector<Difference> differences(const Manifest& manifest, const Device& device, const PluginLibrary& plugin);

// Throws Error naming the first difference and what to do.
void require_runs_here(const std::string& path, const Manifest& manifest, const Device& device,
                       const PluginLibrary& plugin);

// Throws Error when the precision is not one that the plugins, or this GPU, have.
void require_precision(const std::string& precision, const Gpu& gpu);

}  // namespace runner
}  // namespace laudc
