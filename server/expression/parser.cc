#include "server/expression/parser.h"

#include <charconv>
#include <limits>
#include <utility>

#include "server/expression/paths.h"
#include "server/expression/reserved_words.h"

namespace onggi::expression {
namespace {

using model::Type;

// Twice the operators, and some: `NOT (` is one operator and two levels.
constexpr int kMaxNestingDepth = 2 * kMaxOperators + 10;

struct Function {
  std::string_view name;
  Op op;
  uint32_t operands;
  bool in_update;  ///< else in conditions
};

constexpr Function kFunctions[] = {
    {"attribute_exists", Op::kAttributeExists, 1, false},
    {"attribute_not_exists", Op::kAttributeNotExists, 1, false},
    {"attribute_type", Op::kAttributeType, 2, false},
    {"begins_with", Op::kBeginsWith, 2, false},
    {"contains", Op::kContains, 2, false},
    {"size", Op::kSize, 1, false},
    {"if_not_exists", Op::kIfNotExists, 2, true},
    {"list_append", Op::kListAppend, 2, true},
};

const Function* FindFunction(std::string_view name) {
  for (const Function& function : kFunctions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

// The service counts UTF-16 code units.
size_t Utf16Size(std::string_view text) {
  if (text.size() <= kMaxExpressionSize) return text.size();  // enough to know that it fits
  size_t size = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0) != 0x80) size += byte >= 0xF0 ? 2 : 1;
  }
  return size;
}

uint32_t OperandsOf(Op op) {
  for (const Function& function : kFunctions) {
    if (function.op == op) return function.operands;
  }
  return 2;
}

}  // namespace

Status ParserBase::Invalid(std::string_view message) const {
  std::string text = "Invalid ";
  text.append(parameter_name_).append(": ").append(message);
  return InvalidArgument(std::move(text));
}

Status ParserBase::CheckSize() const {
  if (text_.empty()) return Invalid("The expression can not be empty;");
  const size_t size = Utf16Size(text_);
  if (size > kMaxExpressionSize) {
    return Invalid("Expression size has exceeded the maximum allowed size; expression size: " +
                   std::to_string(size));
  }
  return Status::Ok();
}

bool ParserBase::Fail(std::string message) {
  failure_ = std::move(message);
  return false;
}

bool ParserBase::SyntaxError() {
  return Fail(redundant_parentheses_ ? std::string(kRedundantParentheses) : lexer_.SyntaxError());
}

bool ParserBase::Expect(TokenKind kind) {
  if (!At(kind)) return SyntaxError();
  if (kind != TokenKind::kEnd) Advance();
  return true;
}

void ParserBase::NoteStructureError(uint32_t offset, std::string message) {
  if (!structure_error_.empty() && structure_offset_ <= offset) return;
  structure_error_ = std::move(message);
  structure_offset_ = offset;
}

bool ParserBase::EnterNesting(bool parenthesis) {
  if (++depth_ <= kMaxNestingDepth) return true;
  // Whatever follows, the expression is wrong; say what would most likely be found in the end.
  if (!redundant_parentheses_ && !structure_error_.empty()) return Fail(structure_error_);
  if (redundant_parentheses_ || parenthesis) return Fail(kRedundantParentheses);
  return Fail("The expression contains too many operators; operator count: " +
              std::to_string(kMaxOperators + 1));
}

bool ParserBase::ParseOperand(uint32_t* node) {
  const Token token = current();
  switch (token.kind) {
    case TokenKind::kValueRef: {
      Node value;
      value.op = Op::kValue;
      value.value = {token.offset, token.size};
      tree_.nodes.push_back(value);
      *node = static_cast<uint32_t>(tree_.nodes.size() - 1);
      Advance();
      return true;
    }
    case TokenKind::kName:
    case TokenKind::kNameRef: {
      Advance();
      if (token.kind == TokenKind::kName && At(TokenKind::kOpenParen)) {
        return ParseFunction(token, node);
      }
      PathRef path;
      if (!ParsePathAfter(token, &path)) return false;
      *node = tree_.AddPathNode(path);
      return true;
    }
    case TokenKind::kOpenParen: {
      if (!EnterNesting(true)) return false;
      Advance();
      const bool redundant = At(TokenKind::kOpenParen);
      if (!ParseOperand(node) || !Expect(TokenKind::kCloseParen)) return false;
      if (redundant) NoteRedundantParentheses();
      LeaveNesting();
      return true;
    }
    default: return SyntaxError();
  }
}

bool ParserBase::ParseFunction(const Token& name, uint32_t* node) {
  if (!EnterNesting(false)) return false;
  const std::string_view text = lexer_.TextOf(name);
  const Function* function = FindFunction(text);
  if (function == nullptr) {
    NoteStructureError(name.offset, "Invalid function name; function: " + std::string(text));
  } else if (function->in_update != is_update_) {
    NoteStructureError(name.offset,
                       (is_update_ ? "The function is not allowed in an update expression; "
                                     "function: "
                                   : "The function is not allowed in a condition expression; "
                                     "function: ") +
                           std::string(text));
  }
  Node call;
  call.op = function == nullptr ? Op::kInvalid : function->op;
  call.value = {name.offset, name.size};
  uint32_t last = kNoNode;
  do {
    Advance();  // the parenthesis or comma
    uint32_t operand = kNoNode;
    if (!ParseOperand(&operand)) return false;
    UseAsOperand(operand);
    if (last == kNoNode) {
      call.first_child = operand;
    } else {
      this->node(last).next = operand;
    }
    last = operand;
    ++call.child_count;
  } while (At(TokenKind::kComma));
  if (!Expect(TokenKind::kCloseParen)) return false;
  tree_.nodes.push_back(call);
  *node = static_cast<uint32_t>(tree_.nodes.size() - 1);
  LeaveNesting();
  return true;
}

bool ParserBase::ParsePath(PathRef* path) {
  const Token head = current();
  if (head.kind != TokenKind::kName && head.kind != TokenKind::kNameRef) return SyntaxError();
  Advance();
  return ParsePathAfter(head, path);
}

void ParserBase::AddPathName(const Token& token) {
  PathElement element;
  element.name = {token.offset, token.size};
  element.is_placeholder = token.kind != TokenKind::kName;
  if (!element.is_placeholder && IsReservedWord(lexer_.TextOf(token))) {
    NoteStructureError(token.offset, "Attribute name is a reserved keyword; reserved keyword: " +
                                         std::string(lexer_.TextOf(token)));
  }
  tree_.elements.push_back(element);
}

bool ParserBase::ParsePathAfter(const Token& head, PathRef* path) {
  path->first = static_cast<uint32_t>(tree_.elements.size());
  AddPathName(head);
  while (true) {
    if (At(TokenKind::kDot)) {
      Advance();
      // The service takes a value's placeholder here too, and then finds no name for it.
      if (!At(TokenKind::kName) && !At(TokenKind::kNameRef) && !At(TokenKind::kValueRef)) {
        return SyntaxError();
      }
      AddPathName(current());
      Advance();
    } else if (At(TokenKind::kOpenBracket)) {
      Advance();
      if (!At(TokenKind::kNumber)) return SyntaxError();
      const std::string_view digits = lexer_.TextOf(current());
      PathElement element;
      element.is_index = true;
      const auto parsed =
          std::from_chars(digits.data(), digits.data() + digits.size(), element.index);
      if (parsed.ec != std::errc() ||
          element.index > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
        NoteStructureError(
            current().offset,
            "List index is not within the allowable range; index: [" + std::string(digits) + "]");
      }
      tree_.elements.push_back(element);
      Advance();
      if (!Expect(TokenKind::kCloseBracket)) return false;
    } else {
      break;
    }
  }
  path->count = static_cast<uint32_t>(tree_.elements.size()) - path->first;
  return true;
}

bool ParserBase::IsFunction(Op op) const {
  switch (op) {
    case Op::kSize:
    case Op::kAttributeExists:
    case Op::kAttributeNotExists:
    case Op::kAttributeType:
    case Op::kBeginsWith:
    case Op::kContains:
    case Op::kIfNotExists:
    case Op::kListAppend: return true;
    default: return false;
  }
}

void ParserBase::UseAsOperand(uint32_t index) {
  const Op op = node(index).op;
  if (!IsFunction(op) || op == Op::kSize || op == Op::kIfNotExists) return;
  const Slice name = node(index).value;
  NoteStructureError(
      name.offset, "The function is not allowed to be used this way in an expression; function: " +
                       std::string(text_.substr(name.offset, name.size)));
}

void ParserBase::UseAsCondition(uint32_t index) {
  if (node(index).op != Op::kSize) return;
  const Slice name = node(index).value;
  NoteStructureError(
      name.offset,
      "The function is not allowed to be used this way in an expression; function: size");
}

Status ParserBase::BindPath(PathRef path) {
  for (uint32_t i = 0; i < path.count; ++i) {
    PathElement& element = tree_.elements[path.first + i];
    if (element.is_index) continue;
    std::string_view name = text_.substr(element.name.offset, element.name.size);
    if (element.is_placeholder) {
      const std::string* full = placeholders_ == nullptr ? nullptr : placeholders_->UseName(name);
      if (full == nullptr) {
        return Invalid(
            "An expression attribute name used in the document path is not defined; "
            "attribute name: " +
            std::string(name));
      }
      name = *full;
      element.is_placeholder = false;
    }
    element.name = tree_.AddBytes(name);
  }
  if (path.count > kMaxPathDepth) {
    return Invalid("The document path has too many nesting levels; nesting levels: " +
                   std::to_string(path.count));
  }
  return Status::Ok();
}

Status ParserBase::BindTargets(std::vector<PathRef>* paths) {
  for (size_t i = 0; i < paths->size(); ++i) {
    Status bound = BindPath((*paths)[i]);
    if (bound.ok()) continue;
    // An overlap among those bound before it was found first.
    paths->resize(i);
    const std::string problem = FindPathProblem(tree_, *paths);
    return problem.empty() ? bound : Invalid(problem);
  }
  const std::string problem = FindPathProblem(tree_, *paths);
  return problem.empty() ? Status::Ok() : Invalid(problem);
}

Status ParserBase::BindValue(uint32_t index) {
  const Slice token = node(index).value;
  const std::string_view name = text_.substr(token.offset, token.size);
  const std::string* value = placeholders_ == nullptr ? nullptr : placeholders_->UseValue(name);
  if (value == nullptr) {
    return Invalid(
        "An expression attribute value used in expression is not defined; attribute value: " +
        std::string(name));
  }
  node(index).value = tree_.AddBytes(*value);
  return Status::Ok();
}

Status ParserBase::BindOperand(uint32_t index) {
  switch (node(index).op) {
    case Op::kPath: return BindPath(node(index).path);
    case Op::kValue: return BindValue(index);
    default:
      for (uint32_t child = node(index).first_child; child != kNoNode; child = node(child).next) {
        RETURN_IF_ERROR(BindOperand(child));
      }
      return CheckFunction(index);
  }
}

Status ParserBase::CountOperator() {
  if (++operators_ <= kMaxOperators) return Status::Ok();
  return Invalid("The expression contains too many operators; operator count: " +
                 std::to_string(operators_));
}

Status ParserBase::CheckDistinct(uint32_t index, std::string_view name) {
  const uint32_t first = node(index).first_child;
  if (first == kNoNode || node(first).op != Op::kPath) return Status::Ok();
  for (uint32_t other = node(first).next; other != kNoNode; other = node(other).next) {
    if (node(other).op != Op::kPath || !tree_.SamePath(node(first).path, node(other).path))
      continue;
    std::string message =
        "The first operand must be distinct from the remaining operands for this operator or "
        "function; operator: ";
    message.append(name).append(", first operand: ").append(tree_.PathText(node(first).path));
    return Invalid(message);
  }
  return Status::Ok();
}

Status ParserBase::IncorrectType(std::string_view name, std::string_view type) const {
  std::string message = "Incorrect operand type for operator or function; operator or function: ";
  message.append(name).append(", operand type: ").append(type);
  return Invalid(message);
}

std::optional<Type> ParserBase::KnownType(uint32_t index) const {
  switch (node(index).op) {
    case Op::kValue: return tree_.ValueOf(node(index)).type();
    case Op::kSize: return Type::kNumber;
    default: return std::nullopt;
  }
}

Status ParserBase::CheckFunction(uint32_t index) {
  RETURN_IF_ERROR(CountOperator());
  const Op op = node(index).op;
  const std::string_view name = OperatorName(op);
  if (node(index).child_count != OperandsOf(op)) {
    std::string message =
        "Incorrect number of operands for operator or function; operator or function: ";
    message.append(name).append(", number of operands: ");
    message.append(std::to_string(node(index).child_count));
    return Invalid(message);
  }
  if (op != Op::kPlus && op != Op::kMinus && op != Op::kListAppend) {
    RETURN_IF_ERROR(CheckDistinct(index, name));
  }
  const uint32_t first = node(index).first_child;
  const uint32_t second = node(first).next;
  switch (op) {
    case Op::kAttributeExists:
    case Op::kAttributeNotExists:
    case Op::kIfNotExists:
      if (node(first).op != Op::kPath) {
        return Invalid("Operator or function requires a document path; operator or function: " +
                       std::string(name));
      }
      return Status::Ok();
    case Op::kSize: {
      const std::optional<Type> type = KnownType(first);
      if (type == Type::kNumber || type == Type::kBool || type == Type::kNull) {
        return IncorrectType(name, TypeName(*type));
      }
      return Status::Ok();
    }
    case Op::kAttributeType: {
      const std::optional<Type> type = KnownType(second);
      if (type != Type::kString) {
        return IncorrectType(name, type ? TypeName(*type) : "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}");
      }
      // The name of a type; the value itself is not needed any more.
      const std::string_view wanted = tree_.ValueOf(node(second)).AsString();
      const std::optional<Type> wanted_type = model::TypeFromName(wanted);
      if (!wanted_type) {
        return Invalid("Invalid attribute type name found; type: " + std::string(wanted) +
                       ", valid types: {B,NULL,SS,BOOL,L,BS,N,NS,S,M}");
      }
      node(index).attribute_type = *wanted_type;
      return Status::Ok();
    }
    case Op::kBeginsWith:
    case Op::kListAppend:
    case Op::kPlus:
    case Op::kMinus:
      for (const uint32_t operand : {first, second}) {
        const std::optional<Type> type = KnownType(operand);
        if (!type) continue;
        bool allowed = false;
        if (op == Op::kBeginsWith) {
          allowed = *type == Type::kString || *type == Type::kBinary;
        } else if (op == Op::kListAppend) {
          allowed = *type == Type::kList;
        } else {
          allowed = *type == Type::kNumber;
        }
        if (!allowed) return IncorrectType(name, TypeName(*type));
      }
      return Status::Ok();
    default: return Status::Ok();
  }
}

std::string_view ParserBase::OperatorName(Op op) {
  switch (op) {
    case Op::kAnd: return "AND";
    case Op::kOr: return "OR";
    case Op::kNot: return "NOT";
    case Op::kEqual: return "=";
    case Op::kNotEqual: return "<>";
    case Op::kLess: return "<";
    case Op::kLessEqual: return "<=";
    case Op::kGreater: return ">";
    case Op::kGreaterEqual: return ">=";
    case Op::kBetween: return "BETWEEN";
    case Op::kIn: return "IN";
    case Op::kPlus: return "+";
    case Op::kMinus: return "-";
    default:
      for (const Function& function : kFunctions) {
        if (function.op == op) return function.name;
      }
      return {};
  }
}

}  // namespace onggi::expression
