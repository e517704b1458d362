#include "replication/replica/configuration_store.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include "common/varint.h"
#include "replication/group/record.h"
#include "replication/metadata/keys.h"

namespace onggi::replica {

namespace {

std::string EncodeKnown(PartitionId partition, const group::Configuration& configuration,
                        Revision revision) {
  std::string value;
  for (int i = 0; i < 8; ++i) value.push_back(static_cast<char>(revision.value >> (8 * i)));
  value += group::Encode(TableId(), partition, configuration);
  return value;
}

Result<ConfigurationStore::Known> DecodeKnown(std::string_view value) {
  if (value.size() < 8) return Corruption("a replica's configuration is cut short");
  ConfigurationStore::Known known;
  for (int i = 0; i < 8; ++i) {
    known.revision.value |= uint64_t{static_cast<unsigned char>(value[i])} << (8 * i);
  }
  ASSIGN_OR_RETURN(const proto::PartitionConfig record, group::ParseRecord(value.substr(8)));
  known.configuration = group::FromRecord(record);
  return known;
}

}  // namespace

class DiskConfigurationStore::Impl {
 public:
  std::unique_ptr<metadata::EmbeddedStore> store;
  mutable std::mutex mutex;
  std::map<PartitionId, Known> durable;  // guarded by mutex
};

DiskConfigurationStore::DiskConfigurationStore(std::shared_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

DiskConfigurationStore::~DiskConfigurationStore() { Close(); }

Result<std::unique_ptr<DiskConfigurationStore>> DiskConfigurationStore::Open(
    const std::string& directory) {
  auto impl = std::make_shared<Impl>();
  metadata::EmbeddedOptions options(directory);
  options.max_pending = 100'000;
  options.max_history_events = 0;
  // What is written is small, replaces itself, and stands between a full disk and a failover.
  options.reserve_bytes = 0;
  ASSIGN_OR_RETURN(impl->store, metadata::EmbeddedStore::Open(std::move(options)));
  Status status;
  std::mutex mutex;
  std::condition_variable answered;
  bool done = false;
  impl->store->AsyncRange("", "", 0, [&](const Result<metadata::RangeResult>& result) {
    std::lock_guard lock(mutex);
    status = result.status();
    if (result.ok()) {
      for (const metadata::KeyValue& kv : result->kvs) {
        const auto id = metadata::keys::ParseId(kv.key);
        Result<Known> known = DecodeKnown(kv.value);
        if (!id.has_value() || !known.ok()) {
          status = Corruption(directory + ": the record " + kv.key + " cannot be read");
          break;
        }
        impl->durable[PartitionId(*id)] = *std::move(known);
      }
    }
    done = true;
    answered.notify_one();
  });
  std::unique_lock lock(mutex);
  answered.wait(lock, [&] { return done; });
  RETURN_IF_ERROR(status);
  return std::unique_ptr<DiskConfigurationStore>(new DiskConfigurationStore(std::move(impl)));
}

void DiskConfigurationStore::Close() {
  if (impl_->store != nullptr) impl_->store->Close();
}

std::optional<ConfigurationStore::Known> DiskConfigurationStore::Find(PartitionId partition) const {
  std::lock_guard lock(impl_->mutex);
  const auto found = impl_->durable.find(partition);
  if (found == impl_->durable.end()) return std::nullopt;
  return found->second;
}

void DiskConfigurationStore::AsyncPut(PartitionId partition,
                                      const group::Configuration& configuration, Revision revision,
                                      std::function<void(Status)> done) {
  metadata::Transaction transaction;
  transaction.puts.push_back(
      {metadata::keys::FormatId(partition.value), EncodeKnown(partition, configuration, revision)});
  impl_->store->AsyncCommit(
      std::move(transaction),
      [impl = impl_, partition, known = Known{configuration, revision},
       done = std::move(done)](const Result<metadata::TransactionResult>& result) {
        if (result.ok()) {
          std::lock_guard lock(impl->mutex);
          Known& durable = impl->durable[partition];
          if (known.revision >= durable.revision) durable = known;
        }
        done(result.status());
      });
}

void DiskConfigurationStore::AsyncRemove(PartitionId partition) {
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->durable.erase(partition) == 0) return;
  }
  metadata::Transaction transaction;
  transaction.deletes.push_back(metadata::keys::FormatId(partition.value));
  impl_->store->AsyncCommit(std::move(transaction),
                            [](const Result<metadata::TransactionResult>&) {});
}

}  // namespace onggi::replica
