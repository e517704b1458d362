#pragma once

#include <string_view>
#include <vector>

#include "common/status.h"
#include "server/expression/placeholders.h"
#include "server/expression/tree.h"
#include "server/model/value.h"

namespace onggi::expression {

/// A ConditionExpression or FilterExpression, or the legacy parameters that mean the same. Owns all
/// that it needs; movable; evaluation is const and thread-safe.
class Condition {
 public:
  /// Does the item satisfy it? An invalid view is an item without attributes. Reads the stored form
  /// in place and allocates nothing.
  bool Evaluate(const model::ItemView& item) const;

  /// Top-level attributes it refers to, each once, in order of first mention. The names live as
  /// long as this object stays where it is.
  std::vector<AttributeUse> attributes() const;

  const Tree& tree() const { return tree_; }

 private:
  friend class ConditionParser;
  friend class LegacyTranslator;
  friend class Codec;

  bool EvaluateNode(uint32_t index, const model::ItemView& item) const;

  Tree tree_;
  uint32_t root_ = kNoNode;  ///< none: always true
};

/// Parses a condition. `parameter_name` stands in messages: "ConditionExpression" or
/// "FilterExpression". Errors are InvalidArgument with the service's message. `placeholders` may be
/// null when the request has none.
Result<Condition> ParseCondition(std::string_view text, std::string_view parameter_name,
                                 Placeholders* placeholders);

}  // namespace onggi::expression
