#include "server/expression/paths.h"

#include <algorithm>
#include <span>
#include <utility>

#include "server/model/attribute_value.h"

namespace onggi::expression {
namespace {

using model::AttributeList;
using model::AttributeValue;
using model::ItemView;
using model::MapBuilder;
using model::Type;
using model::ValueView;

int CompareElements(const Tree& tree, const PathElement& a, const PathElement& b) {
  if (a.is_index != b.is_index) return a.is_index ? -1 : 1;
  if (a.is_index) return a.index < b.index ? -1 : a.index > b.index ? 1 : 0;
  return tree.Bytes(a.name).compare(tree.Bytes(b.name));
}

enum class Relation { kDistinct, kOverlap, kConflict };

Relation Relate(const Tree& tree, PathRef a, PathRef b) {
  const uint32_t common = std::min(a.count, b.count);
  for (uint32_t i = 0; i < common; ++i) {
    const PathElement& x = tree.elements[a.first + i];
    const PathElement& y = tree.elements[b.first + i];
    if (x.is_index != y.is_index) return Relation::kConflict;
    if (CompareElements(tree, x, y) != 0) return Relation::kDistinct;
  }
  return Relation::kOverlap;
}

std::string Problem(const Tree& tree, Relation relation, PathRef a, PathRef b) {
  if (b.first < a.first) std::swap(a, b);
  std::string message = "Two document paths ";
  message.append(relation == Relation::kOverlap ? "overlap" : "conflict");
  message.append(" with each other; must remove or rewrite one of these paths; path one: ");
  message.append(tree.PathText(a)).append(", path two: ").append(tree.PathText(b));
  return message;
}

// The paths that go on from one place in a document; `depth` elements of each lead there.
class Selector {
 public:
  explicit Selector(const Tree* tree) : tree_(*tree) {}

  // Appends what `paths` choose of `value`; false when nothing.
  bool Select(std::span<const PathRef> paths, uint32_t depth, ValueView value, std::string* out) {
    if (paths.front().count == depth) {
      out->append(value.encoded());
      return true;
    }
    if (Element(paths.front(), depth).is_index) {
      return value.type() == Type::kList && SelectElements(paths, depth, value.AsList(), out);
    }
    if (value.type() != Type::kMap) return false;
    MapBuilder map;
    SelectEntries(paths, depth, value.AsMap(), &map);
    if (map.empty()) return false;
    map.FinishValue(out);
    return true;
  }

  void SelectEntries(std::span<const PathRef> paths, uint32_t depth, const model::MapView& map,
                     MapBuilder* out) {
    std::string chosen;
    while (!paths.empty()) {
      const std::span<const PathRef> group = TakeGroup(&paths, depth);
      const std::string_view name = tree_.Bytes(Element(group.front(), depth).name);
      const ValueView value = map.Find(name);
      if (!value.valid()) continue;
      if (group.front().count == depth + 1) {
        out->Add(name, value.encoded());
        continue;
      }
      chosen.clear();
      if (Select(group, depth + 1, value, &chosen)) out->Add(name, chosen);
    }
  }

 private:
  const PathElement& Element(PathRef path, uint32_t depth) const {
    return tree_.elements[path.first + depth];
  }

  // Cuts the paths with the same element at `depth` off the front.
  std::span<const PathRef> TakeGroup(std::span<const PathRef>* paths, uint32_t depth) {
    const PathElement& first = Element(paths->front(), depth);
    size_t size = 1;
    while (size < paths->size() &&
           CompareElements(tree_, first, Element((*paths)[size], depth)) == 0) {
      ++size;
    }
    const std::span<const PathRef> group = paths->first(size);
    *paths = paths->subspan(size);
    return group;
  }

  bool SelectElements(std::span<const PathRef> paths, uint32_t depth, const model::ListView& list,
                      std::string* out) {
    AttributeList elements;
    std::string chosen;
    while (!paths.empty()) {
      const std::span<const PathRef> group = TakeGroup(&paths, depth);
      const uint32_t index = Element(group.front(), depth).index;
      if (index >= list.size()) continue;
      chosen.clear();
      if (!Select(group, depth + 1, list.at(index), &chosen)) continue;
      elements.emplace_back(ValueView(chosen));
    }
    if (elements.empty()) return false;
    AttributeValue(std::move(elements)).EncodeTo(out);
    return true;
  }

  const Tree& tree_;
};

}  // namespace

int ComparePaths(const Tree& tree, PathRef a, PathRef b) {
  const uint32_t common = std::min(a.count, b.count);
  for (uint32_t i = 0; i < common; ++i) {
    const int order = CompareElements(tree, tree.elements[a.first + i], tree.elements[b.first + i]);
    if (order != 0) return order;
  }
  return a.count < b.count ? -1 : a.count > b.count ? 1 : 0;
}

void SortPaths(const Tree& tree, std::vector<PathRef>* paths) {
  std::sort(paths->begin(), paths->end(),
            [&](PathRef a, PathRef b) { return ComparePaths(tree, a, b) < 0; });
}

std::string FindPathProblem(const Tree& tree, const std::vector<PathRef>& paths) {
  constexpr size_t kFew = 8;
  if (paths.size() > kFew) {
    // In sorted order a path that overlaps or conflicts with any has such a neighbour.
    std::vector<PathRef> sorted = paths;
    SortPaths(tree, &sorted);
    bool clean = true;
    for (size_t i = 1; i < sorted.size() && clean; ++i) {
      clean = Relate(tree, sorted[i - 1], sorted[i]) == Relation::kDistinct;
    }
    if (clean) return {};
  }
  for (size_t i = 1; i < paths.size(); ++i) {
    for (size_t j = i; j-- > 0;) {
      const Relation relation = Relate(tree, paths[j], paths[i]);
      if (relation != Relation::kDistinct) return Problem(tree, relation, paths[j], paths[i]);
    }
  }
  return {};
}

void SelectPaths(const Tree& tree, const std::vector<PathRef>& paths, const ItemView& item,
                 std::string* out) {
  MapBuilder map;
  if (item.valid()) Selector(&tree).SelectEntries(paths, 0, item.attributes(), &map);
  map.FinishItem(out);
}

}  // namespace onggi::expression
