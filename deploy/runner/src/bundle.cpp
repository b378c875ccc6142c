#include "bundle.h"

#include <fstream>

#include "checksums.h"
#include "error.h"
#include "files.h"

namespace laudc {
namespace runner {

namespace {

const char* const kOrder[] = {kManifestMember, kModelMember, kWeightsMember, kPlanMember, kPortableMember};
constexpr size_t kMaxMembers = 5;
constexpr uint32_t kAlignment = 64;
constexpr uint32_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kPaddingHeader = 4;
constexpr uint64_t kMaxFile = 0xFFFFFFFFu;
constexpr uint32_t kMaxManifest = 8u << 20;
constexpr const char* kFormat = "laudc-bundle";
constexpr int64_t kFormatVersion = 1;

void put16(uint32_t value, std::string* out) {
  out->push_back(static_cast<char>(value & 255));
  out->push_back(static_cast<char>((value >> 8) & 255));
}

void put32(uint32_t value, std::string* out) {
  put16(value & 0xFFFF, out);
  put16(value >> 16, out);
}

uint32_t get16(const char* at) {
  return static_cast<unsigned char>(at[0]) | static_cast<uint32_t>(static_cast<unsigned char>(at[1])) << 8;
}

uint32_t get32(const char* at) { return get16(at) | get16(at + 2) << 16; }

std::string padding(const std::string& name, uint32_t offset) {
  const uint32_t used = offset + kLocalSize + static_cast<uint32_t>(name.size()) + kPaddingHeader;
  const uint32_t fill = (kAlignment - used % kAlignment) % kAlignment;
  std::string extra;
  put16(0x4C44, &extra);
  put16(fill, &extra);
  extra.append(fill, '\0');
  return extra;
}

// Version 20, no flags, stored, 1980-01-01.
void put_common(const Member& member, std::string* out) {
  put16(20, out);
  put16(0, out);
  put16(0, out);
  put16(0, out);
  put16((1 << 5) | 1, out);
  put32(member.crc, out);
  put32(member.size, out);
  put32(member.size, out);
}

std::string local_header(const std::string& name, const Member& member) {
  const std::string extra = padding(name, member.offset);
  std::string out = "PK\x03\x04";
  put_common(member, &out);
  put16(static_cast<uint32_t>(name.size()), &out);
  put16(static_cast<uint32_t>(extra.size()), &out);
  return out + name + extra;
}

std::string central_header(const std::string& name, const Member& member) {
  std::string out = "PK\x01\x02";
  put16((3 << 8) | 20, &out);
  put_common(member, &out);
  put16(static_cast<uint32_t>(name.size()), &out);
  for (int i = 0; i < 4; ++i) put16(0, &out);  // extra, comment, disk, internal attributes
  put32(static_cast<uint32_t>(0100644) << 16, &out);
  put32(member.offset, &out);
  return out + name;
}

std::vector<std::string> in_order(const std::map<std::string, Member>& members) {
  std::vector<std::string> names;
  for (const char* name : kOrder) {
    if (members.count(name) != 0) names.push_back(name);
  }
  return names;
}

std::string directory(const std::map<std::string, Member>& members, uint32_t start) {
  std::string headers;
  const std::vector<std::string> names = in_order(members);
  for (const std::string& name : names) headers += central_header(name, members.at(name));
  std::string end = "PK\x05\x06";
  put16(0, &end);
  put16(0, &end);
  put16(static_cast<uint32_t>(names.size()), &end);
  put16(static_cast<uint32_t>(names.size()), &end);
  put32(static_cast<uint32_t>(headers.size()), &end);
  put32(start, &end);
  put16(0, &end);
  return headers + end;
}

Error damaged(const std::string& path, const std::string& why) {
  return Error(path + " is not an intact engine", why,
               "Copy it again, or build it again: laudc build-engine MODEL.onnx --device DEVICE -o " + path);
}

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(path, std::ios::binary | std::ios::ate) {
    if (!file_) throw Error("cannot read " + path, "it is not there or not readable", "Check the path");
    size_ = static_cast<uint64_t>(file_.tellg());
  }

  uint64_t size() const { return size_; }

  std::string at(uint64_t offset, uint64_t count) {
    std::string bytes(count, '\0');
    if (offset + count > size_) throw damaged(path_, "it ends too early");
    file_.seekg(static_cast<std::streamoff>(offset));
    if (!file_.read(&bytes[0], static_cast<std::streamsize>(count)))
      throw damaged(path_, "it cannot be read to its end");
    return bytes;
  }

 private:
  std::string path_;
  std::ifstream file_;
  uint64_t size_ = 0;
};

std::map<std::string, Member> parse_directory(const std::string& path, const std::string& bytes, uint32_t count) {
  std::map<std::string, Member> members;
  size_t at = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (at + kCentralSize > bytes.size()) throw damaged(path, "its directory ends too early");
    const char* header = bytes.data() + at;
    const uint32_t name_size = get16(header + 28);
    if (at + kCentralSize + name_size > bytes.size()) throw damaged(path, "its directory ends too early");
    const std::string name = bytes.substr(at + kCentralSize, name_size);
    bool known = false;
    for (const char* wanted : kOrder) known = known || name == wanted;
    if (!known) throw damaged(path, "it has a member that engines do not have");
    if (members.count(name) != 0) throw damaged(path, "it has the member " + name + " twice");
    Member member;
    member.crc = get32(header + 16);
    member.size = get32(header + 24);
    member.offset = get32(header + 42);
    members[name] = member;
    at += kCentralSize + name_size;
  }
  for (const char* name : {kManifestMember, kModelMember, kWeightsMember}) {
    if (members.count(name) == 0) throw damaged(path, std::string("its member ") + name + " is missing");
  }
  return members;
}

std::map<std::string, Member> read_directory(const std::string& path, Reader* file) {
  if (file->size() < 4 || file->at(0, 4) != "PK\x03\x04") {
    throw Error(path + " is not a laudc engine", "it does not begin like one",
                "Make one: laudc build-engine MODEL.onnx --device DEVICE -o MODEL.laudc");
  }
  if (file->size() > kMaxFile) throw damaged(path, "it is larger than any engine");
  const uint32_t size = static_cast<uint32_t>(file->size());
  if (size < kEndSize) throw damaged(path, "it is cut off");
  const std::string end = file->at(size - kEndSize, kEndSize);
  if (end.compare(0, 4, "PK\x05\x06") != 0) {
    throw damaged(path, "it is cut off or has something appended: no directory at its end");
  }
  const uint32_t count = get16(end.data() + 10), directory_size = get32(end.data() + 12),
                 start = get32(end.data() + 16);
  if (uint64_t{start} + directory_size + kEndSize != size || count > kMaxMembers) {
    throw damaged(path, "its directory does not match its size: bytes are missing or were added");
  }
  const std::string bytes = file->at(start, directory_size + kEndSize);
  std::map<std::string, Member> members = parse_directory(path, bytes, count);
  if (bytes != directory(members, start)) throw damaged(path, "its directory was changed after it was built");
  uint64_t offset = 0;
  for (const std::string& name : in_order(members)) {
    Member& member = members[name];
    if (member.offset != offset) throw damaged(path, "its member " + name + " is not where it belongs");
    const std::string header = local_header(name, member);
    if (file->at(offset, header.size()) != header) {
      throw damaged(path, "the header of " + name + " was changed after it was built");
    }
    member.data_offset = static_cast<uint32_t>(offset + header.size());
    offset += header.size() + member.size;
  }
  if (offset != start) throw damaged(path, "its members do not fill it");
  return members;
}

// Hash and checksum without holding all of a member.
void check_member(const std::string& path, Reader* file, const std::string& name, const Member& member,
                  const std::string& wanted) {
  Sha256 digest;
  uint32_t crc = 0;
  constexpr uint32_t kChunk = 4u << 20;
  for (uint32_t done = 0; done < member.size;) {
    const uint32_t count = member.size - done < kChunk ? member.size - done : kChunk;
    const std::string bytes = file->at(uint64_t{member.data_offset} + done, count);
    digest.update(bytes.data(), bytes.size());
    crc = crc32(crc, bytes.data(), bytes.size());
    done += count;
  }
  const std::string found = digest.hex();
  if (!wanted.empty() && found != wanted) {
    throw damaged(path, "field 'members." + name + ".sha256': found " + found.substr(0, 16) + "..., wanted " +
                            wanted.substr(0, 16) + "...");
  }
  if (crc != member.crc) throw damaged(path, "the checksum of " + name + " was changed after it was built");
}

}  // namespace

Bundle::Bundle(const std::string& path) : path_(path) {
  Reader file(path);
  members_ = read_directory(path, &file);
  const Member& where = members_.at(kManifestMember);
  if (where.size > kMaxManifest) throw damaged(path, "its manifest is larger than any engine's");
  check_member(path, &file, kManifestMember, where, "");
  try {
    manifest_ = Json::parse(file.at(where.data_offset, where.size));
    if (manifest_.get("format").as_string() != kFormat)
      throw JsonError("field 'format' is not " + std::string(kFormat));
    if (manifest_.get("format_version").as_int() != kFormatVersion) {
      throw Error(path + " has a bundle format that this runner does not read",
                  "field 'format_version': found " + manifest_.get("format_version").dump() + ", wanted " +
                      std::to_string(kFormatVersion),
                  "Build the runner from the same version of laudc as the engine");
    }
    const Json& listed = manifest_.get("members");
    if (listed.members().size() + 1 != members_.size()) throw JsonError("field 'members' does not list what it holds");
    for (const auto& entry : listed.members()) {
      if (!has(entry.first)) throw JsonError("field 'members' lists " + entry.first + ", which is not there");
      const Member& member = members_.at(entry.first);
      if (entry.second.get("size").as_int() != member.size) {
        throw JsonError("field 'members." + entry.first + ".size' differs from its size");
      }
      check_member(path, &file, entry.first, member, entry.second.get("sha256").as_string());
    }
  } catch (const JsonError& error) {
    throw damaged(path, std::string("its manifest is not valid: ") + error.what());
  }
}

std::vector<char> Bundle::read(const std::string& name) const {
  const auto found = members_.find(name);
  if (found == members_.end()) throw damaged(path_, "it has no member " + name);
  Reader file(path_);
  const std::string bytes = file.at(found->second.data_offset, found->second.size);
  Sha256 digest;
  digest.update(bytes.data(), bytes.size());
  if (name != kManifestMember && digest.hex() != manifest_.get("members").get(name).get("sha256").as_string()) {
    throw damaged(path_, name + " changed while it was being read");
  }
  return std::vector<char>(bytes.begin(), bytes.end());
}

void write_bundle(AtomicFile* file, const std::string& shown_path, Json manifest,
                  const std::map<std::string, std::vector<char>>& contents) {
  Json listed = Json::object();
  for (const auto& content : contents) {
    Sha256 digest;
    digest.update(content.second.data(), content.second.size());
    Json record = Json::object();
    record.set("sha256", Json::string(digest.hex()));
    record.set("size", Json::integer(static_cast<int64_t>(content.second.size())));
    listed.set(content.first, record);
  }
  manifest.set("members", listed);
  const std::string text = manifest.dump() + "\n";

  std::map<std::string, Member> members;
  uint64_t offset = 0;
  for (const char* name : kOrder) {
    const bool is_manifest = std::string(name) == kManifestMember;
    const auto content = contents.find(name);
    if (!is_manifest && content == contents.end()) continue;
    const char* data = is_manifest ? text.data() : content->second.data();
    const size_t size = is_manifest ? text.size() : content->second.size();
    if (offset + size + 2 * kAlignment + 256 > kMaxFile) {
      throw Error("cannot write " + shown_path, "a bundle holds less than 4 GiB, and this engine is larger",
                  "Build the bundle without the portable copy (laudc build-engine --no-portable)");
    }
    Member member;
    member.size = static_cast<uint32_t>(size);
    member.crc = crc32(0, data, size);
    member.offset = static_cast<uint32_t>(offset);
    const std::string header = local_header(name, member);
    file->write(header.data(), header.size());
    file->write(data, size);
    offset += header.size() + size;
    members[name] = member;
  }
  const std::string end = directory(members, static_cast<uint32_t>(offset));
  file->write(end.data(), end.size());
}

}  // namespace runner
}  // namespace laudc
