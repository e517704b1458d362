#include <set>

#include "server/dynamodb/page_reader.h"
#include "tests/unit/dynamodb/node_fixture.h"

namespace onggi::dynamodb {
namespace {

using testing::HasSubstr;
using testing::Not;

class ScanOperation : public NodeTest {
 protected:
  /// A table of one partition, or of four even ones, with `items` items named k0, k1...
  void UseTable(int items, bool cut = false) {
    std::vector<std::string> boundaries;
    if (cut) {
      for (uint32_t i = 1; i < 4; ++i) boundaries.push_back(RangeOfSegment(i, 4).lower);
    }
    table_ = node_->Create(node_->NewTable(""), boundaries);
    for (int i = 0; i < items; ++i) {
      Put("k" + std::to_string(i), "", "\"n\":{\"N\":\"" + std::to_string(i % 3) + "\"}");
    }
  }

  /// Every page of a scan, one after the other; `*pages` counts them. Keys found twice are a
  /// failure.
  std::set<std::string> Everything(const std::string& members, int* pages = nullptr) {
    std::set<std::string> keys;
    std::string start;
    for (int page = 1;; ++page) {
      const std::string body =
          Call("Scan", R"({"TableName":"$T")" + members +
                           (start.empty() ? "" : ",\"ExclusiveStartKey\":" + start) + "}");
      simdjson::dom::parser parser;
      simdjson::dom::element document;
      simdjson::dom::array items;
      EXPECT_FALSE(parser.parse(body).get(document)) << body;
      if (document["Items"].get(items)) {
        ADD_FAILURE() << body;
        return keys;
      }
      for (const auto item : items) {
        const std::string key(item["pk"]["S"].get_string().value());
        EXPECT_TRUE(keys.insert(key).second) << key << " twice";
      }
      if (pages != nullptr) *pages = page;
      simdjson::dom::element last;
      if (document["LastEvaluatedKey"].get(last)) return keys;
      start = simdjson::minify(last);
    }
  }
};

TEST_F(ScanOperation, PagesCoverTheTableOnce) {
  for (const bool cut : {false, true}) {
    UseTable(50, cut);
    for (const int limit : {1, 7, 50, 51}) {
      int pages = 0;
      EXPECT_EQ(Everything(",\"Limit\":" + std::to_string(limit), &pages).size(), 50u);
      EXPECT_EQ(pages, 50 / limit + 1) << "limit " << limit;
    }
  }
}

TEST_F(ScanOperation, SegmentsCoverTheTableOnce) {
  for (const bool cut : {false, true}) {
    UseTable(60, cut);
    for (const int total : {1, 2, 5, 64}) {
      size_t found = 0;
      for (int segment = 0; segment < total; ++segment) {
        found += Everything(",\"Limit\":9,\"Segment\":" + std::to_string(segment) +
                            ",\"TotalSegments\":" + std::to_string(total))
                     .size();
      }
      EXPECT_EQ(found, 60u) << total << " segments";
    }
  }
}

TEST_F(ScanOperation, PagesEndBehindOneMegabyte) {
  UseTable(0);
  for (int i = 0; i < 30; ++i) {
    Put("k" + std::to_string(i), "", "\"v\":{\"S\":\"" + std::string(100'000, 'x') + "\"}");
  }
  int pages = 0;
  EXPECT_EQ(Everything("", &pages).size(), 30u);
  EXPECT_EQ(pages, 3);
  EXPECT_THAT(
      Call("Scan", R"j({"TableName":"$T","FilterExpression":"attribute_exists(nothing)"})j"),
      HasSubstr(R"({"Items":[],"Count":0,"ScannedCount":11,"LastEvaluatedKey")"));
}

TEST_F(ScanOperation, CountsAndFilters) {
  UseTable(30);
  EXPECT_EQ(Call("Scan", R"({"TableName":"$T","Select":"COUNT","FilterExpression":"n = :n",)"
                         R"("ExpressionAttributeValues":{":n":{"N":"1"}}})"),
            R"({"Count":10,"ScannedCount":30})");
  EXPECT_EQ(Call("Scan", R"({"TableName":"$T","Select":"COUNT","ScanFilter":{"n":)"
                         R"({"ComparisonOperator":"EQ","AttributeValueList":[{"N":"1"}]}}})"),
            R"({"Count":10,"ScannedCount":30})");
}

TEST_F(ScanOperation, ReadsALocalIndex) {
  proto::Table record = node_->NewTable("N");
  AddLocalIndex(&record, "by_n", "n", "N", "KEYS_ONLY");
  table_ = node_->Create(record);
  for (int i = 0; i < 9; ++i) {
    Put("p" + std::to_string(i), R"({"N":"1"})",
        i % 3 == 0 ? R"("d":{"S":"v"})" : R"("d":{"S":"v"},"n":{"N":"5"})");
  }
  EXPECT_EQ(Everything(R"(,"IndexName":"by_n","Limit":4)").size(), 6u);
  EXPECT_THAT(Call("Scan", R"({"TableName":"$T","IndexName":"by_n"})"), Not(HasSubstr("\"d\"")));
  EXPECT_THAT(Call("Scan", R"({"TableName":"$T","IndexName":"by_n","ProjectionExpression":"d"})"),
              HasSubstr(R"({"d":{"S":"v"}})"));
}

TEST_F(ScanOperation, RefusesInTheServicesWords) {
  table_ = node_->Create(node_->NewTable("N"));
  const std::string prefix = "ValidationException: ";
  for (const auto& [members, message] : std::vector<std::pair<std::string, std::string>>{
           {R"("Segment":1)",
            "The TotalSegments parameter is required but was not present in the request when "
            "Segment "
            "parameter is present"},
           {R"("TotalSegments":1)",
            "The Segment parameter is required but was not present in the request when parameter "
            "TotalSegments is present"},
           {R"("Segment":5,"TotalSegments":4)",
            "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
            "Segment: 5 is not less than TotalSegments: 4"},
           {R"("ExclusiveStartKey":{"pk":{"S":"p"}})",
            "The provided starting key is invalid: The provided key element does not match the "
            "schema"},
           {R"("ExclusiveStartKey":{"pk":{"S":"p"},"sk":{"S":"x"}})",
            "The provided starting key is invalid: The provided key element does not match the "
            "schema"},
           {R"("AttributesToGet":["a","a"])",
            "One or more parameter values were invalid: Duplicate value in attribute name: a"},
           {R"("IndexName":"nope")", "The table does not have the specified index: nope"},
           {R"("ExpressionAttributeValues":{":v":{"N":"1"}})",
            "ExpressionAttributeValues can only be specified when using expressions: "
            "FilterExpression is null"}}) {
    EXPECT_EQ(Call("Scan", R"({"TableName":"$T",)" + members + "}"), prefix + message);
  }
  const std::string key = R"("ExclusiveStartKey":{"pk":{"S":"p"},"sk":{"N":"1"}})";
  int refused = 0;
  for (const char* segment : {"0", "1"}) {
    const std::string body = Call("Scan", R"({"TableName":"$T","TotalSegments":2,"Segment":)" +
                                              std::string(segment) + "," + key + "}");
    if (body.starts_with("Validation")) {
      ++refused;
      EXPECT_EQ(body, prefix +
                          "The provided starting key is invalid: Invalid ExclusiveStartKey. "
                          "Please use ExclusiveStartKey with correct Segment. "
                          "TotalSegments: 2 Segment: " +
                          segment);
    }
  }
  EXPECT_EQ(refused, 1);
}

}  // namespace
}  // namespace onggi::dynamodb
