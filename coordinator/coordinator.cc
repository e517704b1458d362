#include "coordinator/coordinator.h"

#include <boost/asio/co_spawn.hpp>
#include <future>
#include <utility>

#include "common/log.h"
#include "replication/metadata/keys.h"

namespace onggi::coordinator {

namespace asio = boost::asio;
namespace keys = metadata::keys;

Coordinator::Coordinator(const Environment& environment, Options options)
    : environment_(environment), options_(std::move(options)), metrics_(*environment.registry) {}

Coordinator::~Coordinator() = default;

void Coordinator::Start() { scope_.Spawn(environment_.executor, Run()); }

asio::awaitable<void> Coordinator::Run() {
  const std::string prefix(keys::kCoordinatorElection);
  observer_ = std::make_unique<metadata::LeaderObserver>(
      *environment_.store, environment_.executor, prefix,
      [this](const std::optional<metadata::Leader>& leader) { leader_ = leader; });
  election_ = std::make_unique<metadata::Election>(*environment_.store, environment_.executor,
                                                   prefix, options_.address, options_.election_ttl);
  for (;;) {
    Result<metadata::Leader> leader = co_await election_->Campaign();
    if (!leader.ok()) {
      log::Error("cannot take part in the coordinators' election", "status", leader.status());
      co_await Sleep(*environment_.timers, options_.max_backoff);
      continue;
    }
    log::Info("this coordinator is the active one", "address", options_.address);
    leadership_ = std::make_shared<Leadership>(environment_, options_, *leader, metrics_);
    const Status started = co_await leadership_->Start();
    if (started.ok()) {
      active_ = true;
      metrics_.SetActive(true);
      co_await election_->Lost();
      log::Warn("this coordinator is no longer the active one");
      active_ = false;
      metrics_.SetActive(false);
    } else {
      log::Warn("this coordinator cannot lead", "status", started);
    }
    co_await leadership_->Stop();
    leadership_.reset();
    if (started.code() == Code::kConditionFailed) {
      // It stood by while the others were upgraded: one of them is to follow, and at once.
      (void)co_await election_->Resign();
      co_await Sleep(*environment_.timers, options_.max_backoff);
    } else if (!started.ok()) {
      co_await Sleep(*environment_.timers, options_.tick);
    }
  }
}

asio::awaitable<void> Coordinator::AsyncStop() {
  active_ = false;
  co_await scope_.AsyncStop();
  metrics_.SetActive(false);
  if (leadership_ != nullptr) co_await leadership_->Stop();
  leadership_.reset();
  observer_.reset();
  if (election_ != nullptr) {
    const Status resigned = co_await election_->Resign();
    if (!resigned.ok()) log::Warn("the election could not be left", "status", resigned);
  }
  election_.reset();
}

void Coordinator::Stop() {
  std::promise<void> stopped;
  auto done = [&stopped](std::exception_ptr error) {
    CHECK(!error);
    stopped.set_value();
  };
  asio::co_spawn(environment_.executor, AsyncStop(), std::move(done));
  stopped.get_future().get();
}

Result<std::shared_ptr<Leadership>> Coordinator::Active() const {
  if (active_) return leadership_;
  if (leader_ && leader_->value != options_.address) {
    return Status(Code::kNotPrimary, leader_->value);
  }
  return Unavailable("no coordinator is active at present");
}

}  // namespace onggi::coordinator
