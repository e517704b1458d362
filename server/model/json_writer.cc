#include <array>
#include <cstring>

#include "server/model/json.h"

namespace onggi::model {
namespace {

constexpr char kBase64Digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNotBase64 = 0xFF;

// The value of each base64 digit, kNotBase64 for other bytes.
constexpr std::array<uint8_t, 256> MakeBase64Values() {
  std::array<uint8_t, 256> values{};
  values.fill(kNotBase64);
  for (uint8_t i = 0; i < 64; ++i) values[static_cast<uint8_t>(kBase64Digits[i])] = i;
  return values;
}
constexpr std::array<uint8_t, 256> kBase64Values = MakeBase64Values();

// The two base64 digits of each 12-bit group: half the look-ups of one digit at a time.
constexpr std::array<char, 8192> MakeBase64Pairs() {
  std::array<char, 8192> pairs{};
  for (size_t i = 0; i < 4096; ++i) {
    pairs[2 * i] = kBase64Digits[i >> 6];
    pairs[2 * i + 1] = kBase64Digits[i & 63];
  }
  return pairs;
}
constexpr std::array<char, 8192> kBase64Pairs = MakeBase64Pairs();

bool NeedsEscape(char c) { return static_cast<uint8_t>(c) < 0x20 || c == '"' || c == '\\'; }

// Does one of 8 bytes need an escape? (Zero-byte trick: exact for "any", which is all we ask.)
bool AnyNeedsEscape(uint64_t bytes) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHighBits = 0x8080808080808080;
  const uint64_t quote = bytes ^ (kOnes * '"');
  const uint64_t backslash = bytes ^ (kOnes * '\\');
  const uint64_t found = ((bytes - kOnes * 0x20) & ~bytes) | ((quote - kOnes) & ~quote) |
                         ((backslash - kOnes) & ~backslash);
  return (found & kHighBits) != 0;
}

// Index of the first byte at or after `at` that needs an escape, or size().
size_t FindEscape(std::string_view text, size_t at) {
  while (at + 8 <= text.size()) {
    uint64_t bytes;
    std::memcpy(&bytes, text.data() + at, sizeof(bytes));
    if (AnyNeedsEscape(bytes)) break;
    at += 8;
  }
  while (at < text.size() && !NeedsEscape(text[at])) ++at;
  return at;
}

void AppendEscape(char c, std::string* out) {
  switch (c) {
    case '"': out->append("\\\""); return;
    case '\\': out->append("\\\\"); return;
    case '\b': out->append("\\b"); return;
    case '\f': out->append("\\f"); return;
    case '\n': out->append("\\n"); return;
    case '\r': out->append("\\r"); return;
    case '\t': out->append("\\t"); return;
    default: {
      constexpr char kHexDigits[] = "0123456789abcdef";
      const char escape[] = {'\\', 'u', '0', '0', kHexDigits[(c >> 4) & 0xF], kHexDigits[c & 0xF]};
      out->append(escape, sizeof(escape));
    }
  }
}

void AppendBinary(std::string_view bytes, std::string* out) {
  out->push_back('"');
  AppendBase64(bytes, out);
  out->push_back('"');
}

void AppendNumber(std::string_view encoded, std::string* out) {
  out->push_back('"');
  Number::AppendText(encoded, out);
  out->push_back('"');
}

void AppendElement(Type type, std::string_view payload, std::string* out) {
  switch (type) {
    case Type::kNumber: AppendNumber(payload, out); return;
    case Type::kBinary: AppendBinary(payload, out); return;
    default: WriteJsonString(payload, out);
  }
}

void AppendSet(const SetView& set, std::string* out) {
  out->push_back('[');
  bool first = true;
  for (std::string_view element : set) {
    if (!first) out->push_back(',');
    first = false;
    AppendElement(set.element_type(), element, out);
  }
  out->push_back(']');
}

}  // namespace

void WriteJsonString(std::string_view text, std::string* out) {
  out->push_back('"');
  size_t start = 0;
  while (true) {
    const size_t escape = FindEscape(text, start);
    out->append(text.data() + start, escape - start);
    if (escape == text.size()) break;
    AppendEscape(text[escape], out);
    start = escape + 1;
  }
  out->push_back('"');
}

void WriteValue(ValueView value, std::string* out) {
  const Type type = value.type();
  out->append("{\"");
  out->append(TypeName(type));
  out->append("\":");
  switch (type) {
    case Type::kNull: out->append("true"); break;
    case Type::kBool: out->append(value.AsBool() ? "true" : "false"); break;
    case Type::kNumber: AppendNumber(value.AsNumberEncoded(), out); break;
    case Type::kString: WriteJsonString(value.AsString(), out); break;
    case Type::kBinary: AppendBinary(value.AsString(), out); break;
    case Type::kStringSet:
    case Type::kNumberSet:
    case Type::kBinarySet: AppendSet(value.AsSet(), out); break;
    case Type::kList: {
      const ListView list = value.AsList();
      out->push_back('[');
      for (uint32_t i = 0; i < list.size(); ++i) {
        if (i != 0) out->push_back(',');
        WriteValue(list.at(i), out);
      }
      out->push_back(']');
      break;
    }
    case Type::kMap: WriteMap(value.AsMap(), out); break;
  }
  out->push_back('}');
}

void WriteMap(const MapView& attributes, std::string* out) {
  out->push_back('{');
  for (uint32_t i = 0; i < attributes.size(); ++i) {
    const MapView::Entry entry = attributes.at(i);
    if (i != 0) out->push_back(',');
    WriteJsonString(entry.name, out);
    out->push_back(':');
    WriteValue(entry.value, out);
  }
  out->push_back('}');
}

void AppendBase64(std::string_view bytes, std::string* out) {
  const size_t start = out->size();
  out->resize(start + (bytes.size() + 2) / 3 * 4);
  char* to = out->data() + start;
  const auto* from = reinterpret_cast<const uint8_t*>(bytes.data());
  size_t left = bytes.size();
  for (; left >= 3; left -= 3, from += 3, to += 4) {
    const uint32_t group = from[0] << 16 | from[1] << 8 | from[2];
    std::memcpy(to, &kBase64Pairs[2 * (group >> 12)], 2);
    std::memcpy(to + 2, &kBase64Pairs[2 * (group & 0xFFF)], 2);
  }
  if (left == 0) return;
  const uint32_t group = from[0] << 16 | (left == 2 ? from[1] << 8 : 0);
  to[0] = kBase64Digits[group >> 18];
  to[1] = kBase64Digits[(group >> 12) & 63];
  to[2] = left == 2 ? kBase64Digits[(group >> 6) & 63] : '=';
  to[3] = '=';
}

bool DecodeBase64(std::string_view text, std::string* out) {
  if (text.size() % 4 != 0) return false;
  if (text.empty()) return true;
  size_t padding = 0;
  if (text.back() == '=') padding = text[text.size() - 2] == '=' ? 2 : 1;
  const size_t start = out->size();
  out->resize(start + text.size() / 4 * 3 - padding);
  char* to = out->data() + start;
  const auto* from = reinterpret_cast<const uint8_t*>(text.data());
  const auto fail = [&] {
    out->resize(start);
    return false;
  };
  const size_t whole = text.size() / 4 - (padding != 0 ? 1 : 0);
  for (size_t i = 0; i < whole; ++i, from += 4, to += 3) {
    const uint32_t a = kBase64Values[from[0]];
    const uint32_t b = kBase64Values[from[1]];
    const uint32_t c = kBase64Values[from[2]];
    const uint32_t d = kBase64Values[from[3]];
    if (((a | b | c | d) & 0x80) != 0) return fail();
    const uint32_t group = a << 18 | b << 12 | c << 6 | d;
    to[0] = static_cast<char>(group >> 16);
    to[1] = static_cast<char>(group >> 8);
    to[2] = static_cast<char>(group);
  }
  if (padding == 0) return true;
  const uint32_t a = kBase64Values[from[0]];
  const uint32_t b = kBase64Values[from[1]];
  const uint32_t c = padding == 1 ? kBase64Values[from[2]] : 0;
  if (((a | b | c) & 0x80) != 0) return fail();
  const uint32_t group = a << 18 | b << 12 | c << 6;
  // Canonical: the bits that no byte takes are 0.
  if ((group & (padding == 1 ? 0xFF : 0xFFFF)) != 0) return fail();
  to[0] = static_cast<char>(group >> 16);
  if (padding == 1) to[1] = static_cast<char>(group >> 8);
  return true;
}

}  // namespace onggi::model
