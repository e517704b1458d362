#include "server/dynamodb/item_operations.h"

namespace onggi::dynamodb {

void RegisterItemOperations(partition::Directory* directory, OperationTable* operations) {
  operations->Add("GetItem", MakeGetItem(directory));
  operations->Add("PutItem", MakePutItem(directory));
  operations->Add("UpdateItem", MakeUpdateItem(directory));
  operations->Add("DeleteItem", MakeDeleteItem(directory));
  operations->Add("BatchGetItem", MakeBatchGetItem(directory));
  operations->Add("BatchWriteItem", MakeBatchWriteItem(directory));
  operations->Add("Query", MakeQuery(directory));
  operations->Add("Scan", MakeScan(directory));
}

boost::asio::awaitable<Result<std::shared_ptr<partition::Partition>>> FindPartition(
    partition::Directory* directory, TableId table, std::string_view key) {
  if (auto partition = directory->TryFind(table, key)) co_return partition;
  co_return co_await directory->Find(table, key);
}

}  // namespace onggi::dynamodb
