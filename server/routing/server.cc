#include "server/routing/server.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <deque>
#include <unordered_map>

#include "server/expression/projection.h"
#include "server/routing/page.h"
#include "server/routing/wire.h"

namespace onggi::routing {

namespace asio = boost::asio;

namespace {

/// Reads answered between two looks at whether the stream is free.
constexpr int kGetsPerFlush = 64;

SteadyTime DeadlineOf(uint32_t timeout_ms) {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
}

Status TooMuch() {
  return {Code::kResourceExhausted, "the node has too many requests of other nodes under way"};
}

/// Takes the entries of a page into its answer.
class AnswerSink final : public PageSink {
 public:
  AnswerSink(const PageQuery& query, proto::RoutedPageResult* result) : result_(*result) {
    if (query.attributes == nullptr) return;
    projection_.emplace(expression::Projection::OfAttributes(*query.attributes));
  }
  void Take(const model::ItemView& item) override {
    std::string* out = result_.add_items();
    if (projection_) {
      projection_->Project(item, out);
    } else {
      out->assign(item.encoded());
    }
    bytes_ += out->size();
  }
  size_t bytes() const { return bytes_; }

 private:
  proto::RoutedPageResult& result_;
  std::optional<expression::Projection> projection_;
  size_t bytes_ = 0;
};

}  // namespace

/// A share of what may be under way at once, given back at the end.
class Server::Reservation {
 public:
  Reservation(std::atomic<size_t>* used, size_t amount) : used_(used), amount_(amount) {}
  Reservation(Reservation&& other) noexcept
      : used_(std::exchange(other.used_, nullptr)), amount_(other.amount_) {}
  ~Reservation() {
    if (used_ != nullptr) used_->fetch_sub(amount_, std::memory_order_relaxed);
  }
  /// False: it would be more than `limit`, and nothing is reserved.
  static bool Take(std::atomic<size_t>* used, size_t amount, size_t limit) {
    if (used->fetch_add(amount, std::memory_order_relaxed) + amount <= limit) return true;
    used->fetch_sub(amount, std::memory_order_relaxed);
    return false;
  }

 private:
  std::atomic<size_t>* used_;
  const size_t amount_;
};

/// Writes of one frame to one partition.
struct Server::WriteBatch {
  explicit WriteBatch(std::atomic<size_t>* used) : used_bytes(used) {}
  ~WriteBatch() { used_bytes->fetch_sub(bytes, std::memory_order_relaxed); }

  std::atomic<size_t>* const used_bytes;
  size_t bytes = 0;  ///< reserved
  TableId table;
  PartitionPtr partition;  ///< null: still to be opened
  std::deque<ReceivedWrite> writes;
  SteadyTime received = std::chrono::steady_clock::now();
};

Server::Server(NodeId self, partition::Directory* local, RouteMap* map, IoPool* io,
               ServerLimits limits, metrics::Registry* registry)
    : self_(self), local_(local), map_(map), io_(io), limits_(limits) {
  if (registry == nullptr) return;
  served_ = &registry->AddCounter("onggi_routing_served_total", "Requests of other nodes taken on");
  refused_ = &registry->AddCounter("onggi_routing_refused_total",
                                   "Requests of other nodes refused because of too many");
  misplaced_ = &registry->AddCounter("onggi_routing_misplaced_total",
                                     "Requests of other nodes for what is led elsewhere");
  registry->AddGaugeCallback("onggi_routing_served_bytes",
                             "Requests of other nodes that are being carried out, in bytes", {},
                             [this] { return static_cast<double>(bytes_.load()); });
}

Server::~Server() { Stop(); }

void Server::Stop() { scope_.Stop(); }

void Server::OnClosed(const ConnectionPtr& from) {
  std::lock_guard lock(mutex_);
  for (auto it = reading_.lower_bound({from.get(), 0});
       it != reading_.end() && it->first.first == from.get(); ++it) {
    it->second->store(true);
  }
}

void Server::OnCancelled(const ConnectionPtr& from, const proto::RoutingFrame& frame) {
  std::lock_guard lock(mutex_);
  for (const uint64_t id : frame.cancelled()) {
    const auto reading = reading_.find({from.get(), id});
    if (reading != reading_.end()) reading->second->store(true);
  }
}

void Server::OnRequests(const ConnectionPtr& from, proto::RoutingFrame* frame) {
  if (served_ != nullptr) {
    served_->Add(static_cast<uint64_t>(frame->gets_size() + frame->writes_size() +
                                       frame->pages_size() + frame->figures_size()));
  }
  if (!frame->cancelled().empty()) OnCancelled(from, *frame);
  // Writes first: they wait for a disk anyway.
  if (!frame->writes().empty()) OnWrites(from, frame);
  if (!frame->gets().empty()) TakeGets(from, frame);
  if (!frame->pages().empty()) OnPages(from, frame);
  if (!frame->figures().empty()) OnFigures(from, frame);
}

// -- Where things are. ------------------------------------------------------------------------

Status Server::Misplaced(TableId table, std::string_view key, bool reverse,
                         bool any_replica) const {
  const RouteMap::RoutePtr route = reverse ? map_->FindBelow(table, key) : map_->Find(table, key);
  if (route == nullptr) return NotFound("no partition holds the key");
  if (route->primary() == self_ || (any_replica && route->InSync(self_))) return Status::Ok();
  return {Code::kNotPrimary, "the partition is led by node " + route->primary().ToString()};
}

void Server::Refuse(const Status& status, TableId table, std::string_view key, bool reverse,
                    proto::RoutedError* error) const {
  ErrorToWire(status, error);
  if (status.code() == Code::kResourceExhausted && refused_ != nullptr) refused_->Add();
  if (status.code() != Code::kNotPrimary) return;
  if (misplaced_ != nullptr) misplaced_->Add();
  const RouteMap::RoutePtr route = reverse ? map_->FindBelow(table, key) : map_->Find(table, key);
  if (route != nullptr) AddHint(*route, error);
}

asio::awaitable<Result<Server::PartitionPtr>> Server::FindLocal(TableId table, std::string_view key,
                                                                bool reverse, bool any_replica) {
  if (Status status = Misplaced(table, key, reverse, any_replica); !status.ok()) co_return status;
  std::string inside(key);
  if (reverse) {
    // Some key of the partition that ends at or behind `key`: its first.
    const RouteMap::RoutePtr route = map_->FindBelow(table, key);
    if (route == nullptr) co_return NotFound("no partition holds the key");
    inside = route->start();
  }
  if (PartitionPtr open = local_->TryFind(table, inside)) co_return open;
  if (!Reservation::Take(&waiting_, 1, limits_.max_waiting)) co_return TooMuch();
  const Reservation reservation(&waiting_, 1);
  co_return co_await local_->Find(table, inside);
}

// -- Reads of items. --------------------------------------------------------------------------

/// Not on this thread: a read may wait for the disk, and others' heartbeats come here too.
void Server::TakeGets(const ConnectionPtr& from, proto::RoutingFrame* frame) {
  auto taken = std::make_unique<proto::RoutingFrame>();
  taken->mutable_gets()->Swap(frame->mutable_gets());
  const size_t bytes = taken->ByteSizeLong();
  if (!Reservation::Take(&bytes_, bytes, limits_.max_bytes)) {
    for (const proto::RoutedGet& request : taken->gets()) AnswerGetError(from, request, TooMuch());
    return;
  }
  if (scope_.Spawn(io_->NextExecutor(), AnswerGets(from, std::move(taken), bytes))) return;
  bytes_.fetch_sub(bytes, std::memory_order_relaxed);
}

asio::awaitable<void> Server::AnswerGets(ConnectionPtr from,
                                         std::unique_ptr<proto::RoutingFrame> frame, size_t bytes) {
  const Reservation reservation(&bytes_, bytes);
  OnGets(from, frame.get());
  from->Flush();
  co_return;
}

void Server::OnGets(const ConnectionPtr& from, proto::RoutingFrame* frame) {
  int answered = 0;
  for (proto::RoutedGet& request : *frame->mutable_gets()) {
    const TableId table(request.table());
    if (!from->accepts()) {
      AnswerGetError(from, request, TooMuch());
    } else if (const PartitionPtr partition = local_->TryFind(table, request.key())) {
      AnswerGet(from, request, *partition);
    } else if (Status status = Misplaced(table, request.key(), false, !request.consistent());
               !status.ok()) {
      AnswerGetError(from, request, status);
    } else {
      const SteadyTime deadline = DeadlineOf(request.timeout_ms());
      proto::RoutedGet copy;
      copy.Swap(&request);
      if (!scope_.Spawn(io_->NextExecutor(), GetLater(from, copy, deadline))) {
        AnswerGetError(from, copy, Unavailable("the node is stopping"));
      }
    }
    if (++answered % kGetsPerFlush == 0) from->Flush();
  }
}

asio::awaitable<void> Server::GetLater(ConnectionPtr from, proto::RoutedGet request,
                                       SteadyTime deadline) {
  auto partition =
      co_await FindLocal(TableId(request.table()), request.key(), false, !request.consistent());
  if (!partition.ok()) {
    AnswerGetError(from, request, partition.status());
  } else if (std::chrono::steady_clock::now() < deadline) {
    AnswerGet(from, request, **partition);
  }
  from->Flush();
}

void Server::AnswerGet(const ConnectionPtr& from, const proto::RoutedGet& request,
                       const partition::Partition& partition) {
  partition::PinnedItem item;
  if (Status status = partition.Get(request.key(), request.consistent(), &item); !status.ok()) {
    if (status.code() == Code::kNotPrimary) {
      (void)LearnFrom(partition, TableId(request.table()), map_);
    }
    AnswerGetError(from, request, status);
    return;
  }
  const std::string_view bytes = item.found() ? item.item().encoded() : std::string_view();
  from->Add(bytes.size() + 16, [&](proto::RoutingFrame* out) {
    proto::RoutedGetResult* result = out->add_got();
    result->set_id(request.id());
    if (item.found()) result->set_item(bytes.data(), bytes.size());
  });
}

void Server::AnswerGetError(const ConnectionPtr& from, const proto::RoutedGet& request,
                            const Status& status) {
  from->Add(256, [&](proto::RoutingFrame* out) {
    proto::RoutedGetResult* result = out->add_got();
    result->set_id(request.id());
    Refuse(status, TableId(request.table()), request.key(), false, result->mutable_error());
  });
}

// -- Writes. ----------------------------------------------------------------------------------

void Server::OnWrites(const ConnectionPtr& from, proto::RoutingFrame* frame) {
  // Those of one partition become one batch: they will share its log entries.
  std::vector<std::unique_ptr<WriteBatch>> batches;
  for (proto::RoutedWrite& request : *frame->mutable_writes()) {
    const TableId table(request.table());
    const size_t bytes = request.ByteSizeLong() + sizeof(ReceivedWrite);
    PartitionPtr partition = local_->TryFind(table, request.key());
    if (partition == nullptr || !partition->serving()) {
      Status status = Misplaced(table, request.key(), false, false);
      if (!status.ok()) {
        AnswerWriteError(from, request, status);
        continue;
      }
    }
    if (!from->accepts() || !Reservation::Take(&bytes_, bytes, limits_.max_bytes)) {
      AnswerWriteError(from, request, TooMuch());
      continue;
    }
    WriteBatch* batch = nullptr;
    for (const auto& one : batches) {
      if (partition != nullptr && one->partition == partition) batch = one.get();
    }
    if (batch == nullptr) {
      batches.push_back(std::make_unique<WriteBatch>(&bytes_));
      batch = batches.back().get();
      batch->table = table;
      batch->partition = std::move(partition);
    }
    batch->bytes += bytes;
    batch->writes.emplace_back(&request);
  }
  for (auto& batch : batches) {
    // The partition's own thread (PartitionManager's rule): its answers then come without a hop.
    const auto executor = batch->partition == nullptr
                              ? io_->NextExecutor()
                              : io_->executor(batch->partition->id().value % io_->size());
    // A coroutine that is never run gives back what it holds; its asker's deadline ends the wait.
    (void)scope_.Spawn(executor, ExecuteWrites(from, std::move(batch)));
  }
}

asio::awaitable<void> Server::ExecuteWrites(ConnectionPtr from, std::unique_ptr<WriteBatch> batch) {
  // Whatever stops meanwhile: what has been given to the partition is waited for.
  const asio::disable_cancellation none;
  co_await asio::this_coro::reset_cancellation_state(none);
  if (batch->partition == nullptr) {
    const std::string_view key = batch->writes.front().message().key();
    auto partition = co_await FindLocal(batch->table, key, false, false);
    if (!partition.ok()) {
      for (const ReceivedWrite& write : batch->writes) {
        AnswerWriteError(from, write.message(), partition.status());
      }
      from->Flush();
      co_return;
    }
    batch->partition = std::move(partition).value();
  }
  // A write that was asked again over another stream must not come behind its second try.
  if (from->ended()) co_return;
  const SteadyTime now = std::chrono::steady_clock::now();
  std::vector<partition::WriteTask> tasks;
  std::vector<ReceivedWrite*> writes;
  tasks.reserve(batch->writes.size());
  for (ReceivedWrite& write : batch->writes) {
    partition::WriteRequest request;
    Status status = write.Decode(&request);
    if (now >= batch->received + std::chrono::milliseconds(write.message().timeout_ms())) {
      status = Unavailable("the write's time was over before it was begun");
    }
    if (!status.ok()) {
      AnswerWriteError(from, write.message(), status);
      continue;
    }
    tasks.emplace_back();
    tasks.back().partition = batch->partition;
    tasks.back().request = request;
    writes.push_back(&write);
  }
  const std::span<partition::WriteTask> span(tasks);
  co_await partition::Execute(span);
  const auto misplaced = [](const partition::WriteTask& task) {
    return task.outcome.status.code() == Code::kNotPrimary;
  };
  if (std::any_of(tasks.begin(), tasks.end(), misplaced)) {
    (void)LearnFrom(*batch->partition, batch->table, map_);
  }
  for (size_t i = 0; i < tasks.size(); ++i) {
    const proto::RoutedWrite& request = writes[i]->message();
    partition::WriteOutcome& outcome = tasks[i].outcome;
    const size_t size = outcome.old_item.size() + outcome.new_item.size() +
                        outcome.updated_old.size() + outcome.updated_new.size() + 32;
    from->Add(size, [&](proto::RoutingFrame* out) {
      proto::RoutedWriteResult* result = out->add_written();
      const Code code = outcome.status.code();
      if (code == Code::kNotPrimary || code == Code::kResourceExhausted) {
        Refuse(outcome.status, TableId(request.table()), request.key(), false,
               result->mutable_error());
      } else {
        OutcomeToWire(&outcome, result);
      }
      result->set_id(request.id());
    });
  }
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  from->FlushSoon(executor);
}

void Server::AnswerWriteError(const ConnectionPtr& from, const proto::RoutedWrite& request,
                              const Status& status) {
  from->Add(256, [&](proto::RoutingFrame* out) {
    proto::RoutedWriteResult* result = out->add_written();
    result->set_id(request.id());
    Refuse(status, TableId(request.table()), request.key(), false, result->mutable_error());
  });
}

// -- Pages. -----------------------------------------------------------------------------------

void Server::OnPages(const ConnectionPtr& from, proto::RoutingFrame* frame) {
  for (proto::RoutedPage& request : *frame->mutable_pages()) {
    const std::string& edge = request.reverse() ? request.upper() : request.lower();
    Status status =
        Misplaced(TableId(request.table()), edge, request.reverse(), !request.consistent());
    if (status.ok() && (!from->accepts() || !Reservation::Take(&pages_, 1, limits_.max_pages))) {
      status = TooMuch();
    }
    if (!status.ok()) {
      AnswerPageError(from, request, status);
      continue;
    }
    const SteadyTime deadline = DeadlineOf(request.timeout_ms());
    const auto cancelled = std::make_shared<std::atomic<bool>>(false);
    {
      std::lock_guard lock(mutex_);
      reading_[{from.get(), request.id()}] = cancelled;
    }
    proto::RoutedPage copy;
    copy.Swap(&request);
    if (!scope_.Spawn(io_->NextExecutor(), ReadPage(from, copy, deadline, cancelled))) {
      pages_.fetch_sub(1, std::memory_order_relaxed);
      std::lock_guard lock(mutex_);
      reading_.erase({from.get(), copy.id()});
    }
  }
}

asio::awaitable<void> Server::ReadPage(ConnectionPtr from, proto::RoutedPage request,
                                       SteadyTime deadline, Cancelled cancelled) {
  const Reservation reservation(&pages_, 1);
  const uint64_t id = request.id();
  ReceivedPage received(&request);
  const proto::RoutedPage& message = received.message();
  PageQuery query;
  proto::RoutedPageResult result;
  PageFigures figures;
  std::string reached;
  size_t bytes = 256;
  Status status = received.Decode(&query);
  if (status.ok()) {
    query.deadline = deadline;
    const std::string& edge = query.reverse ? query.upper : query.lower;
    auto partition = co_await FindLocal(query.table, edge, query.reverse, !query.consistent);
    if (!partition.ok()) {
      status = partition.status();
    } else if (query.index >= static_cast<int>((*partition)->schema().local_indexes.size())) {
      status = {Code::kInvalidArgument, "an index that the table does not have"};
    } else {
      query.schema = &(*partition)->schema();
      AnswerSink sink(query, &result);
      status = co_await ReadPartitionPage(**partition, query, cancelled.get(), &sink, &figures,
                                          &reached);
      if (status.code() == Code::kNotPrimary) (void)LearnFrom(**partition, query.table, map_);
      bytes += sink.bytes();
    }
  }
  {
    std::lock_guard lock(mutex_);
    reading_.erase({from.get(), id});
  }
  if (!status.ok()) {
    AnswerPageError(from, message, status);
  } else {
    from->Add(bytes, [&](proto::RoutingFrame* out) {
      result.set_id(id);
      result.set_matched(figures.matched);
      result.set_scanned(figures.scanned);
      result.set_read_bytes(figures.read_bytes);
      result.set_page_bytes(figures.page_bytes);
      result.set_fetched_steps(figures.fetched_steps);
      if (figures.full()) {
        result.set_last_entry(figures.last_entry);
      } else if (!reached.empty()) {
        result.set_reached(reached);
      }
      out->add_read()->Swap(&result);
    });
  }
  from->Flush();
}

void Server::AnswerPageError(const ConnectionPtr& from, const proto::RoutedPage& request,
                             const Status& status) {
  const std::string& edge = request.reverse() ? request.upper() : request.lower();
  from->Add(256, [&](proto::RoutingFrame* out) {
    proto::RoutedPageResult* result = out->add_read();
    result->set_id(request.id());
    Refuse(status, TableId(request.table()), edge, request.reverse(), result->mutable_error());
  });
}

// -- Figures. ---------------------------------------------------------------------------------

void Server::OnFigures(const ConnectionPtr& from, proto::RoutingFrame* frame) {
  for (proto::RoutedFigures& request : *frame->mutable_figures()) {
    proto::RoutedFigures copy;
    copy.Swap(&request);
    (void)scope_.Spawn(io_->NextExecutor(), CountFigures(from, copy));
  }
}

asio::awaitable<void> Server::CountFigures(ConnectionPtr from, proto::RoutedFigures request) {
  proto::RoutedFiguresResult result;
  result.set_id(request.id());
  for (const uint64_t id : request.partitions()) {
    const RouteMap::RoutePtr route = map_->FindPartition(TableId(request.table()), PartitionId(id));
    if (route == nullptr || route->primary() != self_) continue;
    auto partition = co_await FindLocal(route->table(), route->start(), false, false);
    if (!partition.ok()) continue;
    FiguresToWire(PartitionId(id), (*partition)->statistics(), result.add_partitions());
  }
  from->Add(result.ByteSizeLong(),
            [&](proto::RoutingFrame* out) { out->add_counted()->Swap(&result); });
  from->Flush();
}

}  // namespace onggi::routing
