// Files that are whole or not there.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace laudc {
namespace runner {

// A file that gets its name only when `finish` is called. Until then the data is in "<folder>/.<name>.partial", which a
// run that was killed leaves behind and the next one overwrites. A lock on it keeps two runs from writing one output.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void finish();  // on disk, then renamed

 private:
  [[noreturn]] void fail(int error) const;
  std::string path_, partial_;
  int descriptor_ = -1;
};

// Whole content of a file. Throws Error when it cannot be read or is larger than `limit`.
std::vector<char> read_file(const std::string& path, size_t limit = size_t{4} << 30);
void write_file(const std::string& path, const void* data, size_t size);  // through AtomicFile
bool file_exists(const std::string& path);

// A folder "<folder>/.<name>.build" for files that TensorRT wants to open itself; removed with the files made in it. A
// run that was killed leaves it behind and the next one for the same output uses it again: hold the output's
// AtomicFile.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& output);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::string file(const std::string& name);  // path of a file in it

 private:
  std::string path_;
  std::vector<std::string> files_;
};

std::string folder_of(const std::string& path);
std::string name_of(const std::string& path);
void make_folders(const std::string& path);  // like mkdir -p; failures show when a file is written
std::string sha256_of_file(const std::string& path);

}  // namespace runner
}  // namespace laudc
