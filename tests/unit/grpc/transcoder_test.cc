#include "server/grpc/transcoder.h"

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "onggi/v1/key_value.pb.h"
#include "onggi/v1/tables.pb.h"
#include "server/dynamodb/schema.h"
#include "server/grpc/plan.h"
#include "server/model/json.h"

namespace onggi::grpc_api {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

constexpr size_t kMaxJson = 1u << 20;

const MessagePlan& PlanOf(const Descriptor& descriptor, const char* operation = nullptr) {
  static auto* plans = new PlanTable();
  if (operation == nullptr) return plans->Add(descriptor);
  return plans->Add(descriptor, dynamodb::FindOperation(operation)->input);
}

std::string JsonOfWire(const MessagePlan& plan, std::string_view wire) {
  std::string json;
  const Status status = WireToJson(plan, wire, kMaxJson, &json);
  return status.ok() ? json : status.message();
}

std::string JsonOf(const Message& message, const char* operation = nullptr) {
  return JsonOfWire(PlanOf(*message.GetDescriptor(), operation), message.SerializeAsString());
}

template <class T>
T FromJson(const std::string& json) {
  simdjson::dom::parser parser;
  std::string wire;
  JsonToWire(PlanOf(*T::descriptor()), parser.parse(json), &wire);
  T message;
  EXPECT_TRUE(message.ParseFromString(wire)) << json;
  return message;
}

v1::AttributeValue String(std::string text) {
  v1::AttributeValue value;
  value.set_s(std::move(text));
  return value;
}

TEST(WireToJson, WritesAbsentMembersNotAtAll) {
  EXPECT_EQ(JsonOf(v1::GetItemRequest()), "{}");
  v1::GetItemRequest request;
  request.set_table_name("");
  request.set_consistent_read(false);
  request.mutable_key();
  EXPECT_EQ(JsonOf(request), R"({"TableName":"","Key":{},"ConsistentRead":false})");
}

TEST(WireToJson, WritesEveryTypeOfValue) {
  v1::PutItemRequest request;
  auto& item = *request.mutable_item()->mutable_attributes();
  item["v"] = String("a\"b");
  EXPECT_EQ(JsonOf(request), R"({"Item":{"v":{"S":"a\"b"}}})");
  const auto json_of = [&](auto set) {
    v1::AttributeValue value;
    set(value);
    item["v"] = value;
    const std::string json = JsonOf(request);
    return json.substr(13, json.size() - 15);
  };
  EXPECT_EQ(json_of([](auto& v) { v.set_n("-1.50"); }), R"({"N":"-1.50"})");
  EXPECT_EQ(json_of([](auto& v) { v.set_b(std::string("\0\xFF", 2)); }), R"({"B":"AP8="})");
  EXPECT_EQ(json_of([](auto& v) { v.set_boolean(false); }), R"({"BOOL":false})");
  EXPECT_EQ(json_of([](auto& v) { v.set_null(true); }), R"({"NULL":true})");
  EXPECT_EQ(json_of([](auto& v) { v.mutable_ss()->add_values("x"); }), R"({"SS":["x"]})");
  EXPECT_EQ(json_of([](auto& v) { v.mutable_ns()->add_values("1"); }), R"({"NS":["1"]})");
  EXPECT_EQ(json_of([](auto& v) { v.mutable_bs()->add_values("x"); }), R"({"BS":["eA=="]})");
  EXPECT_EQ(json_of([](auto& v) { v.mutable_ss(); }), R"({"SS":[]})");
  EXPECT_EQ(json_of([](auto& v) {
              *v.mutable_l()->add_values() = String("x");
              v.mutable_l()->add_values()->mutable_m();
            }),
            R"({"L":[{"S":"x"},{"M":{}}]})");
  EXPECT_EQ(json_of([](auto& v) { (*v.mutable_m()->mutable_values())[""] = String(""); }),
            R"({"M":{"":{"S":""}}})");
  EXPECT_EQ(json_of([](auto&) {}), "{}");
}

TEST(WireToJson, WritesEnumsByName) {
  v1::PutItemRequest request;
  request.set_return_values(v1::RETURN_VALUES_ALL_OLD);
  EXPECT_EQ(JsonOf(request), R"({"ReturnValues":"ALL_OLD"})");
  request.set_return_values(v1::RETURN_VALUES_UNSPECIFIED);
  EXPECT_EQ(JsonOf(request), "{}");
  request.set_return_values(static_cast<v1::ReturnValues>(77));
  EXPECT_EQ(JsonOf(request), R"({"ReturnValues":"77"})");
}

TEST(WireToJson, WritesWhatIsRequiredAlsoWhenItIsEmpty) {
  EXPECT_EQ(JsonOf(v1::BatchGetItemRequest(), "BatchGetItem"), R"({"RequestItems":{}})");
  v1::BatchGetItemRequest request;
  (*request.mutable_request_items())["t"];
  EXPECT_EQ(JsonOf(request, "BatchGetItem"), R"({"RequestItems":{"t":{"Keys":[]}}})");
  EXPECT_EQ(JsonOf(v1::CreateTableRequest(), "CreateTable"),
            R"({"AttributeDefinitions":[],"KeySchema":[]})");
}

TEST(WireToJson, ReadsWhatParsersRead) {
  // The wire allows fields in any order, more than once, and unknown ones.
  v1::GetItemRequest first;
  first.set_table_name("first");
  (*first.mutable_key()->mutable_attributes())["a"] = String("1");
  v1::GetItemRequest second;
  second.set_table_name("second");
  (*second.mutable_key()->mutable_attributes())["a"] = String("2");
  (*second.mutable_key()->mutable_attributes())["b"] = String("3");
  const std::string unknown("\xC8\x01\x05\xD2\x01\x01x\xDD\x01\x31\x32\x33\x34", 13);
  const std::string wire = first.SerializeAsString() + unknown + second.SerializeAsString();
  v1::GetItemRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(wire));
  parsed.DiscardUnknownFields();
  EXPECT_TRUE(MessageDifferencer::Equals(
      parsed,
      FromJson<v1::GetItemRequest>(JsonOfWire(PlanOf(*v1::GetItemRequest::descriptor()), wire))));
  EXPECT_EQ(parsed.key().attributes().at("a").s(), "2");

  // Of a oneof, the last member.
  v1::AttributeValue text = String("x");
  v1::AttributeValue list;
  *list.mutable_l()->add_values() = text;
  const MessagePlan& value = PlanOf(*v1::AttributeValue::descriptor());
  EXPECT_EQ(JsonOfWire(value, text.SerializeAsString() + list.SerializeAsString()),
            R"({"L":[{"S":"x"}]})");
  EXPECT_EQ(JsonOfWire(value, list.SerializeAsString() + list.SerializeAsString()),
            R"({"L":[{"S":"x"},{"S":"x"}]})");
  EXPECT_EQ(JsonOfWire(value, list.SerializeAsString() + text.SerializeAsString()), R"({"S":"x"})");
}

TEST(WireToJson, KeepsTheLastOfManyEqualMapKeys) {
  std::string wire;
  for (int i = 0; i < 100; ++i) {
    v1::Item item;
    (*item.mutable_attributes())["k" + std::to_string(i % 50)] = String(std::to_string(i));
    wire += item.SerializeAsString();
  }
  v1::Item parsed;
  ASSERT_TRUE(parsed.ParseFromString(wire));
  const auto again = FromJson<v1::Item>(JsonOfWire(PlanOf(*v1::Item::descriptor()), wire));
  EXPECT_TRUE(MessageDifferencer::Equals(parsed, again));
  EXPECT_EQ(again.attributes_size(), 50);
  EXPECT_EQ(again.attributes().at("k7").s(), "57");
}

TEST(WireToJson, RefusesWhatIsNoMessage) {
  const MessagePlan& plan = PlanOf(*v1::GetItemRequest::descriptor());
  const auto refused = [&](std::string_view wire) {
    return JsonOfWire(plan, wire) == "malformed message";
  };
  EXPECT_TRUE(refused("\x0A"));  // no length
  EXPECT_TRUE(
      refused("\x0A\x05"
              "abc"));                                                   // shorter than it says
  EXPECT_TRUE(refused("\x0B"));                                          // a group
  EXPECT_TRUE(refused(std::string_view("\x00\x00", 2)));                 // field 0
  EXPECT_TRUE(refused("\x18\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"));  // 70 bits
  EXPECT_TRUE(refused("\x12\x02\x0A\x05"));                              // inside a message
  EXPECT_FALSE(refused(""));
}

TEST(WireToJson, BoundsDepthAndLength) {
  v1::AttributeValue value = String("x");
  const auto wrap = [&value] {
    v1::AttributeValue outer;
    *outer.mutable_l()->add_values() = value;
    value = std::move(outer);
  };
  for (int level = 0; level < 33; ++level) wrap();
  EXPECT_EQ(JsonOf(value).find("malformed"), std::string::npos);
  for (int level = 33; level < 60; ++level) wrap();
  EXPECT_EQ(JsonOf(value), "malformed message");

  v1::GetItemRequest request;
  request.set_table_name(std::string(2000, '\x01'));  // six times as long in JSON
  std::string json;
  const Status status =
      WireToJson(PlanOf(*request.GetDescriptor()), request.SerializeAsString(), 10'000, &json);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
}

TEST(WireToJson, NeverReadsBeyondItsInput) {
  // Under the address sanitizer: mutations of a real request.
  google::protobuf::LogSilencer silence;  // about text that is not UTF-8
  v1::PutItemRequest request;
  request.set_table_name("table");
  auto& item = *request.mutable_item()->mutable_attributes();
  item["a"] = String("text");
  item["b"].mutable_ns()->add_values("1");
  *item["c"].mutable_l()->add_values() = String("inner");
  (*item["d"].mutable_m()->mutable_values())["e"].set_b("bytes");
  const std::string good = request.SerializeAsString();
  const MessagePlan& plan = PlanOf(*request.GetDescriptor());
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::string bad = good.substr(0, random() % (good.size() + 1));
    for (int change = 0; change < 3 && !bad.empty(); ++change) {
      bad[random() % bad.size()] = static_cast<char>(random());
    }
    const std::unique_ptr<char[]> exact(new char[bad.size()]);
    std::memcpy(exact.get(), bad.data(), bad.size());
    std::string json;
    const Status status = WireToJson(plan, {exact.get(), bad.size()}, kMaxJson, &json);
    v1::PutItemRequest parsed;
    if (!parsed.ParsePartialFromString(bad)) continue;
    // Whatever the library reads we read, groups apart.
    if (status.ok()) {
      simdjson::dom::parser parser;
      std::string wire;
      JsonToWire(plan, parser.parse(json), &wire);
      EXPECT_TRUE(parsed.ParseFromString(wire));
    }
  }
}

TEST(JsonToWire, WritesAnswers) {
  const auto get = FromJson<v1::GetItemResponse>(
      R"({"Item":{"a":{"S":"x"},"b":{"BOOL":true},"c":{"B":"AP8="},"n":{"NULL":true},)"
      R"("s":{"NS":["1","2"]},"m":{"M":{"k":{"L":[]}}}},)"
      R"("ConsumedCapacity":{"TableName":"t","CapacityUnits":0.5}})");
  ASSERT_TRUE(get.has_item());
  EXPECT_EQ(get.item().attributes().at("a").s(), "x");
  EXPECT_TRUE(get.item().attributes().at("b").boolean());
  EXPECT_EQ(get.item().attributes().at("c").b(), std::string("\0\xFF", 2));
  EXPECT_TRUE(get.item().attributes().at("n").null());
  EXPECT_EQ(get.item().attributes().at("s").ns().values_size(), 2);
  EXPECT_TRUE(get.item().attributes().at("m").m().values().at("k").has_l());
  EXPECT_EQ(get.consumed_capacity().capacity_units(), 0.5);
  EXPECT_FALSE(FromJson<v1::GetItemResponse>("{}").has_item());
  EXPECT_TRUE(FromJson<v1::GetItemResponse>(R"({"Item":{}})").has_item());
}

TEST(JsonToWire, WritesTimesEnumsAndLongMessages) {
  const std::string long_name(300, 'n');
  const auto response = FromJson<v1::DescribeTableResponse>(
      R"({"Table":{"TableName":")" + long_name +
      R"(","TableStatus":"ACTIVE","CreationDateTime":1700000000.125,"ItemCount":7,)"
      R"("KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],)"
      R"("SSEDescription":{"SSEType":"KMS"},"Unknown":{"x":1}}})");
  const v1::TableDescription& table = response.table();
  EXPECT_EQ(table.table_name(), long_name);
  EXPECT_EQ(table.table_status(), v1::STATUS_ACTIVE);
  EXPECT_EQ(table.creation_date_time().seconds(), 1700000000);
  EXPECT_EQ(table.creation_date_time().nanos(), 125'000'000);
  EXPECT_EQ(table.item_count(), 7);
  EXPECT_EQ(table.key_schema(0).key_type(), v1::KEY_TYPE_HASH);
  EXPECT_EQ(table.sse_description().sse_type(), v1::SSE_TYPE_KMS);
}

TEST(JsonToWire, IsTheReverseOfWireToJson) {
  std::mt19937 random(11);
  const std::function<v1::AttributeValue(int)> make = [&](int depth) {
    v1::AttributeValue value;
    switch (random() % (depth > 0 ? 10 : 8)) {
      case 0: value.set_s(std::string(random() % 300, 'x')); break;
      case 1: value.set_n(std::to_string(random())); break;
      case 2: value.set_b(std::string(random() % 200, static_cast<char>(random()))); break;
      case 3: value.set_boolean(random() % 2 == 0); break;
      case 4: value.set_null(true); break;
      case 5: value.mutable_ss()->add_values("\xC3\xA9\n"); break;
      case 6: value.mutable_ns()->add_values("1"); break;
      case 7: value.mutable_bs()->add_values(std::string(3, '\0')); break;
      case 8:
        for (int i = 0; i < 5; ++i) *value.mutable_l()->add_values() = make(depth - 1);
        break;
      default:
        for (int i = 0; i < 20; ++i) {
          (*value.mutable_m()->mutable_values())["k" + std::to_string(i)] = make(depth - 1);
        }
    }
    return value;
  };
  for (int round = 0; round < 200; ++round) {
    v1::Item item;
    for (int i = 0; i < 5; ++i) (*item.mutable_attributes())[std::to_string(i)] = make(3);
    const std::string json = JsonOf(item);
    EXPECT_TRUE(MessageDifferencer::Equals(item, FromJson<v1::Item>(json))) << json;
  }
}

/// Members of the API that gRPC leaves to HTTP, or that are of what is not built.
const std::set<std::string>& LeftOut() {
  static const auto* names = new std::set<std::string>{"Expected",
                                                       "AttributeUpdates",
                                                       "KeyConditions",
                                                       "QueryFilter",
                                                       "ScanFilter",
                                                       "AttributesToGet",
                                                       "ReplicaUpdates",
                                                       "ConditionalOperator",
                                                       "ResourcePolicy",
                                                       "MultiRegionConsistency",
                                                       "GlobalTableWitnessUpdates",
                                                       "GlobalTableSettingsReplicationMode",
                                                       "GlobalTableSourceArn"};
  return *names;
}

void CompareShapes(const MessagePlan& plan, dynamodb::ShapeIndex shape, std::string path,
                   std::set<std::string>* seen) {
  using dynamodb::ShapeKind;
  while (dynamodb::ShapeAt(shape).kind == ShapeKind::kList ||
         dynamodb::ShapeAt(shape).kind == ShapeKind::kMap) {
    shape = dynamodb::ShapeAt(shape).element;
  }
  const dynamodb::Shape& structure = dynamodb::ShapeAt(shape);
  if (plan.form == MessagePlan::Form::kBare) {
    if (plan.fields[0].message != nullptr) {
      CompareShapes(*plan.fields[0].message, shape, std::move(path), seen);
    }
    return;
  }
  if (structure.kind != ShapeKind::kStructure || structure.name == "AttributeValue") return;
  if (!seen->insert(std::string(structure.name)).second) return;
  for (const dynamodb::Member& member : dynamodb::MembersOf(structure)) {
    size_t hint = 0;
    const FieldPlan* field = plan.FindName(member.name, &hint);
    const std::string name = path + "." + std::string(member.name);
    if (LeftOut().contains(std::string(member.name))) continue;
    ASSERT_NE(field, nullptr) << name << " has no field";
    const dynamodb::Shape& inner = dynamodb::ShapeAt(member.shape);
    EXPECT_EQ(field->repeated, inner.kind == ShapeKind::kList) << name;
    if (inner.kind == ShapeKind::kString && inner.enum_count > 0) {
      EXPECT_EQ(field->kind, FieldPlan::Kind::kEnum) << name;
      std::set<std::string> names(field->enum_names.begin(), field->enum_names.end());
      for (const std::string_view value : dynamodb::EnumOf(inner)) {
        EXPECT_TRUE(names.contains(std::string(value))) << name << " " << value;
      }
    }
    if (field->message != nullptr) CompareShapes(*field->message, member.shape, name, seen);
  }
  for (const FieldPlan& field : plan.fields) {
    bool known = false;
    for (const dynamodb::Member& member : dynamodb::MembersOf(structure)) {
      known = known || member.name == field.name;
    }
    EXPECT_TRUE(known) << path << "." << field.name << " is not of the API";
  }
}

TEST(Plan, RequestsHaveTheMembersOfTheApi) {
  for (const char* service : {"KeyValue", "Tables"}) {
    const auto* file = std::string_view(service) == "KeyValue"
                           ? v1::GetItemRequest::descriptor()->file()
                           : v1::CreateTableRequest::descriptor()->file();
    const auto* descriptor = file->FindServiceByName(service);
    ASSERT_NE(descriptor, nullptr);
    for (int i = 0; i < descriptor->method_count(); ++i) {
      const auto& method = *descriptor->method(i);
      const auto* operation = dynamodb::FindOperation(method.name());
      ASSERT_NE(operation, nullptr) << method.name();
      std::set<std::string> seen;
      CompareShapes(PlanOf(*method.input_type(), method.name().c_str()), operation->input,
                    method.name(), &seen);
    }
  }
}

TEST(Plan, NamesMembersAsTheApiDoes) {
  EXPECT_EQ(UpperCamel("return_values_on_condition_check_failure"),
            "ReturnValuesOnConditionCheckFailure");
}

}  // namespace
}  // namespace onggi::grpc_api
