#include "server/expression/update.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "server/expression/paths.h"
#include "server/model/attribute_value.h"

namespace onggi::expression {
namespace {

using model::AttributeList;
using model::AttributeValue;
using model::ItemView;
using model::MapBuilder;
using model::Number;
using model::Type;
using model::ValueView;

constexpr char kInvalidPath[] =
    "The document path provided in the update expression is invalid for update";
constexpr char kMissingAttribute[] =
    "The provided expression refers to an attribute that does not exist in the item";

void AppendList(ValueView head, ValueView tail, std::string* out) {
  AttributeList elements;
  for (const ValueView part : {head, tail}) {
    const model::ListView list = part.AsList();
    elements.reserve(elements.size() + list.size());
    for (uint32_t i = 0; i < list.size(); ++i) elements.emplace_back(list.at(i));
  }
  AttributeValue(std::move(elements)).EncodeTo(out);
}

// Levels of lists and maps in a value: 0 for a scalar.
int Nesting(ValueView value) {
  int deepest = 0;
  if (value.type() == Type::kList) {
    const model::ListView list = value.AsList();
    for (uint32_t i = 0; i < list.size(); ++i) deepest = std::max(deepest, Nesting(list.at(i)));
  } else if (value.type() == Type::kMap) {
    const model::MapView map = value.AsMap();
    for (uint32_t i = 0; i < map.size(); ++i) deepest = std::max(deepest, Nesting(map.at(i).value));
  } else {
    return 0;
  }
  return deepest + 1;
}

}  // namespace

void Update::Finish() {
  sorted_.resize(actions_.size());
  std::iota(sorted_.begin(), sorted_.end(), 0U);
  std::sort(sorted_.begin(), sorted_.end(), [&](uint32_t a, uint32_t b) {
    return ComparePaths(tree_, actions_[a].path, actions_[b].path) < 0;
  });
  paths_.clear();
  paths_.reserve(actions_.size());
  for (const uint32_t index : sorted_) paths_.push_back(actions_[index].path);
}

Status Update::Apply(const ItemView& old_item, const ItemView& key, bool want_updated,
                     Output* output) const {
  // `sorted_[i]`'s change stands at i; they are computed in the service's order, last action first,
  // because the first error found is the answer.
  std::vector<uint32_t> place(actions_.size());
  for (uint32_t i = 0; i < sorted_.size(); ++i) place[sorted_[i]] = i;
  std::vector<Change> changes(actions_.size());
  const ItemView& base = old_item.valid() ? old_item : key;
  for (size_t i = actions_.size(); i-- > 0;) {
    RETURN_IF_ERROR(Compute(actions_[i], base, &changes[place[i]]));
  }

  Output result;
  Merge(changes, base, &result.item);
  if (!old_item.valid()) {
    result.creates_nothing =
        !actions_.empty() &&
        std::all_of(actions_.begin(), actions_.end(), [](const Action& action) {
          return action.kind == Kind::kRemove || action.kind == Kind::kDelete;
        });
  }
  if (want_updated) {
    SelectPaths(tree_, paths_, old_item, &result.updated_old);
    SelectPaths(tree_, paths_, ItemView(result.item), &result.updated_new);
  }
  *output = std::move(result);
  return Status::Ok();
}

Status Update::WrongType() const {
  return InvalidArgument(legacy_
                             ? "Type mismatch for attribute to update"
                             : "An operand in the update expression has an incorrect data type");
}

bool Update::ParentExists(PathRef path, const ItemView& old_item) const {
  if (path.count == 1) return true;
  const ValueView parent = tree_.Resolve({path.first, path.count - 1}, old_item);
  if (!parent.valid()) return false;
  const bool index = tree_.elements[path.first + path.count - 1].is_index;
  return parent.type() == (index ? Type::kList : Type::kMap);
}

Status Update::Compute(const Action& action, const ItemView& old_item, Change* change) const {
  change->path = action.path;
  if (!ParentExists(action.path, old_item)) return InvalidArgument(kInvalidPath);
  const auto old_value = [&] { return tree_.Resolve(action.path, old_item); };
  const auto operand = [&] { return tree_.ValueOf(tree_.nodes[action.value]); };
  switch (action.kind) {
    case Kind::kSet: RETURN_IF_ERROR(ComputeSet(action.value, old_item, change)); break;
    case Kind::kRemove:
      if (old_value().valid()) change->effect = Change::Effect::kRemove;
      break;
    case Kind::kAdd: RETURN_IF_ERROR(ComputeAdd(old_value(), operand(), change)); break;
    case Kind::kDelete: RETURN_IF_ERROR(ComputeDelete(old_value(), operand(), change)); break;
  }
  // The item is the first level; each step of the path but the last goes one deeper.
  if (change->effect == Change::Effect::kPut &&
      static_cast<int>(action.path.count) + Nesting(change->value) > model::kMaxNesting) {
    return InvalidArgument("Nesting Levels have exceeded supported limits");
  }
  return Status::Ok();
}

Status Update::ResolveOperand(uint32_t index, const ItemView& old_item, ValueView* value) const {
  const Node& node = tree_.nodes[index];
  switch (node.op) {
    case Op::kValue: *value = tree_.ValueOf(node); return Status::Ok();
    case Op::kPath:
      *value = tree_.Resolve(node.path, old_item);
      if (!value->valid()) return InvalidArgument(kMissingAttribute);
      return Status::Ok();
    case Op::kIfNotExists:
      *value = tree_.Resolve(tree_.nodes[node.first_child].path, old_item);
      if (value->valid()) return Status::Ok();
      return ResolveOperand(tree_.nodes[node.first_child].next, old_item, value);
    default: CHECK_MSG(false, "not an operand of SET");
  }
}

Status Update::ComputeSet(uint32_t index, const ItemView& old_item, Change* change) const {
  const Node& node = tree_.nodes[index];
  if (node.op != Op::kPlus && node.op != Op::kMinus && node.op != Op::kListAppend) {
    ValueView value;
    RETURN_IF_ERROR(ResolveOperand(index, old_item, &value));
    change->Put(value);
    return Status::Ok();
  }
  const Type wanted = node.op == Op::kListAppend ? Type::kList : Type::kNumber;
  const uint32_t first = node.first_child;
  ValueView left;
  RETURN_IF_ERROR(ResolveOperand(first, old_item, &left));
  if (left.type() != wanted) return WrongType();
  ValueView right;
  RETURN_IF_ERROR(ResolveOperand(tree_.nodes[first].next, old_item, &right));
  if (right.type() != wanted) return WrongType();
  if (node.op == Op::kListAppend) {
    AppendList(left, right, &change->owned);
  } else {
    ASSIGN_OR_RETURN(const Number number,
                     node.op == Op::kPlus ? Number::Add(left.AsNumber(), right.AsNumber())
                                          : Number::Subtract(left.AsNumber(), right.AsNumber()));
    AttributeValue::Of(number).EncodeTo(&change->owned);
  }
  change->PutOwned();
  return Status::Ok();
}

Status Update::ComputeAdd(ValueView old_value, ValueView operand, Change* change) const {
  if (!old_value.valid()) {
    change->Put(operand);
    return Status::Ok();
  }
  if (old_value.type() != operand.type()) return WrongType();
  if (operand.type() == Type::kNumber) {
    ASSIGN_OR_RETURN(const Number sum, Number::Add(old_value.AsNumber(), operand.AsNumber()));
    AttributeValue::Of(sum).EncodeTo(&change->owned);
  } else if (operand.type() == Type::kList) {  // of AttributeUpdates only
    AppendList(old_value, operand, &change->owned);
  } else if (IsSet(operand.type())) {
    std::vector<std::string> elements;
    elements.reserve(old_value.AsSet().size() + operand.AsSet().size());
    for (const std::string_view element : old_value.AsSet()) elements.emplace_back(element);
    for (const std::string_view element : operand.AsSet()) elements.emplace_back(element);
    AttributeValue::Set(operand.type(), std::move(elements)).EncodeTo(&change->owned);
  } else {
    return WrongType();
  }
  change->PutOwned();
  return Status::Ok();
}

Status Update::ComputeDelete(ValueView old_value, ValueView operand, Change* change) const {
  if (!old_value.valid()) return Status::Ok();
  if (old_value.type() != operand.type() || !IsSet(operand.type())) return WrongType();
  const model::SetView unwanted = operand.AsSet();
  std::vector<std::string> elements;
  for (const std::string_view element : old_value.AsSet()) {
    if (!unwanted.Contains(element)) elements.emplace_back(element);
  }
  if (elements.empty()) {  // the service has no empty sets
    change->effect = Change::Effect::kRemove;
    return Status::Ok();
  }
  AttributeValue::Set(operand.type(), std::move(elements)).EncodeTo(&change->owned);
  change->PutOwned();
  return Status::Ok();
}

void Update::Merge(std::span<const Change> changes, const ItemView& base, std::string* out) const {
  MapBuilder item;
  std::string nested;
  const model::MapView& attributes = base.attributes();
  const uint32_t count = base.valid() ? attributes.size() : 0;
  uint32_t next = 0;
  while (!changes.empty()) {
    const std::string_view name = tree_.TopLevelName(changes.front().path);
    size_t size = 1;
    while (size < changes.size() && tree_.TopLevelName(changes[size].path) == name) ++size;
    const std::span<const Change> group = changes.first(size);
    changes = changes.subspan(size);

    ValueView old_value;
    for (; next < count; ++next) {
      const model::MapView::Entry entry = attributes.at(next);
      if (entry.name > name) break;
      if (entry.name == name) {
        old_value = entry.value;
        ++next;
        break;
      }
      item.Add(entry.name, entry.value.encoded());
    }
    const Change& first = group.front();
    if (first.path.count > 1) {  // the parents exist, so old_value does
      nested.clear();
      ApplyNested(group, old_value, &nested);
      item.Add(name, nested);
    } else if (first.effect == Change::Effect::kPut) {
      item.Add(name, first.value.encoded());
    } else if (first.effect == Change::Effect::kNone && old_value.valid()) {
      item.Add(name, old_value.encoded());
    }
  }
  for (; next < count; ++next) {
    const model::MapView::Entry entry = attributes.at(next);
    item.Add(entry.name, entry.value.encoded());
  }
  item.FinishItem(out);
}

void Update::ApplyNested(std::span<const Change> changes, ValueView old_value,
                         std::string* out) const {
  AttributeValue root(old_value);
  const auto parent_of = [&](PathRef path) {
    AttributeValue* parent = &root;
    for (uint32_t i = 1; i + 1 < path.count; ++i) {
      const PathElement& element = tree_.elements[path.first + i];
      parent = element.is_index ? &parent->MutableList()[element.index]
                                : &parent->MutableMap().find(tree_.Bytes(element.name))->second;
    }
    return parent;
  };
  const auto last_of = [&](PathRef path) -> const PathElement& {
    return tree_.elements[path.first + path.count - 1];
  };
  // First what is put, in order of index: an index beyond the list's end appends. Only then what is
  // removed, from the highest index down, so that all indexes mean the item as it was.
  for (const Change& change : changes) {
    if (change.effect != Change::Effect::kPut) continue;
    AttributeValue* parent = parent_of(change.path);
    const PathElement& last = last_of(change.path);
    if (!last.is_index) {
      parent->MutableMap().insert_or_assign(std::string(tree_.Bytes(last.name)),
                                            AttributeValue(change.value));
      continue;
    }
    AttributeList& list = parent->MutableList();
    if (last.index < list.size()) {
      list[last.index] = AttributeValue(change.value);
    } else {
      list.emplace_back(change.value);
    }
  }
  for (auto change = changes.rbegin(); change != changes.rend(); ++change) {
    if (change->effect != Change::Effect::kRemove) continue;
    AttributeValue* parent = parent_of(change->path);
    const PathElement& last = last_of(change->path);
    if (last.is_index) {
      AttributeList& list = parent->MutableList();
      list.erase(list.begin() + last.index);
    } else {
      parent->MutableMap().erase(std::string(tree_.Bytes(last.name)));
    }
  }
  root.EncodeTo(out);
}

std::vector<AttributeUse> Update::written_attributes() const {
  std::vector<AttributeUse> uses;
  for (const Action& action : actions_) tree_.AddUse(action.path, &uses);
  return uses;
}

std::vector<AttributeUse> Update::attributes() const {
  std::vector<AttributeUse> uses = written_attributes();
  for (const Node& node : tree_.nodes) {
    if (node.op == Op::kPath) tree_.AddUse(node.path, &uses);
  }
  return uses;
}

std::vector<Update::LiteralWrite> Update::literal_writes() const {
  std::vector<LiteralWrite> writes;
  for (const Action& action : actions_) {
    if (action.path.count != 1 || action.value == kNoNode) continue;
    const Node& value = tree_.nodes[action.value];
    if (value.op != Op::kValue) continue;
    writes.push_back({tree_.TopLevelName(action.path), tree_.ValueOf(value).type()});
  }
  return writes;
}

}  // namespace onggi::expression
