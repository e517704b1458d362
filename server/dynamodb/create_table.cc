#include <algorithm>
#include <set>
#include <vector>

#include "server/dynamodb/control_plane.h"
#include "server/dynamodb/table_description.h"

/// The rules of CreateTable, in the order in which the service tells of them.
namespace onggi::dynamodb {
namespace {

constexpr int64_t kMaxUnits = 1'000'000'000'000;
constexpr size_t kMaxLocalIndexes = 5;
constexpr size_t kMaxNonKeyAttributes = 100;

ApiError Invalid(std::string_view what) {
  return ValidationError("One or more parameter values were invalid: " + std::string(what));
}

struct KeyElement {
  std::string_view name;
  std::string_view type;  ///< "HASH" or "RANGE"
};

struct Definition {
  std::string_view name;
  std::string_view type;  ///< "S", "N" or "B"
};

std::vector<KeyElement> ReadKeySchema(Input owner) {
  std::vector<KeyElement> keys;
  const auto array = owner.Array("KeySchema");
  if (!array) return keys;
  for (const simdjson::dom::element element : *array) {
    simdjson::dom::object object;
    if (element.get(object)) continue;
    const Input key(object);
    keys.push_back({key.StringOr("AttributeName", ""), key.StringOr("KeyType", "")});
  }
  return keys;
}

template <class T>
std::string Names(const std::vector<T>& named) {
  std::string text = "[";
  for (size_t i = 0; i < named.size(); ++i) text.append(i > 0 ? ", " : "").append(named[i].name);
  return text + "]";
}

const Definition* Find(const std::vector<Definition>& definitions, std::string_view name) {
  const auto it = std::ranges::find(definitions, name, &Definition::name);
  return it == definitions.end() ? nullptr : &*it;
}

Outcome CheckDefined(const std::vector<KeyElement>& keys,
                     const std::vector<Definition>& definitions) {
  for (const KeyElement& key : keys) {
    if (Find(definitions, key.name) != nullptr) continue;
    return Invalid("Some index key attributes are not defined in AttributeDefinitions. Keys: " +
                   Names(keys) + ", AttributeDefinitions: " + Names(definitions));
  }
  return {};
}

Outcome CheckKeySchema(const std::vector<KeyElement>& keys) {
  if (keys.size() > 1 && keys[0].name == keys[1].name) {
    return ValidationError(
        "Both the Hash Key and the Range Key element in the KeySchema have the same name");
  }
  if (keys.empty() || keys[0].type != "HASH") {
    return ValidationError("Invalid KeySchema: The first KeySchemaElement is not a HASH key type");
  }
  if (keys.size() > 1 && keys[1].type != "RANGE") {
    return ValidationError(
        "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type");
  }
  return {};
}

Outcome ReadBilling(Input input, proto::Table* record) {
  const auto throughput = input.Structure("ProvisionedThroughput");
  if (input.StringOr("BillingMode", kProvisioned) == kPayPerRequest) {
    if (throughput) {
      return Invalid(
          "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
          "PAY_PER_REQUEST");
    }
    record->set_billing_mode(std::string(kPayPerRequest));
    return {};
  }
  if (!throughput) {
    return Invalid(
        "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is "
        "PROVISIONED");
  }
  const int64_t read = throughput->Int("ReadCapacityUnits").value_or(0);
  const int64_t write = throughput->Int("WriteCapacityUnits").value_or(0);
  if (Outcome outcome = CheckThroughput(read, write); !outcome.ok()) return outcome;
  record->set_billing_mode(std::string(kProvisioned));
  record->mutable_throughput()->set_read_units(read);
  record->mutable_throughput()->set_write_units(write);
  return {};
}

Outcome ReadProjection(Input index, proto::Projection* projection) {
  const Input given = index.Structure("Projection").value_or(Input());
  const auto type = given.String("ProjectionType");
  if (!type) return Invalid("Unknown ProjectionType: null");
  projection->set_type(std::string(*type));
  const auto names = given.Array("NonKeyAttributes");
  if (names && *type != "INCLUDE") {
    return Invalid("ProjectionType is " + std::string(*type) +
                   ", but NonKeyAttributes is specified");
  }
  if (!names) {
    if (*type != "INCLUDE") return {};
    return Invalid("ProjectionType is INCLUDE, but NonKeyAttributes is not specified");
  }
  std::set<std::string_view> seen;
  for (const simdjson::dom::element element : *names) {
    std::string_view name;
    if (element.get(name)) continue;
    if (!seen.insert(name).second) {
      return Invalid("Duplicate AttributeName: " + std::string(name) + " in NonKeyAttributes");
    }
    projection->add_non_key_attributes(std::string(name));
  }
  return {};
}

Outcome ReadLocalIndex(Input index, const std::vector<KeyElement>& table_keys,
                       const std::vector<Definition>& definitions, proto::LocalIndex* local) {
  const std::string name(index.StringOr("IndexName", ""));
  const std::vector<KeyElement> keys = ReadKeySchema(index);
  if (Outcome outcome = CheckDefined(keys, definitions); !outcome.ok()) return outcome;
  if (Outcome outcome = CheckKeySchema(keys); !outcome.ok()) return outcome;
  if (keys.size() != 2) {
    return Invalid("Index KeySchema does not have a range key for index: " + name);
  }
  if (keys[0].name != table_keys[0].name) {
    return Invalid(
        "Index KeySchema does not have the same leading hash key as table KeySchema "
        "for index: " +
        name + ". index hash key: " + std::string(keys[0].name) +
        ", table hash key: " + std::string(table_keys[0].name));
  }
  local->set_name(name);
  local->mutable_sort_key()->set_name(std::string(keys[1].name));
  local->mutable_sort_key()->set_type(std::string(Find(definitions, keys[1].name)->type));
  return ReadProjection(index, local->mutable_projection());
}

Outcome ReadLocalIndexes(simdjson::dom::array indexes, const std::vector<KeyElement>& table_keys,
                         const std::vector<Definition>& definitions, proto::Table* record) {
  if (indexes.size() == 0) return Invalid("List of LocalSecondaryIndexes is empty");
  if (table_keys.size() != 2) {
    return Invalid(
        "Table KeySchema does not have a range key, which is required when specifying a "
        "LocalSecondaryIndex");
  }
  std::set<std::string> names;
  size_t non_key_attributes = 0;
  for (const simdjson::dom::element element : indexes) {
    simdjson::dom::object object;
    if (element.get(object)) continue;
    proto::LocalIndex* local = record->add_local_indexes();
    if (Outcome outcome = ReadLocalIndex(Input(object), table_keys, definitions, local);
        !outcome.ok()) {
      return outcome;
    }
    if (!names.insert(local->name()).second) {
      return Invalid("Duplicate index name: " + local->name());
    }
    non_key_attributes += static_cast<size_t>(local->projection().non_key_attributes_size());
  }
  if (names.size() > kMaxLocalIndexes) {
    return Invalid("Number of LocalSecondaryIndexes exceeds per-table limit of 5");
  }
  if (non_key_attributes > kMaxNonKeyAttributes) {
    return Invalid("Number of NonKeyAttributes of all indexes exceeds per-table limit of 100");
  }
  return {};
}

/// Every definition serves some key.
Outcome CheckAllUsed(const std::vector<Definition>& definitions,
                     const std::vector<KeyElement>& table_keys, bool has_indexes,
                     const proto::Table& record) {
  std::vector<KeyElement> used = table_keys;
  for (const proto::LocalIndex& index : record.local_indexes()) {
    const std::string_view name = index.sort_key().name();
    if (std::ranges::count(used, name, &KeyElement::name) == 0) used.push_back({name, "RANGE"});
  }
  const bool all = std::ranges::all_of(definitions, [&](const Definition& definition) {
    return std::ranges::count(used, definition.name, &KeyElement::name) > 0;
  });
  if (all && definitions.size() == used.size()) return {};
  if (!has_indexes) {
    return Invalid(
        "Number of attributes in KeySchema does not exactly match number of attributes "
        "defined in AttributeDefinitions");
  }
  return Invalid("Some AttributeDefinitions are not used. AttributeDefinitions: " +
                 Names(definitions) + ", keys used: " + Names(used));
}

/// What exists in the API and is not built: refused by name, before anything is made.
Outcome CheckSupported(Input input) {
  if (const auto indexes = input.Array("GlobalSecondaryIndexes")) {
    if (indexes->size() == 0) return Invalid("List of GlobalSecondaryIndexes is empty");
    return NotSupported("GlobalSecondaryIndexes");
  }
  if (const auto stream = input.Structure("StreamSpecification");
      stream && stream->BoolOr("StreamEnabled", false)) {
    return NotSupported("StreamSpecification");
  }
  for (const std::string_view name :
       {"ResourcePolicy", "GlobalTableSourceArn", "GlobalTableSettingsReplicationMode"}) {
    if (input.Has(name)) return NotSupported(name);
  }
  return {};
}

}  // namespace

Outcome CheckThroughput(int64_t read_units, int64_t write_units) {
  for (const auto& [name, units] :
       {std::pair<std::string_view, int64_t>{"ReadCapacityUnits", read_units},
        {"WriteCapacityUnits", write_units}}) {
    if (units > kMaxUnits) {
      return ValidationError("Given value " + std::to_string(units) + " for " + std::string(name) +
                             " is out of bounds");
    }
  }
  return {};
}

Outcome ReadCapacityLimits(Input input, proto::Table* record) {
  const bool on_demand_billing = record->billing_mode() == kPayPerRequest;
  if (const auto limits = input.Structure("OnDemandThroughput")) {
    if (!on_demand_billing) {
      return Invalid(
          "OnDemandThroughput can only be specified when BillingMode is PAY_PER_REQUEST");
    }
    const auto read = limits->Int("MaxReadRequestUnits");
    const auto write = limits->Int("MaxWriteRequestUnits");
    for (const auto& [name, units] :
         {std::pair<std::string_view, std::optional<int64_t>>{"MaxReadRequestUnits", read},
          {"MaxWriteRequestUnits", write}}) {
      if (units && *units != -1 && (*units < 1 || *units > kMaxUnits)) {
        return ValidationError("Given value " + std::to_string(*units) + " for " +
                               std::string(name) + " is out of bounds");
      }
    }
    if (read) record->set_on_demand_max_read(*read);
    if (write) record->set_on_demand_max_write(*write);
  }
  if (const auto warm = input.Structure("WarmThroughput")) {
    const WarmUnits now = WarmUnitsOf(*record);
    for (const auto& [name, floor] :
         {std::pair<std::string_view, int64_t>{"ReadUnitsPerSecond", now.read},
          {"WriteUnitsPerSecond", now.write}}) {
      const auto units = warm->Int(name);
      if (!units) continue;
      if (*units < floor) {
        return Invalid("Requested " + std::string(name) +
                       " for WarmThroughput for table is lower "
                       "than the current " +
                       std::string(name) + " of " + std::to_string(floor));
      }
      if (*units > kMaxUnits) {
        return ValidationError("Given value " + std::to_string(*units) + " for " +
                               std::string(name) + " is out of bounds");
      }
      if (name == "ReadUnitsPerSecond") {
        record->set_warm_read(*units);
      } else {
        record->set_warm_write(*units);
      }
    }
  }
  return {};
}

Outcome ReadSse(Input sse, const Scope& scope, proto::SseDescription* description) {
  const bool enabled = sse.BoolOr("Enabled", false);
  const auto type = sse.String("SSEType");
  const auto key = sse.String("KMSMasterKeyId");
  if (type && *type != "KMS") {
    return Invalid("SSEType " + std::string(*type) + " is not supported");
  }
  description->Clear();
  if (!enabled) return {};
  description->set_status("ENABLED");
  description->set_type("KMS");
  // Nothing is encrypted by a key service here: the key is what the client calls it, in full.
  const std::string prefix = "arn:aws:kms:" + scope.region + ":" + scope.account_id + ":";
  if (!key) {
    description->set_kms_key_arn(prefix + "alias/aws/dynamodb");
  } else if (key->starts_with("arn:")) {
    description->set_kms_key_arn(std::string(*key));
  } else {
    description->set_kms_key_arn(prefix + (key->starts_with("alias/") ? "" : "key/") +
                                 std::string(*key));
  }
  return {};
}

Outcome ReadCreateTable(Input input, const Scope& scope, proto::Table* record) {
  if (Outcome outcome = ReadBilling(input, record); !outcome.ok()) return outcome;

  std::vector<Definition> definitions;
  if (const auto array = input.Array("AttributeDefinitions")) {
    for (const simdjson::dom::element element : *array) {
      simdjson::dom::object object;
      if (element.get(object)) continue;
      const Input definition(object);
      definitions.push_back(
          {definition.StringOr("AttributeName", ""), definition.StringOr("AttributeType", "")});
    }
  }
  const std::vector<KeyElement> keys = ReadKeySchema(input);
  if (keys.size() > definitions.size()) {
    return ValidationError("Invalid KeySchema: Some index key attribute have no definition");
  }
  if (Outcome outcome = CheckDefined(keys, definitions); !outcome.ok()) return outcome;
  if (Outcome outcome = CheckKeySchema(keys); !outcome.ok()) return outcome;

  record->mutable_partition_key()->set_name(std::string(keys[0].name));
  record->mutable_partition_key()->set_type(std::string(Find(definitions, keys[0].name)->type));
  if (keys.size() > 1) {
    record->mutable_sort_key()->set_name(std::string(keys[1].name));
    record->mutable_sort_key()->set_type(std::string(Find(definitions, keys[1].name)->type));
  }

  const auto local_indexes = input.Array("LocalSecondaryIndexes");
  const bool has_indexes = local_indexes || input.Has("GlobalSecondaryIndexes");
  if (!has_indexes) {
    if (Outcome outcome = CheckAllUsed(definitions, keys, false, *record); !outcome.ok()) {
      return outcome;
    }
  }
  if (local_indexes) {
    if (Outcome outcome = ReadLocalIndexes(*local_indexes, keys, definitions, record);
        !outcome.ok()) {
      return outcome;
    }
  }
  if (Outcome outcome = CheckSupported(input); !outcome.ok()) return outcome;
  if (Outcome outcome = CheckAllUsed(definitions, keys, has_indexes, *record); !outcome.ok()) {
    return outcome;
  }

  if (const auto sse = input.Structure("SSESpecification")) {
    if (Outcome outcome = ReadSse(*sse, scope, record->mutable_sse()); !outcome.ok()) {
      return outcome;
    }
  }
  if (const auto table_class = input.String("TableClass")) {
    record->set_table_class(std::string(*table_class));
  }
  record->set_deletion_protection(input.BoolOr("DeletionProtectionEnabled", false));
  if (Outcome outcome = ReadCapacityLimits(input, record); !outcome.ok()) return outcome;
  if (const auto tags = input.Array("Tags")) return AddTags(*tags, record);
  return {};
}

}  // namespace onggi::dynamodb
