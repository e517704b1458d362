#pragma once

#include "server/expression/condition.h"
#include "server/expression/parser.h"

namespace onggi::expression {

/// Parses the grammar that conditions, filters and key conditions share.
class ConditionParser : public ParserBase {
 public:
  ConditionParser(std::string_view text, std::string_view parameter_name,
                  Placeholders* placeholders, Condition* condition)
      : ParserBase(text, parameter_name, placeholders, &condition->tree_), condition_(*condition) {}

  /// Parses, checks and binds.
  Status Parse();
  uint32_t root() const { return condition_.root_; }

 private:
  /// A parsed piece and what it can be: only the token after it says whether `(size(a))` is an
  /// operand.
  struct Piece {
    enum class Kind : uint8_t { kOperand, kFunction, kCondition };
    uint32_t node = kNoNode;
    Kind kind = Kind::kOperand;
    bool parenthesized = false;
    bool redundant = false;  ///< it has parentheses directly inside parentheses
  };

  /// Precedence climbing: OR binds weakest, then AND, then NOT. `allow_operand`: directly inside
  /// parentheses, where a lone operand may stand.
  bool ParseExpression(int min_precedence, bool allow_operand, Piece* piece);
  /// ParseExpression for a place where only a condition may stand.
  bool ParseSubcondition(int min_precedence, uint32_t* node);
  bool ParseTerm(bool allow_operand, Piece* piece);
  bool ParseParenthesized(Piece* piece);
  bool AtComparison() const;
  bool ParseComparison(Piece* piece);

  Status BindCondition(uint32_t index);
  Status BindComparison(uint32_t index);
  Status CheckOrdered(uint32_t index);
  Status CheckBounds(uint32_t index);

  Condition& condition_;
};

}  // namespace onggi::expression
