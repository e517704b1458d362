#include "client/cli/commands.h"
#include "client/cli/output.h"

/// onggi status: the cluster at a glance.
namespace onggi::cli {
namespace {

using Response = proto::ClusterStatusResponse;

void WriteNode(const proto::NodeInfo& info, JsonWriter& json) {
  json.BeginObject();
  json.Key("id").Uint(info.node().id());
  json.Key("zone").String(info.node().zone());
  json.Key("state").String(NodeStateName(info.node().state()));
  json.Key("alive").Bool(info.alive());
  json.EndObject();
}

void WriteJob(const proto::Job& job, JsonWriter& json) {
  json.BeginObject();
  json.Key("id").Uint(job.id());
  json.Key("kind").String(JobKindName(job.kind()));
  json.Key("state").String(JobStateName(job.state()));
  json.Key("table").Uint(job.table());
  json.Key("partition").Uint(job.partition());
  json.Key("step").Uint(job.step());
  json.Key("reason").String(job.reason());
  json.Key("attempts").Uint(job.attempts());
  json.Key("error").String(job.error());
  json.EndObject();
}

std::string AsJson(const Response& status) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject();
  json.Key("cluster_id").String(status.cluster().id());
  json.Key("wire_version").Uint(status.cluster().wire_version());
  json.Key("disk_version").Uint(status.cluster().disk_version());
  json.Key("active_coordinator").String(status.active_coordinator());
  json.Key("coordinators").BeginArray();
  for (const std::string& coordinator : status.coordinators()) json.String(coordinator);
  json.EndArray();
  json.Key("tables").Uint(status.tables());
  json.Key("partitions").Uint(status.partitions());
  json.Key("leaderless").Uint(status.leaderless());
  json.Key("under_replicated").Uint(status.under_replicated());
  json.Key("nodes").BeginArray();
  for (const proto::NodeInfo& node : status.nodes()) WriteNode(node, json);
  json.EndArray();
  json.Key("busy_tables").BeginArray();
  for (const std::string& table : status.busy_tables()) json.String(table);
  json.EndArray();
  json.Key("jobs").BeginArray();
  for (const proto::Job& job : status.jobs()) WriteJob(job, json);
  json.EndArray();
  json.Key("warnings").BeginArray();
  for (const std::string& warning : status.warnings()) json.String(warning);
  json.EndArray();
  json.EndObject();
  return out;
}

std::string AsText(const Response& status) {
  size_t alive = 0;
  for (const proto::NodeInfo& node : status.nodes()) alive += node.alive() ? 1 : 0;
  std::string out;
  const auto line = [&out](const std::string& name, const std::string& value) {
    out += name + std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') + value + "\n";
  };
  if (!status.cluster().id().empty()) line("cluster", status.cluster().id());
  if (!status.active_coordinator().empty()) line("coordinator", status.active_coordinator());
  line("nodes", std::to_string(alive) + " of " + std::to_string(status.nodes_size()) + " alive");
  line("tables", std::to_string(status.tables()));
  line("partitions", std::to_string(status.partitions()) + " (" +
                         std::to_string(status.leaderless()) + " without a primary, " +
                         std::to_string(status.under_replicated()) + " with too few replicas)");
  for (const std::string& table : status.busy_tables()) line("busy table", table);
  for (const std::string& warning : status.warnings()) line("warning", warning);
  TextTable jobs({"JOB", "KIND", "STATE", "PARTITION", "STEP", "TRIES", "REASON", "ERROR"});
  for (const proto::Job& job : status.jobs()) {
    jobs.Add({std::to_string(job.id()), JobKindName(job.kind()), JobStateName(job.state()),
              std::to_string(job.partition()), std::to_string(job.step()),
              std::to_string(job.attempts()), job.reason(), job.error()});
  }
  if (!jobs.empty()) out += "\n" + jobs.ToString();
  return out;
}

}  // namespace

void Commands::AddStatus(CLI::App* parent) {
  Command* command = Add(parent, "status", "The cluster at a glance: nodes, partitions, jobs");
  command->run = [command](Session& session) {
    Response response;
    const grpc::Status status = session.Admin(&proto::CoordinatorService::Stub::ClusterStatus,
                                              proto::ClusterStatusRequest(), &response);
    if (!status.ok()) return session.Fail(status);
    Print(command->session.json() ? AsJson(response) : AsText(response));
    return Exit::kOk;
  };
}

}  // namespace onggi::cli
