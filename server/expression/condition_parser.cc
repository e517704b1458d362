#include "server/expression/condition_parser.h"

#include <utility>

#include "server/expression/describe.h"

namespace onggi::expression {
namespace {

using model::Type;

constexpr int kOrPrecedence = 1;
constexpr int kAndPrecedence = 2;
constexpr int kNotPrecedence = 3;

Op ComparisonOf(TokenKind kind) {
  switch (kind) {
    case TokenKind::kEqual: return Op::kEqual;
    case TokenKind::kNotEqual: return Op::kNotEqual;
    case TokenKind::kLess: return Op::kLess;
    case TokenKind::kLessEqual: return Op::kLessEqual;
    case TokenKind::kGreater: return Op::kGreater;
    case TokenKind::kGreaterEqual: return Op::kGreaterEqual;
    case TokenKind::kBetween: return Op::kBetween;
    case TokenKind::kIn: return Op::kIn;
    default: return Op::kInvalid;
  }
}

bool IsOrdered(Type type) {
  return type == Type::kString || type == Type::kNumber || type == Type::kBinary;
}

}  // namespace

Result<Condition> ParseCondition(std::string_view text, std::string_view parameter_name,
                                 Placeholders* placeholders) {
  Condition condition;
  ConditionParser parser(text, parameter_name, placeholders, &condition);
  RETURN_IF_ERROR(parser.Parse());
  return condition;
}

Status ConditionParser::Parse() {
  RETURN_IF_ERROR(Run([&] { return ParseSubcondition(0, &condition_.root_); }));
  return BindCondition(condition_.root_);
}

bool ConditionParser::ParseSubcondition(int min_precedence, uint32_t* node) {
  Piece piece;
  if (!ParseExpression(min_precedence, false, &piece)) return false;
  if (piece.kind == Piece::Kind::kFunction) UseAsCondition(piece.node);
  *node = piece.node;
  return true;
}

bool ConditionParser::ParseExpression(int min_precedence, bool allow_operand, Piece* piece) {
  if (!EnterNesting(At(TokenKind::kOpenParen))) return false;
  if (!ParseTerm(allow_operand, piece)) return false;
  // The last child of piece->node while it is an AND or OR made here; its operands are appended to
  // it instead of nesting, so that a long chain is evaluated by a loop.
  uint32_t tail = kNoNode;
  while (piece->kind != Piece::Kind::kOperand) {
    Op op = Op::kInvalid;
    int precedence = 0;
    if (At(TokenKind::kAnd)) {
      op = Op::kAnd;
      precedence = kAndPrecedence;
    } else if (At(TokenKind::kOr)) {
      op = Op::kOr;
      precedence = kOrPrecedence;
    } else {
      break;
    }
    if (precedence < min_precedence) break;
    Advance();
    if (piece->kind == Piece::Kind::kFunction) UseAsCondition(piece->node);
    uint32_t right = kNoNode;
    if (!ParseSubcondition(precedence + 1, &right)) return false;
    if (tail != kNoNode && node(piece->node).op == op) {
      node(tail).next = right;
      ++node(piece->node).child_count;
    } else {
      piece->node = tree_.AddNode(op, {piece->node, right});
    }
    tail = right;
    piece->kind = Piece::Kind::kCondition;
    piece->parenthesized = false;
  }
  LeaveNesting();
  return true;
}

bool ConditionParser::ParseTerm(bool allow_operand, Piece* piece) {
  if (At(TokenKind::kNot)) {
    Advance();
    uint32_t inner = kNoNode;
    if (!ParseSubcondition(kNotPrecedence, &inner)) return false;
    piece->node = tree_.AddNode(Op::kNot, {inner});
    piece->kind = Piece::Kind::kCondition;
    return true;
  }
  if (At(TokenKind::kOpenParen)) {
    if (!ParseParenthesized(piece)) return false;
  } else {
    if (!ParseOperand(&piece->node)) return false;
    const Op op = node(piece->node).op;
    piece->kind =
        op == Op::kPath || op == Op::kValue ? Piece::Kind::kOperand : Piece::Kind::kFunction;
  }
  if (piece->kind == Piece::Kind::kCondition) return true;
  if (AtComparison()) return ParseComparison(piece);
  if (piece->kind == Piece::Kind::kOperand && !(allow_operand && At(TokenKind::kCloseParen))) {
    return SyntaxError();
  }
  return true;
}

bool ConditionParser::ParseParenthesized(Piece* piece) {
  Advance();
  if (!ParseExpression(0, true, piece) || !Expect(TokenKind::kCloseParen)) return false;
  piece->redundant = piece->redundant || piece->parenthesized;
  piece->parenthesized = true;
  // `((a))` is nothing yet: without an operator after it, that is the error.
  if (piece->redundant && piece->kind != Piece::Kind::kOperand) NoteRedundantParentheses();
  return true;
}

bool ConditionParser::AtComparison() const { return ComparisonOf(current().kind) != Op::kInvalid; }

bool ConditionParser::ParseComparison(Piece* piece) {
  if (piece->redundant) NoteRedundantParentheses();
  UseAsOperand(piece->node);
  const Op op = ComparisonOf(current().kind);
  Advance();
  uint32_t comparison = kNoNode;
  if (op == Op::kIn) {
    if (!At(TokenKind::kOpenParen)) return SyntaxError();
    uint32_t last = piece->node;
    uint32_t count = 1;
    do {
      Advance();  // the parenthesis or comma
      uint32_t operand = kNoNode;
      if (!ParseOperand(&operand)) return false;
      UseAsOperand(operand);
      node(last).next = operand;
      last = operand;
      ++count;
    } while (At(TokenKind::kComma));
    if (!Expect(TokenKind::kCloseParen)) return false;
    comparison = tree_.AddNode(op, {piece->node});
    node(comparison).child_count = count;
  } else {
    uint32_t first = kNoNode;
    if (!ParseOperand(&first)) return false;
    UseAsOperand(first);
    if (op == Op::kBetween) {
      uint32_t second = kNoNode;
      if (!Expect(TokenKind::kAnd) || !ParseOperand(&second)) return false;
      UseAsOperand(second);
      comparison = tree_.AddNode(op, {piece->node, first, second});
    } else {
      comparison = tree_.AddNode(op, {piece->node, first});
    }
  }
  piece->node = comparison;
  piece->kind = Piece::Kind::kCondition;
  piece->parenthesized = false;
  return true;
}

Status ConditionParser::BindCondition(uint32_t index) {
  switch (node(index).op) {
    case Op::kAnd:
    case Op::kOr: {
      const uint32_t first = node(index).first_child;
      RETURN_IF_ERROR(BindCondition(first));
      for (uint32_t child = node(first).next; child != kNoNode; child = node(child).next) {
        RETURN_IF_ERROR(BindCondition(child));
        RETURN_IF_ERROR(CountOperator());
      }
      return Status::Ok();
    }
    case Op::kNot: RETURN_IF_ERROR(BindCondition(node(index).first_child)); return CountOperator();
    case Op::kEqual:
    case Op::kNotEqual:
    case Op::kLess:
    case Op::kLessEqual:
    case Op::kGreater:
    case Op::kGreaterEqual:
    case Op::kBetween:
    case Op::kIn: return BindComparison(index);
    default: return BindOperand(index);  // a function
  }
}

Status ConditionParser::BindComparison(uint32_t index) {
  for (uint32_t child = node(index).first_child; child != kNoNode; child = node(child).next) {
    RETURN_IF_ERROR(BindOperand(child));
  }
  RETURN_IF_ERROR(CountOperator());
  const Op op = node(index).op;
  if (op != Op::kEqual && op != Op::kNotEqual && op != Op::kIn) {
    RETURN_IF_ERROR(CheckOrdered(index));
  }
  RETURN_IF_ERROR(CheckDistinct(index, OperatorName(op)));
  if (op == Op::kIn && node(index).child_count - 1 > static_cast<uint32_t>(kMaxInOperands)) {
    return Invalid("The IN operator is provided with too many operands; number of operands: " +
                   std::to_string(node(index).child_count - 1));
  }
  return op == Op::kBetween ? CheckBounds(index) : Status::Ok();
}

Status ConditionParser::CheckOrdered(uint32_t index) {
  for (uint32_t child = node(index).first_child; child != kNoNode; child = node(child).next) {
    const std::optional<Type> type = KnownType(child);
    if (type && !IsOrdered(*type)) {
      return IncorrectType(OperatorName(node(index).op), TypeName(*type));
    }
  }
  return Status::Ok();
}

Status ConditionParser::CheckBounds(uint32_t index) {
  const Node& lower = node(node(node(index).first_child).next);
  const Node& upper = node(lower.next);
  if (lower.op != Op::kValue || upper.op != Op::kValue) return Status::Ok();
  const model::ValueView low = tree_.ValueOf(lower);
  const model::ValueView high = tree_.ValueOf(upper);
  std::string message;
  if (low.type() != high.type()) {
    message = "The BETWEEN operator requires same data type for lower and upper bounds; ";
  } else if (model::ValueView::Compare(low, high) > 0) {
    message =
        "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; ";
  } else {
    return Status::Ok();
  }
  message.append("lower bound operand: ");
  AppendDescription(low, &message);
  message.append(", upper bound operand: ");
  AppendDescription(high, &message);
  return Invalid(message);
}

}  // namespace onggi::expression
