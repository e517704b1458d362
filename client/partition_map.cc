#include "client/partition_map.h"

#include <algorithm>
#include <mutex>

#include "server/model/attribute_value.h"
#include "server/model/key.h"

namespace onggi::client {
namespace {

/// The stored form of a key attribute's value; empty when it is none.
std::string KeyValue(const v1::MapKeyAttribute& attribute, const v1::Item& key) {
  const auto it = key.attributes().find(attribute.name());
  if (it == key.attributes().end()) return {};
  const v1::AttributeValue& value = it->second;
  if (attribute.type() == "S" && value.has_s() && !value.s().empty()) {
    return model::AttributeValue::String(value.s()).Encode();
  }
  if (attribute.type() == "B" && value.has_b() && !value.b().empty()) {
    return model::AttributeValue::Binary(value.b()).Encode();
  }
  if (attribute.type() == "N" && value.has_n()) {
    if (const auto number = model::Number::Parse(value.n()); number.ok()) {
      return model::AttributeValue::Of(*number).Encode();
    }
  }
  return {};
}

}  // namespace

std::optional<std::string> EncodeKey(const v1::MapTable& table, const v1::Item& key) {
  const std::string partition_key = KeyValue(table.partition_key(), key);
  if (partition_key.empty()) return std::nullopt;
  std::string sort_key;
  if (table.has_sort_key()) {
    sort_key = KeyValue(table.sort_key(), key);
    if (sort_key.empty()) return std::nullopt;
  }
  return model::EncodeKey(model::ValueView(partition_key),
                          sort_key.empty() ? model::ValueView() : model::ValueView(sort_key));
}

void PartitionMap::Apply(const v1::PartitionMap& update) {
  std::unique_lock lock(mutex_);
  const auto remove_table = [this](uint64_t id) {
    const auto it = tables_.find(id);
    if (it == tables_.end()) return;
    const auto name = names_.find(it->second->name());
    if (name != names_.end() && name->second == id) names_.erase(name);
    tables_.erase(it);
  };
  if (update.complete()) {
    nodes_.clear();
    tables_.clear();
    names_.clear();
  }
  for (const uint64_t id : update.removed_nodes()) nodes_.erase(id);
  for (const uint64_t id : update.removed_tables()) remove_table(id);
  for (const v1::MapNode& node : update.nodes()) nodes_[node.id()] = node;
  for (const v1::MapTable& table : update.tables()) {
    remove_table(table.id());
    names_[table.name()] = table.id();
    tables_[table.id()] = std::make_shared<const v1::MapTable>(table);
  }
  revision_ = update.revision();
  known_ = true;
}

void PartitionMap::Clear() {
  std::unique_lock lock(mutex_);
  nodes_.clear();
  tables_.clear();
  names_.clear();
  known_ = false;
}

std::optional<PartitionMap::Place> PartitionMap::Find(std::string_view table,
                                                      const v1::Item& key) const {
  std::shared_ptr<const v1::MapTable> found;
  {
    std::shared_lock lock(mutex_);
    const auto name = names_.find(std::string(table));
    if (name == names_.end()) return std::nullopt;
    const auto it = tables_.find(name->second);
    if (it == tables_.end()) return std::nullopt;
    found = it->second;
  }
  const std::optional<std::string> encoded = EncodeKey(*found, key);
  if (!encoded) return std::nullopt;
  // The last partition that begins at or before the key.
  const auto& partitions = found->partitions();
  auto it = std::upper_bound(partitions.begin(), partitions.end(), *encoded,
                             [](const std::string& wanted, const v1::MapPartition& partition) {
                               return wanted < partition.range_start();
                             });
  if (it == partitions.begin()) return std::nullopt;
  --it;
  if (!it->range_end().empty() && *encoded >= it->range_end()) return std::nullopt;
  Place place;
  place.primary = it->primary_node();
  place.nodes.assign(it->nodes().begin(), it->nodes().end());
  return place;
}

std::string PartitionMap::Address(uint64_t node) const {
  std::shared_lock lock(mutex_);
  const auto it = nodes_.find(node);
  return it == nodes_.end() ? std::string() : it->second.grpc_address();
}

std::vector<std::string> PartitionMap::Addresses() const {
  std::vector<std::string> addresses;
  std::shared_lock lock(mutex_);
  for (const auto& [id, node] : nodes_) {
    if (!node.grpc_address().empty()) addresses.push_back(node.grpc_address());
  }
  return addresses;
}

std::string PartitionMap::CertificateName(std::string_view address) const {
  std::shared_lock lock(mutex_);
  for (const auto& [id, node] : nodes_) {
    if (node.grpc_address() == address) return node.certificate_name();
  }
  return {};
}

int64_t PartitionMap::revision() const {
  std::shared_lock lock(mutex_);
  return revision_;
}

bool PartitionMap::known() const {
  std::shared_lock lock(mutex_);
  return known_;
}

}  // namespace onggi::client
