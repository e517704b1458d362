#include "server/expression/codec.h"

#include "common/varint.h"
#include "server/model/value.h"

namespace onggi::expression {
namespace {

constexpr uint8_t kFormat = 1;
constexpr uint8_t kIndexElement = 0;
constexpr uint8_t kNameElement = 1;
/// Deeper than any expression that the parser lets pass.
constexpr int kMaxDepth = 2 * kMaxOperators;
constexpr size_t kMaxNodes = 100'000;

Status Malformed() { return Corruption("expression: malformed"); }

bool ReadByte(std::string_view* in, uint8_t* byte) {
  if (in->empty()) return false;
  *byte = static_cast<uint8_t>(in->front());
  in->remove_prefix(1);
  return true;
}

void EncodePath(const Tree& tree, PathRef path, std::string* out) {
  AppendVarint(path.count, out);
  for (uint32_t i = 0; i < path.count; ++i) {
    const PathElement& element = tree.elements[path.first + i];
    if (element.is_index) {
      out->push_back(static_cast<char>(kIndexElement));
      AppendVarint(element.index, out);
    } else {
      out->push_back(static_cast<char>(kNameElement));
      AppendLengthPrefixed(tree.Bytes(element.name), out);
    }
  }
}

void EncodeNode(const Tree& tree, uint32_t index, std::string* out) {
  const Node& node = tree.nodes[index];
  out->push_back(static_cast<char>(node.op));
  if (node.op == Op::kPath) return EncodePath(tree, node.path, out);
  if (node.op == Op::kValue) return AppendLengthPrefixed(tree.Bytes(node.value), out);
  if (node.op == Op::kAttributeType) out->push_back(static_cast<char>(node.attribute_type));
  uint32_t children = 0;
  for (uint32_t c = node.first_child; c != kNoNode; c = tree.nodes[c].next) ++children;
  AppendVarint(children, out);
  for (uint32_t c = node.first_child; c != kNoNode; c = tree.nodes[c].next) {
    EncodeNode(tree, c, out);
  }
}

/// Where a node stands decides what it may be: the evaluators do not look again.
enum class Place : uint8_t {
  kCondition,
  kOperand,     ///< path, value or size()
  kSized,       ///< within size(): path or value
  kSet,         ///< what SET assigns
  kSetOperand,  ///< within an operation of SET
  kPathOnly,
  kValueOnly,
};

bool IsOperand(Op op) { return op == Op::kPath || op == Op::kValue; }

bool Fits(Place place, Op op) {
  switch (place) {
    case Place::kCondition: return op >= Op::kAnd && op <= Op::kContains;
    case Place::kOperand: return IsOperand(op) || op == Op::kSize;
    case Place::kSized: return IsOperand(op);
    case Place::kSet:
      return IsOperand(op) || op == Op::kIfNotExists || op == Op::kPlus || op == Op::kMinus ||
             op == Op::kListAppend;
    case Place::kSetOperand: return IsOperand(op) || op == Op::kIfNotExists;
    case Place::kPathOnly: return op == Op::kPath;
    case Place::kValueOnly: return op == Op::kValue;
  }
  return false;
}

/// How many children an operation has, and of what kind the i-th is.
bool CountFits(Op op, uint64_t count) {
  switch (op) {
    case Op::kAnd:
    case Op::kOr:
    case Op::kIn: return count >= 1;
    case Op::kNot:
    case Op::kSize:
    case Op::kAttributeExists:
    case Op::kAttributeNotExists: return count == 1;
    case Op::kAttributeType: return count == 1 || count == 2;
    case Op::kBetween: return count == 3;
    default: return count == 2;
  }
}

Place ChildPlace(Op op, uint32_t number) {
  switch (op) {
    case Op::kAnd:
    case Op::kOr:
    case Op::kNot: return Place::kCondition;
    case Op::kSize: return Place::kSized;
    case Op::kPlus:
    case Op::kMinus:
    case Op::kListAppend: return Place::kSetOperand;
    case Op::kIfNotExists: return number == 0 ? Place::kPathOnly : Place::kSetOperand;
    default: return Place::kOperand;
  }
}

class Decoder {
 public:
  Decoder(std::string_view in, Tree* tree) : in_(in), tree_(*tree) {}

  bool Byte(uint8_t* byte) { return ReadByte(&in_, byte); }
  bool Number(uint64_t* number) { return ReadVarint(&in_, number); }
  bool AtEnd() const { return in_.empty(); }
  /// Paths and nodes cost two bytes at least: a count beyond that lies.
  bool Plausible(uint64_t count) const { return count <= in_.size(); }

  bool Path(PathRef* path) {
    uint64_t count;
    if (!Number(&count) || count == 0 || count > kMaxPathDepth) return false;
    const auto first = static_cast<uint32_t>(tree_.elements.size());
    for (uint64_t i = 0; i < count; ++i) {
      uint8_t kind;
      PathElement element;
      if (!Byte(&kind)) return false;
      if (kind == kIndexElement && i > 0) {
        uint64_t number;
        if (!Number(&number) || number > UINT32_MAX) return false;
        element.is_index = true;
        element.index = static_cast<uint32_t>(number);
      } else {
        std::string_view name;
        if (kind != kNameElement || !ReadLengthPrefixed(&in_, &name)) return false;
        element.name = tree_.AddBytes(name);
      }
      tree_.elements.push_back(element);
    }
    *path = {first, static_cast<uint32_t>(count)};
    return true;
  }

  bool NodeAt(Place place, int depth, uint32_t* index) {
    uint8_t byte;
    if (depth > kMaxDepth || tree_.nodes.size() >= kMaxNodes || !Byte(&byte)) return false;
    if (byte >= static_cast<uint8_t>(Op::kInvalid) || !Fits(place, static_cast<Op>(byte))) {
      return false;
    }
    Node node;
    node.op = static_cast<Op>(byte);
    if (node.op == Op::kPath) {
      if (!Path(&node.path)) return false;
    } else if (node.op == Op::kValue) {
      std::string_view value;
      if (!ReadLengthPrefixed(&in_, &value) || !model::ValidateValue(value).ok()) return false;
      node.value = tree_.AddBytes(value);
    } else if (!Children(depth, &node)) {
      return false;
    }
    tree_.nodes.push_back(node);
    *index = static_cast<uint32_t>(tree_.nodes.size() - 1);
    return true;
  }

 private:
  bool Children(int depth, Node* node) {
    if (node->op == Op::kAttributeType) {
      uint8_t type;
      if (!Byte(&type) || type < static_cast<uint8_t>(model::Type::kNull) ||
          type > static_cast<uint8_t>(model::Type::kMap)) {
        return false;
      }
      node->attribute_type = static_cast<model::Type>(type);
    }
    uint64_t count;
    if (!Number(&count) || !Plausible(count) || !CountFits(node->op, count)) return false;
    node->child_count = static_cast<uint32_t>(count);
    uint32_t previous = kNoNode;
    for (uint32_t i = 0; i < node->child_count; ++i) {
      uint32_t child;
      if (!NodeAt(ChildPlace(node->op, i), depth + 1, &child)) return false;
      (previous == kNoNode ? node->first_child : tree_.nodes[previous].next) = child;
      previous = child;
    }
    return true;
  }

  std::string_view in_;
  Tree& tree_;
};

}  // namespace

/// The friend of what is encoded.
class Codec {
 public:
  static void Encode(const Condition& condition, std::string* out) {
    out->push_back(static_cast<char>(kFormat));
    if (condition.root_ != kNoNode) EncodeNode(condition.tree_, condition.root_, out);
  }

  static Result<Condition> DecodeCondition(std::string_view bytes) {
    Condition condition;
    Decoder decoder(bytes, &condition.tree_);
    uint8_t format;
    if (!decoder.Byte(&format) || format != kFormat) return Malformed();
    if (decoder.AtEnd()) return condition;
    if (!decoder.NodeAt(Place::kCondition, 0, &condition.root_) || !decoder.AtEnd()) {
      return Malformed();
    }
    return condition;
  }

  static void Encode(const Update& update, std::string* out) {
    out->push_back(static_cast<char>(kFormat));
    out->push_back(update.legacy_ ? 1 : 0);
    AppendVarint(update.actions_.size(), out);
    for (const Update::Action& action : update.actions_) {
      out->push_back(static_cast<char>(action.kind));
      EncodePath(update.tree_, action.path, out);
      if (action.kind != Update::Kind::kRemove) EncodeNode(update.tree_, action.value, out);
    }
  }

  static Result<Update> DecodeUpdate(std::string_view bytes) {
    Update update;
    Decoder decoder(bytes, &update.tree_);
    uint8_t format, legacy;
    uint64_t count;
    if (!decoder.Byte(&format) || format != kFormat || !decoder.Byte(&legacy) || legacy > 1 ||
        !decoder.Number(&count) || !decoder.Plausible(count)) {
      return Malformed();
    }
    update.legacy_ = legacy == 1;
    update.actions_.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      uint8_t kind;
      Update::Action action;
      if (!decoder.Byte(&kind) || kind > static_cast<uint8_t>(Update::Kind::kDelete) ||
          !decoder.Path(&action.path)) {
        return Malformed();
      }
      action.kind = static_cast<Update::Kind>(kind);
      const Place place = action.kind == Update::Kind::kSet ? Place::kSet : Place::kValueOnly;
      if (action.kind != Update::Kind::kRemove && !decoder.NodeAt(place, 0, &action.value)) {
        return Malformed();
      }
      update.actions_.push_back(action);
    }
    if (!decoder.AtEnd()) return Malformed();
    update.Finish();
    // Sorted, a path stands right behind one that it goes on from, or before its equals.
    for (size_t i = 1; i < update.paths_.size(); ++i) {
      const PathRef a = update.paths_[i - 1];
      const PathRef b = update.paths_[i];
      if (a.count <= b.count && update.tree_.SamePath(a, {b.first, a.count})) return Malformed();
    }
    return update;
  }
};

void EncodeCondition(const Condition& condition, std::string* out) {
  Codec::Encode(condition, out);
}
Result<Condition> DecodeCondition(std::string_view bytes) { return Codec::DecodeCondition(bytes); }

void EncodeUpdate(const Update& update, std::string* out) { Codec::Encode(update, out); }
Result<Update> DecodeUpdate(std::string_view bytes) { return Codec::DecodeUpdate(bytes); }

}  // namespace onggi::expression
