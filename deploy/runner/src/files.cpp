#include "files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "checksums.h"
#include "error.h"

namespace laudc {
namespace runner {

namespace {

Error write_error(const std::string& path, int error) {
  const char* why = std::strerror(error);
  const char* fix = "Choose another path";
  if (error == ENOSPC || error == EDQUOT) {
    why = "the disk is full";
    fix = "Free some space or choose another folder";
  } else if (error == EACCES || error == EPERM) {
    why = "the folder or the file is not writable";
  } else if (error == ENOENT) {
    why = "its folder does not exist";
    fix = "Create the folder first or choose another path";
  } else if (error == EWOULDBLOCK) {
    why = "another run is writing it";
    fix = "Wait for that run to end";
  }
  return Error("cannot write " + path, why, fix);
}

}  // namespace

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string name_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

void make_folders(const std::string& path) {
  for (size_t at = 1; at <= path.size(); ++at) {
    if (at == path.size() || path[at] == '/') mkdir(path.substr(0, at).c_str(), 0777);
  }
}

AtomicFile::AtomicFile(const std::string& path)
    : path_(path), partial_(folder_of(path) + "/." + name_of(path) + ".partial") {
  struct stat ours, named;
  do {
    if (descriptor_ >= 0) close(descriptor_);
    descriptor_ = open(partial_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail(errno);
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      close(descriptor_);
      descriptor_ = -1;
      fail(error);
    }
    // Whoever held the lock before may have renamed the file away in the meantime: it is not ours to write then.
  } while (fstat(descriptor_, &ours) != 0 || stat(partial_.c_str(), &named) != 0 || ours.st_ino != named.st_ino);
  if (ftruncate(descriptor_, 0) != 0) fail(errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  unlink(partial_.c_str());
  close(descriptor_);
}

void AtomicFile::fail(int error) const { throw write_error(path_, error); }

void AtomicFile::write(const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = ::write(descriptor_, bytes, std::min(size, size_t{1} << 26));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(errno);
    bytes += count;
    size -= static_cast<size_t>(count);
  }
}

void AtomicFile::finish() {
  if (fsync(descriptor_) != 0 && errno != EINVAL) fail(errno);
  if (rename(partial_.c_str(), path_.c_str()) != 0) fail(errno);
  close(descriptor_);
  descriptor_ = -1;
}

void write_file(const std::string& path, const void* data, size_t size) {
  AtomicFile file(path);
  file.write(data, size);
  file.finish();
}

std::vector<char> read_file(const std::string& path, size_t limit) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  struct stat about;
  const bool there = stat(path.c_str(), &about) == 0;
  if (!file || !there || S_ISDIR(about.st_mode)) {
    const std::string why = there && S_ISDIR(about.st_mode) ? "it is a folder" : std::strerror(there ? EACCES : ENOENT);
    throw Error("cannot read " + path, why, "Check the path and its permissions");
  }
  const std::streamoff size = file.tellg();
  if (size < 0 || static_cast<uint64_t>(size) > limit) {
    throw Error("cannot read " + path, "it has " + std::to_string(size) + " bytes, more than any such file",
                "Check that it is the right file");
  }
  std::vector<char> content(static_cast<size_t>(size));
  file.seekg(0);
  if (!file.read(content.data(), size)) {
    throw Error("cannot read " + path, "reading it failed halfway", "Check the disk");
  }
  return content;
}

bool file_exists(const std::string& path) { return access(path.c_str(), R_OK) == 0; }

std::string sha256_of_file(const std::string& path) {
  const std::vector<char> content = read_file(path);
  Sha256 digest;
  digest.update(content.data(), content.size());
  return digest.hex();
}

ScratchFolder::ScratchFolder(const std::string& output) : path_(folder_of(output) + "/." + name_of(output) + ".build") {
  if (mkdir(path_.c_str(), 0777) != 0 && errno != EEXIST) throw write_error(output, errno);
}

ScratchFolder::~ScratchFolder() {
  for (const std::string& file : files_) unlink(file.c_str());
  rmdir(path_.c_str());
}

std::string ScratchFolder::file(const std::string& name) {
  files_.push_back(path_ + "/" + name);
  return files_.back();
}

}  // namespace runner
}  // namespace laudc
