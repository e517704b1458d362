#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <unordered_map>

#include "server/grpc/transcoder.h"
#include "server/model/json.h"

namespace onggi::grpc_api {
namespace {

enum WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

/// One field on the wire.
struct WireField {
  uint32_t number = 0;
  uint8_t type = 0;
  uint64_t value = 0;      ///< of kVarint, kFixed64 and kFixed32
  std::string_view bytes;  ///< of kBytes
};

/// Reads the fields of one message, checking every length.
class WireReader {
 public:
  explicit WireReader(std::string_view wire) : rest_(wire) {}

  bool done() const { return rest_.empty(); }

  /// False: malformed.
  bool Next(WireField* field) {
    uint64_t tag = 0;
    if (!Varint(&tag) || tag > 0xFFFFFFFF) return false;
    field->number = static_cast<uint32_t>(tag >> 3);
    field->type = static_cast<uint8_t>(tag & 7);
    if (field->number == 0) return false;
    switch (field->type) {
      case kVarint: return Varint(&field->value);
      case kFixed64: return Fixed(8, &field->value);
      case kFixed32: return Fixed(4, &field->value);
      case kBytes: {
        uint64_t size = 0;
        if (!Varint(&size) || size > rest_.size()) return false;
        field->bytes = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return true;
      }
      default: return false;
    }
  }

  bool Varint(uint64_t* value) {
    *value = 0;
    for (size_t i = 0; i < rest_.size() && i < 10; ++i) {
      const auto byte = static_cast<uint8_t>(rest_[i]);
      if (i == 9 && byte > 1) return false;
      *value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
      if (byte < 0x80) {
        rest_.remove_prefix(i + 1);
        return true;
      }
    }
    return false;
  }

  bool Fixed(size_t size, uint64_t* value) {
    if (rest_.size() < size) return false;
    *value = 0;
    std::memcpy(value, rest_.data(), size);  // little-endian, as the machines that we run on
    rest_.remove_prefix(size);
    return true;
  }

 private:
  std::string_view rest_;
};

uint8_t WireTypeOf(FieldPlan::Kind kind) {
  switch (kind) {
    case FieldPlan::Kind::kBool:
    case FieldPlan::Kind::kInt:
    case FieldPlan::Kind::kEnum: return kVarint;
    case FieldPlan::Kind::kDouble: return kFixed64;
    default: return kBytes;
  }
}

template <class Number>
void AppendNumber(Number value, std::string* out) {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
  out->append(digits, end);
}

/// Writes one request. Keeps its buffers for the thread's next one.
class JsonMaker {
 public:
  Status Run(const MessagePlan& plan, std::string_view wire, size_t max_json, std::string* json) {
    occurrences_.clear();
    entries_.clear();
    max_ = max_json;
    too_long_ = false;
    out_ = json;
    if (!Message(plan, wire, 0)) {
      return too_long_ ? Status(Code::kResourceExhausted, "the request is too long")
                       : InvalidArgument("malformed message");
    }
    return Status::Ok();
  }

  void Trim() {
    constexpr size_t kKept = 4096;
    if (occurrences_.capacity() > kKept) std::vector<Occurrence>().swap(occurrences_);
    if (entries_.capacity() > kKept) std::vector<Entry>().swap(entries_);
  }

 private:
  struct Occurrence {
    int16_t field;      ///< position in the plan
    uint32_t sequence;  ///< place on the wire
    uint64_t value;
    std::string_view bytes;
  };
  struct Entry {
    std::string_view key;
    uint64_t value = 0;
    std::string_view bytes;
    bool replaced = false;  ///< a later entry has the same key
  };

  bool Message(const MessagePlan& plan, std::string_view wire, int depth) {
    if (depth >= kMaxMessageDepth) return false;
    if (plan.form == MessagePlan::Form::kTimestamp) return Timestamp(wire);
    // The vectors are stacks: what this message has is above `base`.
    const size_t base = occurrences_.size();
    if (!Collect(plan, wire, base)) return false;
    bool good = true;
    if (plan.form == MessagePlan::Form::kBare) {
      good = Group(plan.fields[0], base, occurrences_.size(), depth);
    } else {
      good = Members(plan, base, depth);
    }
    occurrences_.resize(base);
    return good && Fits();
  }

  bool Collect(const MessagePlan& plan, std::string_view wire, size_t base) {
    WireReader reader(wire);
    WireField field;
    uint32_t sequence = 0;
    while (!reader.done()) {
      if (!reader.Next(&field)) return false;
      const FieldPlan* known = plan.FindNumber(field.number);
      if (known == nullptr) continue;
      const auto position = static_cast<int16_t>(known - plan.fields.data());
      if (field.type != (known->map ? kBytes : WireTypeOf(known->kind))) {
        // Numbers of a repeated field may be packed; anything else is another field to a parser.
        if (!known->repeated || field.type != kBytes) continue;
        if (!Unpack(*known, position, field.bytes, &sequence)) return false;
        continue;
      }
      if (plan.one_of && occurrences_.size() > base && occurrences_.back().field != position) {
        occurrences_.resize(base);
      }
      occurrences_.push_back({position, sequence++, field.value, field.bytes});
    }
    const auto first = occurrences_.begin() + static_cast<std::ptrdiff_t>(base);
    const auto before = [](const Occurrence& a, const Occurrence& b) {
      return a.field != b.field ? a.field < b.field : a.sequence < b.sequence;
    };
    if (!std::is_sorted(first, occurrences_.end(), before)) {
      std::sort(first, occurrences_.end(), before);
    }
    return true;
  }

  bool Unpack(const FieldPlan& field, int16_t position, std::string_view bytes,
              uint32_t* sequence) {
    WireReader reader(bytes);
    while (!reader.done()) {
      uint64_t value = 0;
      const bool good =
          field.kind == FieldPlan::Kind::kDouble ? reader.Fixed(8, &value) : reader.Varint(&value);
      if (!good) return false;
      occurrences_.push_back({position, (*sequence)++, value, {}});
    }
    return true;
  }

  bool Members(const MessagePlan& plan, size_t base, int depth) {
    const size_t end = occurrences_.size();
    char separator = '{';
    size_t at = base;
    for (size_t position = 0; position < plan.fields.size(); ++position) {
      const FieldPlan& field = plan.fields[position];
      const size_t from = at;
      while (at < end && occurrences_[at].field == static_cast<int16_t>(position)) ++at;
      const bool present = at > from || (field.required && (field.repeated || field.map));
      if (!present || IsUnspecified(field, from, at)) continue;
      out_->push_back(separator);
      separator = ',';
      out_->append(field.json_prefix);
      if (!Group(field, from, at, depth)) return false;
    }
    out_->append(separator == '{' ? "{}" : "}");
    return true;
  }

  /// An enum's zero says nothing.
  bool IsUnspecified(const FieldPlan& field, size_t from, size_t to) const {
    return to > from && field.kind == FieldPlan::Kind::kEnum && !field.repeated && !field.map &&
           occurrences_[to - 1].value == 0;
  }

  /// The value of one field from its occurrences [from, to).
  bool Group(const FieldPlan& field, size_t from, size_t to, int depth) {
    if (field.map) return Map(field, from, to, depth);
    if (field.repeated) {
      out_->push_back('[');
      for (size_t i = from; i < to; ++i) {
        if (i > from) out_->push_back(',');
        const Occurrence one = occurrences_[i];  // the vector may grow
        if (!Value(field, one.value, one.bytes, depth)) return false;
      }
      out_->push_back(']');
      return true;
    }
    const Occurrence last = occurrences_[to - 1];
    if (field.kind != FieldPlan::Kind::kMessage || to - from == 1) {
      return Value(field, last.value, last.bytes, depth);
    }
    std::string merged;  // parts of a message, one after the other, are the message
    for (size_t i = from; i < to; ++i) merged.append(occurrences_[i].bytes);
    return Value(field, 0, merged, depth);
  }

  bool Map(const FieldPlan& field, size_t from, size_t to, int depth) {
    const size_t base = entries_.size();
    std::deque<std::string> merged;
    for (size_t i = from; i < to; ++i) {
      Entry entry;
      if (!ReadEntry(field, occurrences_[i].bytes, &merged, &entry)) return false;
      entries_.push_back(entry);
    }
    MarkReplaced(base);
    const size_t end = entries_.size();
    char separator = '{';
    for (size_t i = base; i < end; ++i) {
      const Entry entry = entries_[i];
      if (entry.replaced) continue;
      out_->push_back(separator);
      separator = ',';
      model::WriteJsonString(entry.key, out_);
      out_->push_back(':');
      if (!Value(field, entry.value, entry.bytes, depth)) return false;
    }
    out_->append(separator == '{' ? "{}" : "}");
    entries_.resize(base);
    return true;
  }

  static bool ReadEntry(const FieldPlan& field, std::string_view wire,
                        std::deque<std::string>* merged, Entry* entry) {
    WireReader reader(wire);
    WireField part;
    const uint8_t value_type = WireTypeOf(field.kind);
    bool has_value = false;
    while (!reader.done()) {
      if (!reader.Next(&part)) return false;
      if (part.number == 1 && part.type == kBytes) entry->key = part.bytes;
      if (part.number != 2 || part.type != value_type) continue;
      entry->value = part.value;
      if (has_value && field.kind == FieldPlan::Kind::kMessage) {
        std::string joined(entry->bytes);
        joined.append(part.bytes);
        entry->bytes = merged->emplace_back(std::move(joined));
      } else {
        entry->bytes = part.bytes;
      }
      has_value = true;
    }
    return true;
  }

  void MarkReplaced(size_t base) {
    constexpr size_t kFew = 16;
    const size_t end = entries_.size();
    if (end - base <= kFew) {
      for (size_t i = base; i < end; ++i) {
        for (size_t j = i + 1; j < end && !entries_[i].replaced; ++j) {
          entries_[i].replaced = entries_[i].key == entries_[j].key;
        }
      }
      return;
    }
    std::unordered_map<std::string_view, size_t> last;
    last.reserve(end - base);
    for (size_t i = base; i < end; ++i) {
      const auto [it, inserted] = last.try_emplace(entries_[i].key, i);
      if (inserted) continue;
      entries_[it->second].replaced = true;
      it->second = i;
    }
  }

  bool Value(const FieldPlan& field, uint64_t value, std::string_view bytes, int depth) {
    // What is written is at most six times what is read: a check here bounds the buffer.
    if (out_->size() > max_ || bytes.size() > max_) {
      too_long_ = true;
      return false;
    }
    switch (field.kind) {
      case FieldPlan::Kind::kString: model::WriteJsonString(bytes, out_); break;
      case FieldPlan::Kind::kBytes:
        out_->push_back('"');
        model::AppendBase64(bytes, out_);
        out_->push_back('"');
        break;
      case FieldPlan::Kind::kBool: out_->append(value != 0 ? "true" : "false"); break;
      case FieldPlan::Kind::kInt: AppendNumber(static_cast<int64_t>(value), out_); break;
      case FieldPlan::Kind::kDouble: {
        double number = 0;
        std::memcpy(&number, &value, sizeof(number));
        if (!std::isfinite(number)) return false;
        AppendNumber(number, out_);
        break;
      }
      case FieldPlan::Kind::kEnum: {
        out_->push_back('"');
        if (value < field.enum_names.size() && !field.enum_names[value].empty()) {
          out_->append(field.enum_names[value]);
        } else {
          AppendNumber(static_cast<int32_t>(value), out_);  // for the message that refuses it
        }
        out_->push_back('"');
        break;
      }
      case FieldPlan::Kind::kMessage: return Message(*field.message, bytes, depth + 1);
    }
    return Fits();
  }

  bool Fits() {
    if (out_->size() <= max_) return true;
    too_long_ = true;
    return false;
  }

  bool Timestamp(std::string_view wire) {
    WireReader reader(wire);
    WireField field;
    int64_t seconds = 0;
    int64_t nanoseconds = 0;
    while (!reader.done()) {
      if (!reader.Next(&field)) return false;
      if (field.type != kVarint) continue;
      if (field.number == 1) seconds = static_cast<int64_t>(field.value);
      if (field.number == 2) nanoseconds = static_cast<int64_t>(field.value);
    }
    constexpr int64_t kFar = 253402300800;  // the year 10000, as the message's own rule
    if (seconds < 0 || seconds >= kFar || nanoseconds < 0 || nanoseconds >= 1'000'000'000) {
      return false;
    }
    AppendNumber(seconds, out_);
    const std::string milliseconds = std::to_string(1000 + nanoseconds / 1'000'000);
    out_->append(".").append(milliseconds, 1);
    return true;
  }

  std::vector<Occurrence> occurrences_;
  std::vector<Entry> entries_;
  size_t max_ = 0;
  bool too_long_ = false;
  std::string* out_ = nullptr;
};

}  // namespace

Status WireToJson(const MessagePlan& plan, std::string_view wire, size_t max_json,
                  std::string* json) {
  thread_local JsonMaker maker;
  Status status = maker.Run(plan, wire, max_json, json);
  maker.Trim();
  return status;
}

}  // namespace onggi::grpc_api
