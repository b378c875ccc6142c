// The bundle file, as laudc/engine/bundle.py defines it: a stored zip whose every byte that is not member data follows
// from the members' names, sizes and checksums. Reading rebuilds those bytes and compares.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "json.h"

namespace laudc {
namespace runner {

constexpr const char* kManifestMember = "manifest.json";
constexpr const char* kModelMember = "model.onnx";
constexpr const char* kWeightsMember = "weights.bin";
constexpr const char* kPlanMember = "engine.plan";
constexpr const char* kPortableMember = "portable.onnx";

struct Member {
  uint32_t size = 0;
  uint32_t crc = 0;
  uint32_t offset = 0;       // of its local header
  uint32_t data_offset = 0;  // of its bytes
};

class Bundle {
 public:
  // Opens and checks all of it: layout, manifest's syntax, sizes and hashes of every member. Throws Error.
  explicit Bundle(const std::string& path);

  const std::string& path() const { return path_; }
  const Json& manifest() const { return manifest_; }
  bool has(const std::string& member) const { return members_.count(member) != 0; }
  const std::map<std::string, Member>& members() const { return members_; }

  // A member's bytes, hashed again as they are read. Throws Error when the file has changed since.
  std::vector<char> read(const std::string& member) const;

 private:
  std::string path_;
  std::map<std::string, Member> members_;
  Json manifest_;
};

class AtomicFile;

// Writes a bundle into `file` (not finished yet): `manifest` with its "members" filled in, and `contents`.
void write_bundle(AtomicFile* file, const std::string& shown_path, Json manifest,
                  const std::map<std::string, std::vector<char>>& contents);

}  // namespace runner
}  // namespace laudc
