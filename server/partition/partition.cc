#include "server/partition/partition.h"

#include <utility>

#include "common/log.h"
#include "common/varint.h"
#include "replication/group/record.h"
#include "server/partition/effects.h"
#include "server/partition/replica_files.h"

namespace onggi::partition {
namespace {

constexpr char kNotServed[] = "the partition is not served here now";
constexpr char kNotHeld[] = "the partition does not hold the key";

/// What is left to do for a partition that nobody refers to.
struct Closing {
  storage::Files files;
  std::vector<std::unique_ptr<storage::PartitionStore>> stores;
  std::string directory;  ///< to remove; empty: it stays
  std::string parent;
  PartitionId id;
  ReplicaId replica;
  std::shared_ptr<News> closed;

  void Run() {
    stores.clear();
    Status removed;
    if (!directory.empty()) {
      removed = RemoveReplica(files, directory, replica);
    } else if (!parent.empty()) {
      removed = RemoveOldStores(files, parent);
    }
    if (!removed.ok()) {
      log::Warn("cannot remove a partition's files", "partition", id, "status", removed);
    }
    if (closed != nullptr) closed->Tell();
  }
};

/// As the service counts: 4 KB, half of it for eventual consistency. Stored bytes stand for billed.
double ReadUnits(size_t bytes, bool consistent) {
  const double units = std::max<double>(1, static_cast<double>((bytes + 4095) / 4096));
  return consistent ? units : units / 2;
}

std::string Prefixed(char space, std::string_view key) {
  std::string out;
  out.reserve(key.size() + 1);
  out.push_back(space);
  out.append(key);
  return out;
}

}  // namespace

Cursor::~Cursor() {
  if (bytes_ > 0) partition_->load().OnRead({}, ReadUnits(bytes_, consistent_));
}

bool Cursor::Valid() const { return it_->Valid(); }
void Cursor::Next() {
  bytes_ += it_->value().size();
  it_->Next();
}
std::string_view Cursor::key() const { return it_->key().substr(1); }
model::ItemView Cursor::item() const { return model::ItemView(it_->value()); }
Status Cursor::status() const { return it_->status(); }

Partition::Partition(const PartitionEnvironment& environment, PartitionPlace place,
                     std::shared_ptr<const TableSchema> schema, proto::PartitionConfig config,
                     Revision config_revision)
    : environment_(environment),
      place_(std::move(place)),
      home_(place_.home->executor()),
      id_(config.partition()),
      schema_(std::move(schema)),
      config_(std::move(config)),
      config_revision_(config_revision),
      waiter_(place_.home.get()) {
  statistics_.local_indexes.resize(schema_->local_indexes.size());
  auto known = std::make_shared<KnownConfiguration>();
  known->configuration = group::FromRecord(config_);
  known->revision = config_revision_;
  SetRange(known->configuration);
  configuration_ = std::move(known);
}

Partition::~Partition() {
  CHECK(in_flight_.empty() || !serving_.load());
  // Closing and unlinking may take a while, and the last reference may fall on an I/O thread.
  // Shared, because a function object is copied: no copy may keep the store open behind the
  // removal.
  auto closing = std::make_shared<Closing>();
  const bool replaced = stores_.size() > 1;
  closing->files = environment_.storage->files();
  closing->stores = std::move(stores_);
  closing->id = id_;
  closing->replica = place_.replica;
  closing->closed = place_.closed;
  if (remove_files_.load()) closing->directory = Directory();
  if (replaced) closing->parent = Directory();
  if (!place_.home->Block([closing] { closing->Run(); })) closing->Run();
}

std::string Partition::Directory() const {
  return environment_.partitions_directory + "/" + id_.ToString();
}

std::shared_ptr<const KnownConfiguration> Partition::configuration() const {
  std::lock_guard lock(configuration_mutex_);
  return configuration_;
}

replica::PrimaryHint Partition::primary_hint() const {
  const auto known = configuration();
  return {known->configuration.primary.node, known->configuration.epoch};
}

/// What the configuration gives it, less what a split that is applied is about to take. Home only:
/// ranges_ has one writer.
void Partition::SetRange(const group::Configuration& configuration) {
  Range range{configuration.range_start, configuration.range_end};
  if (split_.has_value() && split_->key > range.start && range.Holds(split_->key)) {
    range.end = split_->key;
  }
  // What a merge brings is served once both key and log say so.
  if (absorb_.has_value() && absorb_->start > range.start && range.Holds(absorb_->start)) {
    range.end = absorb_->start;
  }
  const Range* const now = range_.load(std::memory_order_relaxed);
  if (now != nullptr && now->start == range.start && now->end == range.end) return;
  ranges_.push_back(std::make_unique<const Range>(std::move(range)));
  range_.store(ranges_.back().get(), std::memory_order_release);
}

bool Partition::ServesStrongReads() const {
  return serving_.load(std::memory_order_acquire) && replica_->ServesStrongReads() &&
         frozen_at_.load(std::memory_order_acquire) == 0;
}

bool Partition::ServesReads(bool consistent) const {
  if (consistent) return ServesStrongReads();
  return readable_.load(std::memory_order_relaxed) &&
         applied_index_.load(std::memory_order_relaxed) >=
             unknown_until_.load(std::memory_order_relaxed);
}

Status Partition::Get(std::string_view key, bool consistent, PinnedItem* item) const {
  const Range* const range = range_.load(std::memory_order_acquire);
  if (!range->Holds(key)) return {Code::kNotPrimary, kNotHeld};
  if (!ServesReads(consistent)) {
    return {Code::kNotPrimary, kNotServed};
  }
  // Per thread: the store key is the item's key behind one byte.
  thread_local std::string store_key;
  store_key.assign(1, kItemSpace);
  store_key.append(key);
  Result<bool> found = store().Get(store_key, &item->value_);
  if (!found.ok()) return found.status();
  item->found_ = *found;
  load_.OnRead(key, ReadUnits(item->value_.view().size(), consistent));
  // What a split gives away is removed only after the range has shrunk.
  if (range_.load(std::memory_order_acquire) != range) return {Code::kNotPrimary, kNotHeld};
  return Status::Ok();
}

Result<std::unique_ptr<Cursor>> Partition::NewCursor(KeySpace space, std::string_view lower,
                                                     std::string_view upper, bool reverse,
                                                     bool consistent, bool fill_cache) const {
  const Range* const range = range_.load(std::memory_order_acquire);
  if (!range->HoldsBounds(lower, upper)) return Status(Code::kNotPrimary, kNotHeld);
  if (!ServesReads(consistent)) {
    return Status(Code::kNotPrimary, kNotServed);
  }
  const char prefix = space.index < 0
                          ? kItemSpace
                          : static_cast<char>(kLocalIndexSpace + static_cast<char>(space.index));
  const StoreRange bounds = StoreRange::Of(prefix, lower, upper);
  auto cursor = std::unique_ptr<Cursor>(
      new Cursor(shared_from_this(),
                 store().NewIterator(bounds.from, bounds.to, reverse, fill_cache), consistent));
  if (range_.load(std::memory_order_acquire) != range) return Status(Code::kNotPrimary, kNotHeld);
  return cursor;
}

PartitionStatistics Partition::statistics() const {
  std::lock_guard lock(statistics_mutex_);
  return statistics_;
}

Result<uint64_t> Partition::CollectionBytes(std::string_view collection_prefix) const {
  storage::PinnedValue value;
  ASSIGN_OR_RETURN(const bool found,
                   store().Get(Prefixed(kCollectionSpace, collection_prefix), &value));
  if (!found) return uint64_t{0};
  std::string_view bytes = value.view();
  uint64_t size;
  if (!ReadVarint(&bytes, &size)) return Corruption("collection size: malformed");
  return size;
}

Status Partition::Flush() {
  if (flushing_.exchange(true)) return Status::Ok();
  Status status = FlushNow();
  flushing_.store(false);
  return status;
}

Status Partition::WriteAhead() { return store().Flush(/*wait=*/true); }

Status Partition::FlushNow() {
  RETURN_IF_ERROR(store().Flush(/*wait=*/true));
  // Not left to the flush's event: there is none when everything had reached the disk already.
  NewsOfFlush(/*force=*/true);
  return Status::Ok();
}

}  // namespace onggi::partition
