#include "server/dynamodb/capacity.h"

#include <algorithm>

#include "server/model/json.h"

namespace onggi::dynamodb {
namespace {

constexpr size_t kReadUnitBytes = 4096;
constexpr size_t kWriteUnitBytes = 1024;
constexpr uint64_t kGigabyte = uint64_t{1} << 30;

uint64_t Steps(size_t bytes, size_t step) {
  return std::max<uint64_t>(1, (bytes + step - 1) / step);
}

void WriteUnits(HalfUnits units, std::string* out) {
  out->append("{\"CapacityUnits\":");
  AppendHalfUnits(units, out);
  out->push_back('}');
}

}  // namespace

HalfUnits ReadHalfUnits(size_t bytes, bool consistent) {
  return Steps(bytes, kReadUnitBytes) * (consistent ? 2 : 1);
}

HalfUnits WriteHalfUnits(size_t bytes) { return Steps(bytes, kWriteUnitBytes) * 2; }

void AppendHalfUnits(HalfUnits units, std::string* out) {
  out->append(std::to_string(units / 2));
  out->append(units % 2 == 0 ? ".0" : ".5");
}

CapacityDetail CapacityDetailOf(Input input) {
  const auto text = input.String("ReturnConsumedCapacity");
  if (!text || *text == "NONE") return CapacityDetail::kNone;
  return *text == "INDEXES" ? CapacityDetail::kIndexes : CapacityDetail::kTotal;
}

HalfUnits ConsumedCapacity::Total() const {
  HalfUnits total = table;
  for (const HalfUnits units : local_indexes) total += units;
  return total;
}

void ConsumedCapacity::AddIndex(size_t index, HalfUnits units) {
  if (local_indexes.size() <= index) local_indexes.resize(index + 1, 0);
  local_indexes[index] += units;
}

void ConsumedCapacity::AddWrite(const partition::WriteOutcome& outcome) {
  table += WriteHalfUnits(std::max(outcome.old_size, outcome.new_size));
  for (size_t i = 0; i < outcome.index_write_units.size(); ++i) {
    if (outcome.index_write_units[i] != 0) {
      AddIndex(i, HalfUnits{2} * outcome.index_write_units[i]);
    }
  }
}

void WriteConsumedCapacity(CapacityDetail detail, std::string_view table_name,
                           const partition::TableSchema& schema, const ConsumedCapacity& consumed,
                           int always_index, std::string* out) {
  out->append("{\"TableName\":");
  model::WriteJsonString(table_name, out);
  out->append(",\"CapacityUnits\":");
  AppendHalfUnits(consumed.Total(), out);
  if (detail == CapacityDetail::kIndexes) {
    out->append(",\"Table\":");
    WriteUnits(consumed.table, out);
    bool first = true;
    for (size_t i = 0; i < schema.local_indexes.size(); ++i) {
      const HalfUnits units = i < consumed.local_indexes.size() ? consumed.local_indexes[i] : 0;
      if (units == 0 && static_cast<int>(i) != always_index) continue;
      out->append(first ? ",\"LocalSecondaryIndexes\":{" : ",");
      first = false;
      model::WriteJsonString(schema.local_indexes[i].name, out);
      out->push_back(':');
      WriteUnits(units, out);
    }
    if (!first) out->push_back('}');
  }
  out->push_back('}');
}

void WriteItemCollectionMetrics(const partition::TableSchema& schema, const model::ItemView& key,
                                uint64_t collection_bytes, std::string* out) {
  out->append("{\"ItemCollectionKey\":{");
  model::WriteJsonString(schema.partition_key.name, out);
  out->push_back(':');
  model::WriteValue(key.Find(schema.partition_key.name), out);
  const uint64_t lower = collection_bytes / kGigabyte;
  out->append("},\"SizeEstimateRangeGB\":[");
  out->append(std::to_string(lower)).append(".0,");
  out->append(std::to_string(lower + 1)).append(".0]}");
}

}  // namespace onggi::dynamodb
