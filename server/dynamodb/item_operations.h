#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "server/dynamodb/catalog.h"
#include "server/dynamodb/operation.h"
#include "server/partition/directory.h"

namespace onggi::dynamodb {

/// Adds GetItem, PutItem, UpdateItem, DeleteItem, BatchGetItem, BatchWriteItem, Query and Scan.
/// `directory` outlives `operations`.
void RegisterItemOperations(partition::Directory* directory, OperationTable* operations);

// One maker per family, for the function above.
std::unique_ptr<Operation> MakeGetItem(partition::Directory* directory);
std::unique_ptr<Operation> MakePutItem(partition::Directory* directory);
std::unique_ptr<Operation> MakeUpdateItem(partition::Directory* directory);
std::unique_ptr<Operation> MakeDeleteItem(partition::Directory* directory);
std::unique_ptr<Operation> MakeBatchGetItem(partition::Directory* directory);
std::unique_ptr<Operation> MakeBatchWriteItem(partition::Directory* directory);
std::unique_ptr<Operation> MakeQuery(partition::Directory* directory);
std::unique_ptr<Operation> MakeScan(partition::Directory* directory);

/// The partition of `key`, opening it where needed. Suspends only then. Error: NotFound, the table
/// is gone.
boost::asio::awaitable<Result<std::shared_ptr<partition::Partition>>> FindPartition(
    partition::Directory* directory, TableId table, std::string_view key);

}  // namespace onggi::dynamodb
