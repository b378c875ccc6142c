// SHA-256 (FIPS 180-4) and the CRC-32 of zip files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace laudc {
namespace runner {

class Sha256 {
 public:
  Sha256();
  void update(const void* data, size_t size);
  std::string hex();  // 64 lower-case digits; ends the computation

 private:
  void block(const uint8_t* data);
  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> pending_;
  size_t used_ = 0;
  uint64_t total_ = 0;
};

// Continues the checksum `crc` (0 for the first piece) with `size` bytes.
uint32_t crc32(uint32_t crc, const void* data, size_t size);

}  // namespace runner
}  // namespace laudc
