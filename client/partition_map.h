#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "onggi/v1/cluster.pb.h"
#include "onggi/v1/item.pb.h"

namespace onggi::client {

/// The encoded key of an item in its table: where it is in the table's key space
/// (server/model/key.h). Nothing when key attributes are missing, of another type or no valid
/// values: the server then says what is wrong. `key` may have further attributes.
std::optional<std::string> EncodeKey(const v1::MapTable& table, const v1::Item& key);

/// The partition map as a client knows it, fed by Cluster.WatchMap. It may be behind; whoever it
/// points to passes a request on. Thread-safe.
class PartitionMap {
 public:
  struct Place {
    uint64_t primary = 0;         ///< node; 0: none at present
    std::vector<uint64_t> nodes;  ///< all that have the data
  };

  /// Takes in a message of the stream.
  void Apply(const v1::PartitionMap& update);
  void Clear();

  /// Where the item with this key is. Nothing: the table or its partitions are not known, or the
  /// key is none.
  std::optional<Place> Find(std::string_view table, const v1::Item& key) const;

  /// "host:port" of a node; empty when it is not known or takes no clients.
  std::string Address(uint64_t node) const;
  /// Of all nodes that take clients.
  std::vector<std::string> Addresses() const;
  /// The name that a node's certificate has; empty: the host of its address.
  std::string CertificateName(std::string_view address) const;

  int64_t revision() const;
  /// Has a map arrived?
  bool known() const;

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<uint64_t, v1::MapNode> nodes_;
  std::unordered_map<uint64_t, std::shared_ptr<const v1::MapTable>> tables_;
  std::unordered_map<std::string, uint64_t> names_;
  int64_t revision_ = 0;
  bool known_ = false;
};

}  // namespace onggi::client
