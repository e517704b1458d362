#pragma once

#include <memory>

#include "server/dynamodb/catalog.h"
#include "server/dynamodb/operation.h"
#include "server/routing/router.h"

namespace onggi::dynamodb {

/// Adds GetItem, PutItem, UpdateItem, DeleteItem, BatchGetItem, BatchWriteItem, Query and Scan.
/// `router` outlives `operations`.
void RegisterItemOperations(routing::Router* router, OperationTable* operations);

// One maker per family, for the function above.
std::unique_ptr<Operation> MakeGetItem(routing::Router* router);
std::unique_ptr<Operation> MakePutItem(routing::Router* router);
std::unique_ptr<Operation> MakeUpdateItem(routing::Router* router);
std::unique_ptr<Operation> MakeDeleteItem(routing::Router* router);
std::unique_ptr<Operation> MakeBatchGetItem(routing::Router* router);
std::unique_ptr<Operation> MakeBatchWriteItem(routing::Router* router);
std::unique_ptr<Operation> MakeQuery(routing::Router* router);
std::unique_ptr<Operation> MakeScan(routing::Router* router);

/// Live figures of tables, over all of their partitions, wherever they are. `router` outlives it.
class RoutedStatistics final : public TableStatistics {
 public:
  explicit RoutedStatistics(routing::Router* router) : router_(router) {}
  boost::asio::awaitable<TableFigures> Figures(TableId table) override;

 private:
  routing::Router* const router_;
};

}  // namespace onggi::dynamodb
