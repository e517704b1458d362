#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "server/dynamodb/item_request.h"
#include "server/dynamodb/item_validation.h"
#include "server/dynamodb/operation.h"
#include "server/dynamodb/page_reader.h"

/// What Query and Scan requests have in common.
namespace onggi::dynamodb {

enum class Select : uint8_t { kDefault, kAllAttributes, kAllProjected, kCount, kSpecific };

/// A Query or Scan as far as it is understood without its table.
struct PageParameters {
  Expressions expressions;
  std::string start_key;  ///< ExclusiveStartKey in stored form; empty: none
  Select select = Select::kDefault;
};

/// Select, against the parameters that it excludes or needs.
Outcome ParseSelect(Input input, Select* select);

/// Fills what does not depend on keys: table, index, limit, consistency, projection, filter,
/// select. Errors: the table or the index does not exist. `parameters` outlives `request`.
Outcome ResolvePage(const CallContext& context, Input input, const PageParameters& parameters,
                    PageRequest* request);

/// ExclusiveStartKey against the key schema of table and index; empty start keys pass. Query and
/// Scan word a wrong number of attributes in their own ways (`count_message`).
Outcome CheckStartKey(const PageRequest& request, const std::string& start_key,
                      std::string_view count_message);

/// Makes `request`, which points into `parameters`, of a validated input.
using PreparePage = Outcome (*)(const CallContext& context, Input input, PageParameters* parameters,
                                PageRequest* request);

/// The operation that answers with the page (ReadPage) that `prepare` asks for.
std::unique_ptr<Operation> MakePageOperation(routing::Router* router, PreparePage prepare);

/// Paths of projection and filter may not look into key attributes.
Outcome CheckPagePaths(const PageRequest& request);

}  // namespace onggi::dynamodb
