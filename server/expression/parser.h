#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "server/expression/lexer.h"
#include "server/expression/placeholders.h"
#include "server/expression/tree.h"

namespace onggi::expression {

/// What every expression's parser shares: operands, functions, paths, and the order of errors.
///
/// The service checks an expression in stages, and the first stage with an error wins:
///  1. syntax, from the front: the first token that cannot stand where it is, or redundant
///  parentheses
///     as soon as they are closed;
///  2. structure: of unknown and misplaced functions, reserved words and list indexes out of range,
///  the
///     one that begins first in the text;
///  3. binding: placeholders are looked up and operands checked from the leaves up, in an order
///  that
///     depends on the kind of expression.
/// Parsing does 1 and 2 in one pass; Bind... does 3. Until a node is bound, its slices are of the
/// text.
class ParserBase {
 protected:
  /// `parameter_name` stands in messages: "Invalid <parameter_name>: ...".
  ParserBase(std::string_view text, std::string_view parameter_name, Placeholders* placeholders,
             Tree* tree)
      : lexer_(text),
        text_(text),
        parameter_name_(parameter_name),
        placeholders_(placeholders),
        tree_(*tree) {}

  /// The size check, and stages 1 and 2 around `parse`, which parses the whole text and returns
  /// false after Fail().
  template <class Parse>
  Status Run(Parse parse) {
    RETURN_IF_ERROR(CheckSize());
    tree_.nodes.reserve(kUsualNodes);
    tree_.elements.reserve(kUsualNodes);
    tree_.bytes.reserve(kUsualBytes);
    if (!parse() || !Expect(TokenKind::kEnd)) return Invalid(failure_);
    if (redundant_parentheses_) return Invalid(kRedundantParentheses);
    if (!structure_error_.empty()) return Invalid(structure_error_);
    return Status::Ok();
  }

  Status Invalid(std::string_view message) const;

  // -- Stages 1 and 2. False: a syntax error has been noted, give up.

  const Token& current() const { return lexer_.current(); }
  bool At(TokenKind kind) const { return lexer_.current().kind == kind; }
  void Advance() { lexer_.Advance(); }
  /// Takes a token of this kind or fails.
  bool Expect(TokenKind kind);
  bool SyntaxError();

  /// Parses path, value, function call, or one of these in parentheses.
  bool ParseOperand(uint32_t* node);
  bool ParsePath(PathRef* path);

  /// Notes that a function is used where its result may not stand, when so. `node` may be anything.
  void UseAsOperand(uint32_t node);
  void UseAsCondition(uint32_t node);

  void NoteStructureError(uint32_t offset, std::string message);
  void NoteRedundantParentheses() { redundant_parentheses_ = true; }

  /// Parentheses, NOT and functions inside each other. Nothing valid is nested so deeply, because
  /// of kMaxOperators; the bound keeps hostile texts from using up the stack.
  bool EnterNesting(bool parenthesis);
  void LeaveNesting() { --depth_; }

  // -- Stage 3. Errors are complete messages.

  Status BindPath(PathRef path);
  /// Binds paths in this order; they may not overlap or conflict.
  Status BindTargets(std::vector<PathRef>* paths);
  Status BindValue(uint32_t node);
  /// Binds an operand and all in it.
  Status BindOperand(uint32_t node);
  /// After the operands have been bound: what can be said of a function or operator.
  Status CheckFunction(uint32_t node);
  Status CountOperator();
  /// The first operand must not be a path that stands again among the others.
  Status CheckDistinct(uint32_t node, std::string_view name);
  Status IncorrectType(std::string_view name, std::string_view type) const;

  /// The type of an operand that is known without an item; nullopt of paths and of functions that
  /// may give anything. size() is a number.
  std::optional<model::Type> KnownType(uint32_t node) const;

  static constexpr char kRedundantParentheses[] = "The expression has redundant parentheses;";

  Node& node(uint32_t index) { return tree_.nodes[index]; }
  const Node& node(uint32_t index) const { return tree_.nodes[index]; }

  /// "size", "begins_with", "+", "BETWEEN".
  static std::string_view OperatorName(Op op);

  bool is_update_ = false;
  Lexer lexer_;
  std::string_view text_;
  std::string_view parameter_name_;
  Placeholders* placeholders_;
  Tree& tree_;

 private:
  // What most expressions fit in.
  static constexpr size_t kUsualNodes = 8;
  static constexpr size_t kUsualBytes = 240;

  Status CheckSize() const;
  bool Fail(std::string message);
  bool ParseFunction(const Token& name, uint32_t* node);
  bool ParsePathAfter(const Token& head, PathRef* path);
  void AddPathName(const Token& token);
  bool IsFunction(Op op) const;

  std::string failure_;
  std::string structure_error_;
  uint32_t structure_offset_ = 0;
  bool redundant_parentheses_ = false;
  int depth_ = 0;
  int operators_ = 0;
};

}  // namespace onggi::expression
