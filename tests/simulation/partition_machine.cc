#include "tests/simulation/partition_machine.h"

#include <boost/asio/co_spawn.hpp>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include "replication/group/record.h"
#include "server/expression/expression.h"
#include "server/model/attribute_value.h"
#include "server/model/key.h"
#include "tests/simulation/cluster.h"
#include "tests/simulation/process.h"

namespace onggi::simulation {

namespace asio = boost::asio;

namespace {

constexpr TableId kTable{1};
/// All clients are one process, which outlives every node.
constexpr uint64_t kClientBoot = 1;
/// How long a merge may take before its left side gives it up.
constexpr Time kMerge = seconds(3);

std::string Number(uint64_t value) {
  return model::AttributeValue::Of(model::Number::FromInt(static_cast<int64_t>(value))).Encode();
}

/// A write and all that it borrows.
struct Writing {
  std::vector<partition::WriteTask> tasks{1};
  std::string key;
  std::string item;
  std::optional<expression::Update> update;
  std::optional<expression::Condition> condition;
};

std::shared_ptr<Writing> Make(const Request& request) {
  using Kind = partition::WriteRequest::Kind;
  auto writing = std::make_shared<Writing>();
  partition::WriteRequest& out = writing->tasks[0].request;
  out.id = {kClientBoot, request.value};
  const bool beside =
      request.kind == Request::Kind::kPutBeside || request.kind == Request::Kind::kDeleteBeside;
  writing->item = ShippedWorld::ItemKey(request.key, beside ? "b" : "a");
  const model::ItemView keys(writing->item);
  writing->key = model::EncodeKey(keys.Find("p"), keys.Find("s"));
  if (request.kind == Request::Kind::kPutBeside) {
    writing->item = model::EncodeItem(
        {{"p", model::AttributeValue(keys.Find("p"))},
         {"s", model::AttributeValue(keys.Find("s"))},
         {"v", model::AttributeValue(model::AttributeValue::Encoded{Number(request.value)})}});
    out.kind = Kind::kPut;
  } else if (request.kind == Request::Kind::kDeleteBeside) {
    out.kind = Kind::kDelete;
  } else {
    out.kind = Kind::kUpdate;
    expression::Placeholders placeholders;
    placeholders.AddValue(":v", Number(request.value));
    placeholders.AddValue(":one", Number(1));
    placeholders.AddValue(":expected", Number(request.expected));
    auto update = expression::ParseUpdate("SET v = :v ADD n :one", &placeholders);
    CHECK_MSG(update.ok(), update.status().ToString());
    writing->update.emplace(*std::move(update));
    out.update = &*writing->update;
    out.want_new = true;
    if (request.kind == Request::Kind::kConditional) {
      auto condition = expression::ParseCondition(
          request.expected == 0 ? "attribute_not_exists(n)" : "n = :expected",
          "ConditionExpression", &placeholders);
      CHECK_MSG(condition.ok(), condition.status().ToString());
      writing->condition.emplace(*std::move(condition));
      out.condition = &*writing->condition;
      out.want_old = true;
    }
  }
  out.key = writing->key;
  out.item = model::ItemView(writing->item);
  return writing;
}

asio::awaitable<void> Run(std::shared_ptr<Writing> writing) {
  const std::span<partition::WriteTask> tasks(writing->tasks);
  co_await partition::Execute(tasks);
}

asio::awaitable<Status> Open(std::shared_ptr<partition::Partition> partition) {
  co_return co_await partition->Start();
}

Version VersionIn(const std::string& item) {
  if (item.empty()) return {};
  return ShippedWorld::VersionOf(model::ItemView(item)).value_or(Version());
}

}  // namespace

PartitionMachine::PartitionMachine(Process* process,
                                   const partition::PartitionEnvironment& environment,
                                   partition::PartitionPlace place,
                                   std::shared_ptr<const partition::TableSchema> schema,
                                   PartitionId id, const group::Configuration& configuration,
                                   Revision revision)
    : Machine(place.replica), process_(process), home_(place.home) {
  proto::PartitionConfig record;
  record.set_table(kTable.value);
  record.set_partition(id.value);
  group::ToRecord(configuration, &record);
  partition_ = std::make_shared<partition::Partition>(environment, std::move(place),
                                                      std::move(schema), record, revision);
}

void PartitionMachine::Start(asio::io_context* io) {
  io_ = io;
  asio::co_spawn(*io, Open(partition_),
                 [process = process_, id = partition_->id(), replica = replica_id()](
                     std::exception_ptr failed, const Status& status) {
                   CHECK(failed == nullptr);
                   if (process->alive()) process->OnStarted(id, replica, status);
                 });
}

// Requests. ---------------------------------------------------------------------------------------

bool PartitionMachine::Serves(const std::string& key) const {
  if (removed_) return false;
  return InRange(key, std::string(partition_->range_start()), std::string(partition_->range_end()));
}

void PartitionMachine::Write(const Request& request, Done done) {
  const std::shared_ptr<Writing> writing = Make(request);
  writing->tasks[0].partition = partition_;
  const auto answer = [process = process_, id = partition_->id(), request, writing,
                       done = std::move(done)](std::exception_ptr failed) {
    CHECK(failed == nullptr);
    // What a process said as it died, nobody heard.
    if (!process->alive()) return;
    const partition::WriteOutcome& outcome = writing->tasks[0].outcome;
    process->Observe(id);
    switch (outcome.status.code()) {
      case Code::kOk: {
        const Version now = VersionIn(outcome.new_item);
        return done(Outcome::kOk, now.version, request.value);
      }
      case Code::kConditionFailed: {
        const Version seen = VersionIn(outcome.old_item);
        return done(Outcome::kFailed, seen.version, seen.value);
      }
      case Code::kUnknownOutcome: return done(Outcome::kUnknown, 0, 0);
      case Code::kNotPrimary:
      case Code::kUnavailable:
      case Code::kOutOfSpace:
      case Code::kResourceExhausted: return done(Outcome::kRefused, 0, 0);
      default:
        if (process->MayFail(outcome.status)) return done(Outcome::kUnknown, 0, 0);
        process->truth().Fail("a write to " + ShippedWorld::NameOf(request.key) + ": " +
                              outcome.status.ToString());
    }
  };
  asio::co_spawn(*io_, Run(writing), answer);
}

std::optional<Version> PartitionMachine::StrongRead(const std::string& key) const {
  partition::PinnedItem item;
  const Status status = partition_->Get(key, /*consistent=*/true, &item);
  if (status.code() == Code::kNotPrimary || process_->MayFail(status)) return std::nullopt;
  if (!status.ok()) {
    process_->truth().Fail("a read of " + ShippedWorld::NameOf(key) + ": " + status.ToString());
    return std::nullopt;
  }
  if (!item.found()) return Version();
  return ShippedWorld::VersionOf(item.item());
}

std::optional<PartitionMachine::Held> PartitionMachine::Hold() const {
  Held held;
  held.start = partition_->range_start();
  held.end = partition_->range_end();
  held.hash = 14695981039346656037ull;
  const auto mix = [&](std::string_view bytes) {
    for (const char c : bytes) {
      held.hash = (held.hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
    }
    held.hash ^= held.hash >> 29;
  };
  for (const partition::KeySpace space :
       {partition::KeySpace::Items(), partition::KeySpace::LocalIndex(0)}) {
    const auto cursor = partition_->NewCursor(space, held.start, held.end, /*reverse=*/false,
                                              /*consistent=*/false, /*fill_cache=*/true);
    if (!cursor.ok()) return std::nullopt;
    for (; (*cursor)->Valid(); (*cursor)->Next()) {
      mix((*cursor)->key());
      mix((*cursor)->item().encoded());
    }
    if (!(*cursor)->status().ok()) return std::nullopt;
  }
  return held;
}

// Changes of shape. -------------------------------------------------------------------------------

void PartitionMachine::Split(const std::string& key, PartitionId child,
                             std::map<NodeId, ReplicaId> replicas) {
  partition::SplitRecord record;
  record.key = key;
  record.child = child;
  const auto known = partition_->configuration();
  for (const auto* members : {&known->configuration.in_sync, &known->configuration.learners}) {
    for (const group::Member& member : *members) {
      const auto replica = replicas.find(member.node);
      if (replica == replicas.end()) return;
      record.child_replicas[member] = replica->second;
    }
  }
  const Status proposed = partition_->ProposeSplit(std::move(record));
  process_->Say("partition " + partition_->id().ToString() +
                ": split is asked for: " + proposed.ToString());
}

void PartitionMachine::Freeze() { (void)partition_->ProposeFreeze(); }

std::optional<Machine::Grant> PartitionMachine::grant() const {
  const auto [freeze, revision] = partition_->grant();
  if (revision == Revision()) return std::nullopt;
  return Grant{freeze, revision};
}

void PartitionMachine::Absorb(PartitionId right, const group::Configuration& right_configuration,
                              LogIndex freeze, Revision grant) {
  const auto* const there = dynamic_cast<PartitionMachine*>(process_->Host(right));
  if (there == nullptr) return;
  partition::AbsorbRecord record;
  record.right = right;
  record.freeze = freeze;
  record.start = right_configuration.range_start;
  record.end = right_configuration.range_end;
  record.figures = there->partition_->statistics();
  if (!partition_->ProposeAbsorb(std::move(record), grant).ok()) return;
  home_->PostAfter(std::chrono::duration_cast<milliseconds>(kMerge),
                   [weak = std::weak_ptr<partition::Partition>(partition_)] {
                     const auto partition = weak.lock();
                     if (partition != nullptr && partition->replica() != nullptr)
                       partition->CancelMerge();
                   });
}

std::string PartitionMachine::Describe() const {
  return std::string(partition_->serving() ? " serving" : "") + " frozen " +
         partition_->frozen_at().ToString() + " applied " + replica().applied().index.ToString() +
         " queued " + std::to_string(partition_->queued_writes());
}

void PartitionMachine::Flush(bool) {
  (void)home_->Block([partition = partition_] { (void)partition->Flush(); });
}

}  // namespace onggi::simulation
