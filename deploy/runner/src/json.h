// A small JSON reader and writer.
//
// Numbers keep their text, so that a manifest which is read and written again changes only where it was changed. The
// writer's output is byte for byte that of Python's json.dumps(indent=1, sort_keys=True).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace laudc {
namespace runner {

class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Json {
 public:
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  Json() = default;  // null
  static Json boolean(bool value);
  static Json number(double value);  // what JSON lacks (NaN, infinity) becomes null
  static Json integer(int64_t value);
  static Json string(std::string value);
  static Json array(std::vector<Json> items = {});
  static Json object();

  // Throws JsonError for anything but one complete document: duplicate keys, NaN and depth beyond 64 included.
  static Json parse(const std::string& text);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }

  // Each throws JsonError when the value is of another kind.
  bool as_bool() const;
  double as_double() const;
  int64_t as_int() const;
  const std::string& as_string() const;
  const std::vector<Json>& items() const;
  const std::vector<std::pair<std::string, Json>>& members() const;

  // Member of an object; null when there is none. `get` throws JsonError naming the key instead.
  const Json* find(const std::string& key) const;
  const Json& get(const std::string& key) const;

  void set(const std::string& key, Json value);  // replaces or adds
  void push(Json value);

  // indent < 0: one line. Keys are sorted.
  std::string dump(int indent = 1) const;

 private:
  friend class JsonParser;
  void write(std::string* out, int indent, int depth) const;

  Kind kind_ = Kind::kNull;
  bool bool_ = false;
  std::string text_;  // of a number or a string
  std::vector<Json> items_;
  std::vector<std::pair<std::string, Json>> members_;
};

}  // namespace runner
}  // namespace laudc
