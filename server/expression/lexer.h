#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace onggi::expression {

enum class TokenKind : uint8_t {
  kEnd,
  kUnknown,   ///< one character that begins no token
  kName,      ///< letter, then letters, digits and underscores
  kNameRef,   ///< '#' and one or more letters, digits and underscores
  kValueRef,  ///< ':' and the same
  kNumber,    ///< "0", or digits that do not begin with 0
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kOpenParen,
  kCloseParen,
  kOpenBracket,
  kCloseBracket,
  kComma,
  kDot,
  kPlus,
  kMinus,
  // Keywords, in any mix of cases. They are keywords everywhere: never a name.
  kAnd,
  kOr,
  kNot,
  kIn,
  kBetween,
  kSet,
  kRemove,
  kAdd,
  kDelete,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  uint32_t offset = 0;  ///< where it begins in the text; of kEnd: the text's size
  uint32_t size = 0;

  uint32_t end() const { return offset + size; }
};

/// Cuts an expression into tokens, one ahead. White space is space, tab, carriage return and
/// newline.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) { current_ = Lex(0); }

  std::string_view text() const { return text_; }
  const Token& current() const { return current_; }
  std::string_view TextOf(const Token& token) const {
    return text_.substr(token.offset, token.size);
  }
  void Advance() {
    previous_ = current_;
    has_previous_ = true;
    current_ = Lex(current_.end());
  }

  /// "Syntax error; token: \"x\", near: \"a x b\"": the current token, and the text from the token
  /// before it to the end of the one after it, as the service shows them.
  std::string SyntaxError() const;

 private:
  Token Lex(uint32_t offset) const;

  std::string_view text_;
  Token current_;
  Token previous_;
  bool has_previous_ = false;
};

}  // namespace onggi::expression
