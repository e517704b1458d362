#include "server/dynamodb/api_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace onggi::dynamodb {
namespace {

TEST(ApiModel, KnowsEveryOperationInOrder) {
  EXPECT_EQ(Operations().size(), 57u);
  EXPECT_NE(FindOperation("GetItem"), nullptr);
  EXPECT_NE(FindOperation("PutResourcePolicy"), nullptr);
  EXPECT_EQ(FindOperation("getItem"), nullptr);
  EXPECT_EQ(FindOperation(""), nullptr);
}

TEST(ApiModel, HoldsConstraints) {
  const Shape& input = ShapeAt(FindOperation("GetItem")->input);
  EXPECT_EQ(input.name, "GetItemInput");
  const auto members = MembersOf(input);
  const auto it = std::ranges::find(members, "TableName", &Member::name);
  ASSERT_NE(it, members.end());
  EXPECT_TRUE(it->required);
  EXPECT_EQ(it->wire_name, "tableName");
  EXPECT_EQ(it->name_rule, NameRule::kData);
  EXPECT_EQ(ShapeAt(it->shape).min, 3);
  EXPECT_EQ(ShapeAt(it->shape).max, 255);
  EXPECT_EQ(ShapeAt(AttributeValueShape()).name, "AttributeValue");
}

TEST(ApiModel, IsWhatItsGeneratorWrites) {
  const char* model =
      "/usr/lib/python3/dist-packages/botocore/data/dynamodb/2012-08-10/service-2.json";
  if (!std::filesystem::exists(model)) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "python3-botocore is not installed";
    GTEST_SKIP() << "python3-botocore is not installed";
  }
  const auto root =
      std::filesystem::path(__FILE__).parent_path().parent_path().parent_path().parent_path();
  const std::string command =
      "python3 '" + (root / "tools/generate_api_model.py").string() + "' --check";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace onggi::dynamodb
