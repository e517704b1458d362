#include <array>

#include "server/expression/describe.h"
#include "server/expression/parser.h"
#include "server/expression/update.h"

namespace onggi::expression {
using model::Type;

class UpdateParser : public ParserBase {
 public:
  UpdateParser(std::string_view text, Placeholders* placeholders, Update* update)
      : ParserBase(text, "UpdateExpression", placeholders, &update->tree_),
        update_(*update),
        actions_(update->actions_) {
    is_update_ = true;
  }

  Status Parse();

 private:
  using Action = Update::Action;
  using Kind = Update::Kind;

  bool ParseSections();
  bool ParseAction(Kind kind);
  // The value of SET: an operand, two operands with + or -, or one of these in parentheses.
  struct Value {
    uint32_t node = kNoNode;
    bool arithmetic = false;
    bool parenthesized = false;
  };
  bool ParseValue(Value* value);
  Status BindAction(const Action& action);

  Update& update_;
  std::vector<Action>& actions_;
};

Result<Update> ParseUpdate(std::string_view text, Placeholders* placeholders) {
  Update update;
  UpdateParser parser(text, placeholders, &update);
  RETURN_IF_ERROR(parser.Parse());
  return update;
}

Status UpdateParser::Parse() {
  RETURN_IF_ERROR(Run([&] { return ParseSections(); }));
  // The service binds all targets before all values, and both from the last action to the first.
  std::vector<PathRef> paths;
  paths.reserve(actions_.size());
  for (auto action = actions_.rbegin(); action != actions_.rend(); ++action) {
    paths.push_back(action->path);
  }
  RETURN_IF_ERROR(BindTargets(&paths));
  for (auto action = actions_.rbegin(); action != actions_.rend(); ++action) {
    RETURN_IF_ERROR(BindAction(*action));
  }
  update_.Finish();
  return Status::Ok();
}

bool UpdateParser::ParseSections() {
  std::array<bool, 4> seen{};
  do {
    Kind kind = Kind::kSet;
    switch (current().kind) {
      case TokenKind::kSet: break;
      case TokenKind::kRemove: kind = Kind::kRemove; break;
      case TokenKind::kAdd: kind = Kind::kAdd; break;
      case TokenKind::kDelete: kind = Kind::kDelete; break;
      default: return SyntaxError();
    }
    static constexpr std::string_view kNames[] = {"SET", "REMOVE", "ADD", "DELETE"};
    const auto section = static_cast<size_t>(kind);
    do {
      Advance();  // the keyword or comma
      if (!ParseAction(kind)) return false;
    } while (At(TokenKind::kComma));
    if (seen[section]) {  // found at the section's end, so errors inside it come first
      NoteStructureError(current().offset,
                         "The \"" + std::string(kNames[section]) +
                             "\" section can only be used once in an update expression;");
    }
    seen[section] = true;
  } while (!At(TokenKind::kEnd));
  return true;
}

bool UpdateParser::ParseAction(Kind kind) {
  Action action;
  action.kind = kind;
  if (!ParsePath(&action.path)) return false;
  if (kind == Kind::kSet) {
    Value value;
    if (!Expect(TokenKind::kEqual) || !ParseValue(&value)) return false;
    action.value = value.node;
  } else if (kind != Kind::kRemove) {
    if (!At(TokenKind::kValueRef)) return SyntaxError();
    if (!ParseOperand(&action.value)) return false;
  }
  actions_.push_back(action);
  return true;
}

bool UpdateParser::ParseValue(Value* value) {
  *value = Value();
  if (At(TokenKind::kOpenParen)) {
    if (!EnterNesting(true)) return false;
    Advance();
    if (!ParseValue(value) || !Expect(TokenKind::kCloseParen)) return false;
    LeaveNesting();
    if (value->parenthesized) NoteRedundantParentheses();
    value->parenthesized = true;
    if (value->arithmetic) return true;
  } else if (!ParseOperand(&value->node)) {
    return false;
  }
  Op op = Op::kInvalid;
  if (At(TokenKind::kPlus)) {
    op = Op::kPlus;
  } else if (At(TokenKind::kMinus)) {
    op = Op::kMinus;
  } else {
    return true;
  }
  UseAsOperand(value->node);
  Advance();
  uint32_t right = kNoNode;
  if (!ParseOperand(&right)) return false;
  UseAsOperand(right);
  value->node = tree_.AddNode(op, {value->node, right});
  value->arithmetic = true;
  value->parenthesized = false;
  return true;
}

Status UpdateParser::BindAction(const Action& action) {
  if (action.value == kNoNode) return Status::Ok();
  RETURN_IF_ERROR(BindOperand(action.value));
  if (action.kind == Kind::kSet) return Status::Ok();
  const Type type = tree_.ValueOf(node(action.value)).type();
  const std::string_view name = LongTypeName(type);
  const bool add = action.kind == Kind::kAdd;
  if (model::IsSet(type) || (add && type == Type::kNumber)) return Status::Ok();
  std::string message = "Incorrect operand type for operator or function; operator: ";
  message.append(add ? "ADD" : "DELETE").append(", operand type: ").append(name);
  message.append(", typeSet: ALLOWED_FOR_").append(add ? "ADD" : "DELETE").append("_OPERAND");
  return Invalid(message);
}

}  // namespace onggi::expression
