#include "server/grpc/admin_proxy.h"

#include <grpcpp/generic/generic_stub.h>

#include <algorithm>

#include "common/rpc/status.h"
#include "onggi/v1/item.pb.h"
#include "server/grpc/error.h"

namespace onggi::grpc_api {
namespace {

constexpr std::string_view kService = "onggi.proto.CoordinatorService";
/// ReportLoad is not among them.
constexpr std::string_view kMethods[] = {"ClusterStatus",     "ListNodes",       "DrainNode",
                                         "CancelDrain",       "RemoveNode",      "ListPartitions",
                                         "SplitPartition",    "MovePartition",   "MergePartitions",
                                         "TransferPartition", "RecoverPartition"};

constexpr const char* kActiveKey = "onggi-active-coordinator";
// Without a deadline of the caller's.
constexpr std::chrono::seconds kLongestCall{60};

}  // namespace

/// One call on its way through; deletes itself when gRPC is done with it.
class AdminProxy::Call final : public grpc::ServerUnaryReactor {
 public:
  Call(AdminProxy& proxy, std::string_view method, grpc::CallbackServerContext* context,
       const grpc::ByteBuffer* request, grpc::ByteBuffer* response)
      : proxy_(proxy),
        method_("/" + std::string(kService) + "/" + std::string(method)),
        context_(*context),
        request_(*request),
        response_(*response) {}

  void Begin() {
    std::string access_key;
    if (const auto outcome = proxy_.credentials_.Check(context_.client_metadata(), &access_key);
        !outcome.ok()) {
      return Finish(ToGrpc(outcome.error(), proxy_.error_plan_, kDefaultErrorBytes));
    }
    Forward(proxy_.finder_.Active());
  }

  void OnDone() override { delete this; }
  void OnCancel() override {
    std::scoped_lock lock(mutex_);
    cancelled_ = true;
    if (onward_ != nullptr) onward_->TryCancel();
  }

 private:
  void Forward(const std::string& address) {
    const std::shared_ptr<grpc::Channel> channel =
        address.empty() ? nullptr : proxy_.ChannelTo(address);
    if (channel == nullptr) {
      // As an error of ours: it says that nothing was done, and another node may be asked.
      return Finish(rpc::ToGrpc(Unavailable("there is no active coordinator at present")));
    }
    {
      std::scoped_lock lock(mutex_);
      onward_ = std::make_unique<grpc::ClientContext>();
      onward_->set_deadline(
          std::min(context_.deadline(), std::chrono::system_clock::now() + kLongestCall));
      if (cancelled_) onward_->TryCancel();
    }
    stub_ =
        std::make_unique<grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>>(channel);
    sent_ = request_;
    stub_->UnaryCall(onward_.get(), method_, grpc::StubOptions(), &sent_, &response_,
                     [this](const grpc::Status& status) { Answered(status); });
  }

  void Answered(const grpc::Status& status) {
    std::string elsewhere;
    if (status.error_code() == grpc::StatusCode::FAILED_PRECONDITION && !redirected_) {
      const auto& trailers = onward_->GetServerTrailingMetadata();
      if (const auto it = trailers.find(kActiveKey); it != trailers.end()) {
        elsewhere.assign(it->second.data(), it->second.size());
      } else if (const Status ours = rpc::FromGrpc(status); ours.code() == Code::kNotPrimary) {
        elsewhere = ours.message();
      }
    }
    if (elsewhere.empty()) return Finish(status);
    redirected_ = true;
    Forward(elsewhere);
  }

  AdminProxy& proxy_;
  const std::string method_;
  grpc::CallbackServerContext& context_;
  const grpc::ByteBuffer& request_;
  grpc::ByteBuffer& response_;
  grpc::ByteBuffer sent_;
  std::unique_ptr<grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>> stub_;
  bool redirected_ = false;
  std::mutex mutex_;
  std::unique_ptr<grpc::ClientContext> onward_;  // replaced under mutex_
  bool cancelled_ = false;                       // guarded by mutex_
};

AdminProxy::AdminProxy(dynamodb::Api& api, CoordinatorFinder& finder)
    : finder_(finder),
      credentials_(api.options().secrets),
      error_plan_(plans_.Add(*v1::Error::descriptor())) {
  for (const std::string_view method : kMethods) {
    AddUnary(kService, method,
             [this, method](grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                            grpc::ByteBuffer* response) {
               auto* call = new Call(*this, method, context, request, response);
               call->Begin();
               return call;
             });
  }
}

AdminProxy::~AdminProxy() = default;

std::shared_ptr<grpc::Channel> AdminProxy::ChannelTo(const std::string& address) {
  std::scoped_lock lock(mutex_);
  if (channel_ == nullptr || address_ != address) {
    channel_ = finder_.Connect(address);
    address_ = address;
  }
  return channel_;
}

}  // namespace onggi::grpc_api
