#include <algorithm>
#include <set>

#include "server/dynamodb/control_plane.h"
#include "server/dynamodb/json_writer.h"
#include "server/dynamodb/schema.h"

namespace onggi::dynamodb {
namespace {

/// Something that looks like an ARN at all: what does not is refused as not permitted.
bool HasArnForm(std::string_view text) {
  size_t colons = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ':' && i > 0) ++colons;
    if (text[i] == '/' && colons >= 5 && i + 1 < text.size()) return true;
  }
  return false;
}

/// The table of a ResourceArn. `missing` is what the operation asks for besides it: its absence is
/// told of between the ARN's two checks, as the service does. Empty: nothing is missing.
Outcome FindResource(const CallContext& context, Input input, std::string_view missing,
                     std::shared_ptr<const Table>* table) {
  const auto arn = input.String("ResourceArn");
  if (!arn) return ValidationError("Invalid TableArn");
  if (!HasArnForm(*arn)) {
    return ApiError{
        ErrorType::kAccessDenied,
        "User: arn:aws:iam::" + context.scope->account_id +
            ":root is not authorized to perform: dynamodb:" + std::string(context.operation) +
            " on resource: " + (arn->empty() ? "*" : std::string(*arn)),
        {}};
  }
  if (!missing.empty()) {
    return ValidationError("1 validation error detected: Value null at '" + std::string(missing) +
                           "' failed to satisfy constraint: Member must not be null");
  }
  TableArn parsed;
  if (!ParseTableArn(*arn, &parsed) || !parsed.rest.empty()) {
    return ValidationError("Invalid TableArn: Invalid ResourceArn provided as input " +
                           std::string(*arn));
  }
  const bool elsewhere =
      context.scope->account != "default" && parsed.region != context.scope->region;
  if (!elsewhere) *table = context.catalog->Find(context.scope->account, parsed.table);
  if (*table == nullptr) {
    return ApiError{ErrorType::kResourceNotFound,
                    "Requested resource not found: ResourcArn: " + std::string(*arn) + " not found",
                    {}};
  }
  return {};
}

ApiError TooManyTags() {
  return ValidationError(
      "One or more parameter values were invalid: Too many tags: a resource may "
      "have at most " +
      std::to_string(kMaxTags));
}

Outcome CheckNotBusy(const proto::Table& record) {
  if (record.status() != proto::TABLE_STATUS_DELETING) return {};
  return ApiError{ErrorType::kResourceInUse,
                  "Attempt to change a resource which is still in use: Table is being deleted: " +
                      record.name(),
                  {}};
}

bool ChangesReplication(simdjson::dom::array tags) {
  for (const simdjson::dom::element element : tags) {
    simdjson::dom::object object;
    if (!element.get(object) && Input(object).StringOr("Key", "") == kReplicationTag) return true;
  }
  return false;
}

}  // namespace

Outcome AddTags(simdjson::dom::array tags, proto::Table* record) {
  std::set<std::string_view> seen;
  for (const simdjson::dom::element element : tags) {
    simdjson::dom::object object;
    if (element.get(object)) continue;
    const Input tag(object);
    const std::string_view key = tag.StringOr("Key", "");
    if (key.starts_with("aws:")) {
      return ValidationError(
          "One or more parameter values were invalid: Tag keys beginning with \"aws:\" are "
          "reserved: " +
          std::string(key));
    }
    if (!seen.insert(key).second) {
      return ValidationError("One or more parameter values were invalid: Duplicate tag key: " +
                             std::string(key));
    }
    auto* known = record->mutable_tags();
    auto it = std::find_if(known->begin(), known->end(),
                           [&](const proto::Tag& t) { return t.key() == key; });
    proto::Tag* target = it != known->end() ? &*it : record->add_tags();
    target->set_key(std::string(key));
    target->set_value(std::string(tag.StringOr("Value", "")));
    if (record->tags_size() > kMaxTags) return TooManyTags();
  }
  return {};
}

boost::asio::awaitable<Outcome> ControlPlane::TagResource(CallContext& context, Input input,
                                                          std::string* body) {
  body->clear();  // the answer is empty
  const auto tags = input.Array("Tags");
  std::shared_ptr<const Table> table;
  if (Outcome outcome = FindResource(context, input, tags ? "" : "tags", &table); !outcome.ok()) {
    co_return outcome;
  }
  if (tags->size() == 0) {
    co_return ValidationError("Atleast one Tag needs to be provided as Input.");
  }
  const simdjson::dom::array wanted = *tags;
  const Change change = [&](proto::Table& record) -> Outcome {
    if (Outcome outcome = CheckNotBusy(record); !outcome.ok()) return outcome;
    if (Outcome outcome = AddTags(wanted, &record); !outcome.ok()) return outcome;
    // Of others it may have one from before it meant anything.
    return ChangesReplication(wanted) ? ReadReplicationTag(options_.replication, &record)
                                      : Outcome();
  };
  proto::Table record;
  Outcome outcome = co_await ChangeRecord(table->id(), table->name(), change, &record);
  co_return outcome;
}

boost::asio::awaitable<Outcome> ControlPlane::UntagResource(CallContext& context, Input input,
                                                            std::string* body) {
  body->clear();
  const auto keys = input.Array("TagKeys");
  std::shared_ptr<const Table> table;
  if (Outcome outcome = FindResource(context, input, keys ? "" : "tagKeys", &table);
      !outcome.ok()) {
    // The service does not name the resource here.
    if (outcome.error().type == ErrorType::kResourceNotFound) co_return TableNotFoundForData();
    co_return outcome;
  }
  if (keys->size() == 0) {
    co_return ValidationError("Atleast one Tag Key needs to be provided as Input.");
  }
  std::set<std::string, std::less<>> wanted;
  for (const simdjson::dom::element element : *keys) {
    std::string_view key;
    if (!element.get(key)) wanted.emplace(key);
  }
  const Change change = [&](proto::Table& record) -> Outcome {
    if (Outcome outcome = CheckNotBusy(record); !outcome.ok()) return outcome;
    auto* known = record.mutable_tags();
    known->erase(std::remove_if(known->begin(), known->end(),
                                [&](const proto::Tag& tag) { return wanted.contains(tag.key()); }),
                 known->end());
    return {};
  };
  proto::Table record;
  Outcome outcome = co_await ChangeRecord(table->id(), table->name(), change, &record);
  co_return outcome;
}

Outcome ControlPlane::ListTagsOfResource(CallContext& context, Input input, std::string* body) {
  std::shared_ptr<const Table> table;
  if (Outcome outcome = FindResource(context, input, {}, &table); !outcome.ok()) return outcome;
  if (input.Has("NextToken")) return ValidationError("Invalid NextToken");
  ObjectWriter answer(body);
  // All fit into one page: a resource has no more tags than a page.
  WriteArray(table->record.tags(), answer.Key("Tags"), [](const proto::Tag& tag, std::string* out) {
    ObjectWriter writer(out);
    writer.String("Key", tag.key());
    writer.String("Value", tag.value());
  });
  return {};
}

}  // namespace onggi::dynamodb
