#pragma once

#include <simdjson.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "server/dynamodb/api_model.h"

/// Shared by the two walks of schema.cc and constraints.cc.
namespace onggi::dynamodb::internal {

/// A string's length as the service counts it: UTF-16 units.
size_t Utf16Length(std::string_view utf8);

/// Does the text satisfy length, enum and pattern of its shape?
bool StringFits(const Shape& shape, std::string_view text);
bool NumberFits(const Shape& shape, simdjson::dom::element number);
bool LengthFits(const Shape& shape, size_t length);

/// Does the whole of `text` match the pattern of the API model?
bool MatchesPattern(std::string_view pattern, std::string_view text);

/// A name that item and control operations take for an ARN, checked when it is resolved.
inline bool LooksLikeArn(std::string_view text) { return text.starts_with("arn:"); }

/// The ValidationException's message for `input`, which has passed the type walk and failed some
/// constraint: names every failed constraint, at most 10. Empty when all hold.
std::string DescribeConstraintErrors(const Shape& shape, simdjson::dom::object input);

}  // namespace onggi::dynamodb::internal
