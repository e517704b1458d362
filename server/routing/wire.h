#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/proto/routing.pb.h"
#include "common/status.h"
#include "server/expression/condition.h"
#include "server/expression/update.h"
#include "server/partition/statistics.h"
#include "server/partition/write.h"
#include "server/routing/connection.h"
#include "server/routing/page.h"
#include "server/routing/route_map.h"

/// Requests and answers as messages, and back. What comes from a peer is checked before it is
/// looked into: kCorruption says what is wrong.
namespace onggi::routing {

/// `error` stays empty for Ok.
void ErrorToWire(const Status& status, proto::RoutedError* error);
Status ErrorFromWire(bool has_error, const proto::RoutedError& error);

/// Adds what is known of a partition's place to an error.
void AddHint(const Route& route, proto::RoutedError* error);

/// Tells the map what a replica of this node knows, which may be newer. True if it was news.
bool LearnFrom(const partition::Partition& partition, TableId table, RouteMap* map);

/// A write that has come from a peer, and all that its request borrows. Does not move.
class ReceivedWrite {
 public:
  /// Takes the message's contents.
  explicit ReceivedWrite(proto::RoutedWrite* message) { message_.Swap(message); }
  ReceivedWrite(const ReceivedWrite&) = delete;
  ReceivedWrite& operator=(const ReceivedWrite&) = delete;

  const proto::RoutedWrite& message() const { return message_; }
  /// Once.
  Status Decode(partition::WriteRequest* request);

 private:
  proto::RoutedWrite message_;
  std::optional<expression::Condition> condition_;
  std::optional<expression::Update> update_;
};

/// Moves the outcome's strings.
void OutcomeToWire(partition::WriteOutcome* outcome, proto::RoutedWriteResult* result);
Status OutcomeFromWire(proto::RoutedWriteResult* result, partition::WriteOutcome* outcome);

/// A page that a peer asks for, and all that its query points to.
class ReceivedPage {
 public:
  explicit ReceivedPage(proto::RoutedPage* message) { message_.Swap(message); }
  ReceivedPage(const ReceivedPage&) = delete;
  ReceivedPage& operator=(const ReceivedPage&) = delete;

  const proto::RoutedPage& message() const { return message_; }
  /// Everything but schema and deadline. Once.
  Status Decode(PageQuery* query);

 private:
  proto::RoutedPage message_;
  std::optional<expression::Condition> filter_;
  std::vector<std::string> attributes_;
};

void FiguresToWire(PartitionId partition, const partition::PartitionStatistics& statistics,
                   proto::PartitionFigures* figures);
partition::PartitionStatistics FiguresFromWire(const proto::PartitionFigures& figures);
/// Adds `one` to `sum`.
void AddFigures(const partition::PartitionStatistics& one, partition::PartitionStatistics* sum);

// -- Requests of ours. ------------------------------------------------------------------------

/// Reads an item.
class GetCall final : public PendingCall {
 public:
  TableId table;
  std::string_view key;
  bool consistent = false;

  // The answer.
  proto::RoutedGetResult result;

  size_t Size() const override { return key.size() + 48; }
  void AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) override;
  bool Take(proto::RoutedGetResult* answer) override {
    result.Swap(answer);
    return true;
  }
};

/// Writes an item.
class WriteCall final : public PendingCall {
 public:
  TableId table;
  const partition::WriteRequest* request = nullptr;
  std::string_view condition;  ///< encoded; meaningful where the request has one
  std::string_view update;

  // The answer.
  proto::RoutedWriteResult result;

  size_t Size() const override;
  void AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) override;
  bool Take(proto::RoutedWriteResult* answer) override {
    result.Swap(answer);
    return true;
  }
};

/// Reads what one partition has of a page.
class PageCall final : public PendingCall {
 public:
  const PageQuery* query = nullptr;
  std::string filter;  ///< encoded; meaningful where the query has one

  // The answer.
  proto::RoutedPageResult result;

  size_t Size() const override;
  void AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) override;
  bool Take(proto::RoutedPageResult* answer) override {
    result.Swap(answer);
    return true;
  }
};

/// Counts what partitions hold.
class FiguresCall final : public PendingCall {
 public:
  TableId table;
  std::vector<PartitionId> partitions;

  // The answer.
  proto::RoutedFiguresResult result;

  size_t Size() const override { return partitions.size() * 10 + 32; }
  void AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) override;
  bool Take(proto::RoutedFiguresResult* answer) override {
    result.Swap(answer);
    return true;
  }
};

}  // namespace onggi::routing
