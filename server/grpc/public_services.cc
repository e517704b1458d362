#include "server/grpc/public_services.h"

#include "onggi/v1/key_value.pb.h"
#include "onggi/v1/tables.pb.h"

namespace onggi::grpc_api {
namespace {

const google::protobuf::ServiceDescriptor& ServiceOf(const google::protobuf::Descriptor& message,
                                                     const char* name) {
  const auto* service = message.file()->FindServiceByName(name);
  CHECK(service != nullptr);
  return *service;
}

}  // namespace

PublicServices::PublicServices(dynamodb::Api& api, IoPool& io, metadata::MetadataStore& metadata,
                               metrics::Registry& registry, CoordinatorFinder* finder)
    : feed_(metadata, io.executor(0)),
      key_value_(ServiceOf(*v1::GetItemRequest::descriptor(), "KeyValue"), api, io, registry),
      tables_(ServiceOf(*v1::CreateTableRequest::descriptor(), "Tables"), api, io, registry),
      cluster_(api, feed_) {
  if (finder != nullptr) admin_ = std::make_unique<AdminProxy>(api, *finder);
}

PublicServices::~PublicServices() { Stop(); }

void PublicServices::AddTo(rpc::RpcServer* server) {
  server->AddService(&key_value_);
  server->AddService(&tables_);
  server->AddService(&cluster_);
  if (admin_ != nullptr) server->AddService(admin_.get());
}

void PublicServices::Stop() {
  key_value_.Stop();
  tables_.Stop();
  feed_.Stop();
}

}  // namespace onggi::grpc_api
