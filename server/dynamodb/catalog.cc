#include "server/dynamodb/catalog.h"

#include <mutex>

#include "common/check.h"
#include "server/dynamodb/operation.h"
#include "server/dynamodb/schema.h"

namespace onggi::dynamodb {
namespace {

/// "<account>/<name>" in a buffer that the thread keeps: no allocation on the hot path.
std::string_view KeyOf(std::string_view account, std::string_view name) {
  thread_local std::string key;
  key.assign(account).append("/").append(name);
  return key;
}

}  // namespace

std::string MakeTableArn(std::string_view region, std::string_view account_id,
                         std::string_view name) {
  std::string arn = "arn:aws:dynamodb:";
  arn.append(region).append(":").append(account_id).append(":table/").append(name);
  return arn;
}

std::shared_ptr<const Table> Catalog::Find(std::string_view account, std::string_view name) const {
  const std::string_view key = KeyOf(account, name);
  const Shard& shard = ShardOf(key);
  std::shared_lock lock(shard.mutex);
  const auto it = shard.tables.find(key);
  return it == shard.tables.end() ? nullptr : it->second;
}

std::vector<std::string> Catalog::List(std::string_view account, std::string_view after,
                                       size_t limit) const {
  std::vector<std::string> names;
  std::shared_lock lock(mutex_);
  const auto it = names_.find(account);
  if (it == names_.end()) return names;
  for (auto name = it->second.upper_bound(std::string(after));
       name != it->second.end() && names.size() < limit; ++name) {
    names.push_back(*name);
  }
  return names;
}

size_t Catalog::size() const {
  std::shared_lock lock(mutex_);
  return known_.size();
}

void Catalog::PutLocked(const proto::Table& record, Revision revision) {
  const TableId id(record.id());
  auto [known, is_new] = known_.try_emplace(id);
  if (is_new) {
    known->second.account = record.account();
    known->second.name = record.name();
    names_[record.account()].insert(record.name());
  } else if (revision <= known->second.revision) {
    return;
  }
  known->second.revision = revision;
  auto table = std::make_shared<Table>();
  table->record = record;
  table->schema = partition::TableSchema::FromRecord(record);
  table->arn = MakeTableArn(record.region(), account_id_, record.name());
  const std::string_view key = KeyOf(record.account(), record.name());
  Shard& shard = ShardOf(key);
  std::unique_lock lock(shard.mutex);
  shard.tables.insert_or_assign(std::string(key), std::move(table));
}

void Catalog::RemoveLocked(std::unordered_map<TableId, Known>::iterator it) {
  const TableId id = it->first;
  const std::string_view key = KeyOf(it->second.account, it->second.name);
  Shard& shard = ShardOf(key);
  {
    std::unique_lock lock(shard.mutex);
    const auto entry = shard.tables.find(key);
    // The name may belong to a younger table by now.
    if (entry != shard.tables.end() && entry->second->id() == id) {
      shard.tables.erase(entry);
      const auto names = names_.find(it->second.account);
      if (names != names_.end()) {
        names->second.erase(it->second.name);
        if (names->second.empty()) names_.erase(names);
      }
    }
  }
  known_.erase(it);
}

void Catalog::PutWatched(const proto::Table& record, Revision revision) {
  std::unique_lock lock(mutex_);
  PutLocked(record, revision);
}

void Catalog::RemoveWatched(TableId id, Revision revision) {
  std::unique_lock lock(mutex_);
  const auto it = known_.find(id);
  if (it != known_.end() && it->second.revision < revision) RemoveLocked(it);
}

void Catalog::SetWatched(Revision revision) {
  std::unique_lock lock(mutex_);
  if (watched_ < revision) watched_ = revision;
}

void Catalog::Reset(const std::vector<std::pair<proto::Table, Revision>>& records,
                    Revision revision) {
  std::unique_lock lock(mutex_);
  std::set<TableId> present;
  for (const auto& [record, written] : records) present.insert(TableId(record.id()));
  for (auto it = known_.begin(); it != known_.end();) {
    const auto next = std::next(it);
    // What is newer than this state of the store was committed by this process: it stays.
    if (!present.contains(it->first) && it->second.revision <= revision) RemoveLocked(it);
    it = next;
  }
  for (const auto& [record, written] : records) PutLocked(record, written);
  if (watched_ < revision) watched_ = revision;
}

void Catalog::PutCommitted(const proto::Table& record, Revision revision) {
  std::unique_lock lock(mutex_);
  // The watch has passed this revision: it has delivered the record, and perhaps its removal.
  if (revision <= watched_) return;
  PutLocked(record, revision);
}

namespace {

/// The table's name of a name or an ARN. An ARN of another region is nobody's table where accounts
/// are isolated by region.
Outcome NameOf(const CallContext& context, std::string_view name_or_arn, std::string_view* name) {
  if (!name_or_arn.starts_with("arn:")) {
    *name = name_or_arn;
    return {};
  }
  TableArn arn;
  if (!ParseTableArn(name_or_arn, &arn) || !arn.rest.empty()) {
    return ValidationError("Invalid TableArn: Invalid ResourceArn provided as input " +
                           std::string(name_or_arn));
  }
  const bool isolated = context.scope->account != "default";
  if (isolated && arn.region != context.scope->region) return TableNotFoundForData();
  *name = arn.table;
  return {};
}

}  // namespace

Outcome FindTableForData(const CallContext& context, std::string_view name_or_arn,
                         std::shared_ptr<const Table>* table) {
  std::string_view name;
  if (Outcome outcome = NameOf(context, name_or_arn, &name); !outcome.ok()) return outcome;
  *table = context.catalog->Find(context.scope->account, name);
  if (*table == nullptr || !(*table)->Usable()) return TableNotFoundForData();
  return {};
}

Outcome FindTableForControl(const CallContext& context, std::string_view name_or_arn,
                            std::shared_ptr<const Table>* table) {
  std::string_view name;
  if (Outcome outcome = NameOf(context, name_or_arn, &name); !outcome.ok()) {
    if (outcome.error().type != ErrorType::kResourceNotFound) return outcome;
    return TableNotFoundForControl(name_or_arn);
  }
  *table = context.catalog->Find(context.scope->account, name);
  if (*table == nullptr) return TableNotFoundForControl(name);
  return {};
}

}  // namespace onggi::dynamodb
