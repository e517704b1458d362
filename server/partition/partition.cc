#include "server/partition/partition.h"

#include <filesystem>

#include "common/log.h"
#include "common/varint.h"
#include "server/partition/effects.h"

namespace onggi::partition {
namespace {

/// What is left to do for a partition that nobody refers to.
struct Closing {
  std::unique_ptr<storage::PartitionStore> store;
  std::string directory;  ///< to remove; empty: it stays
  PartitionId id;

  void Run() {
    store.reset();
    if (directory.empty()) return;
    std::error_code error;
    std::filesystem::remove_all(directory, error);
    if (error) {
      log::Warn("cannot remove a dropped partition's files", "partition", id, "error",
                error.message());
    }
  }
};

std::string Prefixed(char space, std::string_view key) {
  std::string out;
  out.reserve(key.size() + 1);
  out.push_back(space);
  out.append(key);
  return out;
}

}  // namespace

bool Cursor::Valid() const { return it_->Valid(); }
void Cursor::Next() { it_->Next(); }
std::string_view Cursor::key() const { return it_->key().substr(1); }
model::ItemView Cursor::item() const { return model::ItemView(it_->value()); }
Status Cursor::status() const { return it_->status(); }

Partition::Partition(const PartitionEnvironment& environment, Executor home,
                     std::shared_ptr<const TableSchema> schema, proto::PartitionConfig config,
                     Revision config_revision)
    : environment_(environment),
      home_(std::move(home)),
      id_(config.partition()),
      schema_(std::move(schema)),
      config_(std::move(config)),
      config_revision_(config_revision) {
  statistics_.local_indexes.resize(schema_->local_indexes.size());
}

Partition::~Partition() {
  CHECK(in_flight_.empty() || !serving_.load());
  // Closing and unlinking may take a while, and the last reference may fall on an I/O thread.
  // Shared, because a function object is copied: no copy may keep the store open behind the
  // removal.
  auto closing = std::make_shared<Closing>();
  closing->store = std::move(store_);
  closing->id = id_;
  if (remove_files_.load()) closing->directory = Directory();
  if (!environment_.blocking->TrySubmit([closing] { closing->Run(); })) closing->Run();
}

std::string Partition::Directory() const {
  return environment_.partitions_directory + "/" + id_.ToString();
}

Status Partition::Get(std::string_view key, bool consistent, PinnedItem* item) const {
  if (consistent && !serving_.load(std::memory_order_acquire)) {
    return {Code::kNotPrimary, "the partition is not served here now"};
  }
  // Per thread: the store key is the item's key behind one byte.
  thread_local std::string store_key;
  store_key.assign(1, kItemSpace);
  store_key.append(key);
  Result<bool> found = store_->Get(store_key, &item->value_);
  if (!found.ok()) return found.status();
  item->found_ = *found;
  return Status::Ok();
}

Result<std::unique_ptr<Cursor>> Partition::NewCursor(KeySpace space, std::string_view lower,
                                                     std::string_view upper, bool reverse,
                                                     bool consistent, bool fill_cache) const {
  if (consistent && !serving_.load(std::memory_order_acquire)) {
    return Status(Code::kNotPrimary, "the partition is not served here now");
  }
  const char prefix = space.index < 0
                          ? kItemSpace
                          : static_cast<char>(kLocalIndexSpace + static_cast<char>(space.index));
  const std::string from = Prefixed(prefix, lower);
  const std::string to =
      upper.empty() ? std::string(1, static_cast<char>(prefix + 1)) : Prefixed(prefix, upper);
  return std::unique_ptr<Cursor>(
      new Cursor(shared_from_this(), store_->NewIterator(from, to, reverse, fill_cache)));
}

PartitionStatistics Partition::statistics() const {
  std::lock_guard lock(statistics_mutex_);
  return statistics_;
}

Result<uint64_t> Partition::CollectionBytes(std::string_view collection_prefix) const {
  storage::PinnedValue value;
  ASSIGN_OR_RETURN(const bool found,
                   store_->Get(Prefixed(kCollectionSpace, collection_prefix), &value));
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

Status Partition::FlushNow() {
  RETURN_IF_ERROR(store_->Flush(/*wait=*/true));
  // Not left to the flush's event: there is none when everything had reached the disk already.
  TruncateLog();
  return Status::Ok();
}

}  // namespace onggi::partition
