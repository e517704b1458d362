#include "tests/unit/partition/node_fixture.h"

namespace onggi::partition {
namespace {

class LoadReport : public NodeTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(node_.Start().ok());
    node_.CreateTable(1);
  }
  void Put(int from, int to, size_t value_bytes) {
    std::vector<std::shared_ptr<TestWrite>> writes;
    for (int i = from; i < to; ++i) {
      writes.push_back(
          Node::Make(WriteRequest::Kind::kPut, Item({{"p", S("p" + std::to_string(i))},
                                                     {"s", S("s")},
                                                     {"v", S(std::string(value_bytes, 'x'))}})));
    }
    for (const WriteOutcome& outcome : node_.Write(*node_.Find(1), writes)) {
      ASSERT_TRUE(outcome.status.ok()) << outcome.status.ToString();
    }
  }
  proto::ReplicaStatus Describe() {
    const auto statuses = node_.manager().GetReplicas(TableId(1), PartitionId());
    CHECK(statuses.size() == 1);
    return statuses[0];
  }
  Node node_{directory_.path()};
};

/// A write buffer's size stands still while it fills.
TEST_F(LoadReport, WhereBytesHalveIsSoughtAgainWhenTheItemsHaveChanged) {
  Put(0, 1, 3000);
  const proto::ReplicaStatus before = Describe();
  EXPECT_EQ(before.size_split_key(), "");
  Put(1, 80, 300);
  const proto::ReplicaStatus after = Describe();
  ASSERT_EQ(after.bytes(), before.bytes());  // or this would test nothing
  ASSERT_NE(after.size_split_key(), "");
  int left = 0;
  for (int i = 0; i < 80; ++i) {
    left += Node::Key("p" + std::to_string(i), "s") < after.size_split_key();
  }
  // (What is in memory is estimated by chance.)
  EXPECT_GT(left, 0);
  EXPECT_LT(left, 80);
}

}  // namespace
}  // namespace onggi::partition
