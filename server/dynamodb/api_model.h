#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

/// The API as data: the shapes of every operation's input with their constraints, generated from
/// the public API model by tools/generate_api_model.py (api_model.inc). Documentation texts are not
/// in it.
namespace onggi::dynamodb {

enum class ShapeKind : uint8_t {
  kStructure,
  kList,
  kMap,
  kString,
  kInteger,
  kLong,
  kDouble,
  kBoolean,
  kBlob,
  kTimestamp,
};

/// How a table name is checked (the overlay says which members are which).
enum class NameRule : uint8_t {
  kNone,
  /// Item operations: classical constraint errors, unless the value is an ARN.
  kData,
  /// Control operations: "TableName must be at least 3 characters long and at most 255 characters
  /// long", ahead of every other constraint.
  kControl,
};

using ShapeIndex = uint16_t;
inline constexpr int64_t kNoBound = std::numeric_limits<int64_t>::min();

struct Member {
  std::string_view name;       ///< "TableName"
  std::string_view wire_name;  ///< "tableName", as constraint errors write it
  ShapeIndex shape;
  bool required;
  NameRule name_rule;
  uint8_t
      model_position;  ///< place in the API model; members() stand in the service's checking order
};

struct Shape {
  std::string_view name;  ///< "AttributeValue"
  ShapeKind kind;
  bool constrained;       ///< it, or something inside it, has a constraint worth a walk
  uint16_t first_member;  ///< of kStructure: into the member table
  uint16_t member_count;
  ShapeIndex element;  ///< of kList and kMap (values)
  ShapeIndex key;      ///< of kMap
  int64_t min;         ///< length of strings, blobs, lists, maps; value of numbers; kNoBound
  int64_t max;
  std::string_view pattern;  ///< empty: none
  uint16_t first_enum;       ///< into the table of enum values
  uint16_t enum_count;
  std::string_view enum_text;  ///< "INDEXES, TOTAL, NONE", as constraint errors list them
};

struct OperationModel {
  std::string_view name;
  ShapeIndex input;
};

const Shape& ShapeAt(ShapeIndex index);
std::span<const Member> MembersOf(const Shape& structure);
std::span<const std::string_view> EnumOf(const Shape& string);

/// The operations of the API by name, in byte order.
std::span<const OperationModel> Operations();
/// Null when the API has no such operation.
const OperationModel* FindOperation(std::string_view name);

/// The shape of AttributeValue, which the walks treat apart.
ShapeIndex AttributeValueShape();

}  // namespace onggi::dynamodb
