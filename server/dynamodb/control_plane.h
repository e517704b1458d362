#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "common/clock.h"
#include "replication/metadata/metadata_store.h"
#include "server/dynamodb/catalog.h"
#include "server/dynamodb/operation.h"

namespace onggi::dynamodb {

/// A table that is created with this tag, of value 1, 3 or 5, gets so many replicas of each
/// partition. Ours, not the service's; without other nodes it says nothing.
inline constexpr std::string_view kReplicationTag = "onggi:replication";

struct ControlPlaneOptions {
  ControlPlaneOptions() {}
  /// Replicas of each partition of tables made from now on: 1, 3 or 5; 0: as the coordinator's
  /// default or the tag kReplicationTag says.
  uint32_t replication = 1;
  /// CreateTable answers (with status CREATING, as the service does) once the table can be used, if
  /// it takes no longer than this: applications that do not wait for ACTIVE, written against a
  /// local emulator, find it ready.
  std::chrono::milliseconds active_wait{0};
};

/// The operations on tables: they change table records in the metadata store by compare-and-swap.
/// What follows from a record (partitions, going from CREATING to ACTIVE, dropping a DELETING
/// table) is the coordinator's, which watches the same records.
///
/// Made by main before the Api; used from any thread; keeps no state of its own.
class ControlPlane {
 public:
  /// Everything given must outlive it. `catalog` is the one that requests are answered from.
  ControlPlane(metadata::MetadataStore& store, Catalog& catalog, TableStatistics& statistics,
               ControlPlaneOptions options = {}, Clock& clock = Clock::System());

  // Each as an Operation runs: input validated against the API model, answer appended to `body`.
  boost::asio::awaitable<Outcome> CreateTable(CallContext& context, Input input, std::string* body);
  boost::asio::awaitable<Outcome> UpdateTable(CallContext& context, Input input, std::string* body);
  boost::asio::awaitable<Outcome> DeleteTable(CallContext& context, Input input, std::string* body);
  boost::asio::awaitable<Outcome> DescribeTable(CallContext& context, Input input,
                                                std::string* body);
  boost::asio::awaitable<Outcome> TagResource(CallContext& context, Input input, std::string* body);
  boost::asio::awaitable<Outcome> UntagResource(CallContext& context, Input input,
                                                std::string* body);
  Outcome ListTables(CallContext& context, Input input, std::string* body);
  Outcome ListTagsOfResource(CallContext& context, Input input, std::string* body);
  Outcome DescribeLimits(CallContext& context, Input input, std::string* body);
  Outcome DescribeEndpoints(CallContext& context, Input input, std::string* body);
  Outcome DescribeTimeToLive(CallContext& context, Input input, std::string* body);
  Outcome DescribeContinuousBackups(CallContext& context, Input input, std::string* body);

 private:
  /// What a change of a record makes of it; an error leaves everything as it was.
  using Change = std::function<Outcome(proto::Table& record)>;

  /// Reads the table's record, changes it and writes it back, again where another writer came
  /// between. On success `*changed` is the record as committed.
  boost::asio::awaitable<Outcome> ChangeRecord(TableId id, std::string name, const Change& change,
                                               proto::Table* changed);
  /// Waits until the catalog shows the table ACTIVE, or active_wait has passed.
  boost::asio::awaitable<void> WaitUntilActive(const proto::Table& record);
  /// Gives the record an id and commits it under its name.
  boost::asio::awaitable<Outcome> CommitNew(proto::Table* record);
  /// Appends {"<member>": TableDescription}.
  boost::asio::awaitable<void> Describe(const CallContext& context, const proto::Table& record,
                                        std::string_view member, std::string* body);
  int64_t NowMs() const;

  metadata::MetadataStore& store_;
  Catalog& catalog_;
  TableStatistics& statistics_;
  const ControlPlaneOptions options_;
  Clock& clock_;
};

/// Adds the operations above. `control_plane` must outlive the table.
void RegisterControlOperations(ControlPlane& control_plane, OperationTable* operations);

/// CreateTable's rules beyond the API model, in the service's order. On success `*record` holds
/// what the request asks for; id, uuid, times, account and status are the caller's.
Outcome ReadCreateTable(Input input, const Scope& scope, proto::Table* record);

/// How many replicas the tag kReplicationTag, if there is one, says that the table is to have.
/// `configured` as ControlPlaneOptions::replication: not 0, and that stays.
Outcome ReadReplicationTag(uint32_t configured, proto::Table* record);

/// The rules of tags; appends them to `*record`, replacing those of the same key.
Outcome AddTags(simdjson::dom::array tags, proto::Table* record);

/// Reads SSESpecification into a description (empty: the default key, owned by the service).
Outcome ReadSse(Input sse, const Scope& scope, proto::SseDescription* description);

/// ReadCapacityUnits and WriteCapacityUnits within what the service accepts.
Outcome CheckThroughput(int64_t read_units, int64_t write_units);

/// Reads OnDemandThroughput and WarmThroughput where they are given.
Outcome ReadCapacityLimits(Input input, proto::Table* record);

inline constexpr int kMaxTags = 50;

}  // namespace onggi::dynamodb
