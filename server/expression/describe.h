#pragma once

#include <string>
#include <string_view>

#include "server/model/value.h"

namespace onggi::expression {

/// Appends an S, N or B value as messages show it: "AttributeValue: {N:2}".
void AppendDescription(model::ValueView value, std::string* out);

/// "STRING", "NUMBER" and so on, as messages about ADD and DELETE call types.
std::string_view LongTypeName(model::Type type);

}  // namespace onggi::expression
