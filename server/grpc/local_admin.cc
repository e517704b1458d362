#include "server/grpc/local_admin.h"

#include <grpcpp/server_builder.h>

#include <algorithm>
#include <map>

#include "common/rpc/call.h"
#include "replication/metadata/keys.h"

namespace onggi::grpc_api {
namespace {

namespace keys = metadata::keys;

constexpr uint32_t kDefaultLimit = 1000;
constexpr uint32_t kDefaultHotLimit = 20;

template <class Record>
boost::asio::awaitable<Result<std::map<std::string, Record>>> ReadAll(
    metadata::MetadataStore& metadata, std::string prefix) {
  Result<metadata::RangeResult> range = co_await metadata.RangePrefix(std::move(prefix));
  if (!range.ok()) co_return range.status();
  std::map<std::string, Record> records;
  for (const metadata::KeyValue& kv : range->kvs) {
    Record record;
    if (!record.ParseFromString(kv.value)) co_return Corruption(kv.key + " does not parse");
    records.emplace(kv.key, std::move(record));
  }
  co_return records;
}

double Load(const proto::PartitionInfo& info) { return info.read_units() + info.write_units(); }

}  // namespace

grpc::ServerUnaryReactor* LocalAdminService::Refuse(grpc::CallbackServerContext* context) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(rpc::ToGrpc(Status(
      Code::kConditionFailed, "this is onggi dev: one node, whose partitions stay as they are")));
  return reactor;
}

grpc::ServerUnaryReactor* LocalAdminService::ClusterStatus(grpc::CallbackServerContext* context,
                                                           const proto::ClusterStatusRequest*,
                                                           proto::ClusterStatusResponse* response) {
  return rpc::Answer(context, scope_, io_.NextExecutor(), FillStatus(response));
}

grpc::ServerUnaryReactor* LocalAdminService::ListNodes(grpc::CallbackServerContext* context,
                                                       const proto::ListNodesRequest*,
                                                       proto::ListNodesResponse* response) {
  return rpc::Answer(context, scope_, io_.NextExecutor(), FillNodes(response));
}

grpc::ServerUnaryReactor* LocalAdminService::ListPartitions(
    grpc::CallbackServerContext* context, const proto::ListPartitionsRequest* request,
    proto::ListPartitionsResponse* response) {
  return rpc::Answer(context, scope_, io_.NextExecutor(), FillPartitions(request, response));
}

boost::asio::awaitable<Status> LocalAdminService::FillNodes(proto::ListNodesResponse* response) {
  std::string prefix(keys::kNodePrefix);
  auto nodes = co_await ReadAll<proto::Node>(metadata_, std::move(prefix));
  if (!nodes.ok()) co_return nodes.status();
  for (auto& [key, node] : *nodes) {
    proto::NodeInfo& info = *response->add_nodes();
    *info.mutable_node() = std::move(node);
    if (info.node().state() == proto::NODE_STATE_UNSPECIFIED) {
      info.mutable_node()->set_state(proto::NODE_STATE_ACTIVE);
    }
    info.set_alive(true);
    info.set_report_age_ms(-1);
    for (const proto::ReplicaStatus& replica : partitions_.GetReplicas(TableId(), PartitionId())) {
      info.set_replicas(info.replicas() + 1);
      info.set_primaries(info.primaries() + 1);
      info.set_used_bytes(info.used_bytes() + replica.bytes());
      info.set_read_units(info.read_units() + replica.read_units());
      info.set_write_units(info.write_units() + replica.write_units());
    }
  }
  co_return Status::Ok();
}

boost::asio::awaitable<Status> LocalAdminService::FillStatus(
    proto::ClusterStatusResponse* response) {
  proto::ListNodesResponse nodes;
  if (Status status = co_await FillNodes(&nodes); !status.ok()) co_return status;
  *response->mutable_nodes() = std::move(*nodes.mutable_nodes());
  std::string table_prefix(keys::kTablePrefix);
  auto tables = co_await ReadAll<proto::Table>(metadata_, std::move(table_prefix));
  if (!tables.ok()) co_return tables.status();
  for (const auto& [key, table] : *tables) {
    if (table.status() != proto::TABLE_STATUS_ACTIVE) response->add_busy_tables(table.name());
  }
  response->set_tables(tables->size());
  std::string partition_prefix(keys::kPartitionPrefix);
  auto partitions =
      co_await ReadAll<proto::PartitionConfig>(metadata_, std::move(partition_prefix));
  if (!partitions.ok()) co_return partitions.status();
  response->set_partitions(partitions->size());
  response->set_active_coordinator("onggi dev");
  co_return Status::Ok();
}

boost::asio::awaitable<Status> LocalAdminService::FillPartitions(
    const proto::ListPartitionsRequest* request, proto::ListPartitionsResponse* response) {
  std::string table_prefix(keys::kTablePrefix);
  auto tables = co_await ReadAll<proto::Table>(metadata_, std::move(table_prefix));
  if (!tables.ok()) co_return tables.status();
  std::string partition_prefix(keys::kPartitionPrefix);
  auto partitions =
      co_await ReadAll<proto::PartitionConfig>(metadata_, std::move(partition_prefix));
  if (!partitions.ok()) co_return partitions.status();
  std::map<uint64_t, proto::ReplicaStatus> replicas;
  for (proto::ReplicaStatus& replica : partitions_.GetReplicas(TableId(), PartitionId())) {
    replicas.emplace(replica.partition(), std::move(replica));
  }
  std::vector<std::pair<std::string, proto::PartitionInfo>> found;
  bool table_known = request->table_name().empty();
  for (const auto& [key, table] : *tables) {
    table_known =
        table_known || (table.name() == request->table_name() &&
                        (request->account().empty() || request->account() == table.account()));
  }
  if (!table_known) co_return NotFound("there is no table " + request->table_name());
  for (auto& [key, config] : *partitions) {
    const auto table = tables->find(keys::Table(TableId(config.table())));
    if (table == tables->end()) continue;
    if (!request->table_name().empty() && table->second.name() != request->table_name()) continue;
    if (!request->account().empty() && table->second.account() != request->account()) continue;
    if (request->node() != 0 && config.primary().node() != request->node()) continue;
    proto::PartitionInfo info;
    info.set_table_name(table->second.name());
    info.set_available(true);
    info.set_living_in_sync(1);
    if (const auto it = replicas.find(config.partition()); it != replicas.end()) {
      proto::ReplicaStatus& replica = it->second;
      info.set_available(replica.role() != proto::REPLICA_ROLE_LOST);
      info.set_bytes(replica.bytes());
      info.set_items(replica.items());
      info.set_read_units(replica.read_units());
      info.set_write_units(replica.write_units());
      *info.mutable_hot_keys() = std::move(*replica.mutable_hot_keys());
    }
    *info.mutable_config() = std::move(config);
    found.emplace_back(key, std::move(info));
  }
  const uint32_t limit = request->limit() != 0 ? request->limit()
                         : request->hot()      ? kDefaultHotLimit
                                               : kDefaultLimit;
  if (request->hot()) {
    std::ranges::stable_sort(
        found, [](const auto& a, const auto& b) { return Load(a.second) > Load(b.second); });
  }
  for (auto& [key, info] : found) {
    if (!request->hot() && key <= request->page_token()) continue;
    if (response->partitions_size() == static_cast<int>(std::min(limit, kDefaultLimit))) break;
    *response->add_partitions() = std::move(info);
    response->set_next_page_token(key);
  }
  const bool more = !request->hot() && !found.empty() &&
                    response->next_page_token() < found.back().first &&
                    response->partitions_size() > 0;
  if (!more) response->clear_next_page_token();
  co_return Status::Ok();
}

LocalCoordinator::LocalCoordinator(grpc::Service* service) {
  grpc::ServerBuilder builder;
  builder.RegisterService(service);
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
}

LocalCoordinator::~LocalCoordinator() { Stop(); }

void LocalCoordinator::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

std::shared_ptr<grpc::Channel> LocalCoordinator::Connect(const std::string& /*address*/) {
  return server_->InProcessChannel(grpc::ChannelArguments());
}

}  // namespace onggi::grpc_api
