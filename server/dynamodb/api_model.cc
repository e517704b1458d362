#include "server/dynamodb/api_model.h"

#include <algorithm>

namespace onggi::dynamodb {
namespace {

#include "server/dynamodb/api_model.inc"

// The walks keep the members they have seen in 64 bits.
static_assert(std::ranges::all_of(kShapes, [](const Shape& s) { return s.member_count <= 64; }));
static_assert(std::ranges::is_sorted(kOperations, {}, &OperationModel::name));

}  // namespace

const Shape& ShapeAt(ShapeIndex index) { return kShapes[index]; }

std::span<const Member> MembersOf(const Shape& structure) {
  return {kMembers + structure.first_member, structure.member_count};
}

std::span<const std::string_view> EnumOf(const Shape& string) {
  return {kEnumValues + string.first_enum, string.enum_count};
}

std::span<const OperationModel> Operations() { return kOperations; }

const OperationModel* FindOperation(std::string_view name) {
  const auto it = std::ranges::lower_bound(kOperations, name, {}, &OperationModel::name);
  return it != std::end(kOperations) && it->name == name ? &*it : nullptr;
}

ShapeIndex AttributeValueShape() { return kAttributeValueShape; }

}  // namespace onggi::dynamodb
