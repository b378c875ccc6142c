// What the runner needs from a bundle's manifest, checked.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "bundle.h"

namespace laudc {
namespace runner {

struct BlockInfo {
  std::string name, execution, reason;
  int64_t mask_cells = 0;  // spatial decisions per image; 0: no spatial mask
  int64_t groups = 0;      // channel groups; 0: no channel mask
};

struct Gpu {
  std::string name, sm, cuda, driver;
};

struct Manifest {
  explicit Manifest(const Bundle& bundle);  // throws Error: not for TensorRT, or a field is not what it must be

  bool compiled = false;
  std::string device, precision, tensorrt, arch;
  int64_t abi = 0;
  std::string input_name;
  std::array<int64_t, 3> image{};  // channels, rows, columns
  std::array<int64_t, 3> batch{};  // smallest, usual, largest
  int64_t workspace_mib = 0;
  std::vector<BlockInfo> blocks;
  Gpu gpu;  // of a compiled engine

  size_t sparse_blocks() const;
  int64_t values_per_image() const { return image[0] * image[1] * image[2]; }
};

// The command that makes the engine anew on this device.
std::string rebuild_command(const std::string& path);

}  // namespace runner
}  // namespace laudc
