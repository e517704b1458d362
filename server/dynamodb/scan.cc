#include <optional>

#include "server/dynamodb/item_operations.h"
#include "server/dynamodb/page_request.h"

/// Scan.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html
namespace onggi::dynamodb {
namespace {

/// One of the parts that a parallel scan is cut into.
struct Segment {
  uint32_t number = 0;
  uint32_t total = 1;
};

Outcome ParseSegment(Input input, Segment* segment) {
  const auto number = input.Int("Segment");
  const auto total = input.Int("TotalSegments");
  if (!number && !total) return {};
  if (!total) {
    return ValidationError(
        "The TotalSegments parameter is required but was not present in the request when Segment "
        "parameter is present");
  }
  if (!number) {
    return ValidationError(
        "The Segment parameter is required but was not present in the request when parameter "
        "TotalSegments is present");
  }
  if (*number >= *total) {
    return ValidationError(
        "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
        "Segment: " +
        std::to_string(*number) + " is not less than TotalSegments: " + std::to_string(*total));
  }
  *segment = {static_cast<uint32_t>(*number), static_cast<uint32_t>(*total)};
  return {};
}

/// What can be said of the request without its table.
Outcome ParseRequest(Input input, PageParameters* parameters, Segment* segment) {
  bool has_expressions = false;
  Expressions& expressions = parameters->expressions;
  Outcome outcome = CheckParameters(input, kScanParameters, &has_expressions);
  if (!outcome.ok()) return outcome;
  if (!has_expressions) {
    outcome = ParseAttributesToGet(input, &expressions.projection);
    if (!outcome.ok()) return outcome;
    outcome = ParseLegacyCondition(input, "ScanFilter", &expressions.filter);
    if (!outcome.ok()) return outcome;
  }
  outcome = ParseStartKey(input, &parameters->start_key);
  if (!outcome.ok()) return outcome;
  outcome = ParseSegment(input, segment);
  if (!outcome.ok()) return outcome;
  if (has_expressions) {
    outcome = ParseExpressions(input, kScanParameters, &expressions);
    if (!outcome.ok()) return outcome;
  }
  return ParseSelect(input, &parameters->select);
}

Outcome Prepare(const CallContext& context, Input input, PageParameters* parameters,
                PageRequest* request) {
  Segment segment;
  Outcome outcome = ParseRequest(input, parameters, &segment);
  if (!outcome.ok()) return outcome;
  outcome = ResolvePage(context, input, *parameters, request);
  if (!outcome.ok()) return outcome;
  outcome = CheckStartKey(*request, parameters->start_key,
                          request->index >= 0
                              ? "The provided starting key is invalid"
                              : "The provided starting key is invalid: The provided key element "
                                "does not match the schema");
  if (!outcome.ok()) return outcome;

  request->fill_cache = false;
  request->range = RangeOfSegment(segment.number, segment.total);
  if (!parameters->start_key.empty()) {
    const model::ItemView start(parameters->start_key);
    const std::string position = PositionOf(*request->table->schema, request->index, start);
    const KeyRange& range = request->range;
    if (position < range.lower || (!range.upper.empty() && position >= range.upper)) {
      return ValidationError(
          "The provided starting key is invalid: Invalid ExclusiveStartKey. Please use "
          "ExclusiveStartKey with correct Segment. TotalSegments: " +
          std::to_string(segment.total) + " Segment: " + std::to_string(segment.number));
    }
    request->range.ContinueAfter(position, false);
  }
  return CheckPagePaths(*request);
}

}  // namespace

std::unique_ptr<Operation> MakeScan(routing::Router* router) {
  return MakePageOperation(router, Prepare);
}

}  // namespace onggi::dynamodb
