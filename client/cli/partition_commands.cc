#include <optional>

#include "client/cli/commands.h"
#include "client/cli/output.h"

/// onggi partition list, hot, split, move, merge, transfer, recover.
namespace onggi::cli {
namespace {

using Admin = proto::CoordinatorService::Stub;

struct Filter {
  std::string table;
  std::string account = "default";
  uint64_t node = 0;
  uint32_t limit = 0;
};

/// All that match, of as many pages as there are.
grpc::Status Collect(Session& session, const Filter& filter, bool hot,
                     std::vector<proto::PartitionInfo>* out) {
  proto::ListPartitionsRequest request;
  if (!filter.table.empty()) request.set_account(filter.account);
  request.set_table_name(filter.table);
  request.set_node(filter.node);
  request.set_hot(hot);
  request.set_limit(filter.limit);
  for (;;) {
    proto::ListPartitionsResponse page;
    const grpc::Status status = session.Admin(&Admin::ListPartitions, request, &page);
    if (!status.ok()) return status;
    for (auto& partition : *page.mutable_partitions()) out->push_back(std::move(partition));
    const bool enough = filter.limit != 0 && out->size() >= filter.limit;
    if (hot || enough || page.next_page_token().empty()) return status;
    request.set_page_token(page.next_page_token());
  }
}

std::string ShowNodes(const proto::PartitionConfig& config) {
  std::string shown;
  for (const proto::ReplicaRef& replica : config.in_sync()) {
    shown += (shown.empty() ? "" : ",") + std::to_string(replica.node());
  }
  for (const proto::ReplicaRef& replica : config.learners()) {
    shown += "+" + std::to_string(replica.node());
  }
  return shown;
}

void WriteNodes(const google::protobuf::RepeatedPtrField<proto::ReplicaRef>& replicas,
                JsonWriter& json) {
  json.BeginArray();
  for (const proto::ReplicaRef& replica : replicas) json.Uint(replica.node());
  json.EndArray();
}

std::string AsJson(const std::vector<proto::PartitionInfo>& partitions) {
  std::string out;
  JsonWriter json(&out);
  json.BeginArray();
  for (const proto::PartitionInfo& info : partitions) {
    const proto::PartitionConfig& config = info.config();
    json.BeginObject();
    json.Key("id").Uint(config.partition());
    json.Key("table").String(info.table_name());
    json.Key("table_id").Uint(config.table());
    json.Key("range_start").String(ToHex(config.range_start()));
    json.Key("range_end").String(ToHex(config.range_end()));
    json.Key("epoch").Uint(config.epoch());
    json.Key("primary").Uint(config.primary().node());
    json.Key("in_sync");
    WriteNodes(config.in_sync(), json);
    json.Key("learners");
    WriteNodes(config.learners(), json);
    json.Key("replication").Uint(config.replication());
    json.Key("available").Bool(info.available());
    json.Key("living_in_sync").Uint(info.living_in_sync());
    json.Key("bytes").Uint(info.bytes());
    json.Key("items").Uint(info.items());
    json.Key("read_units").Double(info.read_units());
    json.Key("write_units").Double(info.write_units());
    json.Key("job").Uint(info.job());
    json.Key("single_hot_key").Bool(info.single_hot_key());
    json.Key("hot_keys").BeginArray();
    for (const proto::HotKey& key : info.hot_keys()) {
      json.BeginObject();
      json.Key("key").String(ToHex(key.key()));
      json.Key("text").String(key.text());
      json.Key("share").Double(key.share());
      json.Key("read_units").Double(key.read_units());
      json.Key("write_units").Double(key.write_units());
      json.EndObject();
    }
    json.EndArray();
    json.EndObject();
  }
  json.EndArray();
  return out;
}

std::string ListText(const std::vector<proto::PartitionInfo>& partitions) {
  TextTable text({"PARTITION", "TABLE", "FROM", "TO", "EPOCH", "PRIMARY", "NODES", "STATE", "SIZE",
                  "ITEMS", "READ/S", "WRITE/S", "JOB"});
  for (const proto::PartitionInfo& info : partitions) {
    const proto::PartitionConfig& config = info.config();
    const bool few = info.living_in_sync() < config.replication();
    text.Add({std::to_string(config.partition()), info.table_name(), ShowKey(config.range_start()),
              ShowKey(config.range_end()), std::to_string(config.epoch()),
              std::to_string(config.primary().node()), ShowNodes(config),
              !info.available() ? "no primary"
              : few             ? "few replicas"
                                : "ok",
              ShowBytes(info.bytes()), std::to_string(info.items()), ShowRate(info.read_units()),
              ShowRate(info.write_units()), info.job() == 0 ? "-" : std::to_string(info.job())});
  }
  return text.ToString();
}

std::string HotText(const std::vector<proto::PartitionInfo>& partitions) {
  TextTable text({"PARTITION", "TABLE", "PRIMARY", "READ/S", "WRITE/S", "HOT KEY", "SHARE"});
  for (const proto::PartitionInfo& info : partitions) {
    std::string key;
    std::string share;
    if (info.hot_keys_size() > 0) {
      key =
          info.hot_keys(0).text().empty() ? ToHex(info.hot_keys(0).key()) : info.hot_keys(0).text();
      share = std::to_string(static_cast<int>(info.hot_keys(0).share() * 100 + 0.5)) + "%";
    }
    if (info.single_hot_key()) key += " (one key: no split would help)";
    text.Add({std::to_string(info.config().partition()), info.table_name(),
              std::to_string(info.config().primary().node()), ShowRate(info.read_units()),
              ShowRate(info.write_units()), key, share});
  }
  return text.ToString();
}

/// The partition's table: requests name both.
std::optional<uint64_t> TableOf(Session& session, uint64_t partition, Exit* exit) {
  std::vector<proto::PartitionInfo> all;
  const grpc::Status status = Collect(session, {}, /*hot=*/false, &all);
  if (!status.ok()) {
    *exit = session.Fail(status);
    return std::nullopt;
  }
  for (const proto::PartitionInfo& info : all) {
    if (info.config().partition() == partition) return info.config().table();
  }
  std::fprintf(stderr, "onggi: there is no partition %llu (onggi partition list shows them)\n",
               static_cast<unsigned long long>(partition));
  *exit = Exit::kRefused;
  return std::nullopt;
}

/// Sends a request that begins a job, made by `fill` from the table.
template <class Request>
Exit Begin(const Command& command, Session& session, uint64_t partition,
           grpc::Status (Admin::*method)(grpc::ClientContext*, const Request&, proto::JobResponse*),
           Request request) {
  Exit exit = Exit::kOk;
  const auto table = TableOf(session, partition, &exit);
  if (!table) return exit;
  request.set_table(*table);
  proto::JobResponse response;
  const grpc::Status status = session.AdminOnce(method, request, &response);
  return status.ok() ? PrintJob(command, response.job()) : session.Fail(status);
}

Exit Show(const Command& command, Session& session, const Filter& filter, bool hot) {
  std::vector<proto::PartitionInfo> partitions;
  const grpc::Status status = Collect(session, filter, hot, &partitions);
  if (!status.ok()) return session.Fail(status);
  Print(command.session.json() ? AsJson(partitions)
        : hot                  ? HotText(partitions)
                               : ListText(partitions));
  return Exit::kOk;
}

std::string NodesOf(const google::protobuf::RepeatedPtrField<proto::ReplicaRef>& replicas) {
  std::string nodes;
  for (const proto::ReplicaRef& replica : replicas) {
    nodes += (nodes.empty() ? "" : ", ") + std::to_string(replica.node());
  }
  return nodes;
}

std::string ShowLogEnd(const proto::ReplicaStatus& replica) {
  if (replica.durable_epoch() == 0) return "how far its log goes is not known";
  return "its log ends at entry " + std::to_string(replica.durable_index()) + " of epoch " +
         std::to_string(replica.durable_epoch());
}

/// What an acceptance would lose.
std::string ExplainLoss(const proto::RecoverResponse& answer) {
  const proto::PartitionConfig& before = answer.before();
  const std::string indent = "\n       ";
  std::string text = "partition " + std::to_string(before.partition()) +
                     " would lose, for good, every acknowledged write that has not reached the " +
                     "replica on node " + std::to_string(answer.after().primary().node()) + ":" +
                     indent + ShowLogEnd(answer.replica()) + " (the partition's epoch is " +
                     std::to_string(before.epoch()) + ").";
  text += indent + "In sync are the replicas on nodes " + NodesOf(before.in_sync()) +
          ", none of which lives. Start them if it can be done;" + indent +
          "if not, be sure that their processes have ended: what they have is never taken back.";
  if (before.learners_size() > 1) {
    text += indent + "Of the replicas that have fallen behind, on nodes " +
            NodesOf(before.learners()) + ", the others are given up.";
  }
  return text + indent + "Nothing was done; --accept-data-loss does it.\n";
}

Exit Recover(const Command& command, Session& session, proto::RecoverRequest request) {
  Exit exit = Exit::kOk;
  const auto table = TableOf(session, request.partition(), &exit);
  if (!table) return exit;
  request.set_table(*table);
  proto::RecoverResponse answer;
  // Asked again of another after it was done, it would only say that nothing need be lost.
  const grpc::Status status = request.accept_data_loss()
                                  ? session.AdminOnce(&Admin::RecoverPartition, request, &answer)
                                  : session.Admin(&Admin::RecoverPartition, request, &answer);
  if (!status.ok()) return session.Fail(status);
  if (!answer.recovered()) {
    std::fprintf(stderr, "onggi: %s", ExplainLoss(answer).c_str());
    return Exit::kUsage;
  }
  const proto::PartitionConfig& config = answer.after();
  std::string out;
  if (command.session.json()) {
    JsonWriter json(&out);
    json.BeginObject();
    json.Key("partition").Uint(config.partition());
    json.Key("node").Uint(config.primary().node());
    json.Key("replica").Uint(config.primary().replica());
    json.Key("epoch").Uint(config.epoch());
    json.Key("log_epoch").Uint(answer.replica().durable_epoch());
    json.Key("log_index").Uint(answer.replica().durable_index());
    json.EndObject();
  } else {
    out = "partition " + std::to_string(config.partition()) + " goes on from the replica on node " +
          std::to_string(config.primary().node()) + " in epoch " + std::to_string(config.epoch()) +
          "; " + ShowLogEnd(answer.replica()) + ".\n" + "It serves once " +
          std::to_string(config.min_in_sync()) +
          " replicas are in sync; onggi partition list shows how many are\n";
  }
  Print(out);
  return Exit::kOk;
}

struct Arguments {
  uint64_t partition = 0;
  uint64_t other = 0;
  uint64_t from = 0;
  uint64_t to = 0;
  std::string at;
  bool accept_loss = false;
};

}  // namespace

void Commands::AddPartitions(CLI::App* parent) {
  CLI::App* group = AddGroup(parent, "partition", "Partitions of tables");
  const auto add_filter = [](Command* command, const std::shared_ptr<Filter>& filter) {
    command->app->add_option("--table", filter->table, "Of this table only");
    command->app->add_option("--account", filter->account, "Whose table it is [default]");
    command->app->add_option("--node", filter->node, "With a replica on this node only");
    command->app->add_option("--limit", filter->limit, "At most so many");
  };
  for (const bool hot : {false, true}) {
    Command* command = hot ? Add(group, "hot", "The busiest, with the keys that make them so")
                           : Add(group, "list", "All, with where they are and what is in them");
    auto filter = std::make_shared<Filter>();
    add_filter(command, filter);
    command->run = [command, filter, hot](Session& session) {
      return Show(*command, session, *filter, hot);
    };
  }

  Command* split = Add(group, "split", "Cut a partition in two");
  auto cut = std::make_shared<Arguments>();
  split->app->add_option("PARTITION", cut->partition, "Its number")->required();
  split->app->add_option("--at", cut->at,
                         "First key of the right half, in hexadecimal (else where it halves the "
                         "load, or the bytes)");
  split->run = [split, cut](Session& session) {
    proto::SplitRequest request;
    request.set_partition(cut->partition);
    if (!FromHex(cut->at, request.mutable_split_key())) {
      std::fprintf(stderr, "onggi: --at: pairs of hexadecimal digits\n");
      return Exit::kUsage;
    }
    return Begin(*split, session, cut->partition, &Admin::SplitPartition, std::move(request));
  };

  Command* move = Add(group, "move", "Move a replica from one node to another");
  auto moved = std::make_shared<Arguments>();
  move->app->add_option("PARTITION", moved->partition, "Its number")->required();
  move->app->add_option("--from", moved->from, "The node that has it")->required();
  move->app->add_option("--to", moved->to, "The node that gets it (else the best one)");
  move->run = [move, moved](Session& session) {
    proto::MoveRequest request;
    request.set_partition(moved->partition);
    request.set_from_node(moved->from);
    request.set_to_node(moved->to);
    return Begin(*move, session, moved->partition, &Admin::MovePartition, std::move(request));
  };

  Command* merge = Add(group, "merge", "Join a partition with its right neighbour");
  auto joined = std::make_shared<Arguments>();
  merge->app->add_option("LEFT", joined->partition, "The left one's number")->required();
  merge->app->add_option("RIGHT", joined->other, "The right one's (else its neighbour)");
  merge->run = [merge, joined](Session& session) {
    proto::MergeRequest request;
    request.set_left(joined->partition);
    request.set_right(joined->other);
    return Begin(*merge, session, joined->partition, &Admin::MergePartitions, std::move(request));
  };

  Command* transfer = Add(group, "transfer", "Let another replica lead");
  auto given = std::make_shared<Arguments>();
  transfer->app->add_option("PARTITION", given->partition, "Its number")->required();
  transfer->app->add_option("--to", given->to, "The node that is to lead (else the best one)");
  transfer->run = [transfer, given](Session& session) {
    proto::TransferRequest request;
    request.set_partition(given->partition);
    request.set_to_node(given->to);
    return Begin(*transfer, session, given->partition, &Admin::TransferPartition,
                 std::move(request));
  };

  Command* recover =
      Add(group, "recover", "Go on from a learner when no in-sync replica lives; loses data");
  auto kept = std::make_shared<Arguments>();
  recover->app->add_option("PARTITION", kept->partition, "Its number")->required();
  recover->app->add_option("--node", kept->to, "The node whose replica is to lead")->required();
  recover->app->add_flag("--accept-data-loss", kept->accept_loss,
                         "Do it (else only what would be lost is said)");
  recover->run = [recover, kept](Session& session) {
    proto::RecoverRequest request;
    request.set_partition(kept->partition);
    request.set_node(kept->to);
    request.set_accept_data_loss(kept->accept_loss);
    return Recover(*recover, session, std::move(request));
  };
}

}  // namespace onggi::cli
