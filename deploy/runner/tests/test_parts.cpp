// Checksums, statistics, files, images and the command line.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "../src/checksums.h"
#include "../src/error.h"
#include "../src/files.h"
#include "../src/options.h"
#include "../src/statistics.h"
#include "tests/check.h"

using namespace laudc::runner;

namespace {

std::string sha(const std::string& text, size_t piece) {
  Sha256 digest;
  for (size_t at = 0; at < text.size(); at += piece) digest.update(text.data() + at, std::min(piece, text.size() - at));
  return digest.hex();
}

std::string folder() {
  char name[] = "/tmp/laudc-runner-XXXXXX";
  return mkdtemp(name);
}

template <typename Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

// Vectors of FIPS 180-4.
TEST(sha256_of_known_texts) {
  CHECK(sha("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha("abc", 1) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1000000, 'a');
  for (size_t piece : {size_t{63}, size_t{64}, size_t{4096}, million.size()}) {
    CHECK(sha(million, piece) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

TEST(crc_of_the_usual_check_text) {
  CHECK(crc32(0, "123456789", 9) == 0xCBF43926u);
  CHECK(crc32(crc32(0, "1234", 4), "56789", 5) == 0xCBF43926u);
}

TEST(statistics_are_those_of_python) {
  const Timing one(std::vector<double>{5.0});
  CHECK(one.median_us == 5.0 && one.p95_us == 5.0 && one.cv == 0.0 && one.runs == 1);
  std::vector<double> samples;
  for (int i = 20; i >= 1; --i) samples.push_back(i);
  const Timing twenty(samples);
  CHECK(twenty.median_us == 10.5 && twenty.p95_us == 19.0 && twenty.min_us == 1.0 && twenty.max_us == 20.0);
  CHECK(twenty.mean_us == 10.5);
  samples.push_back(21);
  CHECK(Timing(samples).p95_us == 20.0);
}

TEST(a_file_appears_whole_or_not_at_all) {
  const std::string path = folder() + "/out";
  {
    AtomicFile file(path);
    file.write("half", 4);
    CHECK(!file_exists(path));
    CHECK(error_of([&] { AtomicFile second(path); }).find("another run is writing it") != std::string::npos);
  }
  CHECK(!file_exists(path));
  write_file(path, "whole", 5);
  CHECK(read_file(path).size() == 5);
  CHECK(error_of([&] { write_file(path + "/x/y", "", 0); }).find("cannot write") == 0);
  CHECK(error_of([&] { read_file(path, 4); }).find("more than any such file") != std::string::npos);
  CHECK(error_of([&] { read_file(folder_of(path)); }).find("it is a folder") != std::string::npos);
}

TEST(what_a_killed_run_left_is_overwritten) {
  const std::string path = folder() + "/out";
  const std::string left = folder_of(path) + "/.out.partial";
  write_file(left, "left by a run that was killed", 29);
  write_file(path, "new", 3);
  CHECK(read_file(path).size() == 3);
  CHECK(!file_exists(left));
}

TEST(a_full_disk_is_named) {
  struct stat about;
  if (stat("/dev/full", &about) != 0) return;
  // /dev/full lies outside any folder of ours, so the message is tested through the descriptor that it is opened with.
  const std::string path = folder() + "/full";
  CHECK(symlink("/dev/full", (folder_of(path) + "/.full.partial").c_str()) == 0);
  const std::string message = error_of([&] { write_file(path, "x", 1); });
  CHECK(message.find("cannot write " + path) == 0);
  CHECK(!file_exists(path));
}

TEST(scratch_files_go_away) {
  const std::string output = folder() + "/engine";
  std::string kept;
  {
    ScratchFolder scratch(output);
    kept = scratch.file("model.onnx");
    write_file(kept, "x", 1);
    ScratchFolder again(output);  // one that a killed run left is used again
  }
  CHECK(!file_exists(kept));
  CHECK(!file_exists(folder_of(output) + "/.engine.build"));
}

TEST(command_lines) {
  const Options options =
      parse_options({"profile", "a.laudc", "--input", "x.npy", "--input=y.npy", "--runs", "7", "--no-graph", "-q"});
  CHECK(options.verb == "profile" && options.arguments.size() == 1);
  CHECK(options.get("input") == "x.npy\ny.npy" && options.number("runs", 50, 1) == 7);
  CHECK(options.has("no-graph") && options.has("quiet") && !options.has("json"));
  CHECK(options.number("batch", 3, 1) == 3);
  CHECK(parse_options({"--version"}).text.find("laudc-runner ") == 0);
  CHECK(parse_options({}).text.find("Exit codes") != std::string::npos);
  CHECK(parse_options({"build", "--help"}).text.find("--timing-cache") != std::string::npos);
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"biuld"},
                                             {"build"},
                                             {"build", "a", "b"},
                                             {"build", "a", "-o"},
                                             {"run", "a"},
                                             {"check", "a", "--top", "3"},
                                             {"profile", "a", "--no-graph=1"}}) {
    CHECK(error_of([&] { parse_options(wrong); }).find("the command line cannot be used") == 0);
  }
  const Options odd = parse_options({"profile", "a", "--runs", "many", "--batch=0"});
  CHECK(error_of([&] { odd.number("runs", 1, 1); }).find("'many'") != std::string::npos);
  CHECK(error_of([&] { odd.number("batch", 1, 1); }).find("at least 1") != std::string::npos);
}

LAUDC_TEST_MAIN
