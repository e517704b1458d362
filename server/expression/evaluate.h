#pragma once

#include <optional>

#include "server/expression/tree.h"
#include "server/model/value.h"

namespace onggi::expression {

/// The value of an operand (path, value or size()) for one item: a view of the item or of the tree,
/// or a number held here. Not copyable, because the view may be of its own bytes.
class Operand {
 public:
  Operand(const Tree& tree, uint32_t node, const model::ItemView& item);
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;

  /// Invalid when the item has no such value, or size() has no meaning for it.
  model::ValueView view() const { return view_; }

 private:
  model::ValueView view_;
  char number_[1 + model::Number::kMaxEncodedSize];
};

/// Substring of a string or binary, element of a set, or element of a list. False for other types
/// and for types that do not fit.
bool Contains(model::ValueView whole, model::ValueView part);

/// Prefix of a string or binary of the same type.
bool BeginsWith(model::ValueView whole, model::ValueView prefix);

/// Negative, zero or positive; nullopt unless both are present and of the same S, N or B type.
std::optional<int> Order(model::ValueView a, model::ValueView b);

}  // namespace onggi::expression
