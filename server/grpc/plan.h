#pragma once

#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/dynamodb/api_model.h"

/// The gRPC side of the API. The namespace is not the folder's name: it would hide ::grpc.
namespace onggi::grpc_api {

struct MessagePlan;

/// How one field of a message of onggi.v1 stands in the API's JSON.
struct FieldPlan {
  enum class Kind : uint8_t {
    kString,
    kBytes,  ///< base64 in JSON
    kBool,
    kInt,  ///< int32 and int64
    kDouble,
    kEnum,  ///< its name, without the enum's own, as a string
    kMessage,
  };

  int number = 0;
  Kind kind = Kind::kString;
  bool repeated = false;  ///< a JSON array
  bool map = false;       ///< a JSON object; `kind` is that of the values, keys are strings
  /// The API requires it, so that an empty list or map is meant as one.
  bool required = false;
  std::string name;                      ///< "TableName"
  std::string json_prefix;               ///< "\"TableName\":"
  const MessagePlan* message = nullptr;  ///< of kMessage
  /// Of kEnum: names by number, "" for UNSPECIFIED and numbers that are not taken.
  std::vector<std::string> enum_names;
};

/// How a message of onggi.v1 stands in the API's JSON.
struct MessagePlan {
  enum class Form : uint8_t {
    kObject,
    /// A message for want of repeated maps and lists: the JSON is its only field's value.
    kBare,
    kTimestamp,  ///< google.protobuf.Timestamp: seconds as a decimal
  };

  Form form = Form::kObject;
  const google::protobuf::Descriptor* descriptor = nullptr;
  /// All fields belong to one oneof: the last one on the wire is the one that is set.
  bool one_of = false;
  std::vector<FieldPlan> fields;   ///< by position in the message
  std::vector<int16_t> by_number;  ///< field number to position; -1: none
  /// JSON member to position. Few members: looked through in order, from the last hit on.
  const FieldPlan* FindName(std::string_view name, size_t* hint) const;
  const FieldPlan* FindNumber(uint32_t number) const {
    return number < by_number.size() && by_number[number] >= 0
               ? &fields[static_cast<size_t>(by_number[number])]
               : nullptr;
  }
};

/// The plans of messages, made once from their descriptors. Made by the services at the start; then
/// only read, from any thread.
class PlanTable {
 public:
  PlanTable() = default;
  PlanTable(const PlanTable&) = delete;
  PlanTable& operator=(const PlanTable&) = delete;

  /// `shape` is the message's in the API model, for what is required (nothing is known about
  /// answers: kNoShape). CHECKs that the message has no kind of field that the table above lacks.
  const MessagePlan& Add(const google::protobuf::Descriptor& message,
                         dynamodb::ShapeIndex shape = kNoShape);

  static constexpr dynamodb::ShapeIndex kNoShape = 0xFFFF;

 private:
  using Key = std::pair<const google::protobuf::Descriptor*, dynamodb::ShapeIndex>;
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return std::hash<const void*>{}(key.first) * 31 + key.second;
    }
  };
  std::unordered_map<Key, std::unique_ptr<MessagePlan>, KeyHash> plans_;
};

/// "table_name" -> "TableName".
std::string UpperCamel(std::string_view snake);

}  // namespace onggi::grpc_api
