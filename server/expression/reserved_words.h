#pragma once

#include <cstdint>
#include <string_view>

namespace onggi::expression {

/// Is it one of the service's reserved words, in any mix of cases? An expression may not name an
/// attribute so, other than through a placeholder.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html
bool IsReservedWord(std::string_view name);

}  // namespace onggi::expression
