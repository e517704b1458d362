#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/partition/cluster_fixture.h"

/// What tests of splits and merges share.
namespace onggi::partition {

/// Table 1 on nodes 1 to 3, with partition 1, and child_, that it is split into and merged with:
/// replicas 100 * child + node. Item i has the partition key "p<i>" and the sort key "s".
class ShapeTest : public ClusterTest {
 protected:
  using Kind = WriteRequest::Kind;
  using milliseconds = std::chrono::milliseconds;

  void OpenTable(const std::function<void(proto::Table*)>& shape = {}) {
    cluster_->Start(3);
    cluster_->CreateTable(1, {1, 2, 3}, shape);
  }
  void Fill() {
    for (int i = 0; i < kItems; ++i) ASSERT_TRUE(Put(i, "v" + std::to_string(i)).ok());
  }
  void ExpectFilled() {
    for (int i = 0; i < kItems; ++i) ASSERT_EQ(Get(i), "v" + std::to_string(i)) << i;
  }
  /// Has a replica all the items of Fill(), applied?
  bool HasAll(ClusterNode& node) {
    for (int i = 0; i < kItems; ++i) {
      const std::string value =
          cluster_->ReadAt(node, 1, "p" + std::to_string(i), "s", /*consistent=*/false);
      if (value != "v" + std::to_string(i)) return false;
    }
    return true;
  }

  static std::string KeyOf(int i) { return Node::Key("p" + std::to_string(i), "s"); }
  /// The key of an item in the middle of those of Fill().
  static std::string MiddleKey() {
    std::vector<std::string> keys;
    for (int i = 0; i < kItems; ++i) keys.push_back(KeyOf(i));
    std::sort(keys.begin(), keys.end());
    return keys[kItems / 2];
  }
  uint64_t PartitionOf(const std::string& key) {
    const auto child = cluster_->Known(1, child_);
    return child.has_value() && key >= child->configuration.range_start ? child_ : 1;
  }
  /// The node that leads a partition by its key.
  ClusterNode& Primary(uint64_t partition) {
    return cluster_->node(cluster_->Known(1, partition)->configuration.primary.node);
  }

  /// Asks for the split of partition 1 until there is an answer, or for `limit`.
  Status AskSplit(const std::string& key, milliseconds limit = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    Status status(Code::kUnavailable, "not asked");
    while (std::chrono::steady_clock::now() < deadline) {
      ClusterNode& node = Primary(1);
      if (node.running()) {
        std::vector<group::Member> replicas;
        for (uint64_t id = 1; id <= 3; ++id) {
          replicas.push_back({NodeId(id), ReplicaId(100 * child_ + id)});
        }
        auto work = node.manager().SplitPartition(
            TableId(1), PartitionId(1), key, PartitionId(child_), std::move(replicas),
            std::chrono::steady_clock::now() + milliseconds(500));
        status = Await(node.executor(), std::move(work));
        if (status.code() != Code::kUnavailable && status.code() != Code::kNotPrimary) break;
      }
      std::this_thread::sleep_for(milliseconds(10));
    }
    return status;
  }

  /// Tries until it is done or known to have failed, or for 10 s. With an id, it is retried
  /// whatever the answer.
  WriteOutcome Run(const std::shared_ptr<TestWrite>& write) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    WriteOutcome outcome;
    do {
      ClusterNode& node = Primary(PartitionOf(write->key));
      outcome.status = Unavailable("down");
      if (node.running()) {
        const auto partition = node.Find(1, write->key);
        outcome.status = partition.status();
        if (partition.ok()) outcome = node.Write(*partition, write);
      }
      const bool final =
          outcome.status.code() == Code::kUnknownOutcome && write->request.id.boot == 0;
      if (outcome.status.ok() || final) return outcome;
      std::this_thread::sleep_for(milliseconds(5));
    } while (std::chrono::steady_clock::now() < deadline);
    return outcome;
  }
  Status Put(int i, const std::string& value, RequestId id = {}) {
    const auto write = Node::Make(
        Kind::kPut, Item({{"p", S("p" + std::to_string(i))}, {"s", S("s")}, {"v", S(value)}}));
    write->request.id = id;
    return Run(write).status;
  }
  /// Adds 1 to the number n of item i, by a name that stays the same; the item afterwards.
  std::string AddOnce(int i) {
    const auto write =
        Node::Make(Kind::kUpdate, Item({{"p", S("p" + std::to_string(i))}, {"s", S("s")}}),
                   "ADD n :v", "", {N(1)});
    write->request.id = {9, static_cast<uint64_t>(i) + 1};
    write->request.want_new = true;
    const WriteOutcome outcome = Run(write);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.ToString();
    return outcome.new_item;
  }
  /// A strong read of whoever leads: the value, or the error after 10 s.
  std::string Get(int i) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    std::string answer;
    do {
      ClusterNode& node = Primary(PartitionOf(KeyOf(i)));
      if (node.running()) {
        answer = cluster_->ReadAt(node, 1, "p" + std::to_string(i), "s", true);
        if (!answer.starts_with("NotPrimary") && !answer.starts_with("Unavailable") &&
            !answer.starts_with("NotFound")) {
          return answer;
        }
      }
      std::this_thread::sleep_for(milliseconds(5));
    } while (std::chrono::steady_clock::now() < deadline);
    return answer;
  }

  static constexpr int kItems = 60;
  uint64_t child_ = 2;
};

/// The same, split in the middle.
class MergeTest : public ShapeTest {
 protected:
  void Open() {
    OpenTable();
    Fill();
    SplitAgain();
  }
  void SplitAgain(uint64_t child = 2) {
    child_ = child;
    const Status split = AskSplit(MiddleKey());
    ASSERT_TRUE(split.ok()) << split.ToString() << cluster_->Describe(1);
    ASSERT_TRUE(Put(0, "v0").ok());
    ExpectFilled();
  }
  /// Has the right one's primary moved to the left one's node, as a coordinator does first.
  void BringTogether() {
    const auto right = cluster_->Known(1, child_);
    if (!right.has_value()) return;
    const NodeId left = cluster_->Known(1, 1)->configuration.primary.node;
    if (right->configuration.primary.node == left) return;
    ClusterNode& node = cluster_->node(right->configuration.primary.node);
    for (const group::Member& member : right->configuration.in_sync) {
      if (member.node != left || !node.running()) continue;
      auto work = node.manager().TransferPrimary(
          PartitionId(child_), member, std::chrono::steady_clock::now() + std::chrono::seconds(2));
      (void)Await(node.executor(), std::move(work));
    }
  }
  /// The two are one by the keys, and whoever leads has everything.
  void ExpectMerged() {
    EXPECT_FALSE(cluster_->Known(1, child_).has_value());
    EXPECT_EQ(cluster_->Configuration(1).range_end, "");
    ExpectFilled();
    Fill();
    EXPECT_TRUE(Eventually([&] {
      const auto partition = Primary(1).Find(1);
      return partition.ok() && (*partition)->statistics().item_count == kItems &&
             !(*partition)->statistics().estimated;
    })) << (*Primary(1).Find(1))->statistics().item_count;
  }
};

}  // namespace onggi::partition
