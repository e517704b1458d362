#include "server/dynamodb/control_plane.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>

#include "common/log.h"
#include "common/uuid.h"
#include "replication/metadata/keys.h"
#include "server/dynamodb/json_writer.h"
#include "server/dynamodb/table_description.h"

namespace onggi::dynamodb {
namespace {

namespace keys = metadata::keys;

// A compare-and-swap that loses this often meets more writers than a table's record ever has.
constexpr int kMaxAttempts = 20;
constexpr int64_t kDefaultListLimit = 100;

// The service's defaults for an account and a table.
constexpr int64_t kAccountMaxUnits = 80'000;
constexpr int64_t kTableMaxUnits = 40'000;

ApiError InUse(std::string_view what, std::string_view name) {
  std::string message = "Attempt to change a resource which is still in use: Table is being ";
  message.append(what).append(": ").append(name);
  return {ErrorType::kResourceInUse, std::move(message), {}};
}

ApiError TableExists(std::string_view name) {
  return {ErrorType::kResourceInUse, "Table already exists: " + std::string(name), {}};
}

ApiError TooManyAttempts() {
  return {ErrorType::kInternalServerError, "Internal server error", {}};
}

/// A fault of the metadata store, for the log and for the client.
ApiError StoreFault(const Status& status, std::string_view doing) {
  // A full disk fails every call, and the log may be on it.
  static log::RateLimit limit(std::chrono::seconds(1));
  if (const uint64_t times = limit.Allow()) {
    log::Warn("metadata store failed", "doing", doing, "error", status, "times", times);
  }
  return FromStatus(status.code() == Code::kInvalidArgument || status.code() == Code::kNotFound
                        ? Internal(status.message())
                        : status);
}

}  // namespace

ControlPlane::ControlPlane(metadata::MetadataStore& store, Catalog& catalog,
                           TableStatistics& statistics, ControlPlaneOptions options, Clock& clock)
    : store_(store), catalog_(catalog), statistics_(statistics), options_(options), clock_(clock) {}

int64_t ControlPlane::NowMs() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock_.WallNow().time_since_epoch())
      .count();
}

boost::asio::awaitable<void> ControlPlane::Describe(const CallContext& context,
                                                    const proto::Table& record,
                                                    std::string_view member, std::string* body) {
  const TableFigures figures = co_await statistics_.Figures(TableId(record.id()));
  const std::string arn = MakeTableArn(record.region(), context.scope->account_id, record.name());
  ObjectWriter answer(body);
  WriteTableDescription(record, arn, figures, NowMs(), answer.Key(member));
}

boost::asio::awaitable<Outcome> ControlPlane::CommitNew(proto::Table* record) {
  const std::string name_key = keys::Name(record->account(), record->name());
  const std::string next_key = keys::NextTable();
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    Result<metadata::KeyValue> next = co_await store_.Get(next_key);
    if (!next.ok() && next.status().code() != Code::kNotFound) {
      co_return StoreFault(next.status(), "reading the next table id");
    }
    const uint64_t id = next.ok() ? keys::ParseId(next->value).value_or(0) : 1;
    if (id == 0) co_return StoreFault(Corruption(next_key + " is damaged"), "reading it");
    record->set_id(id);

    metadata::Transaction transaction;
    transaction.compares.push_back(metadata::Compare::Missing(name_key));
    transaction.compares.push_back(next.ok() ? metadata::Compare::At(next_key, next->mod_revision)
                                             : metadata::Compare::Missing(next_key));
    transaction.puts.push_back({next_key, keys::FormatId(id + 1)});
    transaction.puts.push_back({name_key, keys::FormatId(id)});
    transaction.puts.push_back({keys::Table(TableId(id)), record->SerializeAsString()});
    Result<metadata::TransactionResult> result = co_await store_.Commit(std::move(transaction));
    if (!result.ok()) co_return StoreFault(result.status(), "creating a table");
    if (result->succeeded) {
      catalog_.PutCommitted(*record, result->revision);
      co_return Outcome();
    }
    for (const metadata::KeyValue& current : result->current) {
      if (current.key == name_key) co_return TableExists(record->name());
    }
  }
  co_return TooManyAttempts();
}

Outcome ReadReplicationTag(uint32_t configured, proto::Table* record) {
  for (const proto::Tag& tag : record->tags()) {
    if (tag.key() != kReplicationTag) continue;
    if (tag.value() != "1" && tag.value() != "3" && tag.value() != "5") {
      return ValidationError("One or more parameter values were invalid: the tag " +
                             std::string(kReplicationTag) + " must be 1, 3 or 5");
    }
    if (configured == 0) record->set_replication(static_cast<uint32_t>(tag.value()[0] - '0'));
  }
  return {};
}

boost::asio::awaitable<Outcome> ControlPlane::ChangeRecord(TableId id, std::string name,
                                                           const Change& change,
                                                           proto::Table* changed) {
  const std::string key = keys::Table(id);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    Result<metadata::KeyValue> current = co_await store_.Get(key);
    if (!current.ok()) {
      if (current.status().code() == Code::kNotFound) co_return TableNotFoundForControl(name);
      co_return StoreFault(current.status(), "reading a table's record");
    }
    if (!changed->ParseFromString(current->value)) {
      co_return StoreFault(Corruption(key + " does not parse"), "reading a table's record");
    }
    if (Outcome outcome = change(*changed); !outcome.ok()) co_return outcome;

    metadata::Transaction transaction;
    transaction.compares.push_back(metadata::Compare::At(key, current->mod_revision));
    transaction.puts.push_back({key, changed->SerializeAsString()});
    Result<metadata::TransactionResult> result = co_await store_.Commit(std::move(transaction));
    if (!result.ok()) co_return StoreFault(result.status(), "changing a table's record");
    if (result->succeeded) {
      catalog_.PutCommitted(*changed, result->revision);
      co_return Outcome();
    }
  }
  co_return TooManyAttempts();
}

boost::asio::awaitable<Outcome> ControlPlane::CreateTable(CallContext& context, Input input,
                                                          std::string* body) {
  const std::string_view name = input.StringOr("TableName", "");
  proto::Table record;
  if (name.starts_with("arn:")) {
    co_return ValidationError("Invalid table name: a table is created by name, not by ARN: " +
                              std::string(name));
  }
  if (Outcome outcome = ReadCreateTable(input, *context.scope, &record); !outcome.ok()) {
    co_return outcome;
  }
  // Cheaper than a transaction that must fail, and right all the same: names go only after tables.
  if (context.catalog->Find(context.scope->account, name) != nullptr) co_return TableExists(name);

  record.set_account(context.scope->account);
  record.set_region(context.scope->region);
  record.set_name(std::string(name));
  record.set_uuid(NewUuid());
  record.set_status(proto::TABLE_STATUS_CREATING);
  record.set_created_ms(NowMs());
  record.set_replication(options_.replication);
  if (Outcome outcome = ReadReplicationTag(options_.replication, &record); !outcome.ok()) {
    co_return outcome;
  }
  if (record.billing_mode() == kPayPerRequest) record.set_billing_changed_ms(record.created_ms());
  if (Outcome outcome = co_await CommitNew(&record); !outcome.ok()) co_return outcome;
  log::Info("table created", "table", record.name(), "id", record.id(), "request_id",
            context.request_id);
  co_await Describe(context, record, "TableDescription", body);
  co_await WaitUntilActive(record);
  co_return Outcome();
}

boost::asio::awaitable<void> ControlPlane::WaitUntilActive(const proto::Table& record) {
  constexpr auto kPoll = std::chrono::milliseconds(1);
  const SteadyTime deadline = clock_.Now() + options_.active_wait;
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  while (clock_.Now() < deadline) {
    const auto table = catalog_.Find(record.account(), record.name());
    if (table == nullptr || table->record.status() != proto::TABLE_STATUS_CREATING) co_return;
    timer.expires_after(kPoll);
    boost::system::error_code error;
    auto token = boost::asio::redirect_error(boost::asio::use_awaitable, error);
    co_await timer.async_wait(token);
    if (error) co_return;
  }
}

boost::asio::awaitable<Outcome> ControlPlane::DeleteTable(CallContext& context, Input input,
                                                          std::string* body) {
  std::shared_ptr<const Table> table;
  if (Outcome outcome = FindTableForControl(context, input.StringOr("TableName", ""), &table);
      !outcome.ok()) {
    co_return outcome;
  }
  const Change change = [](proto::Table& record) -> Outcome {
    switch (record.status()) {
      case proto::TABLE_STATUS_CREATING: return InUse("created", record.name());
      case proto::TABLE_STATUS_UPDATING: return InUse("updated", record.name());
      case proto::TABLE_STATUS_DELETING: return InUse("deleted", record.name());
      default: break;
    }
    if (record.deletion_protection()) {
      return ValidationError(
          "Resource cannot be deleted as it is currently protected against deletion. Disable "
          "deletion protection first.");
    }
    record.set_status(proto::TABLE_STATUS_DELETING);
    return {};
  };
  proto::Table record;
  Outcome outcome = co_await ChangeRecord(table->id(), table->name(), change, &record);
  if (!outcome.ok()) co_return outcome;
  log::Info("table deleted", "table", record.name(), "id", record.id(), "request_id",
            context.request_id);
  co_await Describe(context, record, "TableDescription", body);
  co_return Outcome();
}

boost::asio::awaitable<Outcome> ControlPlane::DescribeTable(CallContext& context, Input input,
                                                            std::string* body) {
  std::shared_ptr<const Table> table;
  if (Outcome outcome = FindTableForControl(context, input.StringOr("TableName", ""), &table);
      !outcome.ok()) {
    co_return outcome;
  }
  co_await Describe(context, table->record, "Table", body);
  co_return Outcome();
}

Outcome ControlPlane::ListTables(CallContext& context, Input input, std::string* body) {
  const auto limit = static_cast<size_t>(input.Int("Limit").value_or(kDefaultListLimit));
  // One more than asked for tells whether there is another page.
  std::vector<std::string> names = context.catalog->List(
      context.scope->account, input.StringOr("ExclusiveStartTableName", ""), limit + 1);
  const bool more = names.size() > limit;
  if (more) names.resize(limit);
  ObjectWriter answer(body);
  if (more) answer.String("LastEvaluatedTableName", names.back());
  WriteArray(names, answer.Key("TableNames"),
             [](const std::string& name, std::string* out) { model::WriteJsonString(name, out); });
  return {};
}

Outcome ControlPlane::DescribeLimits(CallContext& /*context*/, Input /*input*/, std::string* body) {
  ObjectWriter answer(body);
  answer.Int("AccountMaxReadCapacityUnits", kAccountMaxUnits);
  answer.Int("AccountMaxWriteCapacityUnits", kAccountMaxUnits);
  answer.Int("TableMaxReadCapacityUnits", kTableMaxUnits);
  answer.Int("TableMaxWriteCapacityUnits", kTableMaxUnits);
  return {};
}

Outcome ControlPlane::DescribeEndpoints(CallContext& context, Input /*input*/, std::string* body) {
  // Clients that discover endpoints go where this says: here, whatever name they reached us by.
  const std::string address = context.host.empty()
                                  ? "dynamodb." + context.scope->region + ".amazonaws.com"
                                  : std::string(context.host);
  ObjectWriter answer(body);
  WriteArray(std::initializer_list<std::string_view>{address}, answer.Key("Endpoints"),
             [](std::string_view one, std::string* out) {
               ObjectWriter endpoint(out);
               endpoint.String("Address", one);
               endpoint.Int("CachePeriodInMinutes", 1440);
             });
  return {};
}

Outcome ControlPlane::DescribeTimeToLive(CallContext& context, Input input, std::string* body) {
  std::shared_ptr<const Table> table;
  if (Outcome outcome = FindTableForControl(context, input.StringOr("TableName", ""), &table);
      !outcome.ok()) {
    return outcome;
  }
  body->append(R"({"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}})");
  return {};
}

Outcome ControlPlane::DescribeContinuousBackups(CallContext& context, Input input,
                                                std::string* body) {
  const std::string_view name = input.StringOr("TableName", "");
  std::shared_ptr<const Table> table;
  if (Outcome outcome = FindTableForControl(context, name, &table); !outcome.ok()) {
    if (outcome.error().type != ErrorType::kResourceNotFound) return outcome;
    return ApiError{ErrorType::kTableNotFound, "Table not found: " + std::string(name), {}};
  }
  body->append(R"({"ContinuousBackupsDescription":{"ContinuousBackupsStatus":"ENABLED",)"
               R"("PointInTimeRecoveryDescription":{"PointInTimeRecoveryStatus":"DISABLED"}}})");
  return {};
}

void RegisterControlOperations(ControlPlane& control_plane, OperationTable* operations) {
  using Immediate = Outcome (ControlPlane::*)(CallContext&, Input, std::string*);
  using Awaited =
      boost::asio::awaitable<Outcome> (ControlPlane::*)(CallContext&, Input, std::string*);
  ControlPlane* plane = &control_plane;
  const auto immediate = [&](std::string_view name, Immediate run) {
    operations->AddImmediate(name,
                             [plane, run](CallContext& context, Input input, std::string* body) {
                               return (plane->*run)(context, input, body);
                             });
  };
  const auto awaited = [&](std::string_view name, Awaited run) {
    operations->AddAwaited(name,
                           [plane, run](CallContext& context, Input input, std::string* body) {
                             return (plane->*run)(context, input, body);
                           });
  };
  awaited("CreateTable", &ControlPlane::CreateTable);
  awaited("UpdateTable", &ControlPlane::UpdateTable);
  awaited("DeleteTable", &ControlPlane::DeleteTable);
  awaited("TagResource", &ControlPlane::TagResource);
  awaited("UntagResource", &ControlPlane::UntagResource);
  awaited("DescribeTable", &ControlPlane::DescribeTable);
  immediate("ListTables", &ControlPlane::ListTables);
  immediate("ListTagsOfResource", &ControlPlane::ListTagsOfResource);
  immediate("DescribeLimits", &ControlPlane::DescribeLimits);
  immediate("DescribeEndpoints", &ControlPlane::DescribeEndpoints);
  immediate("DescribeTimeToLive", &ControlPlane::DescribeTimeToLive);
  immediate("DescribeContinuousBackups", &ControlPlane::DescribeContinuousBackups);
}

}  // namespace onggi::dynamodb
