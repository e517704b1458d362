#include "server/expression/key_condition.h"

#include <algorithm>
#include <utility>

#include "server/expression/condition.h"
#include "server/expression/condition_parser.h"
#include "server/model/key.h"

namespace onggi::expression {
namespace {

KeyOperator KeyOperatorOf(Op op) {
  switch (op) {
    case Op::kEqual: return KeyOperator::kEqual;
    case Op::kLess: return KeyOperator::kLess;
    case Op::kLessEqual: return KeyOperator::kLessEqual;
    case Op::kGreater: return KeyOperator::kGreater;
    case Op::kGreaterEqual: return KeyOperator::kGreaterEqual;
    case Op::kBetween: return KeyOperator::kBetween;
    case Op::kBeginsWith: return KeyOperator::kBeginsWith;
    default: return KeyOperator::kNone;
  }
}

// `:v < sk` is `sk > :v`.
KeyOperator Mirrored(KeyOperator op) {
  switch (op) {
    case KeyOperator::kLess: return KeyOperator::kGreater;
    case KeyOperator::kLessEqual: return KeyOperator::kGreaterEqual;
    case KeyOperator::kGreater: return KeyOperator::kLess;
    case KeyOperator::kGreaterEqual: return KeyOperator::kLessEqual;
    default: return op;
  }
}

std::string_view NameOf(Op op) {
  switch (op) {
    case Op::kOr: return "OR";
    case Op::kNot: return "NOT";
    case Op::kNotEqual: return "<>";
    case Op::kIn: return "IN";
    case Op::kAttributeExists: return "attribute_exists";
    case Op::kAttributeNotExists: return "attribute_not_exists";
    case Op::kAttributeType: return "attribute_type";
    case Op::kContains: return "contains";
    default: return {};
  }
}

// Values of key attributes are neither empty nor too long, on either side of a comparison.
Status CheckKeyValues(std::string_view attribute, const std::vector<std::string>& operands,
                      bool is_hash) {
  for (const std::string& operand : operands) {
    const model::ValueView value(operand);
    if (value.type() == model::Type::kNumber) continue;
    const size_t size = value.AsString().size();
    if (size == 0) {
      return InvalidArgument(
          std::string("One or more parameter values are not valid. The AttributeValue for a key "
                      "attribute cannot contain an empty ") +
          (value.type() == model::Type::kString ? "string" : "binary") +
          " value. Key: " + std::string(attribute));
    }
    if (is_hash && size > model::kMaxPartitionKeySize) {  // the missing space is the service's
      return InvalidArgument(
          "One or more parameter values were invalid: Size of hashkey has exceeded the maximum "
          "size limit of2048 bytes");
    }
    if (!is_hash && size > model::kMaxSortKeySize) {
      return InvalidArgument(
          "One or more parameter values were invalid: Aggregated size of all range keys has "
          "exceeded the size limit of 1024 bytes");
    }
  }
  return Status::Ok();
}

}  // namespace

/// Turns a condition's tree into conditions on keys, or says why it cannot be one.
class KeyConditionParser {
 public:
  KeyConditionParser(const Condition* condition, ParsedKeyCondition* out)
      : tree_(condition->tree()), out_(*out) {}

  Status Convert(uint32_t index) {
    const Node& node = tree_.nodes[index];
    if (node.op == Op::kAnd) {
      for (uint32_t child = node.first_child; child != kNoNode; child = tree_.nodes[child].next) {
        RETURN_IF_ERROR(Convert(child));
      }
      return Status::Ok();
    }
    if (const std::string_view name = NameOf(node.op); !name.empty()) {
      return InvalidArgument("Invalid operator used in KeyConditionExpression: " +
                             std::string(name));
    }
    return ConvertOne(node);
  }

 private:
  Status ConvertOne(const Node& node) {
    const Node& first = tree_.nodes[node.first_child];
    constexpr char kNested[] = "KeyConditionExpressions cannot contain nested operations";
    if (first.op == Op::kSize) return InvalidArgument(kNested);
    if (node.op == Op::kBetween || node.op == Op::kBeginsWith) {
      if (first.op != Op::kPath) {
        return InvalidArgument(std::string("Invalid condition in KeyConditionExpression: ") +
                               (node.op == Op::kBetween ? "BETWEEN" : "begins_with") +
                               " operator must have the key attribute as its first operand");
      }
    }
    ParsedKeyCondition::Part part;
    part.op = KeyOperatorOf(node.op);
    bool has_attribute = false;
    bool mirrored = false;
    for (uint32_t child = node.first_child; child != kNoNode; child = tree_.nodes[child].next) {
      const Node& operand = tree_.nodes[child];
      if (operand.op == Op::kSize) return InvalidArgument(kNested);
      if (operand.op == Op::kValue) {
        part.operands.emplace_back(tree_.Bytes(operand.value));
        continue;
      }
      if (has_attribute) {
        return InvalidArgument(
            "Invalid condition in KeyConditionExpression: Multiple attribute names used in one "
            "condition");
      }
      if (operand.path.count > 1) {
        return InvalidArgument(
            "Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on "
            "nested attributes");
      }
      has_attribute = true;
      mirrored = child != node.first_child;
      part.attribute = tree_.TopLevelName(operand.path);
    }
    if (!has_attribute) {
      return InvalidArgument(
          "Invalid condition in KeyConditionExpression: No key attribute specified");
    }
    if (mirrored) part.op = Mirrored(part.op);
    for (const ParsedKeyCondition::Part& other : out_.parts_) {
      if (other.attribute == part.attribute) {
        return InvalidArgument(
            "Invalid KeyConditionExpression: KeyConditionExpressions must only contain one "
            "condition per key");
      }
    }
    out_.parts_.push_back(std::move(part));
    return Status::Ok();
  }

  const Tree& tree_;
  ParsedKeyCondition& out_;
};

Result<ParsedKeyCondition> ParseKeyCondition(std::string_view text, Placeholders* placeholders) {
  Condition condition;
  ConditionParser parser(text, "KeyConditionExpression", placeholders, &condition);
  RETURN_IF_ERROR(parser.Parse());
  ParsedKeyCondition parsed;
  RETURN_IF_ERROR(KeyConditionParser(&condition, &parsed).Convert(parser.root()));
  if (parsed.attributes().size() > 2) {
    return InvalidArgument("Conditions can be of length 1 or 2 only");
  }
  return parsed;
}

Result<KeyCondition> ParseKeyCondition(std::string_view text, Placeholders* placeholders,
                                       const KeySchema& schema) {
  ASSIGN_OR_RETURN(const ParsedKeyCondition parsed, ParseKeyCondition(text, placeholders));
  return parsed.Bind(schema);
}

std::vector<std::string_view> ParsedKeyCondition::attributes() const {
  std::vector<std::string_view> names;
  names.reserve(parts_.size());
  for (const Part& part : parts_) names.push_back(part.attribute);
  return names;
}

Result<KeyCondition> ParsedKeyCondition::Bind(const KeySchema& schema) const {
  const auto find = [&](std::string_view name) -> const Part* {
    for (const Part& part : parts_) {
      if (part.attribute == name) return &part;
    }
    return nullptr;
  };
  const auto missing = [](std::string_view name) {
    return InvalidArgument("Query condition missed key schema element: " + std::string(name));
  };
  const auto check = [](const Part& part, model::Type type) {
    if (!part.indexable) {
      return InvalidArgument("Attempted conditional constraint is not an indexable operation");
    }
    for (const std::string& operand : part.operands) {
      if (model::ValueView(operand).type() != type) {
        return InvalidArgument(
            "One or more parameter values were invalid: Condition parameter type does not match "
            "schema type");
      }
    }
    return Status::Ok();
  };
  constexpr char kNotSupported[] = "Query key condition not supported";

  const Part* hash = find(schema.hash_name);
  if (schema.range_name.empty() && parts_.size() > 1) return InvalidArgument(kNotSupported);
  if (hash == nullptr) return missing(schema.hash_name);
  RETURN_IF_ERROR(check(*hash, schema.hash_type));
  if (hash->op != KeyOperator::kEqual) return InvalidArgument(kNotSupported);
  RETURN_IF_ERROR(CheckKeyValues(hash->attribute, hash->operands, true));

  KeyCondition condition;
  condition.hash_value = hash->operands.front();
  if (parts_.size() == 1) return condition;
  const Part* range = find(schema.range_name);
  if (range == nullptr) return missing(schema.range_name);
  RETURN_IF_ERROR(check(*range, schema.range_type));
  RETURN_IF_ERROR(CheckKeyValues(range->attribute, range->operands, false));
  condition.range_operator = range->op;
  condition.range_value = range->operands.front();
  if (range->op == KeyOperator::kBetween) condition.range_upper = range->operands.back();
  return condition;
}

}  // namespace onggi::expression
