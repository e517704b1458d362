#include "common/log.h"
#include "server/dynamodb/control_plane.h"
#include "server/dynamodb/table_description.h"

namespace onggi::dynamodb {
namespace {

ApiError Invalid(std::string_view what) {
  return ValidationError("One or more parameter values were invalid: " + std::string(what));
}

/// What an UpdateTable asks for, taken out of the request: the change of the record may be tried
/// more than once.
struct Wanted {
  std::optional<std::string> billing_mode;
  std::optional<std::pair<int64_t, int64_t>> units;  ///< read, write
  Input input;
};

/// Parts of UpdateTable that exist in the API and are not built.
Outcome CheckSupported(Input input) {
  if (const auto updates = input.Array("GlobalSecondaryIndexUpdates");
      updates && updates->size() > 0) {
    return NotSupported("GlobalSecondaryIndexUpdates");
  }
  if (const auto stream = input.Structure("StreamSpecification")) {
    if (stream->BoolOr("StreamEnabled", false)) return NotSupported("StreamSpecification");
    return ValidationError("Table is already disabled for streams");
  }
  for (const std::string_view name :
       {"ReplicaUpdates", "MultiRegionConsistency", "GlobalTableWitnessUpdates",
        "GlobalTableSettingsReplicationMode"}) {
    if (input.Has(name)) return NotSupported(name);
  }
  return {};
}

Outcome ReadWanted(Input input, Wanted* wanted) {
  bool asks_for_something = false;
  for (const std::string_view name :
       {"ProvisionedThroughput", "BillingMode", "StreamSpecification", "SSESpecification",
        "ReplicaUpdates", "TableClass", "DeletionProtectionEnabled", "OnDemandThroughput",
        "WarmThroughput", "MultiRegionConsistency", "GlobalTableWitnessUpdates",
        "GlobalTableSettingsReplicationMode"}) {
    asks_for_something = asks_for_something || input.Has(name);
  }
  if (const auto updates = input.Array("GlobalSecondaryIndexUpdates")) {
    asks_for_something = asks_for_something || updates->size() > 0;
  }
  if (!asks_for_something) {
    return ValidationError(
        "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, "
        "GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required");
  }
  wanted->input = input;
  if (const auto mode = input.String("BillingMode")) wanted->billing_mode = std::string(*mode);
  if (const auto throughput = input.Structure("ProvisionedThroughput")) {
    wanted->units = {throughput->Int("ReadCapacityUnits").value_or(0),
                     throughput->Int("WriteCapacityUnits").value_or(0)};
  }
  if (wanted->billing_mode == kProvisioned && !wanted->units) {
    return Invalid("ProvisionedThroughput must be specified when BillingMode is PROVISIONED");
  }
  if (wanted->units) {
    if (Outcome outcome = CheckThroughput(wanted->units->first, wanted->units->second);
        !outcome.ok()) {
      return outcome;
    }
  }
  return CheckSupported(input);
}

std::string UnchangedThroughput(const proto::Throughput& now, int64_t read, int64_t write) {
  return "The provisioned throughput for the table will not change. The requested value equals the "
         "current value. Current ReadCapacityUnits provisioned for the table: " +
         std::to_string(now.read_units()) +
         ". Requested ReadCapacityUnits: " + std::to_string(read) +
         ". Current WriteCapacityUnits provisioned for the table: " +
         std::to_string(now.write_units()) +
         ". Requested WriteCapacityUnits: " + std::to_string(write) +
         ". Refer to the Amazon DynamoDB Developer Guide for current limits and how to request "
         "higher "
         "limits.";
}

void SetUnits(int64_t read, int64_t write, int64_t now_ms, proto::Throughput* throughput) {
  if (read > throughput->read_units() || write > throughput->write_units()) {
    throughput->set_last_increase_ms(now_ms);
  }
  if (read < throughput->read_units() || write < throughput->write_units()) {
    const bool first_today = DayOf(throughput->last_decrease_ms()) != DayOf(now_ms);
    throughput->set_decreases_today(first_today ? 1 : throughput->decreases_today() + 1);
    throughput->set_last_decrease_ms(now_ms);
  }
  throughput->set_read_units(read);
  throughput->set_write_units(write);
}

Outcome ApplyBilling(const Wanted& wanted, int64_t now_ms, proto::Table& record) {
  const std::string mode = wanted.billing_mode.value_or(record.billing_mode());
  if (wanted.units && mode == kPayPerRequest) {
    return Invalid(
        "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
        "PAY_PER_REQUEST");
  }
  const bool was_on_demand = record.billing_mode() == kPayPerRequest;
  if (wanted.units) {
    const auto [read, write] = *wanted.units;
    if (!was_on_demand && read == record.throughput().read_units() &&
        write == record.throughput().write_units()) {
      return ValidationError(UnchangedThroughput(record.throughput(), read, write));
    }
    SetUnits(read, write, now_ms, record.mutable_throughput());
  } else if (mode == kPayPerRequest && !was_on_demand) {
    SetUnits(0, 0, now_ms, record.mutable_throughput());
    record.set_billing_changed_ms(now_ms);
  }
  record.set_billing_mode(mode);
  return {};
}

Outcome Apply(const Wanted& wanted, const Scope& scope, int64_t now_ms, proto::Table& record) {
  std::string_view busy;
  if (record.status() == proto::TABLE_STATUS_CREATING) busy = "created";
  if (record.status() == proto::TABLE_STATUS_UPDATING) busy = "updated";
  if (record.status() == proto::TABLE_STATUS_DELETING) busy = "deleted";
  if (!busy.empty()) {
    return ApiError{ErrorType::kResourceInUse,
                    "Attempt to change a resource which is still in use: Table is being " +
                        std::string(busy) + ": " + record.name(),
                    {}};
  }
  if (Outcome outcome = ApplyBilling(wanted, now_ms, record); !outcome.ok()) return outcome;
  const Input input = wanted.input;
  if (const auto sse = input.Structure("SSESpecification")) {
    if (Outcome outcome = ReadSse(*sse, scope, record.mutable_sse()); !outcome.ok()) {
      return outcome;
    }
  }
  if (const auto table_class = input.String("TableClass");
      table_class && *table_class != record.table_class()) {
    record.set_table_class(std::string(*table_class));
    record.set_table_class_changed_ms(now_ms);
  }
  if (const auto protection = input.Bool("DeletionProtectionEnabled")) {
    record.set_deletion_protection(*protection);
  }
  return ReadCapacityLimits(input, &record);
}

}  // namespace

boost::asio::awaitable<Outcome> ControlPlane::UpdateTable(CallContext& context, Input input,
                                                          std::string* body) {
  Wanted wanted;
  if (Outcome outcome = ReadWanted(input, &wanted); !outcome.ok()) co_return outcome;
  std::shared_ptr<const Table> table;
  if (Outcome outcome = FindTableForControl(context, input.StringOr("TableName", ""), &table);
      !outcome.ok()) {
    co_return outcome;
  }
  const int64_t now_ms = NowMs();
  const Scope* scope = context.scope;
  proto::Table before;
  const Change change = [&](proto::Table& record) {
    before = record;
    return Apply(wanted, *scope, now_ms, record);
  };
  proto::Table record;
  Outcome outcome = co_await ChangeRecord(table->id(), table->name(), change, &record);
  if (!outcome.ok()) co_return outcome;
  log::Info("table updated", "table", record.name(), "id", record.id(), "request_id",
            context.request_id);
  // Nothing of this takes time here, but clients expect to be told of an update under way: they
  // wait for ACTIVE, which the next DescribeTable says. Units in the answer are still the old ones.
  proto::Table shown = record;
  shown.set_status(proto::TABLE_STATUS_UPDATING);
  shown.mutable_throughput()->set_read_units(before.throughput().read_units());
  shown.mutable_throughput()->set_write_units(before.throughput().write_units());
  co_await Describe(context, shown, "TableDescription", body);
  co_return Outcome();
}

}  // namespace onggi::dynamodb
