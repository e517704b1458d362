#include "server/dynamodb/item_validation.h"

namespace onggi::dynamodb {
namespace {

using model::Type;
using model::ValueView;
using partition::KeyAttribute;
using partition::TableSchema;

constexpr char kSchemaMismatch[] = "The provided key element does not match the schema";
constexpr char kInvalidPrefix[] = "One or more parameter values were invalid: ";

std::string EmptyValueError(Type type, std::string_view name) {
  std::string message =
      "One or more parameter values are not valid. The AttributeValue for a key attribute cannot "
      "contain an empty ";
  message.append(type == Type::kString ? "string" : "binary").append(" value. Key: ").append(name);
  return message;
}

/// Not empty and not too long; the type is right. Numbers always fit.
Outcome CheckKeySize(const KeyAttribute& attribute, ValueView value, bool is_partition_key) {
  if (attribute.type == Type::kNumber) return {};
  const size_t size = value.AsString().size();
  if (size == 0) return ValidationError(EmptyValueError(attribute.type, attribute.name));
  if (is_partition_key && size > model::kMaxPartitionKeySize) {
    return ValidationError(std::string(kInvalidPrefix) +
                           "Size of hashkey has exceeded the maximum size limit of2048 bytes");
  }
  if (!is_partition_key && size > model::kMaxSortKeySize) {
    return ValidationError(
        std::string(kInvalidPrefix) +
        "Aggregated size of all range keys has exceeded the size limit of 1024 bytes");
  }
  return {};
}

Outcome CheckItemKey(const KeyAttribute& attribute, ValueView value, bool is_partition_key) {
  if (!value.valid()) {
    return ValidationError(std::string(kInvalidPrefix) + "Missing the key " + attribute.name +
                           " in the item");
  }
  if (value.type() != attribute.type) {
    std::string message = std::string(kInvalidPrefix) + "Type mismatch for key ";
    message.append(attribute.name).append(" expected: ").append(model::TypeName(attribute.type));
    message.append(" actual: ").append(model::TypeName(value.type()));
    return ValidationError(std::move(message));
  }
  return CheckKeySize(attribute, value, is_partition_key);
}

Outcome IndexKeyMismatch(const partition::LocalIndex& index, Type actual) {
  const KeyAttribute& attribute = index.sort_key;
  std::string message = std::string(kInvalidPrefix) + "Type mismatch for Index Key ";
  message.append(attribute.name).append(" Expected: ").append(model::TypeName(attribute.type));
  message.append(" Actual: ").append(model::TypeName(actual));
  message.append(" IndexName: ").append(index.name);
  return ValidationError(std::move(message));
}

Outcome CheckIndexKey(const partition::LocalIndex& index, ValueView value) {
  const KeyAttribute& attribute = index.sort_key;
  if (value.type() != attribute.type) return IndexKeyMismatch(index, value.type());
  if (attribute.type != Type::kNumber && value.AsString().empty()) {
    std::string message =
        "One or more parameter values are not valid. A value specified for a secondary index key "
        "is "
        "not supported. The AttributeValue for a key attribute cannot contain an empty ";
    message.append(attribute.type == Type::kString ? "string" : "binary").append(" value. ");
    message.append("IndexName: ").append(index.name).append(", IndexKey: ").append(attribute.name);
    return ValidationError(std::move(message));
  }
  return CheckKeySize(attribute, value, false);
}

Outcome NestedKeyError(std::string_view what, std::string_view name) {
  std::string message =
      "Key attributes must be scalars; list random access '[]' and map lookup '.' are not "
      "allowed: ";
  message.append(what).append(": ").append(name);
  return ValidationError(std::move(message));
}

bool UsesNested(const std::vector<expression::AttributeUse>& uses, std::string_view name) {
  for (const auto& use : uses) {
    if (use.nested && use.name == name) return true;
  }
  return false;
}

}  // namespace

Outcome CheckKeyValue(const KeyAttribute& attribute, ValueView value, bool is_partition_key) {
  if (!value.valid() || value.type() != attribute.type) return ValidationError(kSchemaMismatch);
  return CheckKeySize(attribute, value, is_partition_key);
}

Outcome CheckKey(const TableSchema& schema, const model::ItemView& key, KeyValues* values) {
  if (key.attributes().size() != (schema.sort_key ? 2u : 1u)) {
    return ValidationError(kSchemaMismatch);
  }
  values->partition = key.Find(schema.partition_key.name);
  if (Outcome outcome = CheckKeyValue(schema.partition_key, values->partition, true);
      !outcome.ok()) {
    return outcome;
  }
  if (!schema.sort_key) return {};
  values->sort = key.Find(schema.sort_key->name);
  return CheckKeyValue(*schema.sort_key, values->sort, false);
}

Outcome CheckItem(const TableSchema& schema, const model::ItemView& item, KeyValues* values) {
  values->partition = item.Find(schema.partition_key.name);
  if (Outcome outcome = CheckItemKey(schema.partition_key, values->partition, true);
      !outcome.ok()) {
    return outcome;
  }
  if (schema.sort_key) {
    values->sort = item.Find(schema.sort_key->name);
    if (Outcome outcome = CheckItemKey(*schema.sort_key, values->sort, false); !outcome.ok()) {
      return outcome;
    }
  }
  for (const partition::LocalIndex& index : schema.local_indexes) {
    const ValueView value = item.Find(index.sort_key.name);
    if (!value.valid()) continue;
    if (Outcome outcome = CheckIndexKey(index, value); !outcome.ok()) return outcome;
  }
  return {};
}

Outcome CheckKeyPaths(const TableSchema& schema,
                      const std::vector<expression::AttributeUse>& uses) {
  if (UsesNested(uses, schema.partition_key.name)) {
    return NestedKeyError("Key", schema.partition_key.name);
  }
  if (schema.sort_key && UsesNested(uses, schema.sort_key->name)) {
    return NestedKeyError("Key", schema.sort_key->name);
  }
  for (const partition::LocalIndex& index : schema.local_indexes) {
    if (UsesNested(uses, index.sort_key.name)) {
      return NestedKeyError("IndexKey", index.sort_key.name);
    }
  }
  return {};
}

Outcome CheckUpdateTargets(const TableSchema& schema, const expression::Update& update) {
  const auto written = update.written_attributes();
  const auto refuse_if_written = [&](std::string_view name) -> Outcome {
    for (const auto& use : written) {
      if (use.name != name) continue;
      return ValidationError(std::string(kInvalidPrefix) + "Cannot update attribute " +
                             std::string(name) + ". This attribute is part of the key");
    }
    return {};
  };
  Outcome outcome = refuse_if_written(schema.partition_key.name);
  if (outcome.ok() && schema.sort_key) outcome = refuse_if_written(schema.sort_key->name);
  if (!outcome.ok() || schema.local_indexes.empty()) return outcome;
  const auto literals = update.literal_writes();
  for (const partition::LocalIndex& index : schema.local_indexes) {
    for (const auto& literal : literals) {
      if (literal.name == index.sort_key.name && literal.type != index.sort_key.type) {
        return IndexKeyMismatch(index, literal.type);
      }
    }
  }
  return {};
}

Outcome FindLocalIndex(const TableSchema& schema, std::string_view name, int* index) {
  for (size_t i = 0; i < schema.local_indexes.size(); ++i) {
    if (schema.local_indexes[i].name != name) continue;
    *index = static_cast<int>(i);
    return {};
  }
  return ValidationError("The table does not have the specified index: " + std::string(name));
}

}  // namespace onggi::dynamodb
