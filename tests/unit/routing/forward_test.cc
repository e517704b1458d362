#include "tests/unit/routing/cluster_fixture.h"

/// Items on two nodes, asked of either.
namespace onggi::routing {
namespace {

using partition::WriteOutcome;
using partition::WriteRequest;
using Kind = partition::WriteRequest::Kind;
using testing::HasSubstr;
using testing::StartsWith;

class Forward : public testing::Test {
 protected:
  static void SetUpTestSuite() { cluster_ = std::make_unique<Cluster>(2); }
  static void TearDownTestSuite() { cluster_.reset(); }
  ClusterNode& node(size_t number) { return (*cluster_)[number]; }
  static inline std::unique_ptr<Cluster> cluster_;
};

TEST_F(Forward, AnyNodeWritesAndReadsAnyItem) {
  const uint64_t table = cluster_->CreateEven(cluster_->NewTable(), 4);
  for (int i = 0; i < 40; ++i) {
    const std::string pk = "p" + std::to_string(i);
    const WriteOutcome put = node(1 + i % 2).WriteOne(table, Cluster::Put(pk, "s", {{"n", N(i)}}));
    ASSERT_TRUE(put.status.ok()) << put.status.ToString();
    EXPECT_FALSE(put.existed);
    EXPECT_GT(put.new_size, 0u);
  }
  for (int i = 0; i < 40; ++i) {
    const std::string pk = "p" + std::to_string(i);
    for (size_t asked : {1, 2}) {
      for (bool consistent : {true, false}) {
        const auto read =
            node(asked).Get(table, Cluster::KeyOf(Cluster::ItemOf(pk, "s")), consistent);
        ASSERT_TRUE(read.status.ok()) << read.status.ToString();
        EXPECT_EQ(read.item, Cluster::ItemOf(pk, "s", {{"n", N(i)}}));
      }
    }
  }
  const auto none = node(1).Get(table, Cluster::KeyOf(Cluster::ItemOf("absent", "s")));
  EXPECT_TRUE(none.status.ok());
  EXPECT_EQ(none.item, "");
  EXPECT_GT(node(1).Metric("onggi_routing_forwarded_total{kind=\"get\"}"), 0u);
  EXPECT_GT(node(1).Metric("onggi_routing_forwarded_total{kind=\"write\"}"), 0u);
}

TEST_F(Forward, ConditionsUpdatesAndReturnedItemsCrossNodes) {
  const uint64_t table = cluster_->CreateEven(cluster_->NewTable(), 2);
  const std::string pk = cluster_->KeysOn(table, 2, 1)[0];
  const std::string key = Cluster::ItemOf(pk, "s");
  auto write = Cluster::Make(Kind::kUpdate, key, "SET a = :v ADD n :w", "", {S("x"), N(2)});
  write->request.want_new = true;
  write->request.want_updated = true;
  WriteOutcome outcome = node(1).WriteOne(table, write);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.ToString();
  EXPECT_EQ(outcome.new_item, Cluster::ItemOf(pk, "s", {{"a", S("x")}, {"n", N(2)}}));
  EXPECT_EQ(outcome.updated_new, Item({{"a", S("x")}, {"n", N(2)}}));

  auto refused = Cluster::Make(Kind::kPut, key, "", "n > :v", {N(5)});
  refused->request.want_old = true;
  outcome = node(1).WriteOne(table, refused);
  EXPECT_EQ(outcome.status.code(), Code::kConditionFailed);
  EXPECT_EQ(outcome.old_item, Cluster::ItemOf(pk, "s", {{"a", S("x")}, {"n", N(2)}}));

  outcome =
      node(1).WriteOne(table, Cluster::Make(Kind::kUpdate, key, "SET b = a.c + :v", "", {N(1)}));
  EXPECT_EQ(outcome.status.code(), Code::kInvalidArgument);
  EXPECT_THAT(outcome.status.message(), HasSubstr("attribute that does not exist"));

  auto gone = Cluster::Make(Kind::kDelete, key, "", "n = :v", {N(2)});
  gone->request.want_old = true;
  outcome = node(1).WriteOne(table, gone);
  ASSERT_TRUE(outcome.status.ok());
  EXPECT_TRUE(outcome.existed);
  EXPECT_EQ(node(2).Get(table, write->key).item, "");
}

TEST_F(Forward, TheApiAnswersTheSameOnEveryNode) {
  proto::Table record = cluster_->NewTable("N");
  AddLocalIndex(&record, "by-date", "date", "S", "INCLUDE", {"title"});
  cluster_->CreateEven(record, 6);
  const std::string table = R"("TableName":")" + record.name() + R"(")";
  const auto item = [](int pk, int sk) {
    return R"({"pk":{"S":"p)" + std::to_string(pk) + R"("},"sk":{"N":")" + std::to_string(sk) +
           R"("},"date":{"S":"d)" + std::to_string(sk % 3) +
           R"("},"title":{"S":"t"},"body":{"M":{"a":)" +
           R"({"L":[{"N":"1"},{"N":"2"}]},"b":{"S":"y"}}}})";
  };
  for (int pk = 0; pk < 10; ++pk) {
    std::string requests;
    for (int sk = 0; sk < 5; ++sk) {
      if (!requests.empty()) requests += ",";
      requests += R"({"PutRequest":{"Item":)" + item(pk, sk) + "}}";
    }
    ASSERT_EQ(node(1 + pk % 2)
                  .Call("BatchWriteItem",
                        R"({"RequestItems":{")" + record.name() + R"(":[)" + requests + "]}}"),
              R"({"UnprocessedItems":{}})");
  }
  std::string keys;
  for (int pk = 0; pk < 12; ++pk) {
    if (pk > 0) keys += ",";
    keys += R"({"pk":{"S":"p)" + std::to_string(pk) + R"("},"sk":{"N":"2"}})";
  }
  const std::vector<std::pair<std::string, std::string>> calls = {
      {"GetItem",
       R"("Key":{"pk":{"S":"p3"},"sk":{"N":"1"}},"ProjectionExpression":"body.a[1],title")"},
      {"GetItem",
       R"("Key":{"pk":{"S":"p4"},"sk":{"N":"1"}},"ConsistentRead":true,"ReturnConsumedCapacity":"TOTAL")"},
      {"Query",
       R"("KeyConditionExpression":"pk = :p","ExpressionAttributeValues":{":p":{"S":"p1"}})"},
      {"Query",
       R"("KeyConditionExpression":"pk = :p","ExpressionAttributeValues":{":p":{"S":"p2"}},"ScanIndexForward":false,"Limit":2)"},
      {"Query",
       R"("KeyConditionExpression":"pk = :p and sk > :s","FilterExpression":"body.b = :y","ExpressionAttributeValues":{":p":{"S":"p5"},":s":{"N":"1"},":y":{"S":"y"}},"ProjectionExpression":"sk,body.a[0]","ConsistentRead":true)"},
      {"Query",
       R"("IndexName":"by-date","KeyConditionExpression":"pk = :p","ExpressionAttributeValues":{":p":{"S":"p6"}},"ReturnConsumedCapacity":"INDEXES")"},
      {"Query",
       R"("IndexName":"by-date","KeyConditionExpression":"pk = :p","ExpressionAttributeValues":{":p":{"S":"p7"}},"Select":"ALL_ATTRIBUTES","ReturnConsumedCapacity":"INDEXES","Limit":3)"},
      {"Scan", R"("Limit":17)"},
      {"Scan",
       R"("Select":"COUNT","FilterExpression":"sk < :s","ExpressionAttributeValues":{":s":{"N":"2"}})"},
      {"Scan",
       R"("Segment":1,"TotalSegments":3,"AttributesToGet":["title","absent"],"ReturnConsumedCapacity":"TOTAL")"},
      {"Scan", R"("IndexName":"by-date","ConsistentRead":true)"},
  };
  for (const auto& [operation, rest] : calls) {
    const std::string request = "{" + table + "," + rest + "}";
    const std::string answer = node(1).Call(operation, request);
    EXPECT_THAT(answer, StartsWith("{")) << operation << rest;
    EXPECT_EQ(node(2).Call(operation, request), answer) << operation << rest;
  }
  const std::string get = R"({"RequestItems":{")" + record.name() + R"(":{"Keys":[)" + keys +
                          R"(],"ProjectionExpression":"pk"}}})";
  EXPECT_EQ(node(1).Call("BatchGetItem", get), node(2).Call("BatchGetItem", get));
  EXPECT_THAT(node(1).Call("BatchGetItem", get), HasSubstr(R"("p9")"));
}

TEST_F(Forward, ScansInBothPagesAndDirectionsMissNothing) {
  const proto::Table record = cluster_->NewTable();
  const uint64_t table = cluster_->CreateEven(record, 7);
  std::set<std::string> expected;
  std::vector<std::shared_ptr<partition::TestWrite>> writes;
  for (int i = 0; i < 300; ++i) {
    const std::string pk = "p" + std::to_string(i % 60);
    const std::string sk = "s" + std::to_string(i);
    writes.push_back(Cluster::Put(pk, sk, {{"fill", S(std::string(500, 'x'))}}));
    expected.insert(pk + "/" + sk);
  }
  for (const WriteOutcome& outcome : node(1).Write(table, writes)) ASSERT_TRUE(outcome.status.ok());
  class Collect final : public PageSink {
   public:
    void Take(const model::ItemView& item) override {
      found.push_back(std::string(item.Find("pk").AsString()) + "/" +
                      std::string(item.Find("sk").AsString()));
    }
    std::vector<std::string> found;
  };
  const auto schema = partition::TableSchema::FromRecord(record);
  for (const size_t asked : {1, 2}) {
    std::vector<std::string> forward;
    for (const bool reverse : {false, true}) {
      Collect sink;
      PageQuery query;
      query.table = TableId(table);
      query.schema = schema.get();
      query.reverse = reverse;
      query.consistent = true;
      query.limit = 23;
      query.max_bytes = 9000;
      for (;;) {
        PageFigures figures;
        const Status status = Await(node(asked).io().NextExecutor(),
                                    node(asked).router().ReadPage(query, &sink, &figures));
        ASSERT_TRUE(status.ok()) << status.ToString();
        EXPECT_LE(figures.scanned, 23u);
        if (!figures.full()) break;
        std::string position = PositionOf(*schema, -1, model::ItemView(figures.last_entry));
        if (reverse) {
          query.upper = position;
        } else {
          query.lower = position + std::string(1, '\0');
        }
      }
      EXPECT_EQ(std::set<std::string>(sink.found.begin(), sink.found.end()), expected);
      EXPECT_EQ(sink.found.size(), expected.size());
      if (reverse) {
        std::reverse(sink.found.begin(), sink.found.end());
        EXPECT_EQ(sink.found, forward);
      }
      forward = sink.found;
    }
  }
}

TEST_F(Forward, FiguresAreOfAllPartitions) {
  const uint64_t table = cluster_->CreateEven(cluster_->NewTable(), 4);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(node(1).WriteOne(table, Cluster::Put("p" + std::to_string(i), "s")).status.ok());
  }
  for (const size_t asked : {1, 2}) {
    const auto figures =
        Await(node(asked).io().NextExecutor(), node(asked).router().Figures(TableId(table)));
    EXPECT_EQ(figures.item_count, 20u);
    EXPECT_GT(figures.item_bytes, 20u * 4);
  }
}

TEST_F(Forward, ManyAtOnceShareFrames) {
  const uint64_t table = cluster_->CreateEven(cluster_->NewTable(), 2);
  const auto keys = cluster_->KeysOn(table, 2, 500);
  std::vector<std::shared_ptr<partition::TestWrite>> writes;
  for (const std::string& pk : keys) writes.push_back(Cluster::Put(pk, "s"));
  const auto frames = [&] { return node(1).network().Find(NodeId(2))->frames_sent(); };
  const uint64_t before = frames();
  for (const WriteOutcome& outcome : node(1).Write(table, writes)) ASSERT_TRUE(outcome.status.ok());
  EXPECT_LT(frames() - before, 50u);
}

TEST_F(Forward, LargeItemsCross) {
  const uint64_t table = cluster_->CreateEven(cluster_->NewTable(), 2);
  const auto keys = cluster_->KeysOn(table, 2, 20);
  std::vector<std::shared_ptr<partition::TestWrite>> writes;
  for (const std::string& pk : keys) {
    writes.push_back(Cluster::Put(pk, "s", {{"big", S(std::string(399'000, 'b'))}}));
    writes.back()->request.want_old = true;
  }
  for (int round = 0; round < 2; ++round) {
    for (const WriteOutcome& outcome : node(1).Write(table, writes)) {
      ASSERT_TRUE(outcome.status.ok()) << outcome.status.ToString();
      EXPECT_EQ(outcome.existed, round == 1);
      EXPECT_EQ(outcome.old_item.size() > 399'000, round == 1);
    }
  }
  EXPECT_GT(node(1).Get(table, writes[0]->key).item.size(), 399'000u);
}

TEST_F(Forward, ATableThatIsNotThereIsNotFound) {
  const auto read = node(1).Get(999, "key", true, std::chrono::milliseconds(200));
  EXPECT_EQ(read.status.code(), Code::kNotFound);
}

}  // namespace
}  // namespace onggi::routing
