#include "server/grpc/plan.h"

#include <algorithm>

#include "common/check.h"

namespace onggi::grpc_api {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;

/// Messages whose JSON is that of their only field.
constexpr std::string_view kBareMessages[] = {
    "onggi.v1.Item",      "onggi.v1.StringSet",     "onggi.v1.NumberSet",
    "onggi.v1.BinarySet", "onggi.v1.ListValue",     "onggi.v1.MapValue",
    "onggi.v1.Items",     "onggi.v1.WriteRequests", "onggi.v1.ItemCollectionMetricsList"};

/// "ReturnValues" -> "RETURN_VALUES_", which begins the names of the enum's values.
std::string EnumPrefix(std::string_view name) {
  std::string prefix;
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && i > 0) prefix.push_back('_');
    prefix.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  }
  prefix.push_back('_');
  return prefix;
}

std::vector<std::string> EnumNames(const EnumDescriptor& type) {
  const std::string prefix = EnumPrefix(type.name());
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    const auto& value = *type.value(i);
    CHECK(value.number() >= 0 && value.number() < 256);
    CHECK(value.name().starts_with(prefix));
    const auto number = static_cast<size_t>(value.number());
    if (names.size() <= number) names.resize(number + 1);
    if (number != 0) names[number] = value.name().substr(prefix.size());
  }
  return names;
}

FieldPlan::Kind KindOf(const FieldDescriptor& field) {
  switch (field.type()) {
    case FieldDescriptor::TYPE_STRING: return FieldPlan::Kind::kString;
    case FieldDescriptor::TYPE_BYTES: return FieldPlan::Kind::kBytes;
    case FieldDescriptor::TYPE_BOOL: return FieldPlan::Kind::kBool;
    case FieldDescriptor::TYPE_INT32:
    case FieldDescriptor::TYPE_INT64: return FieldPlan::Kind::kInt;
    case FieldDescriptor::TYPE_DOUBLE: return FieldPlan::Kind::kDouble;
    case FieldDescriptor::TYPE_ENUM: return FieldPlan::Kind::kEnum;
    case FieldDescriptor::TYPE_MESSAGE: return FieldPlan::Kind::kMessage;
    default: CHECK(false); return FieldPlan::Kind::kString;
  }
}

const dynamodb::Member* FindMember(dynamodb::ShapeIndex shape, std::string_view name) {
  if (shape == PlanTable::kNoShape) return nullptr;
  const dynamodb::Shape& structure = dynamodb::ShapeAt(shape);
  if (structure.kind != dynamodb::ShapeKind::kStructure) return nullptr;
  for (const dynamodb::Member& member : dynamodb::MembersOf(structure)) {
    if (member.name == name) return &member;
  }
  return nullptr;
}

/// The shape of what a list or map holds, however deep: the messages in between are bare.
dynamodb::ShapeIndex ElementShape(dynamodb::ShapeIndex shape) {
  while (shape != PlanTable::kNoShape) {
    const dynamodb::Shape& outer = dynamodb::ShapeAt(shape);
    if (outer.kind != dynamodb::ShapeKind::kList && outer.kind != dynamodb::ShapeKind::kMap) break;
    shape = outer.element;
  }
  return shape;
}

}  // namespace

std::string UpperCamel(std::string_view snake) {
  std::string name;
  bool upper = true;
  for (const char c : snake) {
    if (c == '_') {
      upper = true;
      continue;
    }
    name.push_back(upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
    upper = false;
  }
  return name;
}

const FieldPlan* MessagePlan::FindName(std::string_view name, size_t* hint) const {
  const size_t count = fields.size();
  for (size_t tried = 0; tried < count; ++tried) {
    const size_t at = *hint < count ? *hint : 0;
    *hint = at + 1;
    if (fields[at].name == name) return &fields[at];
  }
  return nullptr;
}

const MessagePlan& PlanTable::Add(const Descriptor& message, dynamodb::ShapeIndex shape) {
  // What is inside an attribute value has no required members, and is the same everywhere.
  if (message.full_name() == "onggi.v1.AttributeValue") shape = kNoShape;
  const auto [it, inserted] = plans_.try_emplace(Key(&message, shape));
  if (!inserted) return *it->second;
  it->second = std::make_unique<MessagePlan>();
  MessagePlan& plan = *it->second;  // stays where it is while others are added
  plan.descriptor = &message;
  if (message.full_name() == "google.protobuf.Timestamp") {
    plan.form = MessagePlan::Form::kTimestamp;
    return plan;
  }
  if (std::ranges::find(kBareMessages, message.full_name()) != std::end(kBareMessages)) {
    CHECK(message.field_count() == 1);
    plan.form = MessagePlan::Form::kBare;
  }
  plan.one_of = message.real_oneof_decl_count() == 1;
  CHECK(message.real_oneof_decl_count() <= 1);
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    CHECK(field.number() < 1000);
    CHECK((field.real_containing_oneof() != nullptr) == plan.one_of);
    FieldPlan entry;
    entry.number = field.number();
    entry.map = field.is_map();
    entry.repeated = field.is_repeated() && !field.is_map();
    entry.name = field.has_json_name() ? field.json_name() : UpperCamel(field.name());
    entry.json_prefix = "\"" + entry.name + "\":";
    const FieldDescriptor& value = entry.map ? *field.message_type()->map_value() : field;
    if (entry.map) {
      CHECK(field.message_type()->map_key()->type() == FieldDescriptor::TYPE_STRING);
    }
    entry.kind = KindOf(value);
    if (entry.kind == FieldPlan::Kind::kEnum) entry.enum_names = EnumNames(*value.enum_type());
    dynamodb::ShapeIndex inner = kNoShape;
    if (plan.form == MessagePlan::Form::kBare) {
      inner = shape;  // of the element already
    } else if (const dynamodb::Member* member = FindMember(shape, entry.name)) {
      entry.required = member->required;
      inner = ElementShape(member->shape);
    }
    if (entry.kind == FieldPlan::Kind::kMessage) {
      entry.message = &Add(*value.message_type(), inner);
    }
    const auto number = static_cast<size_t>(entry.number);
    if (plan.by_number.size() <= number) plan.by_number.resize(number + 1, -1);
    plan.by_number[number] = static_cast<int16_t>(plan.fields.size());
    plan.fields.push_back(std::move(entry));
  }
  return plan;
}

}  // namespace onggi::grpc_api
