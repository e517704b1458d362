// Fuzzes all the expression parsers with one text, and evaluates what they accept against a small
// item: no text may crash, hang or exhaust the stack, and every result is a valid item.

#include <simdjson.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "common/check.h"
#include "server/expression/expression.h"
#include "server/model/json.h"

using onggi::Result;
using onggi::Status;
using onggi::model::ItemView;
using namespace onggi::expression;  // NOLINT(build/namespaces)

namespace {

constexpr char kItem[] = R"({
  "a":{"N":"5"}, "b":{"S":"hello"}, "c":{"SS":["x","y"]},
  "l":{"L":[{"N":"1"},{"S":"x"},{"L":[{"N":"9"}]},{"SS":["x"]}]},
  "m":{"M":{"x":{"N":"1"},"y":{"M":{"z":{"B":"YQ=="}}}}}, "t":{"BOOL":true}})";

std::string ParseOrDie(const char* json) {
  simdjson::dom::parser parser;
  std::string item;
  CHECK(onggi::model::ParseItem(parser.parse(std::string(json)), &item).ok());
  return item;
}

Placeholders MakePlaceholders() {
  static const std::string* const values = new std::string(ParseOrDie(R"({
    "n":{"N":"1"}, "s":{"S":"x"}, "b":{"B":"YQ=="}, "c":{"SS":["x"]}, "l":{"L":[{"N":"1"}]},
    "m":{"M":{}}, "t":{"BOOL":true}, "z":{"NULL":true}, "p":{"S":"S"}})"));
  Placeholders placeholders;
  const onggi::model::MapView map = ItemView(*values).attributes();
  for (uint32_t i = 0; i < map.size(); ++i) {
    placeholders.AddValue(":" + std::string(map.at(i).name),
                          std::string(map.at(i).value.encoded()));
  }
  placeholders.AddName("#a", "a");
  placeholders.AddName("#m", "m");
  placeholders.AddName("#x", "x");
  return placeholders;
}

void CheckMessage(const Status& status) {
  CHECK(status.code() == onggi::Code::kInvalidArgument);
  CHECK(!status.message().empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const std::string item_bytes = ParseOrDie(kItem);
  static const std::string key_bytes = ParseOrDie(R"({"pk":{"S":"k"}})");
  const ItemView item(item_bytes);
  const ItemView key(key_bytes);
  Placeholders placeholders = MakePlaceholders();

  if (const auto condition = ParseCondition(text, "ConditionExpression", &placeholders);
      condition.ok()) {
    (void)condition->Evaluate(item);
    (void)condition->Evaluate(ItemView());
    (void)condition->attributes();
  } else {
    CheckMessage(condition.status());
  }

  if (const auto projection = ParseProjection(text, &placeholders); projection.ok()) {
    std::string out;
    projection->Project(item, &out);
    CHECK(onggi::model::ValidateItem(out).ok());
  } else {
    CheckMessage(projection.status());
  }

  if (const auto update = ParseUpdate(text, &placeholders); update.ok()) {
    for (const ItemView& old_item : {item, ItemView()}) {
      Update::Output output;
      if (const Status status = update->Apply(old_item, key, true, &output); status.ok()) {
        CHECK(onggi::model::ValidateItem(output.item).ok());
        CHECK(onggi::model::ValidateItem(output.updated_old).ok());
        CHECK(onggi::model::ValidateItem(output.updated_new).ok());
      } else {
        CheckMessage(status);
      }
    }
  } else {
    CheckMessage(update.status());
  }

  const KeySchema schema("a", onggi::model::Type::kString, "b", onggi::model::Type::kNumber);
  if (const auto condition = ParseKeyCondition(text, &placeholders, schema); !condition.ok()) {
    CheckMessage(condition.status());
  }
  (void)placeholders.CheckAllUsed();
  return 0;
}
