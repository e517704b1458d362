#include "client/core.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <random>

#include "client/map_watch.h"
#include "common/rpc/channel.h"
#include "common/runtime.h"
#include "common/uuid.h"

namespace onggi::client {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kFailedFor{1};
// Room for the item of a failed condition: details of up to 1 MB, in base64 where they must be.
constexpr size_t kMaxMetadata = 2u << 20;
constexpr const char* kMaxErrorBytes = "1048576";

uint64_t RandomBoot() {
  std::random_device device;
  uint64_t boot = 0;
  while (boot == 0) boot = static_cast<uint64_t>(device()) << 32 | device();
  return boot;
}

void AppendHex(uint64_t value, std::string* out) {
  constexpr char kHex[] = "0123456789abcdef";
  for (int shift = 60; shift >= 0; shift -= 4) out->push_back(kHex[value >> shift & 15]);
}

}  // namespace

Node::Node(std::string address, std::vector<std::shared_ptr<grpc::Channel>> channels)
    : address_(std::move(address)) {
  for (const auto& channel : channels) stubs_.push_back(std::make_unique<Stubs>(channel));
}

void Node::MarkFailed() {
  failed_until_.store((steady_clock::now() + kFailedFor).time_since_epoch().count(),
                      std::memory_order_relaxed);
}

bool Node::failing() const {
  const int64_t until = failed_until_.load(std::memory_order_relaxed);
  return until != 0 && steady_clock::now().time_since_epoch().count() < until;
}

Client::Core::Core(ClientOptions options, std::shared_ptr<grpc::ChannelCredentials> credentials)
    : options_(std::move(options)),
      credentials_(std::move(credentials)),
      boot_(RandomBoot()),
      guard_(boost::asio::make_work_guard(io_)) {
  thread_ = std::thread([this] {
    SetThreadName("onggi-client");
    io_.run();
  });
  if (options_.route) {
    watch_ = std::make_unique<MapWatch>(*this);
    boost::asio::post(io_, [this] { watch_->Begin(); });
  }
}

Client::Core::~Core() { Stop(); }

void Client::Core::Stop() {
  std::vector<std::shared_ptr<LiveCall>> live;
  {
    std::scoped_lock lock(calls_mutex_);
    if (stopping_) return;
    stopping_ = true;
    for (const auto& [raw, weak] : calls_) {
      if (auto call = weak.lock()) live.push_back(std::move(call));
    }
  }
  for (const auto& call : live) call->Cancel();
  live.clear();
  {
    std::unique_lock lock(calls_mutex_);
    calls_changed_.wait(lock, [this] { return calls_.empty(); });
  }
  if (watch_ != nullptr) watch_->Stop();
  guard_.reset();
  io_.stop();
  thread_.join();
}

bool Client::Core::Enter(const std::shared_ptr<LiveCall>& call) {
  std::scoped_lock lock(calls_mutex_);
  if (stopping_ || calls_.size() >= options_.max_calls) return false;
  calls_.emplace(call.get(), call);
  return true;
}

void Client::Core::Leave(LiveCall* call) {
  std::scoped_lock lock(calls_mutex_);
  calls_.erase(call);
  if (stopping_ && calls_.empty()) calls_changed_.notify_all();
}

std::shared_ptr<Node> Client::Core::NodeAt(const std::string& address) {
  const std::string name = map_.CertificateName(address);
  std::scoped_lock lock(nodes_mutex_);
  auto& node = nodes_[address];
  if (node != nullptr) return node;
  rpc::ChannelOptions channel_options;
  channel_options.max_metadata_bytes = kMaxMetadata;
  channel_options.own_connection = options_.connections_per_node > 1;
  const bool is_endpoint =
      std::ranges::find(options_.endpoints, address) != options_.endpoints.end();
  channel_options.server_name =
      is_endpoint && !options_.server_name.empty() ? options_.server_name : name;
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (size_t i = 0; i < std::max<size_t>(1, options_.connections_per_node); ++i) {
    channels.push_back(rpc::MakeChannel(address, credentials_, channel_options));
  }
  node = std::make_shared<Node>(address, std::move(channels));
  return node;
}

/// In turn; those that failed lately, and then `avoid`, only when there is no other.
std::shared_ptr<Node> Client::Core::FirstGood(const std::vector<std::string>& addresses,
                                              std::string_view avoid) {
  std::shared_ptr<Node> second;
  const size_t first = turn_.fetch_add(1, std::memory_order_relaxed);
  for (size_t i = 0; i < addresses.size(); ++i) {
    const std::string& address = addresses[(first + i) % addresses.size()];
    auto node = NodeAt(address);
    if (address != avoid && !node->failing()) return node;
    if (second == nullptr || (second->address() == avoid && address != avoid)) second = node;
  }
  return second;
}

std::shared_ptr<Node> Client::Core::Pick(const Route& route, std::string_view avoid) {
  if (options_.route && route.table != nullptr && route.key != nullptr) {
    if (const auto place = map_.Find(*route.table, *route.key)) {
      if (route.primary) {
        const std::string address = map_.Address(place->primary);
        if (!address.empty() && address != avoid) {
          auto node = NodeAt(address);
          if (!node->failing()) return node;
        }
      } else {
        std::vector<std::string> addresses;
        for (const uint64_t id : place->nodes) {
          if (auto address = map_.Address(id); !address.empty()) {
            addresses.push_back(std::move(address));
          }
        }
        if (!addresses.empty()) {
          auto node = FirstGood(addresses, avoid);
          if (node->address() != avoid && !node->failing()) return node;
        }
      }
    }
  }
  if (options_.route) {
    // The endpoints may be of nodes that have gone since.
    if (const auto addresses = map_.Addresses(); !addresses.empty()) {
      auto node = FirstGood(addresses, avoid);
      if (node->address() != avoid && !node->failing()) return node;
    }
  }
  return FirstGood(options_.endpoints, avoid);
}

void Client::Core::Prepare(grpc::ClientContext* context) const {
  if (!options_.access_key.empty()) {
    context->AddMetadata("authorization",
                         "Bearer " + options_.access_key + ":" + options_.secret_key);
  }
  if (!options_.region.empty()) context->AddMetadata("onggi-region", options_.region);
  if (options_.compress) context->AddMetadata("onggi-compress", "gzip");
  context->AddMetadata("onggi-max-error-bytes", kMaxErrorBytes);
}

std::string Client::Core::NewWriteId() {
  std::string id;
  AppendHex(boot_, &id);
  AppendHex(next_write_.fetch_add(1, std::memory_order_relaxed), &id);
  return id;
}

}  // namespace onggi::client
