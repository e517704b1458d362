#pragma once

#include <simdjson.h>

#include <string>
#include <string_view>

#include "common/status.h"
#include "server/grpc/plan.h"

/// Messages of onggi.v1 on the wire to the API's JSON and back, without message objects in between:
/// the operations read JSON (dynamodb::Input), so that gRPC and HTTP share all of their checks. It
/// costs a copy of the request and one of the answer; docs/grpc.md says how much that is.
///
/// Wire format: protobuf.dev/programming-guides/encoding. As parsers do: of a field that occurs
/// twice the last one holds, messages are merged, the last of two equal map keys holds, unknown
/// fields are passed over. Groups are refused. Text that is not UTF-8 passes: the JSON parser
/// refuses it.
namespace onggi::grpc_api {

/// Messages inside each other. Values nest 32 deep, and take two messages a level.
inline constexpr int kMaxMessageDepth = 100;

/// Appends the JSON of `wire` to `json`. kInvalidArgument: no message of this kind, or nested
/// deeper than kMaxMessageDepth. kResourceExhausted: `json` would grow past `max_json` bytes.
/// On an error what has been appended means nothing.
Status WireToJson(const MessagePlan& plan, std::string_view wire, size_t max_json,
                  std::string* json);

/// Appends the message that `json` stands for. Members that the message has no field for are left
/// out, and so are values of another type than the field's: `json` is our own.
void JsonToWire(const MessagePlan& plan, simdjson::dom::element json, std::string* wire);

}  // namespace onggi::grpc_api
