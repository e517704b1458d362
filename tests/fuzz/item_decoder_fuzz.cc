// Fuzzes the decoder of stored items: arbitrary bytes are either refused by ValidateItem, or can be
// walked, counted and written, and come back from JSON as the same bytes.

#include <simdjson.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/check.h"
#include "server/model/attribute_value.h"
#include "server/model/json.h"

using onggi::model::AttributeMap;
using onggi::model::ItemView;
using onggi::model::MapView;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (!onggi::model::ValidateItem(bytes).ok()) return 0;

  const ItemView item(bytes);
  CHECK(item.BilledSize() <= 3 * size);
  for (uint32_t i = 0; i < item.attributes().size(); ++i) {
    const MapView::Entry entry = item.attributes().at(i);
    CHECK(item.Find(entry.name) == entry.value);
    CHECK(onggi::model::ValidateValue(entry.value.encoded()).ok());
    CHECK(entry.value.Nesting() < onggi::model::kMaxNesting);
  }
  const AttributeMap attributes = onggi::model::DecodeAttributes(item.attributes());
  CHECK(onggi::model::EncodeItem(attributes) == bytes);

  std::string json;
  onggi::model::WriteItem(item, &json);
  static simdjson::dom::parser parser;
  simdjson::dom::object object;
  CHECK(parser.parse(json).get_object().get(object) == simdjson::SUCCESS);
  std::string again;
  CHECK(onggi::model::ParseItem(object, &again).ok());
  CHECK(again == bytes);
  return 0;
}
