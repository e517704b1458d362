#include "server/dynamodb/item_operations.h"

namespace onggi::dynamodb {

void RegisterItemOperations(routing::Router* router, OperationTable* operations) {
  operations->Add("GetItem", MakeGetItem(router));
  operations->Add("PutItem", MakePutItem(router));
  operations->Add("UpdateItem", MakeUpdateItem(router));
  operations->Add("DeleteItem", MakeDeleteItem(router));
  operations->Add("BatchGetItem", MakeBatchGetItem(router));
  operations->Add("BatchWriteItem", MakeBatchWriteItem(router));
  operations->Add("Query", MakeQuery(router));
  operations->Add("Scan", MakeScan(router));
}

boost::asio::awaitable<TableFigures> RoutedStatistics::Figures(TableId table) {
  const partition::PartitionStatistics sum = co_await router_->Figures(table);
  TableFigures figures;
  figures.item_count = sum.item_count;
  figures.size_bytes = sum.item_bytes;
  for (const auto& index : sum.local_indexes) {
    figures.local_indexes.push_back({index.entry_count, index.entry_bytes});
    figures.size_bytes += index.entry_bytes;
  }
  co_return figures;
}

}  // namespace onggi::dynamodb
