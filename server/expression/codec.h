#pragma once

#include <string>
#include <string_view>

#include "common/status.h"
#include "server/expression/condition.h"
#include "server/expression/update.h"

/// Parsed expressions as bytes, for the node that evaluates them: what was parsed and checked once
/// is neither sent as text nor parsed again.
///
/// A format byte, then the tree in preorder (docs/formats.md). Whatever the bytes are, decoding
/// ends in an expression that can be evaluated, or in kCorruption; a format that this program does
/// not know is kCorruption too.
namespace onggi::expression {

/// Appends `condition` to `out`.
void EncodeCondition(const Condition& condition, std::string* out);
Result<Condition> DecodeCondition(std::string_view bytes);

/// Appends `update` to `out`.
void EncodeUpdate(const Update& update, std::string* out);
Result<Update> DecodeUpdate(std::string_view bytes);

}  // namespace onggi::expression
