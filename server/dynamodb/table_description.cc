#include "server/dynamodb/table_description.h"

#include <algorithm>
#include <map>

#include "server/dynamodb/json_writer.h"

namespace onggi::dynamodb {
namespace {

std::string_view StatusName(proto::TableStatus status) {
  switch (status) {
    case proto::TABLE_STATUS_CREATING: return "CREATING";
    case proto::TABLE_STATUS_UPDATING: return "UPDATING";
    case proto::TABLE_STATUS_DELETING: return "DELETING";
    default: return "ACTIVE";
  }
}

void WriteAttributeDefinitions(const proto::Table& record, std::string* out) {
  std::map<std::string_view, std::string_view> types;
  types[record.partition_key().name()] = record.partition_key().type();
  if (record.has_sort_key()) types[record.sort_key().name()] = record.sort_key().type();
  for (const proto::LocalIndex& index : record.local_indexes()) {
    types[index.sort_key().name()] = index.sort_key().type();
  }
  WriteArray(types, out, [](const auto& entry, std::string* to) {
    ObjectWriter definition(to);
    definition.String("AttributeName", entry.first);
    definition.String("AttributeType", entry.second);
  });
}

void WriteKeySchema(std::string_view partition_key, std::string_view sort_key, std::string* out) {
  out->push_back('[');
  {
    ObjectWriter hash(out);
    hash.String("AttributeName", partition_key);
    hash.String("KeyType", "HASH");
  }
  if (!sort_key.empty()) {
    out->push_back(',');
    ObjectWriter range(out);
    range.String("AttributeName", sort_key);
    range.String("KeyType", "RANGE");
  }
  out->push_back(']');
}

void WriteThroughput(const proto::Throughput& throughput, int64_t now_ms, std::string* out) {
  ObjectWriter writer(out);
  if (throughput.last_increase_ms() != 0) {
    writer.Time("LastIncreaseDateTime", throughput.last_increase_ms());
  }
  if (throughput.last_decrease_ms() != 0) {
    writer.Time("LastDecreaseDateTime", throughput.last_decrease_ms());
  }
  const bool today = DayOf(throughput.last_decrease_ms()) == DayOf(now_ms);
  writer.Int("NumberOfDecreasesToday", today ? throughput.decreases_today() : 0);
  writer.Int("ReadCapacityUnits", throughput.read_units());
  writer.Int("WriteCapacityUnits", throughput.write_units());
}

void WriteLocalIndexes(const proto::Table& record, std::string_view arn,
                       const TableFigures& figures, std::string* out) {
  size_t position = 0;
  WriteArray(record.local_indexes(), out, [&](const proto::LocalIndex& index, std::string* to) {
    const TableFigures::Index of_index = position < figures.local_indexes.size()
                                             ? figures.local_indexes[position]
                                             : TableFigures::Index{};
    ++position;
    ObjectWriter writer(to);
    writer.String("IndexName", index.name());
    WriteKeySchema(record.partition_key().name(), index.sort_key().name(), writer.Key("KeySchema"));
    {
      ObjectWriter projection(writer.Key("Projection"));
      projection.String("ProjectionType", index.projection().type());
      if (index.projection().non_key_attributes_size() > 0) {
        WriteArray(index.projection().non_key_attributes(), projection.Key("NonKeyAttributes"),
                   [](const std::string& name, std::string* names) {
                     model::WriteJsonString(name, names);
                   });
      }
    }
    writer.Int("IndexSizeBytes", static_cast<int64_t>(of_index.size_bytes));
    writer.Int("ItemCount", static_cast<int64_t>(of_index.item_count));
    writer.String("IndexArn", std::string(arn) + "/index/" + index.name());
  });
}

void WriteBilling(const proto::Table& record, ObjectWriter& table) {
  const bool on_demand = record.billing_mode() == kPayPerRequest;
  if (!on_demand && record.billing_changed_ms() == 0) return;
  ObjectWriter billing(table.Key("BillingModeSummary"));
  billing.String("BillingMode", record.billing_mode());
  // The service tells the time once the table is there.
  if (record.billing_changed_ms() != 0 && record.status() != proto::TABLE_STATUS_CREATING) {
    billing.Time("LastUpdateToPayPerRequestDateTime", record.billing_changed_ms());
  }
}

}  // namespace

WarmUnits WarmUnitsOf(const proto::Table& record) {
  const bool on_demand = record.billing_mode() == kPayPerRequest;
  const WarmUnits base =
      on_demand ? WarmUnits{kOnDemandWarmRead, kOnDemandWarmWrite}
                : WarmUnits{record.throughput().read_units(), record.throughput().write_units()};
  return {std::max(base.read, record.warm_read()), std::max(base.write, record.warm_write())};
}

void WriteTableDescription(const proto::Table& record, std::string_view arn,
                           const TableFigures& figures, int64_t now_ms, std::string* out) {
  ObjectWriter table(out);
  WriteAttributeDefinitions(record, table.Key("AttributeDefinitions"));
  table.String("TableName", record.name());
  WriteKeySchema(record.partition_key().name(), record.sort_key().name(), table.Key("KeySchema"));
  table.String("TableStatus", StatusName(record.status()));
  table.Time("CreationDateTime", record.created_ms());
  WriteThroughput(record.throughput(), now_ms, table.Key("ProvisionedThroughput"));
  table.Int("TableSizeBytes", static_cast<int64_t>(figures.size_bytes));
  table.Int("ItemCount", static_cast<int64_t>(figures.item_count));
  table.String("TableArn", arn);
  table.String("TableId", record.uuid());
  WriteBilling(record, table);
  if (record.local_indexes_size() > 0) {
    WriteLocalIndexes(record, arn, figures, table.Key("LocalSecondaryIndexes"));
  }
  if (!record.sse().status().empty()) {
    ObjectWriter sse(table.Key("SSEDescription"));
    sse.String("Status", record.sse().status());
    sse.String("SSEType", record.sse().type());
    if (!record.sse().kms_key_arn().empty()) {
      sse.String("KMSMasterKeyArn", record.sse().kms_key_arn());
    }
  }
  if (!record.table_class().empty()) {
    ObjectWriter table_class(table.Key("TableClassSummary"));
    table_class.String("TableClass", record.table_class());
    if (record.table_class_changed_ms() != 0) {
      table_class.Time("LastUpdateDateTime", record.table_class_changed_ms());
    }
  }
  table.Bool("DeletionProtectionEnabled", record.deletion_protection());
  if (record.on_demand_max_read() != 0 || record.on_demand_max_write() != 0) {
    ObjectWriter on_demand(table.Key("OnDemandThroughput"));
    // A half that was never set is unlimited.
    on_demand.Int("MaxReadRequestUnits",
                  record.on_demand_max_read() == 0 ? -1 : record.on_demand_max_read());
    on_demand.Int("MaxWriteRequestUnits",
                  record.on_demand_max_write() == 0 ? -1 : record.on_demand_max_write());
  }
  if (record.status() == proto::TABLE_STATUS_ACTIVE ||
      record.status() == proto::TABLE_STATUS_UPDATING) {
    const WarmUnits warm = WarmUnitsOf(record);
    ObjectWriter writer(table.Key("WarmThroughput"));
    writer.Int("ReadUnitsPerSecond", warm.read);
    writer.Int("WriteUnitsPerSecond", warm.write);
    writer.String("Status", StatusName(record.status()));
  }
}

}  // namespace onggi::dynamodb
