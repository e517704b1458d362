#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

#include "server/model/attribute_value.h"

namespace onggi::model {

/// Random values for property tests. The seed comes from ONGGI_TEST_SEED when that is set, so that
/// a failure, which prints the seed, can be run again.
class RandomValues {
 public:
  RandomValues() : seed_(Seed()), engine_(seed_) {}

  uint64_t seed() const { return seed_; }
  std::mt19937_64& engine() { return engine_; }

  /// 0 <= result < bound.
  uint64_t Below(uint64_t bound) { return engine_() % bound; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }

  /// A number as a client may write it, in range; of all magnitudes, often near another one.
  std::string NumberText() {
    if (OneIn(20)) return "0";
    std::string text = OneIn(2) ? "-" : "";
    const size_t digits = OneIn(3) ? 38 : 1 + Below(38);
    const char alphabet_size = OneIn(3) ? 2 : 10;  // few distinct digits: long common prefixes
    text += static_cast<char>('1' + Below(alphabet_size - 1));
    std::string rest;
    for (size_t i = 1; i < digits; ++i) rest += static_cast<char>('0' + Below(alphabet_size));
    if (!rest.empty()) text += "." + rest;
    int exponent = OneIn(2) ? static_cast<int>(Below(7)) - 3 : static_cast<int>(Below(256)) - 130;
    if (OneIn(20)) exponent = OneIn(2) ? 125 : -130;
    return text + "e" + std::to_string(exponent);
  }

  Number RandomNumber() { return Number::Parse(NumberText()).value(); }

  std::string Bytes(size_t max_size) {
    std::string bytes;
    const bool few = OneIn(2);
    for (size_t i = Below(max_size + 1); i > 0; --i) {
      constexpr char kEdges[] = {'\x00', '\x01', '\xFF', '\xFE', 'a'};
      bytes += few ? kEdges[Below(5)] : static_cast<char>(Below(256));
    }
    return bytes;
  }

  /// UTF-8 with NULs, controls, quotes, and characters of 2, 3 and 4 bytes.
  std::string Utf8(size_t max_characters) {
    static const char* const kCharacters[] = {"a",
                                              "b",
                                              "\"",
                                              "\\",
                                              "/",
                                              "\n",
                                              "\x7f",
                                              "\xC3\xA9",
                                              "\xEC\x98\xB9",
                                              "\xF0\x9F\x8D\xB6",
                                              "\xEF\xBF\xBF",
                                              "\xF4\x8F\xBF\xBF",
                                              "\x1f",
                                              "z"};
    std::string text;
    for (size_t i = Below(max_characters + 1); i > 0; --i) {
      if (OneIn(8)) {
        text += '\0';
      } else {
        text += kCharacters[Below(std::size(kCharacters))];
      }
    }
    return text;
  }

  AttributeValue Value(int levels) {
    switch (Below(levels > 0 ? 10 : 8)) {
      case 0: return AttributeValue::Null();
      case 1: return AttributeValue::Bool(OneIn(2));
      case 2: return AttributeValue::Of(RandomNumber());
      case 3: return AttributeValue::String(Utf8(40));
      case 4: return AttributeValue::Binary(Bytes(40));
      case 5: return AttributeValue::Set(Type::kStringSet, Elements([this] { return Utf8(5); }));
      case 6:
        return AttributeValue::Set(
            Type::kNumberSet, Elements([this] { return std::string(RandomNumber().encoded()); }));
      case 7: return AttributeValue::Set(Type::kBinarySet, Elements([this] { return Bytes(5); }));
      case 8: {
        AttributeList list;
        for (size_t i = Size(); i > 0; --i) list.push_back(Value(levels - 1));
        return AttributeValue(std::move(list));
      }
      default: return AttributeValue(Attributes(levels - 1));
    }
  }

  AttributeMap Attributes(int levels) {
    AttributeMap map;
    for (size_t i = Size(); i > 0; --i) map.insert_or_assign("n" + Utf8(6), Value(levels));
    return map;
  }

 private:
  static uint64_t Seed() {
    const char* text = std::getenv("ONGGI_TEST_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
  }

  // Mostly few, sometimes so many that directories need wider offsets.
  size_t Size() { return OneIn(50) ? Below(400) : Below(6); }

  template <class Make>
  std::vector<std::string> Elements(Make make) {
    std::vector<std::string> elements;
    for (size_t i = 1 + Below(6); i > 0; --i) elements.push_back(make());
    return elements;
  }

  uint64_t seed_;
  std::mt19937_64 engine_;
};

}  // namespace onggi::model
