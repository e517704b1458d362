#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/model/attribute_value.h"
#include "tests/unit/model/random_values.h"

namespace onggi::model {
namespace {

using std::string_literals::operator""s;
using testing::ElementsAre;

AttributeValue Number_(int64_t value) { return AttributeValue::Of(Number::FromInt(value)); }

TEST(Type, HasTheNamesOfTheService) {
  for (Type type :
       {Type::kNull, Type::kBool, Type::kNumber, Type::kString, Type::kBinary, Type::kStringSet,
        Type::kNumberSet, Type::kBinarySet, Type::kList, Type::kMap}) {
    EXPECT_EQ(TypeFromName(TypeName(type)), type);
  }
  for (const char* name : {"", "s", "X", "XS", "SX", "NULLS", "bool", "BOOLEAN", "SSS"}) {
    EXPECT_EQ(TypeFromName(name), std::nullopt) << name;
  }
}

TEST(AttributeValue, IsNullByDefault) {
  EXPECT_EQ(AttributeValue().type(), Type::kNull);
  EXPECT_EQ(AttributeValue().Encode(), "\x01");
}

TEST(AttributeValue, SortsSetsAndDropsDuplicates) {
  const std::string bytes =
      AttributeValue::Set(Type::kStringSet, {"b", "", "a", "b", "\xC3\xA9"}).Encode();
  const SetView set = ValueView(bytes).AsSet();
  EXPECT_EQ(set.size(), 4u);
  EXPECT_EQ(set.element_type(), Type::kString);
  std::vector<std::string> elements;
  for (std::string_view element : set) elements.emplace_back(element);
  EXPECT_THAT(elements, ElementsAre("", "a", "b", "\xC3\xA9"));
  EXPECT_TRUE(set.Contains(""));
  EXPECT_TRUE(set.Contains("b"));
  EXPECT_FALSE(set.Contains("aa"));
  EXPECT_FALSE(set.Contains("z\xFF"));
}

TEST(AttributeValue, HasOneEncodingWhateverTheOrderOfMaking) {
  MapBuilder first;
  first.Add("a", Number_(1).Encode());
  first.Add("b", AttributeValue::String("x").Encode());
  MapBuilder second;
  second.Add("b", AttributeValue::String("x").Encode());
  second.Add("a", Number_(1).Encode());
  std::string item_a;
  std::string item_b;
  first.FinishItem(&item_a);
  second.FinishItem(&item_b);
  EXPECT_EQ(item_a, item_b);
  AttributeMap map;
  map.emplace("a", Number_(1));
  map.emplace("b", AttributeValue::String("x"));
  EXPECT_EQ(EncodeItem(map), item_a);
  EXPECT_TRUE(ValidateItem(item_a).ok());
}

TEST(MapBuilder, KeepsTheLastValueOfAName) {
  MapBuilder builder;
  builder.Add("b", Number_(1).Encode());
  builder.Add("a", Number_(2).Encode());
  builder.Add("b", Number_(3).Encode());
  builder.Add("a", Number_(4).Encode());
  builder.Add("b", Number_(5).Encode());
  std::string item;
  builder.FinishItem(&item);
  const ItemView view(item);
  EXPECT_TRUE(ValidateItem(item).ok());
  ASSERT_EQ(view.attributes().size(), 2u);
  EXPECT_EQ(view.Find("a").AsNumber().ToString(), "4");
  EXPECT_EQ(view.Find("b").AsNumber().ToString(), "5");
}

TEST(MapBuilder, IsReusableAfterClear) {
  MapBuilder builder;
  builder.Add("a", Number_(1).Encode());
  EXPECT_FALSE(builder.empty());
  builder.Clear();
  EXPECT_TRUE(builder.empty());
  std::string value = "kept";
  builder.FinishValue(&value);
  EXPECT_EQ(value, "kept\x0A\0"s);
}

TEST(MapView, FindsEveryAttributeAndNoOther) {
  for (int count : {0, 1, 2, 7, 255, 256, 3000}) {
    AttributeMap map;
    for (int i = 0; i < count; ++i) map.emplace("name" + std::to_string(i), Number_(i));
    const std::string item = EncodeItem(map);
    ASSERT_TRUE(ValidateItem(item).ok());
    const ItemView view(item);
    ASSERT_EQ(view.attributes().size(), static_cast<uint32_t>(count));
    for (int i = 0; i < count; ++i) {
      const ValueView value = view.Find("name" + std::to_string(i));
      ASSERT_TRUE(value.valid());
      ASSERT_EQ(value.AsNumber(), Number::FromInt(i));
    }
    EXPECT_FALSE(view.Find("name").valid());
    EXPECT_FALSE(view.Find("").valid());
    EXPECT_FALSE(view.attributes().Contains("zzz"));
  }
}

TEST(ListView, ReachesElementsThroughOffsetsOfEveryWidth) {
  for (size_t size : {1, 100, 1000, 70000}) {
    AttributeList list;
    for (int i = 0; i < 5; ++i) list.push_back(AttributeValue::String(std::string(size, 'a' + i)));
    const std::string bytes = AttributeValue(list).Encode();
    ASSERT_TRUE(ValidateValue(bytes).ok());
    const ListView view = ValueView(bytes).AsList();
    ASSERT_EQ(view.size(), 5u);
    for (uint32_t i = 0; i < 5; ++i) {
      EXPECT_EQ(view.at(i).AsString(), std::string(size, 'a' + static_cast<char>(i)));
      EXPECT_EQ(view.at(i).encoded(), list[i].Encode());
    }
  }
}

TEST(AttributeValue, ComesApartLevelByLevelAndGoesTogetherAgain) {
  RandomValues random;
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(random.seed()));
  for (int i = 0; i < 300; ++i) {
    const std::string item = EncodeItem(random.Attributes(4));
    const Status status = ValidateItem(item);
    ASSERT_TRUE(status.ok()) << status.ToString();
    AttributeMap attributes = DecodeAttributes(ItemView(item).attributes());
    for (auto& [name, value] : attributes) {
      const std::string before = value.Encode();
      const int nesting = value.Nesting();
      if (value.type() == Type::kList) {
        for (AttributeValue& element : value.MutableList()) {
          if (element.type() == Type::kMap) element.MutableMap();
        }
      } else if (value.type() == Type::kMap) {
        value.MutableMap();
      }
      ASSERT_EQ(value.Encode(), before);
      ASSERT_EQ(value.Nesting(), nesting);
    }
    ASSERT_EQ(EncodeItem(attributes), item);
  }
}

TEST(AttributeValue, ChangesInPlace) {
  AttributeMap inner;
  inner.emplace("x", Number_(1));
  AttributeList list;
  list.push_back(AttributeValue(inner));
  AttributeValue value{ValueView(AttributeValue(list).Encode())};
  value.MutableList()[0].MutableMap().insert_or_assign("x", Number_(2));
  value.MutableList().push_back(AttributeValue::Bool(true));
  const std::string bytes = value.Encode();
  const ListView view = ValueView(bytes).AsList();
  EXPECT_EQ(view.at(0).AsMap().Find("x").AsNumber().ToString(), "2");
  EXPECT_TRUE(view.at(1).AsBool());
}

TEST(ValueView, ComparesByTypeRules) {
  const auto compare = [](const AttributeValue& a, const AttributeValue& b) {
    const std::string left = a.Encode();
    const std::string right = b.Encode();
    return ValueView::Compare(ValueView(left), ValueView(right));
  };
  EXPECT_LT(compare(Number_(-10), Number_(9)), 0);
  EXPECT_GT(compare(Number_(10), Number_(9)), 0);
  EXPECT_EQ(compare(Number_(10), Number_(10)), 0);
  EXPECT_LT(compare(AttributeValue::String("a"), AttributeValue::String("ab")), 0);
  EXPECT_GT(compare(AttributeValue::Binary("\xFF"), AttributeValue::Binary("\x7F")), 0);
}

TEST(ValueView, CountsForTheSizeFunction) {
  const auto size = [](const AttributeValue& value) {
    const std::string bytes = value.Encode();
    return ValueView(bytes).FunctionSize();
  };
  EXPECT_EQ(size(AttributeValue::String("")), 0u);
  EXPECT_EQ(size(AttributeValue::String("\xC3\xA9")), 1u);
  EXPECT_EQ(size(AttributeValue::String("\xEC\x98\xB9")), 1u);
  EXPECT_EQ(size(AttributeValue::String("\xC3\xA9\xF0\x9D\x84\x9E")), 3u);  // a surrogate pair
  EXPECT_EQ(size(AttributeValue::Binary("\xC3\xA9")), 2u);
  EXPECT_EQ(size(AttributeValue::Set(Type::kNumberSet, {std::string(Number().encoded())})), 1u);
  EXPECT_EQ(size(AttributeValue(AttributeList())), 0u);
  EXPECT_EQ(size(AttributeValue(AttributeMap())), 0u);
  EXPECT_EQ(size(Number_(1)), std::nullopt);
  EXPECT_EQ(size(AttributeValue::Bool(true)), std::nullopt);
  EXPECT_EQ(size(AttributeValue::Null()), std::nullopt);
}

TEST(ValueView, IsBilledAsTheServiceCounts) {
  const auto size = [](const AttributeValue& value) {
    const std::string bytes = value.Encode();
    return ValueView(bytes).BilledSize();
  };
  EXPECT_EQ(size(AttributeValue::Null()), 1u);
  EXPECT_EQ(size(AttributeValue::Bool(false)), 1u);
  EXPECT_EQ(size(AttributeValue::String("\xEC\x98\xB9")), 3u);
  EXPECT_EQ(size(AttributeValue::Binary("1234")), 4u);
  EXPECT_EQ(size(Number_(12)), 2u);
  EXPECT_EQ(size(AttributeValue::Set(Type::kStringSet, {"ab", "c"})), 3u);
  EXPECT_EQ(
      size(AttributeValue::Set(Type::kNumberSet, {std::string(Number::FromInt(1).encoded()),
                                                  std::string(Number::FromInt(-1).encoded())})),
      5u);
  EXPECT_EQ(size(AttributeValue(AttributeList())), 3u);
  EXPECT_EQ(size(AttributeValue(AttributeMap())), 3u);
  AttributeMap map;
  map.emplace("key", AttributeValue::String("val"));
  EXPECT_EQ(size(AttributeValue(map)), 3u + 1 + 3 + 3);
  AttributeList list;
  list.push_back(AttributeValue(map));
  list.push_back(AttributeValue::Null());
  EXPECT_EQ(size(AttributeValue(list)), 3u + 1 + 10 + 1 + 1);
  const std::string item = EncodeItem(map);
  EXPECT_EQ(ItemView(item).BilledSize(), 6u);  // an item has no overhead of its own
}

TEST(ValueView, CountsNestingAsTheServiceDoes) {
  AttributeValue value = AttributeValue::String("leaf");
  for (int level = 0; level < 40; ++level) {
    const std::string bytes = value.Encode();
    ASSERT_EQ(ValueView(bytes).Nesting(), level);
    ASSERT_EQ(value.Nesting(), level);
    ASSERT_EQ(ValidateValue(bytes).ok(), level <= 32);
    AttributeMap item;
    item.emplace("v", value);
    ASSERT_EQ(ValidateItem(EncodeItem(item)).ok(), level <= 31);
    if (level % 2 == 0) {
      AttributeList list;
      list.push_back(std::move(value));
      value = AttributeValue(std::move(list));
    } else {
      AttributeMap map;
      map.emplace("m", std::move(value));
      value = AttributeValue(std::move(map));
    }
  }
}

}  // namespace
}  // namespace onggi::model
