#include "coordinator/store_probe.h"

#include <string>
#include <utility>

#include "replication/metadata/keys.h"

namespace onggi::coordinator {

StoreProbe::StoreProbe(const Environment& environment)
    : environment_(environment), state_(std::make_shared<State>(environment.clock->Now())) {
  Ask();
}

void StoreProbe::Ask() {
  timer_ = environment_.timers->After(kInterval, [this] { Ask(); });
  if (state_->asking.exchange(true)) return;
  const std::string key(metadata::keys::kCluster);
  auto answered = [state = state_,
                   clock = environment_.clock](const Result<metadata::RangeResult>& result) {
    if (result.ok()) state->answered = clock->Now();
    state->asking = false;
  };
  environment_.store->AsyncRange(key, key + '\0', 1, std::move(answered));
}

Status StoreProbe::Check() const {
  const auto silence = environment_.clock->Now() - state_->answered.load();
  if (silence <= kPatience) return Status::Ok();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(silence);
  return Unavailable("the metadata store (etcd) has not answered for " +
                     std::to_string(seconds.count()) + " s");
}

}  // namespace onggi::coordinator
