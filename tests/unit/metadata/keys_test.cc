#include "replication/metadata/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace onggi::metadata::keys {
namespace {

TEST(Keys, AreLaidOutAsDocumented) {
  EXPECT_EQ(Table(TableId(0x1f)), "catalog/table/000000000000001f");
  EXPECT_EQ(Name("default", "Music"), "catalog/name/default/Music");
  EXPECT_EQ(NamesOf("default"), "catalog/name/default/");
  EXPECT_EQ(Partition(TableId(2), PartitionId(3)), "partition/0000000000000002/0000000000000003");
  EXPECT_EQ(Node(NodeId(1)), "node/0000000000000001");
  EXPECT_EQ(NextTable(), "next/table");
}

TEST(Keys, ParseWhatTheyWriteAndNothingElse) {
  EXPECT_EQ(ParseTable(Table(TableId(~0ull))), TableId(~0ull));
  EXPECT_EQ(ParseNode(Node(NodeId(7))), NodeId(7));
  const auto partition = ParsePartition(Partition(TableId(2), PartitionId(3)));
  ASSERT_TRUE(partition);
  EXPECT_EQ(partition->table, TableId(2));
  EXPECT_EQ(partition->partition, PartitionId(3));
  for (const char* key : {"", "catalog/table/", "catalog/table/000000000000001F",
                          "catalog/table/00000000000000001", "node/0000000000000001"})
    EXPECT_FALSE(ParseTable(key)) << key;
  EXPECT_FALSE(ParsePartition("partition/0000000000000002-0000000000000003"));
  EXPECT_FALSE(ParseId("0x0000000000001"));
}

}  // namespace
}  // namespace onggi::metadata::keys
