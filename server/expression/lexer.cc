#include "server/expression/lexer.h"

#include <algorithm>
#include <array>

namespace onggi::expression {
namespace {

constexpr uint8_t kLetter = 1;
constexpr uint8_t kDigit = 2;
constexpr uint8_t kUnderscore = 4;
constexpr uint8_t kSpace = 8;
constexpr uint8_t kWord = kLetter | kDigit | kUnderscore;

constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> classes{};
  for (int c = 'a'; c <= 'z'; ++c) classes[static_cast<size_t>(c)] = kLetter;
  for (int c = 'A'; c <= 'Z'; ++c) classes[static_cast<size_t>(c)] = kLetter;
  for (int c = '0'; c <= '9'; ++c) classes[static_cast<size_t>(c)] = kDigit;
  classes['_'] = kUnderscore;
  classes[' '] = classes['\t'] = classes['\r'] = classes['\n'] = kSpace;
  return classes;
}
constexpr std::array<uint8_t, 256> kClasses = MakeClasses();

uint8_t ClassOf(char c) { return kClasses[static_cast<unsigned char>(c)]; }

bool EqualsKeyword(std::string_view text, std::string_view upper) {
  if (text.size() != upper.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & ~0x20) != upper[i]) return false;
  }
  return true;
}

TokenKind NameOrKeyword(std::string_view text) {
  if (text.size() < 2 || text.size() > 7) return TokenKind::kName;
  switch (text[0] & ~0x20) {
    case 'A':
      if (EqualsKeyword(text, "AND")) return TokenKind::kAnd;
      if (EqualsKeyword(text, "ADD")) return TokenKind::kAdd;
      break;
    case 'B':
      if (EqualsKeyword(text, "BETWEEN")) return TokenKind::kBetween;
      break;
    case 'D':
      if (EqualsKeyword(text, "DELETE")) return TokenKind::kDelete;
      break;
    case 'I':
      if (EqualsKeyword(text, "IN")) return TokenKind::kIn;
      break;
    case 'N':
      if (EqualsKeyword(text, "NOT")) return TokenKind::kNot;
      break;
    case 'O':
      if (EqualsKeyword(text, "OR")) return TokenKind::kOr;
      break;
    case 'R':
      if (EqualsKeyword(text, "REMOVE")) return TokenKind::kRemove;
      break;
    case 'S':
      if (EqualsKeyword(text, "SET")) return TokenKind::kSet;
      break;
    default: break;
  }
  return TokenKind::kName;
}

// Bytes of the UTF-8 character at `text[0]`; 1 when it is not a valid first byte.
uint32_t CharacterSize(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  size_t size = 1;
  if (first >= 0xF0 && first < 0xF8) {
    size = 4;
  } else if (first >= 0xE0) {
    size = 3;
  } else if (first >= 0xC0) {
    size = 2;
  }
  return static_cast<uint32_t>(std::min(size, text.size()));
}

}  // namespace

Token Lexer::Lex(uint32_t offset) const {
  const auto size = static_cast<uint32_t>(text_.size());
  while (offset < size && ClassOf(text_[offset]) == kSpace) ++offset;
  Token token;
  token.offset = offset;
  if (offset == size) return token;

  token.size = 1;
  const char c = text_[offset];
  const char next = offset + 1 < size ? text_[offset + 1] : '\0';
  const auto word_end = [&](uint32_t from) {
    while (from < size && (ClassOf(text_[from]) & kWord) != 0) ++from;
    return from;
  };
  const auto two = [&](TokenKind kind) {
    token.kind = kind;
    token.size = 2;
  };

  switch (ClassOf(c)) {
    case kLetter:
      token.size = word_end(offset + 1) - offset;
      token.kind = NameOrKeyword(text_.substr(offset, token.size));
      return token;
    case kDigit: {
      uint32_t end = offset + 1;
      if (c != '0') {
        while (end < size && ClassOf(text_[end]) == kDigit) ++end;
      }
      token.size = end - offset;
      token.kind = TokenKind::kNumber;
      return token;
    }
    default: break;
  }
  switch (c) {
    case '#':
    case ':':
      if ((ClassOf(next) & kWord) != 0) {
        token.size = word_end(offset + 1) - offset;
        token.kind = c == '#' ? TokenKind::kNameRef : TokenKind::kValueRef;
      } else {
        token.kind = TokenKind::kUnknown;
      }
      break;
    case '=': token.kind = TokenKind::kEqual; break;
    case '<':
      if (next == '>') {
        two(TokenKind::kNotEqual);
      } else if (next == '=') {
        two(TokenKind::kLessEqual);
      } else {
        token.kind = TokenKind::kLess;
      }
      break;
    case '>':
      if (next == '=') {
        two(TokenKind::kGreaterEqual);
      } else {
        token.kind = TokenKind::kGreater;
      }
      break;
    case '(': token.kind = TokenKind::kOpenParen; break;
    case ')': token.kind = TokenKind::kCloseParen; break;
    case '[': token.kind = TokenKind::kOpenBracket; break;
    case ']': token.kind = TokenKind::kCloseBracket; break;
    case ',': token.kind = TokenKind::kComma; break;
    case '.': token.kind = TokenKind::kDot; break;
    case '+': token.kind = TokenKind::kPlus; break;
    case '-': token.kind = TokenKind::kMinus; break;
    default:
      token.kind = TokenKind::kUnknown;
      token.size = CharacterSize(text_.substr(offset));
      break;
  }
  return token;
}

std::string Lexer::SyntaxError() const {
  const uint32_t begin = has_previous_ ? previous_.offset : 0;
  auto end = static_cast<uint32_t>(text_.size());
  std::string_view shown = "<EOF>";
  if (current_.kind != TokenKind::kEnd) {
    shown = TextOf(current_);
    const Token next = Lex(current_.end());
    if (next.kind != TokenKind::kEnd) end = next.end();
  }
  std::string message = "Syntax error; token: \"";
  message.append(shown).append("\", near: \"");
  message.append(text_.substr(begin, end - begin)).append("\"");
  return message;
}

}  // namespace onggi::expression
