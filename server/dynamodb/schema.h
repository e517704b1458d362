#pragma once

#include <simdjson.h>

#include "server/dynamodb/api_model.h"
#include "server/dynamodb/error.h"

/// Checks a request body against the API model, in the service's words and order.
namespace onggi::dynamodb {

/// Two checks in the service's order: types (SerializationException: the first one found wins) and
/// constraints (ValidationException "N validation errors detected: ..."; at most 10 are listed).
/// Unknown members are ignored and a null member is an absent one, as the service has it.
///
/// Valid input costs one walk and no allocation; inside an AttributeValue only types are checked:
/// what is left there (exactly one type, numbers, sets) is model::ParseValue's. Safe from any
/// thread.
Outcome ValidateInput(const OperationModel& operation, simdjson::dom::object input);

/// Does `name` satisfy the rules of table and index names: 3 to 255 of a-z A-Z 0-9 _ - .
bool IsValidTableName(std::string_view name);

/// "arn:aws:dynamodb:REGION:ACCOUNT:table/NAME" -> NAME, and the index after "/index/" if any.
/// False: not such an ARN.
struct TableArn {
  std::string_view region;
  std::string_view account;
  std::string_view table;
  std::string_view rest;  ///< after "table/NAME/", such as "index/by-date"; empty = none
};
bool ParseTableArn(std::string_view arn, TableArn* out);

}  // namespace onggi::dynamodb
