#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "server/model/value.h"

/// The compact form that all expressions are parsed into. Nodes, path elements and bytes stand in
/// three vectors and refer to each other by index, so that a parsed expression is three
/// allocations, can be moved anywhere, and needs neither the request's text nor its placeholders
/// any more.
namespace onggi::expression {

/// Limits of the service.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
inline constexpr size_t kMaxExpressionSize = 4096;  ///< UTF-16 code units of an expression's text
inline constexpr int kMaxOperators = 300;           ///< operators and functions of one expression
inline constexpr int kMaxInOperands = 100;          ///< right-hand operands of IN
inline constexpr int kMaxPathDepth = 32;            ///< elements of one document path

/// A piece of Tree::bytes.
struct Slice {
  uint32_t offset = 0;
  uint32_t size = 0;
};

/// One step of a document path: an attribute's name, or a list index.
struct PathElement {
  Slice name;  ///< meaningful when it is no index
  uint32_t index = 0;
  bool is_index = false;
  bool is_placeholder = false;  ///< while parsing: the name is a '#' placeholder's text
};

/// A document path: elements [first, first + count) of Tree::elements. The first is always a name.
struct PathRef {
  uint32_t first = 0;
  uint32_t count = 0;
};

/// The numbers go between nodes (codec.h): new ones at the end, but for kInvalid.
enum class Op : uint8_t {
  // Operands.
  kPath,
  kValue,
  kSize,
  // Conditions.
  kAnd,
  kOr,
  kNot,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kBetween,
  kIn,
  kAttributeExists,
  kAttributeNotExists,
  kAttributeType,
  kBeginsWith,
  kContains,
  // Values of SET.
  kPlus,
  kMinus,
  kIfNotExists,
  kListAppend,
  // An operand that could not be resolved, or a function that does not exist. Never leaves the
  // parser.
  kInvalid,
};

inline constexpr uint32_t kNoNode = UINT32_MAX;

/// A node of a tree; its children are first_child, that one's next, and so on, in source order.
struct Node {
  Op op = Op::kInvalid;
  model::Type attribute_type = model::Type::kNull;  ///< operand of kAttributeType
  uint32_t child_count = 0;
  uint32_t first_child = kNoNode;
  uint32_t next = kNoNode;
  Slice value;   ///< kValue: the encoded value. kInvalid: the function's name
  PathRef path;  ///< kPath
};

/// A top-level attribute that an expression refers to.
struct AttributeUse {
  std::string_view name;
  bool nested = false;  ///< by a path that goes on into the attribute
};

/// Storage of one or more expressions.
struct Tree {
  std::string bytes;
  std::vector<PathElement> elements;
  std::vector<Node> nodes;

  std::string_view Bytes(Slice slice) const {
    return std::string_view(bytes).substr(slice.offset, slice.size);
  }
  Slice AddBytes(std::string_view text) {
    Slice slice{static_cast<uint32_t>(bytes.size()), static_cast<uint32_t>(text.size())};
    bytes.append(text);
    return slice;
  }
  model::ValueView ValueOf(const Node& node) const { return model::ValueView(Bytes(node.value)); }
  std::string_view TopLevelName(PathRef path) const { return Bytes(elements[path.first].name); }

  /// Appends a path of one element: a top-level attribute.
  PathRef AddTopLevelPath(std::string_view name);
  /// Appends nodes without children or with these children.
  uint32_t AddPathNode(PathRef path);
  uint32_t AddValueNode(std::string_view encoded_value);
  uint32_t AddNode(Op op, std::initializer_list<uint32_t> children);

  /// The value at a path, or an invalid view when the item has none there. No allocation.
  model::ValueView Resolve(PathRef path, const model::ItemView& item) const;
  /// Do both paths have the same elements?
  bool SamePath(PathRef a, PathRef b) const;
  /// "[a, [0], b]", as the service's messages show paths.
  std::string PathText(PathRef path) const;

  /// Adds the top-level attribute of `path` to `uses`, or notes there that it is nested.
  void AddUse(PathRef path, std::vector<AttributeUse>* uses) const;
};

}  // namespace onggi::expression
