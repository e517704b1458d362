#include <google/protobuf/util/json_util.h>

#include "client/cli/commands.h"
#include "client/cli/output.h"

/// onggi table list, onggi table describe.
namespace onggi::cli {
namespace {

using Tables = v1::Tables::Stub;

/// "KEY_TYPE_HASH" -> "HASH".
std::string Tail(const std::string& name, std::string_view prefix) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

std::string StatusName(v1::Status status) { return Tail(v1::Status_Name(status), "STATUS_"); }

std::string ShowSchema(const google::protobuf::RepeatedPtrField<v1::KeySchemaElement>& schema,
                       const v1::TableDescription& table) {
  std::string shown;
  for (const v1::KeySchemaElement& element : schema) {
    std::string type;
    for (const v1::AttributeDefinition& attribute : table.attribute_definitions()) {
      if (attribute.attribute_name() != element.attribute_name()) continue;
      type =
          Tail(v1::ScalarAttributeType_Name(attribute.attribute_type()), "SCALAR_ATTRIBUTE_TYPE_");
    }
    shown += (shown.empty() ? "" : ", ") + element.attribute_name() + " (" + type + ")";
  }
  return shown;
}

Exit List(const Command& command, Session& session) {
  std::vector<v1::TableDescription> tables;
  v1::ListTablesRequest request;
  for (;;) {
    v1::ListTablesResponse page;
    grpc::Status status = session.Tables(&Tables::ListTables, request, &page);
    if (!status.ok()) return session.Fail(status);
    for (const std::string& name : page.table_names()) {
      v1::DescribeTableRequest describe;
      describe.set_table_name(name);
      v1::DescribeTableResponse described;
      status = session.Tables(&Tables::DescribeTable, describe, &described);
      if (status.error_code() == grpc::StatusCode::NOT_FOUND) continue;  // deleted meanwhile
      if (!status.ok()) return session.Fail(status);
      tables.push_back(std::move(*described.mutable_table()));
    }
    if (!page.has_last_evaluated_table_name()) break;
    request.set_exclusive_start_table_name(page.last_evaluated_table_name());
  }
  std::string out;
  if (command.session.json()) {
    JsonWriter json(&out);
    json.BeginArray();
    for (const v1::TableDescription& table : tables) {
      json.BeginObject();
      json.Key("name").String(table.table_name());
      json.Key("status").String(StatusName(table.table_status()));
      json.Key("items").Int(table.item_count());
      json.Key("bytes").Int(table.table_size_bytes());
      json.Key("arn").String(table.table_arn());
      json.EndObject();
    }
    json.EndArray();
  } else {
    TextTable text({"TABLE", "STATUS", "KEY", "ITEMS", "SIZE"});
    for (const v1::TableDescription& table : tables) {
      text.Add({table.table_name(), StatusName(table.table_status()),
                ShowSchema(table.key_schema(), table), std::to_string(table.item_count()),
                ShowBytes(static_cast<uint64_t>(table.table_size_bytes()))});
    }
    out = text.ToString();
  }
  Print(out);
  return Exit::kOk;
}

std::string DescribeText(const v1::TableDescription& table) {
  std::string out;
  const auto line = [&out](const std::string& name, const std::string& value) {
    out += name + std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') + value + "\n";
  };
  line("table", table.table_name());
  line("status", StatusName(table.table_status()));
  line("key", ShowSchema(table.key_schema(), table));
  line("items", std::to_string(table.item_count()));
  line("size", ShowBytes(static_cast<uint64_t>(table.table_size_bytes())));
  if (table.has_billing_mode_summary()) {
    line("billing",
         Tail(v1::BillingMode_Name(table.billing_mode_summary().billing_mode()), "BILLING_MODE_"));
  }
  if (table.provisioned_throughput().read_capacity_units() > 0) {
    line("throughput",
         std::to_string(table.provisioned_throughput().read_capacity_units()) + " read, " +
             std::to_string(table.provisioned_throughput().write_capacity_units()) + " write");
  }
  line("protected", table.deletion_protection_enabled() ? "yes" : "no");
  line("arn", table.table_arn());
  for (const v1::LocalSecondaryIndexDescription& index : table.local_secondary_indexes()) {
    line("local index", index.index_name() + ": " + ShowSchema(index.key_schema(), table));
  }
  for (const v1::GlobalSecondaryIndexDescription& index : table.global_secondary_indexes()) {
    line("global index", index.index_name() + ": " + ShowSchema(index.key_schema(), table) + ", " +
                             StatusName(index.index_status()));
  }
  return out;
}

Exit Describe(const Command& command, const std::string& name, Session& session) {
  v1::DescribeTableRequest request;
  request.set_table_name(name);
  v1::DescribeTableResponse response;
  const grpc::Status status = session.Tables(&Tables::DescribeTable, request, &response);
  if (!status.ok()) return session.Fail(status);
  if (!command.session.json()) {
    Print(DescribeText(response.table()));
    return Exit::kOk;
  }
  std::string json;
  google::protobuf::util::JsonPrintOptions print;
  print.add_whitespace = true;
  print.preserve_proto_field_names = true;
  (void)google::protobuf::util::MessageToJsonString(response.table(), &json, print);
  Print(json);
  return Exit::kOk;
}

}  // namespace

void Commands::AddTables(CLI::App* parent) {
  CLI::App* group = AddGroup(parent, "table", "Tables of the account");
  Command* list = Add(group, "list", "All tables, with their keys and sizes");
  list->run = [list](Session& session) { return List(*list, session); };
  Command* describe = Add(group, "describe", "One table in full");
  auto name = std::make_shared<std::string>();
  describe->app->add_option("TABLE", *name, "Its name or ARN")->required();
  describe->run = [describe, name](Session& session) {
    return Describe(*describe, *name, session);
  };
}

}  // namespace onggi::cli
