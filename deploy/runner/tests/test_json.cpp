#include <cmath>
#include <string>

#include "../src/json.h"
#include "tests/check.h"

using laudc::runner::Json;
using laudc::runner::JsonError;

namespace {

bool refused(const std::string& text) {
  try {
    Json::parse(text);
  } catch (const JsonError&) {
    return true;
  }
  return false;
}

}  // namespace

TEST(keeps_the_text_of_numbers) {
  const char* text = "{\n \"a\": [\n  1.50,\n  -0,\n  1e-05,\n  12345678901234567890\n ],\n \"b\": {}\n}";
  CHECK(Json::parse(text).dump() == text);
}

TEST(writes_as_python_does) {
  CHECK(Json::parse("{\"b\":1,\"a\":[true,null,\"x\"]}").dump(-1) == "{\"a\": [true, null, \"x\"], \"b\": 1}");
  CHECK(Json::number(0.1).dump() == "0.1");
  CHECK(Json::number(3.0).dump() == "3.0");
  CHECK(Json::number(1.0 / 3.0).dump() == "0.3333333333333333");
  CHECK(Json::number(std::nan("")).is_null());
  CHECK(Json::string("a\"\\\n\x01\xC3\xA9\xF0\x9F\x98\x80").dump() == "\"a\\\"\\\\\\n\\u0001\\u00e9\\ud83d\\ude00\"");
}

TEST(escapes_come_back) {
  const std::string text = "\"\\ud83d\\ude00\\u00e9\\/\\b\\f\\r\\t\"";
  CHECK(Json::parse(text).as_string() == "\xF0\x9F\x98\x80\xC3\xA9/\b\f\r\t");
}

TEST(refuses_what_is_not_json) {
  for (const char* text : {"",
                           "{",
                           "[1,]",
                           "{\"a\":1,}",
                           "{\"a\":1,\"a\":2}",
                           "01",
                           "1.",
                           "1e",
                           "-",
                           "NaN",
                           "Infinity",
                           "'a'",
                           "\"a",
                           "\"\\x\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\u0041\"",
                           "\"\\u12g4\"",
                           "\"\n\"",
                           "1 2",
                           "[1 2]",
                           "{1:2}",
                           "tru",
                           "nulll"}) {
    CHECK(refused(text));
  }
  CHECK(refused(std::string(100, '[')));
  CHECK(refused(std::string("\"\0\"", 3)));
}

TEST(kinds_are_checked) {
  const Json json = Json::parse("{\"a\": 1.5, \"big\": 99999999999999999999}");
  for (const char* key : {"a", "big"}) {
    bool failed = false;
    try {
      json.get(key).as_int();
    } catch (const JsonError&) {
      failed = true;
    }
    CHECK(failed);
  }
  CHECK(json.find("b") == nullptr);
  CHECK(json.get("a").as_double() == 1.5);
}

// Every prefix and every changed byte of a document is parsed or refused; the sanitizers watch.
TEST(survives_damage) {
  const std::string text = "{\"a\": [1, -2.5e3, \"x\\u00e9\\ud83d\\ude00\"], \"b\": {\"c\": [null, true, false]}}";
  int parsed = 0;
  for (size_t size = 0; size <= text.size(); ++size) parsed += refused(text.substr(0, size)) ? 0 : 1;
  CHECK(parsed == 1);
  for (size_t at = 0; at < text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = text;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      refused(damaged);
    }
  }
}

LAUDC_TEST_MAIN
