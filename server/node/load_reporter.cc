#include "server/node/load_reporter.h"

#include <sys/resource.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <thread>

#include "common/log.h"
#include "common/rpc/call.h"

namespace onggi::node {

namespace asio = boost::asio;

namespace {

constexpr auto kInterval = std::chrono::milliseconds(1'000);
constexpr auto kTimeout = std::chrono::milliseconds(2'000);

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

LoadReporter::LoadReporter(NodeId node, uint64_t boot, CoordinatorLink* link,
                           asio::any_io_executor executor, Source source)
    : node_(node),
      boot_(boot),
      link_(link),
      executor_(std::move(executor)),
      source_(std::move(source)) {}

void LoadReporter::Start() {
  cpu_at_ = std::chrono::steady_clock::now();
  cpu_seconds_ = CpuSeconds();
  (void)scope_.Spawn(executor_, Run());
}

asio::awaitable<void> LoadReporter::Run() {
  asio::steady_timer timer(executor_);
  for (;;) {
    const std::chrono::milliseconds pause = co_await Report();
    timer.expires_after(pause);
    co_await timer.async_wait(asio::use_awaitable);
  }
}

asio::awaitable<std::chrono::milliseconds> LoadReporter::Report() {
  const std::string active = link_->Active();
  const auto stub = link_->Stub();
  if (stub == nullptr) {
    told_to_.clear();
    co_return kInterval;
  }
  proto::ReportLoadRequest report = source_();
  report.set_node(node_.value);
  report.set_boot(boot_);
  report.set_sequence(++sequence_);
  const auto now = std::chrono::steady_clock::now();
  const double cpu = CpuSeconds();
  const double passed = std::chrono::duration<double>(now - cpu_at_).count();
  if (passed > 0) report.set_cpu_used((cpu - cpu_seconds_) / passed);
  report.set_cpu_total(std::thread::hardware_concurrency());
  cpu_at_ = now;
  cpu_seconds_ = cpu;

  const bool full = told_to_ != active;
  report.set_full(full);
  std::map<uint64_t, std::string> telling;
  std::map<uint64_t, uint64_t> tables;
  google::protobuf::RepeatedPtrField<proto::ReplicaStatus> changed;
  for (proto::ReplicaStatus& replica : *report.mutable_replicas()) {
    const uint64_t partition = replica.partition();
    std::string bytes = replica.SerializeAsString();
    const auto before = told_.find(partition);
    const bool news = before == told_.end() || before->second != bytes;
    tables[partition] = replica.table();
    telling[partition] = std::move(bytes);
    if (full || news) changed.Add(std::move(replica));
  }
  report.mutable_replicas()->Swap(&changed);
  if (!full) {
    for (const auto& [partition, bytes] : told_) {
      if (telling.contains(partition)) continue;
      proto::ReplicaStatus* removed = report.add_removed();
      removed->set_partition(partition);
      removed->set_table(told_table_[partition]);
    }
  }

  auto answer = co_await rpc::Call(
      stub->async(), &proto::CoordinatorService::StubInterface::async_interface::ReportLoad,
      std::move(report), kTimeout);
  if (!answer.ok()) {
    told_to_.clear();
    co_return kInterval;
  }
  told_ = std::move(telling);
  told_table_ = std::move(tables);
  told_to_ = answer->want_full() ? std::string() : active;
  co_return answer->interval_ms() == 0 ? kInterval
                                       : std::chrono::milliseconds(answer->interval_ms());
}

}  // namespace onggi::node
