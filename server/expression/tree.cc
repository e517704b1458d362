#include "server/expression/tree.h"

namespace onggi::expression {

PathRef Tree::AddTopLevelPath(std::string_view name) {
  const PathRef path{static_cast<uint32_t>(elements.size()), 1};
  PathElement element;
  element.name = AddBytes(name);
  elements.push_back(element);
  return path;
}

uint32_t Tree::AddPathNode(PathRef path) {
  Node node;
  node.op = Op::kPath;
  node.path = path;
  nodes.push_back(node);
  return static_cast<uint32_t>(nodes.size() - 1);
}

uint32_t Tree::AddValueNode(std::string_view encoded_value) {
  Node node;
  node.op = Op::kValue;
  node.value = AddBytes(encoded_value);
  nodes.push_back(node);
  return static_cast<uint32_t>(nodes.size() - 1);
}

uint32_t Tree::AddNode(Op op, std::initializer_list<uint32_t> children) {
  Node node;
  node.op = op;
  node.child_count = static_cast<uint32_t>(children.size());
  uint32_t previous = kNoNode;
  for (const uint32_t child : children) {
    if (previous == kNoNode) {
      node.first_child = child;
    } else {
      nodes[previous].next = child;
    }
    previous = child;
  }
  nodes.push_back(node);
  return static_cast<uint32_t>(nodes.size() - 1);
}

model::ValueView Tree::Resolve(PathRef path, const model::ItemView& item) const {
  if (!item.valid()) return {};
  model::ValueView value = item.Find(TopLevelName(path));
  for (uint32_t i = 1; i < path.count && value.valid(); ++i) {
    const PathElement& element = elements[path.first + i];
    if (element.is_index) {
      if (value.type() != model::Type::kList) return {};
      const model::ListView list = value.AsList();
      if (element.index >= list.size()) return {};
      value = list.at(element.index);
    } else {
      if (value.type() != model::Type::kMap) return {};
      value = value.AsMap().Find(Bytes(element.name));
    }
  }
  return value;
}

bool Tree::SamePath(PathRef a, PathRef b) const {
  if (a.count != b.count) return false;
  for (uint32_t i = 0; i < a.count; ++i) {
    const PathElement& x = elements[a.first + i];
    const PathElement& y = elements[b.first + i];
    if (x.is_index != y.is_index) return false;
    if (x.is_index ? x.index != y.index : Bytes(x.name) != Bytes(y.name)) return false;
  }
  return true;
}

std::string Tree::PathText(PathRef path) const {
  std::string text = "[";
  for (uint32_t i = 0; i < path.count; ++i) {
    const PathElement& element = elements[path.first + i];
    if (i > 0) text.append(", ");
    if (element.is_index) {
      text.append("[").append(std::to_string(element.index)).append("]");
    } else {
      text.append(Bytes(element.name));
    }
  }
  return text.append("]");
}

void Tree::AddUse(PathRef path, std::vector<AttributeUse>* uses) const {
  const std::string_view name = TopLevelName(path);
  const bool nested = path.count > 1;
  for (AttributeUse& use : *uses) {
    if (use.name == name) {
      use.nested = use.nested || nested;
      return;
    }
  }
  uses->push_back({name, nested});
}

}  // namespace onggi::expression
