// Fuzzes what a request body meets before it meets a table: JSON, the walks of the API model, then
// the items, keys, expressions and older parameters of the item operations. The first byte chooses
// the operation ('a' is the first of kOperations), the rest is the body.
//
// What is accepted must be usable: items are well-formed, conditions, projections and updates run
// on them. What is refused must be answerable: the error's body is JSON.

#include <simdjson.h>

#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "server/dynamodb/api_model.h"
#include "server/dynamodb/error.h"
#include "server/dynamodb/input.h"
#include "server/dynamodb/item_request.h"
#include "server/dynamodb/schema.h"
#include "server/model/json.h"
#include "server/model/value.h"

namespace onggi::dynamodb {
namespace {

constexpr std::string_view kOperations[] = {
    "PutItem",
    "GetItem",
    "UpdateItem",
    "DeleteItem",
    "Query",
    "Scan",
    "BatchGetItem",
    "BatchWriteItem",
    "CreateTable",
    "UpdateTable",
    "DescribeTable",
    "DeleteTable",
    "ListTables",
    "TagResource",
    "UntagResource",
    "TransactWriteItems",
    "TransactGetItems",
};

/// True when the request goes on. An error must render as JSON.
bool Passed(const Outcome& outcome) {
  if (outcome.ok()) return true;
  CHECK(!InfoOf(outcome.error().type).name.empty());
  const simdjson::padded_string body(RenderError(outcome.error()));
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  CHECK(parser.parse(body).get(object) == simdjson::SUCCESS);
  return false;
}

/// An item that was accepted: well-formed, and the same after a trip through JSON.
void CheckItem(const std::string& item) {
  CHECK(model::ValidateItem(item).ok());
  std::string json;
  model::WriteItem(model::ItemView(item), &json);
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  CHECK(parser.parse(json).get(object) == simdjson::SUCCESS);
  std::string again;
  CHECK(model::ParseItem(object, &again).ok());
  CHECK(again == item);
}

void RunUpdate(const expression::Update& update, const model::ItemView& old_item,
               const model::ItemView& key) {
  expression::Update::Output output;
  if (!update.Apply(old_item, key, /*want_updated=*/true, &output).ok()) return;
  CHECK(model::ValidateItem(output.item).ok());
  CHECK(output.updated_old.empty() || model::ValidateItem(output.updated_old).ok());
  CHECK(output.updated_new.empty() || model::ValidateItem(output.updated_new).ok());
}

void RunProjection(const expression::Projection& projection, const model::ItemView& item) {
  std::string projected;
  projection.Project(item, &projected);
  CHECK(model::ValidateItem(projected).ok());
}

/// Everything that was parsed, on `item` and on an item that does not exist.
void RunExpressions(const Expressions& expressions, const std::string& item) {
  const model::ItemView view(item);
  if (expressions.condition) {
    (void)expressions.condition->attributes();
    (void)expressions.condition->Evaluate(view);
    (void)expressions.condition->Evaluate(model::ItemView());
  }
  if (expressions.filter) (void)expressions.filter->Evaluate(view);
  if (expressions.projection) RunProjection(*expressions.projection, view);
  if (expressions.update) {
    (void)expressions.update->written_attributes();
    RunUpdate(*expressions.update, view, view);
    RunUpdate(*expressions.update, model::ItemView(), view);
  }
  if (expressions.key_condition) {
    const expression::KeySchema schema("pk", model::Type::kString, "sk", model::Type::kNumber);
    (void)expressions.key_condition->Bind(schema);
  }
}

/// One request of an item operation, or one of the requests that a batch or transaction holds.
void RunItemRequest(Input input, std::string_view item_parameter, const ParameterSet& set,
                    std::string_view legacy_condition) {
  bool has_expressions = false;
  if (!Passed(CheckParameters(input, set, &has_expressions))) return;
  std::string item;
  if (!item_parameter.empty()) {
    if (!Passed(ParseItemParameter(input, item_parameter, &item))) return;
  } else {
    if (!Passed(ParseStartKey(input, &item))) return;
    if (item.empty()) {
      simdjson::dom::parser parser;
      simdjson::dom::object nothing;
      CHECK(parser.parse(std::string_view("{}")).get(nothing) == simdjson::SUCCESS);
      CHECK(model::ParseItem(nothing, &item).ok());
    }
  }
  CheckItem(item);

  Expressions expressions;
  if (has_expressions) {
    if (!Passed(ParseExpressions(input, set, &expressions))) return;
  } else {
    if (!Passed(ParseAttributesToGet(input, &expressions.projection))) return;
    if (!legacy_condition.empty() &&
        !Passed(ParseLegacyCondition(input, legacy_condition, &expressions.condition))) {
      return;
    }
    if (const auto updates = input.Object("AttributeUpdates");
        updates && &set == &kUpdateParameters) {
      auto update = expression::UpdateFromAttributeUpdates(*updates);
      if (!update.ok()) return;
      expressions.update.emplace(std::move(update).value());
    }
    if (const auto conditions = input.Object("KeyConditions");
        conditions && &set == &kQueryParameters) {
      auto condition = expression::KeyConditionFromKeyConditions(*conditions);
      if (!condition.ok()) return;
      expressions.key_condition.emplace(std::move(condition).value());
    }
  }
  RunExpressions(expressions, item);
}

void RunBatchGet(Input input) {
  const auto tables = input.Object("RequestItems");
  if (!tables) return;
  for (const auto table : *tables) {
    simdjson::dom::object request;
    if (table.value.get(request)) continue;
    const Input one(request);
    const auto keys = one.Array("Keys");
    if (!keys) continue;
    for (const auto key : *keys) {
      simdjson::dom::object object;
      std::string item;
      if (!key.get(object) && model::ParseItem(object, &item).ok()) CheckItem(item);
    }
    bool has_expressions = false;
    Expressions expressions;
    if (Passed(CheckParameters(one, kReadParameters, &has_expressions)) && has_expressions) {
      (void)Passed(ParseExpressions(one, kReadParameters, &expressions));
    }
  }
}

void RunBatchWrite(Input input) {
  const auto tables = input.Object("RequestItems");
  if (!tables) return;
  for (const auto table : *tables) {
    simdjson::dom::array requests;
    if (table.value.get(requests)) continue;
    for (const auto request : requests) {
      simdjson::dom::object object;
      if (request.get(object)) continue;
      for (const auto& [member, parameter] :
           {std::pair{"PutRequest", "Item"}, std::pair{"DeleteRequest", "Key"}}) {
        const auto inner = Input(object).Structure(member);
        std::string item;
        if (inner && Passed(ParseItemParameter(*inner, parameter, &item))) CheckItem(item);
      }
    }
  }
}

void Run(std::string_view operation, Input input) {
  if (operation == "PutItem") RunItemRequest(input, "Item", kWriteParameters, "Expected");
  if (operation == "DeleteItem") RunItemRequest(input, "Key", kWriteParameters, "Expected");
  if (operation == "UpdateItem") RunItemRequest(input, "Key", kUpdateParameters, "Expected");
  if (operation == "GetItem") RunItemRequest(input, "Key", kReadParameters, "");
  if (operation == "Query") RunItemRequest(input, "", kQueryParameters, "QueryFilter");
  if (operation == "Scan") RunItemRequest(input, "", kScanParameters, "ScanFilter");
  if (operation == "BatchGetItem") RunBatchGet(input);
  if (operation == "BatchWriteItem") RunBatchWrite(input);
}

}  // namespace
}  // namespace onggi::dynamodb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace onggi::dynamodb;
  if (size < 2) return 0;
  const std::string_view operation =
      kOperations[static_cast<uint8_t>(data[0] - 'a') % std::size(kOperations)];
  const simdjson::padded_string body(reinterpret_cast<const char*>(data) + 1, size - 1);
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(body).get(object)) return 0;
  const OperationModel* model = FindOperation(operation);
  CHECK(model != nullptr);
  if (Passed(ValidateInput(*model, object))) Run(operation, Input(object));
  return 0;
}
