#pragma once

#include <string>
#include <string_view>

namespace onggi {

/// True when the two are equal but for the case of ASCII letters.
bool EqualsIgnoreCase(std::string_view a, std::string_view b);

/// "%41+b" -> "A+b" ('+' stays unless `plus_is_space`). A '%' without two hex digits stays as it
/// is.
std::string PercentDecode(std::string_view text, bool plus_is_space = false);

/// The least string greater than every string with this prefix; empty when there is none: with it,
/// [prefix, end) is the range of those strings.
std::string PrefixEnd(std::string_view prefix);

}  // namespace onggi
