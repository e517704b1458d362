#include "client/cli/commands.h"
#include "client/cli/output.h"

/// onggi node list, drain, remove.
namespace onggi::cli {
namespace {

using Admin = proto::CoordinatorService::Stub;

std::string NodesAsJson(const proto::ListNodesResponse& response) {
  std::string out;
  JsonWriter json(&out);
  json.BeginArray();
  for (const proto::NodeInfo& info : response.nodes()) {
    const proto::Node& node = info.node();
    json.BeginObject();
    json.Key("id").Uint(node.id());
    json.Key("zone").String(node.zone());
    json.Key("state").String(NodeStateName(node.state()));
    json.Key("alive").Bool(info.alive());
    json.Key("rpc_address").String(node.rpc_address());
    json.Key("aws_address").String(node.aws_address());
    json.Key("admin_address").String(node.admin_address());
    json.Key("version").String(node.software_version());
    json.Key("replicas").Uint(info.replicas());
    json.Key("primaries").Uint(info.primaries());
    json.Key("used_bytes").Uint(info.used_bytes());
    json.Key("free_bytes").Uint(info.free_bytes());
    json.Key("read_units").Double(info.read_units());
    json.Key("write_units").Double(info.write_units());
    json.Key("cpu_used").Double(info.cpu_used());
    json.Key("cpu_total").Double(info.cpu_total());
    json.Key("disk_low").Bool(info.disk_low());
    json.Key("report_age_ms").Int(info.report_age_ms());
    json.EndObject();
  }
  json.EndArray();
  return out;
}

std::string NodesAsText(const proto::ListNodesResponse& response) {
  TextTable text({"NODE", "ZONE", "STATE", "ALIVE", "ADDRESS", "REPLICAS", "PRIMARIES", "USED",
                  "FREE", "READ/S", "WRITE/S", "CPU", "REPORTED"});
  for (const proto::NodeInfo& info : response.nodes()) {
    const proto::Node& node = info.node();
    text.Add({std::to_string(node.id()), node.zone(), NodeStateName(node.state()),
              info.alive() ? "yes" : "no", node.rpc_address(), std::to_string(info.replicas()),
              std::to_string(info.primaries()), ShowBytes(info.used_bytes()),
              (info.free_bytes() == 0 ? "-" : ShowBytes(info.free_bytes())) +
                  (info.disk_low() ? " (low)" : ""),
              ShowRate(info.read_units()), ShowRate(info.write_units()),
              info.cpu_total() > 0 ? ShowRate(info.cpu_used()) + " of " + ShowRate(info.cpu_total())
                                   : "-",
              info.report_age_ms() < 0 ? "-" : ShowAge(info.report_age_ms()) + " ago"});
  }
  return text.ToString();
}

Exit PrintDrain(const Command& command, uint64_t node, const proto::DrainNodeResponse& response) {
  std::string out;
  if (command.session.json()) {
    JsonWriter json(&out);
    json.BeginObject();
    json.Key("node").Uint(node);
    json.Key("state").String(NodeStateName(response.state()));
    json.Key("replicas").Uint(response.replicas());
    json.EndObject();
  } else {
    out = "node " + std::to_string(node) + " is " + NodeStateName(response.state()) + ", " +
          std::to_string(response.replicas()) + " replicas are still on it\n";
  }
  Print(out);
  return Exit::kOk;
}

}  // namespace

void Commands::AddNodes(CLI::App* parent) {
  CLI::App* group = AddGroup(parent, "node", "Nodes of the cluster");

  Command* list = Add(group, "list", "All nodes, with what is on them");
  list->run = [list](Session& session) {
    proto::ListNodesResponse response;
    const grpc::Status status =
        session.Admin(&Admin::ListNodes, proto::ListNodesRequest(), &response);
    if (!status.ok()) return session.Fail(status);
    Print(list->session.json() ? NodesAsJson(response) : NodesAsText(response));
    return Exit::kOk;
  };

  struct Arguments {
    uint64_t node = 0;
    bool force = false;
    bool cancel = false;
  };
  Command* drain = Add(group, "drain", "Move everything off a node, so that it can be stopped");
  auto what = std::make_shared<Arguments>();
  drain->app->add_option("NODE", what->node, "Its number")->required();
  auto* force = drain->app->add_flag(
      "--force", what->force, "Also when the nodes that remain cannot hold all of its replicas");
  drain->app->add_flag("--cancel", what->cancel, "No longer: it takes replicas again")
      ->excludes(force);
  drain->run = [drain, what](Session& session) {
    if (what->cancel) {
      proto::CancelDrainRequest request;
      request.set_node(what->node);
      proto::CancelDrainResponse response;
      const grpc::Status status = session.Admin(&Admin::CancelDrain, request, &response);
      if (!status.ok()) return session.Fail(status);
      Print(drain->session.json() ? "{}\n"
                                  : "node " + std::to_string(what->node) + " is active again\n");
      return Exit::kOk;
    }
    proto::DrainNodeRequest request;
    request.set_node(what->node);
    request.set_force(what->force);
    proto::DrainNodeResponse response;
    const grpc::Status status = session.Admin(&Admin::DrainNode, request, &response);
    return status.ok() ? PrintDrain(*drain, what->node, response) : session.Fail(status);
  };

  Command* remove = Add(group, "remove", "Forget a node that was drained, or is dead");
  auto gone = std::make_shared<Arguments>();
  remove->app->add_option("NODE", gone->node, "Its number")->required();
  remove->app->add_flag("--force", gone->force,
                        "Also a dead one: its replicas are replaced, and it cannot come back");
  remove->run = [remove, gone](Session& session) {
    proto::RemoveNodeRequest request;
    request.set_node(gone->node);
    request.set_force(gone->force);
    proto::RemoveNodeResponse response;
    const grpc::Status status = session.AdminOnce(&Admin::RemoveNode, request, &response);
    if (!status.ok()) return session.Fail(status);
    Print(remove->session.json() ? "{}\n" : "node " + std::to_string(gone->node) + " is removed\n");
    return Exit::kOk;
  };
}

}  // namespace onggi::cli
