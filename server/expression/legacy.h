#pragma once

#include <simdjson.h>

#include <string_view>

#include "common/status.h"
#include "server/expression/condition.h"
#include "server/expression/key_condition.h"
#include "server/expression/update.h"

/// The parameters that DynamoDB had before expressions, translated into the same trees. Input has
/// passed the wire schema (member types, enums); what is checked here are the rules that the schema
/// cannot say, with the service's messages as InvalidArgument.
/// Source:
/// docs.aws.amazon.com/amazondynamodb/latest/developerguide/LegacyConditionalParameters.html
namespace onggi::expression {

/// ConditionalOperator; the default is AND.
enum class ConditionalOperator : uint8_t { kAnd, kOr };

/// For a request that has ConditionalOperator: `conditions` is the number of elements of its
/// Expected, QueryFilter or ScanFilter (0 when it has none). InvalidArgument unless there are two
/// or more.
Status CheckConditionalOperator(size_t conditions);

/// Expected of PutItem, UpdateItem and DeleteItem.
Result<Condition> ConditionFromExpected(simdjson::dom::object expected, ConditionalOperator op);

/// QueryFilter or ScanFilter.
Result<Condition> ConditionFromFilter(simdjson::dom::object filter, ConditionalOperator op);

/// KeyConditions of Query.
Result<ParsedKeyCondition> KeyConditionFromKeyConditions(simdjson::dom::object conditions);

/// AttributeUpdates of UpdateItem.
Result<Update> UpdateFromAttributeUpdates(simdjson::dom::object updates);

}  // namespace onggi::expression
