#include "server/expression/condition.h"

#include <cstring>

#include "server/expression/evaluate.h"

namespace onggi::expression {

using model::ItemView;
using model::Type;
using model::ValueView;

Operand::Operand(const Tree& tree, uint32_t index, const ItemView& item) {
  const Node& node = tree.nodes[index];
  switch (node.op) {
    case Op::kPath: view_ = tree.Resolve(node.path, item); break;
    case Op::kValue: view_ = tree.ValueOf(node); break;
    case Op::kSize: {
      // The operand of size() is a path or value: size(size(a)) is refused by the parser.
      const Node& operand = tree.nodes[node.first_child];
      const ValueView value =
          operand.op == Op::kPath ? tree.Resolve(operand.path, item) : tree.ValueOf(operand);
      if (!value.valid()) break;
      const std::optional<uint64_t> size = value.FunctionSize();
      if (!size) break;
      const model::Number number = model::Number::FromInt(static_cast<int64_t>(*size));
      const std::string_view encoded = number.encoded();
      number_[0] = static_cast<char>(Type::kNumber);
      std::memcpy(number_ + 1, encoded.data(), encoded.size());
      view_ = ValueView(std::string_view(number_, encoded.size() + 1));
      break;
    }
    default: break;
  }
}

bool Contains(ValueView whole, ValueView part) {
  if (!whole.valid() || !part.valid()) return false;
  switch (whole.type()) {
    case Type::kString:
    case Type::kBinary:
      return part.type() == whole.type() &&
             whole.AsString().find(part.AsString()) != std::string_view::npos;
    case Type::kStringSet:
    case Type::kNumberSet:
    case Type::kBinarySet: {
      const model::SetView set = whole.AsSet();
      if (part.type() != set.element_type()) return false;
      return set.Contains(part.type() == Type::kNumber ? part.AsNumberEncoded() : part.AsString());
    }
    case Type::kList: {
      const model::ListView list = whole.AsList();
      for (uint32_t i = 0; i < list.size(); ++i) {
        if (list.at(i) == part) return true;
      }
      return false;
    }
    default: return false;
  }
}

bool BeginsWith(ValueView whole, ValueView prefix) {
  if (!whole.valid() || !prefix.valid() || whole.type() != prefix.type()) return false;
  if (whole.type() != Type::kString && whole.type() != Type::kBinary) return false;
  return whole.AsString().starts_with(prefix.AsString());
}

std::optional<int> Order(ValueView a, ValueView b) {
  if (!a.valid() || !b.valid() || a.type() != b.type()) return std::nullopt;
  if (a.type() != Type::kString && a.type() != Type::kNumber && a.type() != Type::kBinary) {
    return std::nullopt;
  }
  return ValueView::Compare(a, b);
}

namespace {

bool SameValue(ValueView a, ValueView b) { return a.valid() && b.valid() && a == b; }

}  // namespace

bool Condition::Evaluate(const ItemView& item) const {
  return root_ == kNoNode || EvaluateNode(root_, item);
}

bool Condition::EvaluateNode(uint32_t index, const ItemView& item) const {
  const Node& node = tree_.nodes[index];
  const uint32_t first = node.first_child;
  switch (node.op) {
    case Op::kAnd:
      for (uint32_t child = first; child != kNoNode; child = tree_.nodes[child].next) {
        if (!EvaluateNode(child, item)) return false;
      }
      return true;
    case Op::kOr:
      for (uint32_t child = first; child != kNoNode; child = tree_.nodes[child].next) {
        if (EvaluateNode(child, item)) return true;
      }
      return false;
    case Op::kNot: return !EvaluateNode(first, item);
    default: break;
  }

  const Operand left(tree_, first, item);
  switch (node.op) {
    case Op::kAttributeExists: return left.view().valid();
    case Op::kAttributeNotExists: return !left.view().valid();
    case Op::kAttributeType:
      return left.view().valid() && left.view().type() == node.attribute_type;
    case Op::kIn:
      if (!left.view().valid()) return false;
      for (uint32_t child = tree_.nodes[first].next; child != kNoNode;
           child = tree_.nodes[child].next) {
        if (SameValue(left.view(), Operand(tree_, child, item).view())) return true;
      }
      return false;
    default: break;
  }

  const uint32_t second = tree_.nodes[first].next;
  const Operand right(tree_, second, item);
  const auto order = [&] { return Order(left.view(), right.view()); };
  switch (node.op) {
    case Op::kEqual: return SameValue(left.view(), right.view());
    case Op::kNotEqual:
      // Also true when either side has no value at all, as the service has it.
      return !SameValue(left.view(), right.view());
    case Op::kLess: return order().value_or(1) < 0;
    case Op::kLessEqual: return order().value_or(1) <= 0;
    case Op::kGreater: return order().value_or(-1) > 0;
    case Op::kGreaterEqual: return order().value_or(-1) >= 0;
    case Op::kBetween: {
      if (order().value_or(-1) < 0) return false;
      const Operand upper(tree_, tree_.nodes[second].next, item);
      return Order(left.view(), upper.view()).value_or(1) <= 0;
    }
    case Op::kBeginsWith: return BeginsWith(left.view(), right.view());
    case Op::kContains: return Contains(left.view(), right.view());
    default: CHECK_MSG(false, "not a condition");
  }
}

std::vector<AttributeUse> Condition::attributes() const {
  std::vector<AttributeUse> uses;
  for (const Node& node : tree_.nodes) {
    if (node.op == Op::kPath) tree_.AddUse(node.path, &uses);
  }
  return uses;
}

}  // namespace onggi::expression
