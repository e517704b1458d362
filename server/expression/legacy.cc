#include "server/expression/legacy.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/expression/describe.h"
#include "server/model/json.h"

namespace onggi::expression {
namespace {

using model::Type;
using model::ValueView;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr std::string_view kInvalid = "One or more parameter values were invalid: ";

Status Invalid(std::string text) { return InvalidArgument(std::string(kInvalid) + text); }

enum class Comparison : uint8_t {
  kEq,
  kNe,
  kLe,
  kLt,
  kGe,
  kGt,
  kNull,
  kNotNull,
  kContains,
  kNotContains,
  kBeginsWith,
  kIn,
  kBetween,
};

// Types that operands may have.
enum class Allowed : uint8_t { kAny, kOrdered, kElement, kPrefix };

struct ComparisonRule {
  std::string_view name;
  Comparison comparison;
  size_t min_operands;
  size_t max_operands;
  Allowed allowed;
};

constexpr ComparisonRule kRules[] = {
    {"EQ", Comparison::kEq, 1, 1, Allowed::kAny},
    {"NE", Comparison::kNe, 1, 1, Allowed::kAny},
    {"LE", Comparison::kLe, 1, 1, Allowed::kOrdered},
    {"LT", Comparison::kLt, 1, 1, Allowed::kOrdered},
    {"GE", Comparison::kGe, 1, 1, Allowed::kOrdered},
    {"GT", Comparison::kGt, 1, 1, Allowed::kOrdered},
    {"NULL", Comparison::kNull, 0, 0, Allowed::kAny},
    {"NOT_NULL", Comparison::kNotNull, 0, 0, Allowed::kAny},
    {"CONTAINS", Comparison::kContains, 1, 1, Allowed::kElement},
    {"NOT_CONTAINS", Comparison::kNotContains, 1, 1, Allowed::kElement},
    {"BEGINS_WITH", Comparison::kBeginsWith, 1, 1, Allowed::kPrefix},
    {"IN", Comparison::kIn, 1, SIZE_MAX, Allowed::kOrdered},
    {"BETWEEN", Comparison::kBetween, 2, 2, Allowed::kOrdered},
};

const ComparisonRule* FindRule(std::string_view name) {
  for (const ComparisonRule& rule : kRules) {
    if (rule.name == name) return &rule;
  }
  return nullptr;
}

bool IsAllowed(Allowed allowed, Type type) {
  switch (allowed) {
    case Allowed::kAny: return true;
    case Allowed::kOrdered:
      return type == Type::kString || type == Type::kNumber || type == Type::kBinary;
    case Allowed::kElement:
      return type == Type::kString || type == Type::kNumber || type == Type::kBinary ||
             type == Type::kBool || type == Type::kNull;
    case Allowed::kPrefix: return type == Type::kString || type == Type::kBinary;
  }
  return false;
}

// A member that is there and not null.
std::optional<element> Member(const object& parent, std::string_view name) {
  element value;
  if (parent[name].get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return value;
}

Result<std::string> StringMember(const object& parent, std::string_view name) {
  const std::optional<element> member = Member(parent, name);
  std::string_view text;
  if (!member || member->get(text) != simdjson::SUCCESS) return std::string();
  return std::string(text);
}

Status AppendValue(const element& json, std::vector<std::string>* values) {
  std::string value;
  RETURN_IF_ERROR(model::ParseValue(json, &value));
  values->push_back(std::move(value));
  return Status::Ok();
}

// AttributeValueList, where there is one.
Status AppendValues(const object& condition, std::vector<std::string>* values) {
  const std::optional<element> list = Member(condition, "AttributeValueList");
  simdjson::dom::array elements;
  if (!list || list->get(elements) != simdjson::SUCCESS) return Status::Ok();
  for (const element value : elements) RETURN_IF_ERROR(AppendValue(value, values));
  return Status::Ok();
}

// One condition: a comparison with its operands, in stored form.
struct Comparand {
  const ComparisonRule* rule = nullptr;
  std::vector<std::string> operands;
};

Status CheckOperands(const Comparand& condition) {
  const ComparisonRule& rule = *condition.rule;
  const std::vector<std::string>& operands = condition.operands;
  if (operands.size() < rule.min_operands || operands.size() > rule.max_operands) {
    return Invalid("Invalid number of argument(s) for the " + std::string(rule.name) +
                   " ComparisonOperator");
  }
  if (operands.empty()) return Status::Ok();
  const Type type = ValueView(operands.front()).type();
  for (const std::string& operand : operands) {
    if (ValueView(operand).type() != type) {
      return Invalid("AttributeValues inside AttributeValueList must be of same type");
    }
  }
  if (!IsAllowed(rule.allowed, type)) {
    return Invalid("ComparisonOperator " + std::string(rule.name) + " is not valid for " +
                   std::string(TypeName(type)) + " AttributeValue type");
  }
  if (rule.comparison == Comparison::kBetween &&
      ValueView::Compare(ValueView(operands.front()), ValueView(operands.back())) > 0) {
    return InvalidArgument(
        "The BETWEEN condition was provided a range where the lower bound is greater than the "
        "upper bound");
  }
  return Status::Ok();
}

// A Condition of KeyConditions, QueryFilter or ScanFilter.
Result<Comparand> ParseFilterCondition(const object& json) {
  Comparand condition;
  ASSIGN_OR_RETURN(const std::string name, StringMember(json, "ComparisonOperator"));
  condition.rule = FindRule(name);
  if (condition.rule == nullptr) {
    return InvalidArgument("Comparison type does not exist in DynamoDB");
  }
  RETURN_IF_ERROR(AppendValues(json, &condition.operands));
  RETURN_IF_ERROR(CheckOperands(condition));
  return condition;
}

// An ExpectedAttributeValue.
Result<Comparand> ParseExpectedCondition(std::string_view attribute, const object& json) {
  const std::string of_attribute = " for Attribute: " + std::string(attribute);
  const std::optional<element> value = Member(json, "Value");
  const std::optional<element> list = Member(json, "AttributeValueList");
  const std::optional<element> comparison = Member(json, "ComparisonOperator");
  const std::optional<element> exists_member = Member(json, "Exists");
  if (value && list) {
    return Invalid("Value and AttributeValueList cannot be used together" + of_attribute);
  }
  Comparand condition;
  if (value) RETURN_IF_ERROR(AppendValue(*value, &condition.operands));
  RETURN_IF_ERROR(AppendValues(json, &condition.operands));

  if (comparison) {
    ASSIGN_OR_RETURN(const std::string name, StringMember(json, "ComparisonOperator"));
    if (exists_member) {
      return Invalid("Exists and ComparisonOperator cannot be used together" + of_attribute);
    }
    condition.rule = FindRule(name);
    if (condition.rule == nullptr) {
      return InvalidArgument("Comparison type does not exist in DynamoDB");
    }
    if (condition.rule->min_operands > 0 && !value && !list) {
      return Invalid("Value or AttributeValueList must be used with ComparisonOperator: " + name +
                     of_attribute);
    }
    RETURN_IF_ERROR(CheckOperands(condition));
    return condition;
  }
  if (list) {
    return Invalid("AttributeValueList can only be used with a ComparisonOperator" + of_attribute);
  }
  bool exists = true;
  if (exists_member && exists_member->get(exists) != simdjson::SUCCESS) exists = true;
  if (exists && !value) {
    return Invalid(std::string("Value must be provided when Exists is ") +
                   (exists_member ? "true" : "null") + of_attribute);
  }
  if (!exists && value) {
    return Invalid("Value cannot be used when Exists is false" + of_attribute);
  }
  condition.rule = FindRule(exists ? "EQ" : "NULL");
  return condition;
}

KeyOperator KeyOperatorOf(Comparison comparison) {
  switch (comparison) {
    case Comparison::kEq: return KeyOperator::kEqual;
    case Comparison::kLe: return KeyOperator::kLessEqual;
    case Comparison::kLt: return KeyOperator::kLess;
    case Comparison::kGe: return KeyOperator::kGreaterEqual;
    case Comparison::kGt: return KeyOperator::kGreater;
    case Comparison::kBeginsWith: return KeyOperator::kBeginsWith;
    case Comparison::kBetween: return KeyOperator::kBetween;
    default: return KeyOperator::kNone;
  }
}

Op OpOf(Comparison comparison) {
  switch (comparison) {
    case Comparison::kEq: return Op::kEqual;
    case Comparison::kNe: return Op::kNotEqual;
    case Comparison::kLe: return Op::kLessEqual;
    case Comparison::kLt: return Op::kLess;
    case Comparison::kGe: return Op::kGreaterEqual;
    case Comparison::kGt: return Op::kGreater;
    case Comparison::kNull: return Op::kAttributeNotExists;
    case Comparison::kNotNull: return Op::kAttributeExists;
    case Comparison::kContains:
    case Comparison::kNotContains: return Op::kContains;
    case Comparison::kBeginsWith: return Op::kBeginsWith;
    case Comparison::kIn: return Op::kIn;
    case Comparison::kBetween: return Op::kBetween;
  }
  return Op::kInvalid;
}

}  // namespace

/// Builds the trees: the class that those of expressions let in.
class LegacyTranslator {
 public:
  explicit LegacyTranslator(Condition* condition) : condition_(condition) {}

  void Add(std::string_view attribute, const Comparand& comparand) {
    Tree& tree = condition_->tree_;
    const PathRef path = tree.AddTopLevelPath(attribute);
    uint32_t previous = tree.AddPathNode(path);
    uint32_t node = tree.AddNode(OpOf(comparand.rule->comparison), {previous});
    for (const std::string& operand : comparand.operands) {
      const uint32_t value = tree.AddValueNode(operand);
      tree.nodes[previous].next = value;
      ++tree.nodes[node].child_count;
      previous = value;
    }
    if (comparand.rule->comparison == Comparison::kNotContains) {
      // Unlike NE, it is false for an item without the attribute.
      const uint32_t present = tree.AddNode(Op::kAttributeExists, {tree.AddPathNode(path)});
      node = tree.AddNode(Op::kAnd, {present, tree.AddNode(Op::kNot, {node})});
    }
    conditions_.push_back(node);
  }

  void Finish(ConditionalOperator op) {
    if (conditions_.empty()) return;
    Tree& tree = condition_->tree_;
    if (conditions_.size() == 1) {
      condition_->root_ = conditions_.front();
      return;
    }
    const uint32_t root =
        tree.AddNode(op == ConditionalOperator::kAnd ? Op::kAnd : Op::kOr, {conditions_.front()});
    tree.nodes[root].child_count = static_cast<uint32_t>(conditions_.size());
    for (size_t i = 1; i < conditions_.size(); ++i) {
      tree.nodes[conditions_[i - 1]].next = conditions_[i];
    }
    condition_->root_ = root;
  }

  static void AddKey(std::string_view attribute, Comparand comparand, ParsedKeyCondition* out) {
    ParsedKeyCondition::Part part;
    part.attribute = attribute;
    part.op = KeyOperatorOf(comparand.rule->comparison);
    part.indexable = part.op != KeyOperator::kNone;
    part.operands = std::move(comparand.operands);
    out->parts_.push_back(std::move(part));
  }

  static Result<Update> Updates(object updates) {
    Update update;
    update.legacy_ = true;
    for (const auto field : updates) {
      object json;
      if (field.value.get(json) != simdjson::SUCCESS) continue;
      RETURN_IF_ERROR(model::CheckAttributeName(field.key));
      RETURN_IF_ERROR(AddUpdate(field.key, json, &update));
    }
    update.Finish();
    return update;
  }

 private:
  static Status AddUpdate(std::string_view attribute, const object& json, Update* update) {
    ASSIGN_OR_RETURN(std::string name, StringMember(json, "Action"));
    if (name.empty()) name = "PUT";
    const std::optional<element> value = Member(json, "Value");
    Update::Action action;
    if (!value) {
      if (name != "DELETE") {
        return Invalid("Only DELETE action is allowed when no attribute value is specified");
      }
      action.kind = Update::Kind::kRemove;
    } else {
      std::string encoded;
      RETURN_IF_ERROR(model::ParseValue(*value, &encoded));
      const Type type = ValueView(encoded).type();
      if (name == "DELETE") {
        if (!model::IsSet(type)) {
          return Invalid("DELETE action with value is not supported for the type " +
                         std::string(LongTypeName(type)));
        }
        action.kind = Update::Kind::kDelete;
      } else if (name == "ADD") {
        if (!model::IsSet(type) && type != Type::kNumber && type != Type::kList) {
          return Invalid("ADD action is not supported for the type " +
                         std::string(LongTypeName(type)));
        }
        action.kind = Update::Kind::kAdd;
      }
      action.value = update->tree_.AddValueNode(encoded);
    }
    action.path = update->tree_.AddTopLevelPath(attribute);
    update->actions_.push_back(action);
    return Status::Ok();
  }

  Condition* condition_;
  std::vector<uint32_t> conditions_;
};

Status CheckConditionalOperator(size_t conditions) {
  if (conditions == 0) {
    return InvalidArgument("ConditionalOperator cannot be used without Filter or Expected");
  }
  if (conditions == 1) {
    return InvalidArgument(
        "ConditionalOperator can only be used when Filter or Expected has two or more elements");
  }
  return Status::Ok();
}

Result<Condition> ConditionFromExpected(object expected, ConditionalOperator op) {
  Condition condition;
  LegacyTranslator translator(&condition);
  for (const auto field : expected) {
    object json;
    if (field.value.get(json) != simdjson::SUCCESS) continue;
    RETURN_IF_ERROR(model::CheckAttributeName(field.key));
    ASSIGN_OR_RETURN(const Comparand comparand, ParseExpectedCondition(field.key, json));
    translator.Add(field.key, comparand);
  }
  translator.Finish(op);
  return condition;
}

Result<Condition> ConditionFromFilter(object filter, ConditionalOperator op) {
  Condition condition;
  LegacyTranslator translator(&condition);
  for (const auto field : filter) {
    object json;
    if (field.value.get(json) != simdjson::SUCCESS) continue;
    RETURN_IF_ERROR(model::CheckAttributeName(field.key));
    ASSIGN_OR_RETURN(const Comparand comparand, ParseFilterCondition(json));
    translator.Add(field.key, comparand);
  }
  translator.Finish(op);
  return condition;
}

Result<ParsedKeyCondition> KeyConditionFromKeyConditions(object conditions) {
  ParsedKeyCondition parsed;
  for (const auto field : conditions) {
    object json;
    if (field.value.get(json) != simdjson::SUCCESS) continue;
    RETURN_IF_ERROR(model::CheckAttributeName(field.key));
    ASSIGN_OR_RETURN(Comparand comparand, ParseFilterCondition(json));
    LegacyTranslator::AddKey(field.key, std::move(comparand), &parsed);
  }
  if (parsed.attributes().empty() || parsed.attributes().size() > 2) {
    return InvalidArgument("Conditions can be of length 1 or 2 only");
  }
  return parsed;
}

Result<Update> UpdateFromAttributeUpdates(object updates) {
  return LegacyTranslator::Updates(updates);
}

}  // namespace onggi::expression
