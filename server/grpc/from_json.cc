#include <cmath>
#include <cstring>

#include "server/grpc/transcoder.h"
#include "server/model/json.h"

namespace onggi::grpc_api {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

enum WireType : uint8_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2 };

void AppendVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

void AppendTag(int number, WireType type, std::string* out) {
  AppendVarint(static_cast<uint64_t>(number) << 3 | type, out);
}

/// A length that is known only at the end: one byte is kept free for it, which is enough for most.
class Sized {
 public:
  explicit Sized(std::string* out) : out_(out), at_(out->size()) { out_->push_back(0); }
  ~Sized() {
    const size_t size = out_->size() - at_ - 1;
    if (size < 0x80) {
      (*out_)[at_] = static_cast<char>(size);
      return;
    }
    std::string length;
    AppendVarint(size, &length);
    (*out_)[at_] = length[0];
    out_->insert(at_ + 1, length, 1);
  }
  Sized(const Sized&) = delete;
  Sized& operator=(const Sized&) = delete;

 private:
  std::string* const out_;
  const size_t at_;
};

void Message(const MessagePlan& plan, element json, std::string* out);

int64_t IntOf(element json) {
  int64_t value = 0;
  if (!json.get(value)) return value;
  double number = 0;
  if (json.get(number)) return 0;
  return static_cast<int64_t>(number);
}

/// One value with its tag; nothing where the JSON is of another type.
void Value(const FieldPlan& field, int number, element json, std::string* out) {
  switch (field.kind) {
    case FieldPlan::Kind::kString: {
      std::string_view text;
      if (json.get(text)) return;
      AppendTag(number, kLengthDelimited, out);
      AppendVarint(text.size(), out);
      out->append(text);
      return;
    }
    case FieldPlan::Kind::kBytes: {
      std::string_view text;
      if (json.get(text)) return;
      AppendTag(number, kLengthDelimited, out);
      Sized sized(out);
      (void)model::DecodeBase64(text, out);
      return;
    }
    case FieldPlan::Kind::kBool: {
      bool value = false;
      if (json.get(value)) return;
      AppendTag(number, kVarint, out);
      out->push_back(value ? 1 : 0);
      return;
    }
    case FieldPlan::Kind::kInt:
      if (!json.is_number()) return;
      AppendTag(number, kVarint, out);
      AppendVarint(static_cast<uint64_t>(IntOf(json)), out);
      return;
    case FieldPlan::Kind::kDouble: {
      double value = 0;
      if (json.get(value)) return;
      AppendTag(number, kFixed64, out);
      char bytes[sizeof(value)];
      std::memcpy(bytes, &value, sizeof(value));
      out->append(bytes, sizeof(value));
      return;
    }
    case FieldPlan::Kind::kEnum: {
      std::string_view text;
      if (json.get(text) || text.empty()) return;
      for (size_t i = 1; i < field.enum_names.size(); ++i) {
        if (field.enum_names[i] != text) continue;
        AppendTag(number, kVarint, out);
        AppendVarint(i, out);
        return;
      }
      return;
    }
    case FieldPlan::Kind::kMessage: {
      AppendTag(number, kLengthDelimited, out);
      Sized sized(out);
      Message(*field.message, json, out);
      return;
    }
  }
}

void Field(const FieldPlan& field, element json, std::string* out) {
  if (json.is_null()) return;
  if (field.map) {
    simdjson::dom::object object;
    if (json.get(object)) return;
    for (const auto& [key, value] : object) {
      AppendTag(field.number, kLengthDelimited, out);
      Sized sized(out);
      AppendTag(1, kLengthDelimited, out);
      AppendVarint(key.size(), out);
      out->append(key);
      Value(field, 2, value, out);
    }
    return;
  }
  if (field.repeated) {
    simdjson::dom::array array;
    if (json.get(array)) return;
    for (const element one : array) Value(field, field.number, one, out);
    return;
  }
  Value(field, field.number, json, out);
}

void Timestamp(element json, std::string* out) {
  double seconds = 0;
  if (json.get(seconds)) return;
  const auto milliseconds = static_cast<int64_t>(std::llround(seconds * 1000));
  AppendTag(1, kVarint, out);
  AppendVarint(static_cast<uint64_t>(milliseconds / 1000), out);
  if (milliseconds % 1000 == 0) return;
  AppendTag(2, kVarint, out);
  AppendVarint(static_cast<uint64_t>(milliseconds % 1000) * 1'000'000, out);
}

void Message(const MessagePlan& plan, element json, std::string* out) {
  switch (plan.form) {
    case MessagePlan::Form::kTimestamp: return Timestamp(json, out);
    case MessagePlan::Form::kBare: return Field(plan.fields[0], json, out);
    case MessagePlan::Form::kObject: break;
  }
  simdjson::dom::object object;
  if (json.get(object)) return;
  size_t hint = 0;
  for (const auto& [key, value] : object) {
    if (const FieldPlan* field = plan.FindName(key, &hint)) Field(*field, value, out);
  }
}

}  // namespace

void JsonToWire(const MessagePlan& plan, element json, std::string* wire) {
  Message(plan, json, wire);
}

}  // namespace onggi::grpc_api
