#include "json.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace laudc {
namespace runner {

namespace {

constexpr int kMaxDepth = 64;

const char* name_of(Json::Kind kind) {
  switch (kind) {
    case Json::Kind::kNull:
      return "null";
    case Json::Kind::kBool:
      return "true or false";
    case Json::Kind::kNumber:
      return "a number";
    case Json::Kind::kString:
      return "text";
    case Json::Kind::kArray:
      return "a list";
    case Json::Kind::kObject:
      return "an object";
  }
  return "nothing";
}

void expect(Json::Kind found, Json::Kind wanted) {
  if (found != wanted) throw JsonError(std::string("found ") + name_of(found) + ", wanted " + name_of(wanted));
}

void append_utf8(uint32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (code >> 6)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (code >> 12)));
    out->push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (code >> 18)));
    out->push_back(static_cast<char>(0x80 | ((code >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

// One code point of UTF-8 text; what is not UTF-8 becomes the replacement character.
uint32_t next_code(const std::string& text, size_t* at) {
  const unsigned char first = static_cast<unsigned char>(text[(*at)++]);
  int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
  if (first < 0x80) return first;
  if (more == 0) return 0xFFFD;
  uint32_t code = first & (0x3Fu >> more);
  for (; more > 0; --more) {
    if (*at >= text.size() || (static_cast<unsigned char>(text[*at]) & 0xC0) != 0x80) return 0xFFFD;
    code = (code << 6) | (static_cast<unsigned char>(text[(*at)++]) & 0x3F);
  }
  return code;
}

void append_escape(uint32_t unit, std::string* out) {
  char buffer[16];
  std::snprintf(buffer, sizeof buffer, "\\u%04x", static_cast<unsigned>(unit));
  *out += buffer;
}

void write_string(const std::string& text, std::string* out) {
  out->push_back('"');
  for (size_t at = 0; at < text.size();) {
    const uint32_t code = next_code(text, &at);
    switch (code) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      default:
        if (code >= 0x10000) {
          append_escape(0xD800 + ((code - 0x10000) >> 10), out);
          append_escape(0xDC00 + ((code - 0x10000) & 0x3FF), out);
        } else if (code < 0x20 || code >= 0x7F) {
          // Python's writer leaves DEL as it is.
          if (code == 0x7F) {
            out->push_back('\x7F');
          } else {
            append_escape(code, out);
          }
        } else {
          out->push_back(static_cast<char>(code));
        }
    }
  }
  out->push_back('"');
}

}  // namespace

class JsonParser {
 public:
  explicit JsonParser(const std::string& text) : text_(text) {}

  Json document() {
    Json value = this->value(0);
    skip_space();
    if (at_ != text_.size()) fail("something follows the end of the document");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& why) const { throw JsonError("byte " + std::to_string(at_) + ": " + why); }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }

  char peek() {
    skip_space();
    if (at_ >= text_.size()) fail("it ends too early");
    return text_[at_];
  }

  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  void need(char wanted) {
    if (!take(wanted)) fail(std::string("wanted '") + wanted + "'");
  }

  void word(const char* wanted) {
    for (const char* c = wanted; *c != '\0'; ++c) {
      if (at_ >= text_.size() || text_[at_] != *c) fail("no JSON value");
      ++at_;
    }
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("it is nested too deeply");
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return list(depth);
      case '"':
        return Json::string(text());
      case 't':
        word("true");
        return Json::boolean(true);
      case 'f':
        word("false");
        return Json::boolean(false);
      case 'n':
        word("null");
        return Json();
      default:
        return number();
    }
  }

  Json object(int depth) {
    Json result = Json::object();
    need('{');
    if (take('}')) return result;
    do {
      if (peek() != '"') fail("wanted a key");
      std::string key = text();
      if (result.find(key) != nullptr) fail("the key '" + key + "' is given twice");
      need(':');
      result.members_.emplace_back(std::move(key), value(depth + 1));
    } while (take(','));
    need('}');
    return result;
  }

  Json list(int depth) {
    Json result = Json::array();
    need('[');
    if (take(']')) return result;
    do {
      result.items_.push_back(value(depth + 1));
    } while (take(','));
    need(']');
    return result;
  }

  size_t digits() {
    const size_t start = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    return at_ - start;
  }

  Json number() {
    const size_t start = at_;
    if (text_[at_] == '-') ++at_;
    const size_t first = at_;
    if (digits() == 0) fail("no JSON value");
    if (text_[first] == '0' && at_ - first > 1) fail("a number begins with 0");
    if (at_ < text_.size() && text_[at_] == '.') {
      ++at_;
      if (digits() == 0) fail("a number ends with its point");
    }
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      ++at_;
      if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
      if (digits() == 0) fail("a number ends with its exponent's sign");
    }
    Json result;
    result.kind_ = Json::Kind::kNumber;
    result.text_ = text_.substr(start, at_ - start);
    return result;
  }

  uint32_t unit() {
    if (at_ + 4 > text_.size()) fail("a \\u escape is cut off");
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = text_[at_++];
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("a \\u escape has something else than hexadecimal digits");
      code = code * 16 + static_cast<uint32_t>(digit);
    }
    return code;
  }

  uint32_t code_point() {
    const uint32_t high = unit();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || text_.compare(at_, 2, "\\u") != 0) fail("half a surrogate pair");
    at_ += 2;
    const uint32_t low = unit();
    if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  std::string text() {
    ++at_;
    std::string result;
    while (true) {
      if (at_ >= text_.size()) fail("a text has no end");
      const char c = text_[at_++];
      if (c == '"') return result;
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character inside a text");
      if (c != '\\') {
        result.push_back(c);
        continue;
      }
      if (at_ >= text_.size()) fail("a text has no end");
      const char escaped = text_[at_++];
      switch (escaped) {
        case 'n':
          result.push_back('\n');
          break;
        case 't':
          result.push_back('\t');
          break;
        case 'r':
          result.push_back('\r');
          break;
        case 'b':
          result.push_back('\b');
          break;
        case 'f':
          result.push_back('\f');
          break;
        case 'u':
          append_utf8(code_point(), &result);
          break;
        case '"':
        case '\\':
        case '/':
          result.push_back(escaped);
          break;
        default:
          fail("an unknown escape");
      }
    }
  }

  const std::string& text_;
  size_t at_ = 0;
};

Json Json::parse(const std::string& text) { return JsonParser(text).document(); }

Json Json::boolean(bool value) {
  Json json;
  json.kind_ = Kind::kBool;
  json.bool_ = value;
  return json;
}

Json Json::integer(int64_t value) {
  Json json;
  json.kind_ = Kind::kNumber;
  json.text_ = std::to_string(value);
  return json;
}

Json Json::number(double value) {
  if (!std::isfinite(value)) return Json();
  Json json;
  json.kind_ = Kind::kNumber;
  char buffer[40];
  for (int digits = 15; digits <= 17; ++digits) {  // the shortest that reads back as the same number
    std::snprintf(buffer, sizeof buffer, "%.*g", digits, value);
    if (std::strtod(buffer, nullptr) == value) break;
  }
  json.text_ = buffer;
  if (json.text_.find_first_of(".eE") == std::string::npos) json.text_ += ".0";
  return json;
}

Json Json::string(std::string value) {
  Json json;
  json.kind_ = Kind::kString;
  json.text_ = std::move(value);
  return json;
}

Json Json::array(std::vector<Json> items) {
  Json json;
  json.kind_ = Kind::kArray;
  json.items_ = std::move(items);
  return json;
}

Json Json::object() {
  Json json;
  json.kind_ = Kind::kObject;
  return json;
}

bool Json::as_bool() const {
  expect(kind_, Kind::kBool);
  return bool_;
}

double Json::as_double() const {
  expect(kind_, Kind::kNumber);
  return std::strtod(text_.c_str(), nullptr);
}

int64_t Json::as_int() const {
  expect(kind_, Kind::kNumber);
  char* end = nullptr;
  errno = 0;
  const long long value = std::strtoll(text_.c_str(), &end, 10);
  if (*end != '\0' || errno != 0) throw JsonError("found " + text_ + ", wanted a whole number");
  return value;
}

const std::string& Json::as_string() const {
  expect(kind_, Kind::kString);
  return text_;
}

const std::vector<Json>& Json::items() const {
  expect(kind_, Kind::kArray);
  return items_;
}

const std::vector<std::pair<std::string, Json>>& Json::members() const {
  expect(kind_, Kind::kObject);
  return members_;
}

const Json* Json::find(const std::string& key) const {
  expect(kind_, Kind::kObject);
  for (const auto& member : members_) {
    if (member.first == key) return &member.second;
  }
  return nullptr;
}

const Json& Json::get(const std::string& key) const {
  const Json* found = find(key);
  if (found == nullptr) throw JsonError("field '" + key + "' is missing");
  return *found;
}

void Json::set(const std::string& key, Json value) {
  expect(kind_, Kind::kObject);
  for (auto& member : members_) {
    if (member.first == key) {
      member.second = std::move(value);
      return;
    }
  }
  members_.emplace_back(key, std::move(value));
}

void Json::push(Json value) {
  expect(kind_, Kind::kArray);
  items_.push_back(std::move(value));
}

std::string Json::dump(int indent) const {
  std::string out;
  write(&out, indent, 0);
  return out;
}

void Json::write(std::string* out, int indent, int depth) const {
  const auto line = [&](int level) {
    if (indent < 0) return;
    out->push_back('\n');
    out->append(static_cast<size_t>(indent * level), ' ');
  };
  const char* separator = indent < 0 ? ", " : ",";
  switch (kind_) {
    case Kind::kNull:
      *out += "null";
      return;
    case Kind::kBool:
      *out += bool_ ? "true" : "false";
      return;
    case Kind::kNumber:
      *out += text_;
      return;
    case Kind::kString:
      write_string(text_, out);
      return;
    case Kind::kArray: {
      out->push_back('[');
      for (size_t i = 0; i < items_.size(); ++i) {
        if (i > 0) *out += separator;
        line(depth + 1);
        items_[i].write(out, indent, depth + 1);
      }
      if (!items_.empty()) line(depth);
      out->push_back(']');
      return;
    }
    case Kind::kObject: {
      std::vector<const std::pair<std::string, Json>*> sorted;
      for (const auto& member : members_) sorted.push_back(&member);
      std::sort(sorted.begin(), sorted.end(),
                [](const std::pair<std::string, Json>* a, const std::pair<std::string, Json>* b) {
                  return a->first < b->first;
                });
      out->push_back('{');
      for (size_t i = 0; i < sorted.size(); ++i) {
        if (i > 0) *out += separator;
        line(depth + 1);
        write_string(sorted[i]->first, out);
        *out += ": ";
        sorted[i]->second.write(out, indent, depth + 1);
      }
      if (!sorted.empty()) line(depth);
      out->push_back('}');
      return;
    }
  }
}

}  // namespace runner
}  // namespace laudc
