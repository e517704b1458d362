#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <list>

#include "server/expression/codec.h"
#include "server/routing/attempts.h"
#include "server/routing/network.h"
#include "server/routing/router.h"
#include "server/routing/wire.h"

/// Writes of Router.
namespace onggi::routing {

namespace asio = boost::asio;

using partition::WriteOutcome;
using partition::WriteTask;

namespace {

/// A write and what its tries share.
struct Tried {
  RoutedWrite* write = nullptr;
  std::string condition;  ///< encoded when it is first sent
  std::string update;
  bool encoded = false;
  /// An earlier try may have been carried out.
  bool unknown = false;
  Revision revision;  ///< of the route that the last try went by

  void Encode() {
    if (encoded) return;
    encoded = true;
    const partition::WriteRequest& request = write->request;
    if (request.condition != nullptr) expression::EncodeCondition(*request.condition, &condition);
    if (request.update != nullptr) expression::EncodeUpdate(*request.update, &update);
  }
};

}  // namespace

/// One try of several writes: sent to wherever they go, and waited for together.
class Router::WriteRound {
 public:
  WriteRound(Router* router, const asio::any_io_executor& executor)
      : router_(*router), executor_(executor), gather_(executor) {}

  void Send(Tried* tried, const Route& route, SteadyTime deadline) {
    RoutedWrite* const write = tried->write;
    const NodeId node = route.primary();
    const auto connection = router_.network_ == nullptr ? nullptr : router_.network_->Find(node);
    if (connection == nullptr) {
      write->outcome.status = Unavailable("not connected to node " + node.ToString());
      return;
    }
    tried->Encode();
    WriteCall& call = calls_.emplace_back();
    sent_.push_back(tried);
    call.gather = &gather_;
    call.deadline = deadline;
    call.partition = route.partition();
    // Without a name it could not be tried again: then it waits for this primary's own word.
    call.wants_primary = write->request.id.boot != 0;
    call.table = write->table;
    call.request = &write->request;
    call.condition = tried->condition;
    call.update = tried->update;
    gather_.Add();
    connection->Start(&call, std::chrono::steady_clock::now());
    if (std::find(connections_.begin(), connections_.end(), connection) == connections_.end()) {
      connections_.push_back(connection);
    }
  }

  void Execute(Tried* tried, std::shared_ptr<partition::Partition> partition) {
    WriteTask& task = tasks_.emplace_back();
    task.partition = std::move(partition);
    task.request = tried->write->request;
    local_.push_back(tried);
  }

  asio::awaitable<void> Finish() {
    const SteadyTime start = std::chrono::steady_clock::now();
    for (const auto& connection : connections_) connection->FlushSoon(executor_);
    const std::span<WriteTask> span(tasks_);
    co_await partition::Execute(span);
    for (size_t i = 0; i < tasks_.size(); ++i) {
      RoutedWrite& write = *local_[i]->write;
      write.outcome = std::move(tasks_[i].outcome);
      if (IsMisplaced(write.outcome.status)) {
        (void)LearnFrom(*tasks_[i].partition, write.table, router_.map_);
      }
    }
    if (calls_.empty()) co_return;
    co_await gather_.Wait();
    if (router_.counters_ != nullptr) {
      router_.counters_->writes.Add(calls_.size());
      router_.counters_->write_time.Observe(std::chrono::steady_clock::now() - start);
    }
    const SteadyTime end = std::chrono::steady_clock::now();
    auto sent = sent_.begin();
    for (WriteCall& call : calls_) {
      RoutedWrite* const write = (*sent++)->write;
      Take(&call, write);
      if (write->outcome.status.ok()) router_.recent_.Add(write->table, write->request.key, end);
    }
  }

 private:
  void Take(WriteCall* call, RoutedWrite* write) {
    write->outcome.status = call->status;
    if (!call->status.ok()) return;
    if (call->result.has_error()) router_.Learn(call->result.error());
    const Status status = OutcomeFromWire(&call->result, &write->outcome);
    if (!status.ok()) write->outcome.status = {Code::kUnknownOutcome, status.message()};
  }

  Router& router_;
  const asio::any_io_executor executor_;
  Gather gather_;
  std::list<WriteCall> calls_;  ///< they stay where they are
  std::vector<Tried*> sent_;    ///< of the calls
  std::vector<std::shared_ptr<Connection>> connections_;
  std::vector<WriteTask> tasks_;
  std::vector<Tried*> local_;  ///< of the tasks
};

asio::awaitable<void> Router::Write(std::span<RoutedWrite> writes, SteadyTime deadline) {
  // Without peers a write is tried here or nowhere, and no name of it is kept.
  if (network_ != nullptr) {
    for (RoutedWrite& write : writes) {
      if (write.request.id.boot != 0) continue;
      write.request.id = {options_.boot, next_request_.fetch_add(1, std::memory_order_relaxed)};
    }
  }
  if (writes.size() == 1) {
    RoutedWrite& write = writes[0];
    auto partition = local_->TryFind(write.table, write.request.key);
    if (partition != nullptr && partition->serving()) {
      std::array<WriteTask, 1> tasks;
      tasks[0].partition = std::move(partition);
      tasks[0].request = write.request;
      const std::span<WriteTask> span(tasks);
      co_await partition::Execute(span);
      write.outcome = std::move(tasks[0].outcome);
      if (!MayRetryWrite(write.outcome.status) && !IsUnknown(write.outcome.status)) co_return;
    }
  }
  co_await WriteLoop(writes, deadline);
}

asio::awaitable<void> Router::WriteLoop(std::span<RoutedWrite> writes, SteadyTime deadline) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  Attempts attempts(DeadlineOf(deadline));
  std::vector<Tried> all(writes.size());
  std::vector<Tried*> open;
  for (size_t i = 0; i < writes.size(); ++i) {
    all[i].write = &writes[i];
    all[i].unknown = IsUnknown(writes[i].outcome.status);
    open.push_back(&all[i]);
  }
  // What Write() has tried already and must not be tried again.
  std::erase_if(open, [](const Tried* tried) {
    return tried->unknown && tried->write->request.id.boot == 0;
  });
  while (!open.empty()) {
    attempts.connects = connects_.load();
    WriteRound round(this, executor);
    for (Tried* tried : open) {
      RoutedWrite& write = *tried->write;
      write.outcome = WriteOutcome();
      const RouteMap::RoutePtr route = map_->Find(write.table, write.request.key);
      tried->revision = RevisionOf(route);
      if (route == nullptr) {
        write.outcome.status = NotFound("no partition holds the key");
      } else if (route->primary() != options_.self) {
        round.Send(tried, *route, attempts.deadline);
      } else {
        auto partition =
            co_await OpenLocal(write.table, std::string(write.request.key), attempts.deadline);
        if (partition.ok()) {
          round.Execute(tried, std::move(partition).value());
        } else {
          write.outcome.status = std::move(partition).status();
        }
      }
    }
    co_await round.Finish();
    std::erase_if(open, [](Tried* tried) {
      RoutedWrite& write = *tried->write;
      BlameTheNode(tried->revision, &write.outcome.status);
      const bool unknown = IsUnknown(write.outcome.status);
      tried->unknown = tried->unknown || unknown;
      if (unknown) return write.request.id.boot == 0;  // a second time could be one too many
      return tried->unknown ? IsEvaluated(write.outcome.status)
                            : !MayRetryWrite(write.outcome.status);
    });
    if (open.empty()) break;
    const RoutedWrite& next = *open.front()->write;
    attempts.WentBy(next.table, next.request.key, open.front()->revision);
    if (!co_await Pause(next.outcome.status, &attempts)) break;
  }
  for (Tried& tried : all) {
    Status& status = tried.write->outcome.status;
    // A refusal of the last try does not say what became of the first.
    if (tried.unknown && !IsEvaluated(status)) {
      status = {Code::kUnknownOutcome,
                "whether the write was done is not known: " + status.message()};
      if (counters_ != nullptr) counters_->unknown_outcomes.Add();
    }
  }
}

}  // namespace onggi::routing
