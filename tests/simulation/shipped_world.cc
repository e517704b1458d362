#include "tests/simulation/shipped_world.h"

#include <rocksdb/db.h>

#include <map>
#include <set>
#include <utility>

#include "common/check.h"
#include "common/proto/catalog.pb.h"
#include "common/varint.h"
#include "server/model/attribute_value.h"
#include "server/model/key.h"
#include "server/partition/effects.h"
#include "server/partition/local_index.h"

namespace onggi::simulation {

namespace {

using model::AttributeValue;

/// The hash that keys begin with.
constexpr size_t kHashBytes = 8;

std::string Encode(std::string_view name, std::string_view sort) {
  return model::EncodeItem(
      {{"p", AttributeValue::String(name)}, {"s", AttributeValue::String(sort)}});
}

}  // namespace

ShippedWorld::ShippedWorld() {
  storage::StorageOptions options;
  options.memory_bytes = size_t{64} << 20;
  options.env = &env_;
  storage_ = std::make_unique<storage::StorageEnvironment>(options);
  proto::Table table;
  table.set_id(1);
  table.set_name("t");
  table.mutable_partition_key()->set_name("p");
  table.mutable_partition_key()->set_type("S");
  table.mutable_sort_key()->set_name("s");
  table.mutable_sort_key()->set_type("S");
  proto::LocalIndex* const index = table.add_local_indexes();
  index->set_name("by-value");
  index->mutable_sort_key()->set_name("v");
  index->mutable_sort_key()->set_type("N");
  index->mutable_projection()->set_type("KEYS_ONLY");
  schema_ = partition::TableSchema::FromRecord(table);
}

ShippedWorld::~ShippedWorld() { CHECK(storage_->write_buffers()->memory_usage() == 0); }

std::string ShippedWorld::KeyOf(const std::string& name) {
  const std::string item = Encode(name, "a");
  const model::ItemView view(item);
  return model::EncodeKey(view.Find("p"), view.Find("s"));
}

std::string ShippedWorld::NameOf(std::string_view key) {
  std::string name;
  for (const char c : key.substr(std::min(key.size(), kHashBytes))) {
    if (c < ' ') break;
    name.push_back(c);
  }
  return name;
}

std::string ShippedWorld::CutBefore(std::string_view key) {
  std::string prefix;
  const std::string item = ItemKey(key, "a");
  model::AppendCollectionPrefix(model::ItemView(item).Find("p"), &prefix);
  return prefix;
}

std::string ShippedWorld::ItemKey(std::string_view key, std::string_view sort) {
  return Encode(NameOf(key), sort);
}

std::optional<Version> ShippedWorld::VersionOf(const model::ItemView& item) {
  if (item.Find("s").AsString() != "a") return std::nullopt;
  return Version{std::stoull(item.Find("n").AsNumber().ToString()),
                 std::stoull(item.Find("v").AsNumber().ToString())};
}

Result<std::map<std::string, std::string>> ShippedWorld::Dump(const std::string& store) {
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::OpenForReadOnly(storage_->MakeOptions(), store, &opened);
  const std::unique_ptr<rocksdb::DB> db(opened);
  if (!status.ok()) return Corruption(store + ": " + status.ToString());
  std::map<std::string, std::string> content;
  const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(rocksdb::ReadOptions()));
  for (it->SeekToFirst(); it->Valid(); it->Next())
    content[it->key().ToString()] = it->value().ToString();
  if (!it->status().ok()) return Corruption(store + ": " + it->status().ToString());
  return content;
}

Status ShippedWorld::CheckDump(const std::map<std::string, std::string>& dump) {
  std::map<std::string, std::string> entries, wanted;
  std::map<std::string, uint64_t> collections, counted;
  uint64_t items = 0, bytes = 0;
  std::optional<partition::AppliedState> state;
  for (const auto& [key, value] : dump) {
    const std::string rest = key.substr(1);
    switch (key[0]) {
      case partition::kItemSpace: {
        const model::ItemView item(value);
        RETURN_IF_ERROR(model::ValidateItem(value));
        if (model::EncodeKey(item.Find("p"), item.Find("s")) != rest)
          return Corruption("an item under another's key");
        ++items;
        bytes += item.BilledSize();
        std::string prefix;
        model::AppendCollectionPrefix(item.Find("p"), &prefix);
        counted[prefix] += item.BilledSize();
        const auto entry =
            partition::MakeLocalIndexEntry(*schema_, schema_->local_indexes[0], item);
        if (!entry.exists) break;
        wanted[entry.key] = entry.value;
        counted[prefix] += entry.billed_size;
        break;
      }
      case partition::kCollectionSpace: {
        std::string_view in(value);
        if (!ReadVarint(&in, &collections[rest])) return Corruption("a collection's size");
        break;
      }
      case partition::kLocalIndexSpace: entries[rest] = value; break;
      default:
        if (key == partition::kAppliedKey) {
          ASSIGN_OR_RETURN(state, partition::AppliedState::Decode(value));
        }
    }
  }
  if (entries != wanted) {
    return Corruption("the local index has " + std::to_string(entries.size()) + " entries, of " +
                      std::to_string(wanted.size()));
  }
  if (collections != counted) return Corruption("sizes of collections are wrong");
  if (!state) return Corruption("no applied state");
  const partition::PartitionStatistics& figures = state->statistics;
  if (figures.estimated) return Status::Ok();
  if (figures.item_count != items || figures.item_bytes != bytes) {
    return Corruption("the figures say " + std::to_string(figures.item_count) + " items, " +
                      std::to_string(figures.item_bytes) + " bytes; there are " +
                      std::to_string(items) + ", " + std::to_string(bytes));
  }
  return Status::Ok();
}

}  // namespace onggi::simulation
