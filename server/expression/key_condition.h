#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "server/expression/placeholders.h"
#include "server/model/value.h"

namespace onggi::expression {

/// Key attributes of the table or index that a Query reads.
struct KeySchema {
  KeySchema() = default;
  KeySchema(std::string_view hash, model::Type hash_attribute_type, std::string_view range = {},
            model::Type range_attribute_type = model::Type::kString)
      : hash_name(hash),
        hash_type(hash_attribute_type),
        range_name(range),
        range_type(range_attribute_type) {}

  std::string_view hash_name;
  model::Type hash_type = model::Type::kString;
  std::string_view range_name;  ///< empty: there is no sort key
  model::Type range_type = model::Type::kString;
};

enum class KeyOperator : uint8_t {
  kNone,  ///< no condition on the sort key
  kEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kBetween,  ///< both bounds inclusive
  kBeginsWith,
};

/// What a Query reads: one partition key and a range of sort keys.
struct KeyCondition {
  std::string hash_value;  ///< encoded value
  KeyOperator range_operator = KeyOperator::kNone;
  std::string range_value;  ///< encoded value; the lower bound of kBetween
  std::string range_upper;  ///< encoded value; kBetween only
};

/// A KeyConditionExpression (or KeyConditions) before it is held against a key schema: what can be
/// said of it without knowing the table. The service finds syntax errors before it looks the table
/// up.
class ParsedKeyCondition {
 public:
  /// InvalidArgument: "Query condition missed key schema element: pk", "Query key condition not
  /// supported", "One or more parameter values were invalid: Condition parameter type does not
  /// match schema type".
  Result<KeyCondition> Bind(const KeySchema& schema) const;

  /// Names of the attributes it has conditions on, in order.
  std::vector<std::string_view> attributes() const;

 private:
  friend class KeyConditionParser;
  friend class LegacyTranslator;

  struct Part {
    std::string attribute;
    KeyOperator op = KeyOperator::kNone;
    bool indexable = true;  ///< false: a legacy operator that no key can have
    std::vector<std::string> operands;
  };
  std::vector<Part> parts_;
};

/// Errors are InvalidArgument: "Invalid KeyConditionExpression: ..." for syntax, and what stands at
/// ParsedKeyCondition::Bind.
Result<ParsedKeyCondition> ParseKeyCondition(std::string_view text, Placeholders* placeholders);
Result<KeyCondition> ParseKeyCondition(std::string_view text, Placeholders* placeholders,
                                       const KeySchema& schema);

}  // namespace onggi::expression
