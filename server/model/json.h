#pragma once

#include <simdjson.h>

#include <string>
#include <string_view>

#include "common/status.h"
#include "server/model/value.h"

/// DynamoDB JSON: {"S": "text"}, {"N": "1"}, {"M": {...}} and so on.
/// Source: docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html
namespace onggi::model {

/// Reads one attribute value and appends its stored form to `out`. `json` has already passed the
/// wire schema (objects where objects are due, strings where strings are due); what is left are the
/// service's own rules, in its words, as InvalidArgument: exactly one type key ("Supplied
/// AttributeValue is empty, must contain exactly one of the supported datatypes" and "... has more
/// than one datatypes set, must contain exactly one of the supported datatypes"), numbers, base64,
/// empty sets, duplicate set elements, nesting beyond kMaxNesting.
Status ParseValue(simdjson::dom::element json, std::string* out);

/// Reads an object of attribute values ("Item", "Key") and appends an item in stored form.
Status ParseItem(simdjson::dom::object json, std::string* out);

/// Rules of an attribute's name, in the service's words, as InvalidArgument: not empty, at most
/// kMaxAttributeNameSize bytes.
Status CheckAttributeName(std::string_view name);

/// Appends {"S":"text"} etc.
void WriteValue(ValueView value, std::string* out);
/// Appends {"name":{"S":"text"},...}
void WriteMap(const MapView& attributes, std::string* out);
inline void WriteItem(ItemView item, std::string* out) { WriteMap(item.attributes(), out); }

/// Appends a JSON string with quotes and escapes. `text` is UTF-8.
void WriteJsonString(std::string_view text, std::string* out);

/// Standard base64 with padding (RFC 4648 section 4).
void AppendBase64(std::string_view bytes, std::string* out);
/// False when `text` is not canonical base64.
bool DecodeBase64(std::string_view text, std::string* out);

}  // namespace onggi::model
