#include "server/node/peer_watch.h"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include "common/log.h"
#include "replication/metadata/keys.h"

namespace onggi::node {

namespace asio = boost::asio;

namespace {

constexpr auto kRetryInterval = std::chrono::milliseconds(500);

}  // namespace

PeerWatch::PeerWatch(metadata::MetadataStore& store, asio::any_io_executor executor,
                     Callback callback)
    : store_(store), executor_(std::move(executor)), callback_(std::move(callback)) {}

PeerWatch::~PeerWatch() { CHECK(watch_ == nullptr); }

asio::awaitable<Status> PeerWatch::Start() {
  // The watch and the registry belong to executor_, whoever calls.
  co_await asio::dispatch(asio::bind_executor(executor_, asio::use_awaitable));
  co_return co_await Load();
}

void PeerWatch::Stop() {
  scope_.Stop();
  // The handle goes where its handler runs, so that none runs afterwards.
  asio::post(executor_, asio::use_future([this] { watch_.reset(); })).get();
}

asio::awaitable<Status> PeerWatch::Load() {
  auto range = co_await store_.RangePrefix(std::string(metadata::keys::kNodePrefix));
  if (!range.ok()) co_return std::move(range).status();
  nodes_.clear();
  for (const metadata::KeyValue& kv : range->kvs) Put(kv);
  watch_ =
      store_.Watch(std::string(metadata::keys::kNodePrefix), Revision(range->revision.value + 1),
                   executor_, [this](const metadata::WatchBatch& batch) { OnBatch(batch); });
  callback_(nodes_);
  co_return Status::Ok();
}

asio::awaitable<void> PeerWatch::LoadAgain() {
  for (;;) {
    const Status loaded = co_await Load();
    if (loaded.ok()) co_return;
    log::Warn("cannot read the registry of nodes", "status", loaded);
    asio::steady_timer timer(executor_, kRetryInterval);
    co_await timer.async_wait(asio::use_awaitable);
  }
}

void PeerWatch::OnBatch(const metadata::WatchBatch& batch) {
  if (batch.compacted) {
    (void)scope_.Spawn(executor_, LoadAgain());
    return;
  }
  for (const metadata::WatchEvent& event : batch.events) {
    if (event.type == metadata::WatchEvent::Type::kPut) {
      Put(event.kv);
    } else if (const auto node = metadata::keys::ParseNode(event.kv.key)) {
      nodes_.erase(*node);
    }
  }
  if (!batch.events.empty()) callback_(nodes_);
}

void PeerWatch::Put(const metadata::KeyValue& kv) {
  const auto id = metadata::keys::ParseNode(kv.key);
  proto::Node node;
  if (!id.has_value() || !node.ParseFromString(kv.value)) {
    log::Error("a node's record cannot be read", "key", kv.key);
    return;
  }
  if (node.state() == proto::NODE_STATE_DECOMMISSIONED) {
    nodes_.erase(*id);
  } else {
    nodes_[*id] = std::move(node);
  }
}

}  // namespace onggi::node
