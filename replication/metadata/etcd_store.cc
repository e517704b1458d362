#include "replication/metadata/etcd_store.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <utility>

#include "replication/metadata/etcd_client.h"
#include "replication/metadata/etcd_lease.h"
#include "replication/metadata/etcd_metrics.h"
#include "replication/metadata/etcd_watch.h"

namespace onggi::metadata {
namespace {

namespace asio = boost::asio;
using etcd::Client;
using etcd::Loop;
using etcd::Operation;
using std::chrono::milliseconds;

/// Pages of a range: what a response should hold at most, roughly, and in keys.
constexpr size_t kPageBytes = 1u << 20;
constexpr size_t kFirstPageKeys = 256;
constexpr size_t kMinPageKeys = 1;
constexpr size_t kMaxPageKeys = 4096;
/// How often a range starts over when its revision is compacted away under it.
constexpr int kMaxRestarts = 5;
constexpr milliseconds kRevokeTimeout{1000};

Status Closed() { return Unavailable("the metadata store is closed"); }

Revision ToRevision(int64_t revision) { return Revision(static_cast<uint64_t>(revision)); }

/// etcd's way to say "from the first key on" and "to the last".
std::string OrZero(std::string key) { return key.empty() ? std::string(1, '\0') : key; }

KeyValue FromEtcd(const mvccpb::KeyValue& from, size_t prefix) {
  KeyValue kv;
  kv.key = from.key().substr(std::min(prefix, from.key().size()));
  kv.value = from.value();
  kv.create_revision = ToRevision(from.create_revision());
  kv.mod_revision = ToRevision(from.mod_revision());
  return kv;
}

/// One range, read in pages at the revision of the first. On the loop's thread.
class RangeReader : public std::enable_shared_from_this<RangeReader> {
 public:
  RangeReader(Client* client, std::string start, std::string end, size_t limit,
              MetadataStore::RangeCallback done)
      : client_(client),
        prefix_(client->options().key_prefix.size()),
        start_(client->options().key_prefix + start),
        end_(end.empty() ? PrefixEnd(client->options().key_prefix)
                         : client->options().key_prefix + end),
        limit_(limit),
        done_(std::move(done)) {}

  void Start() {
    next_ = start_;
    Ask();
  }

 private:
  void Ask() {
    asked_ = limit_ == 0 ? page_ : std::min(page_, limit_ - result_.kvs.size());
    etcdserverpb::RangeRequest request;
    request.set_key(OrZero(next_));
    request.set_range_end(OrZero(end_));
    request.set_limit(static_cast<int64_t>(asked_));
    request.set_revision(static_cast<int64_t>(result_.revision.value));
    client_->Range(std::move(request), Loop::Clock::now() + client_->options().request_timeout,
                   [self = shared_from_this()](Result<etcdserverpb::RangeResponse> page) {
                     self->OnPage(std::move(page));
                   });
  }

  void OnPage(Result<etcdserverpb::RangeResponse> page) {
    if (!page.ok()) {
      if (page.status().code() != Code::kConditionFailed) return done_(page.status());
      if (++restarts_ > kMaxRestarts) return done_(Unavailable(page.status().message()));
      result_ = RangeResult();
      bytes_ = 0;
      return Start();
    }
    if (result_.revision == Revision()) result_.revision = ToRevision(page->header().revision());
    size_t bytes = 0;
    for (const mvccpb::KeyValue& kv : page->kvs()) {
      bytes += kv.key().size() + kv.value().size();
      result_.kvs.push_back(FromEtcd(kv, prefix_));
    }
    bytes_ += bytes;
    if (bytes_ > client_->options().max_range_bytes) {
      return done_(Status(Code::kResourceExhausted,
                          "a metadata range of more than " +
                              std::to_string(client_->options().max_range_bytes) + " bytes"));
    }
    if (!page->more()) return done_(std::move(result_));
    if (page->kvs().empty()) return done_(Internal("etcd: an empty page, and more to come"));
    if (limit_ != 0 && result_.kvs.size() >= limit_) {
      result_.more = true;
      return done_(std::move(result_));
    }
    next_ = page->kvs().rbegin()->key() + '\0';
    // The next page is as the last one was, or so one hopes.
    const size_t each = bytes / static_cast<size_t>(page->kvs_size()) + 1;
    page_ = std::clamp(kPageBytes / each, kMinPageKeys, kMaxPageKeys);
    Ask();
  }

  Client* const client_;
  const size_t prefix_;
  const std::string start_;
  const std::string end_;
  const size_t limit_;
  const MetadataStore::RangeCallback done_;
  std::string next_;
  size_t page_ = kFirstPageKeys;
  size_t asked_ = 0;
  size_t bytes_ = 0;
  int restarts_ = 0;
  RangeResult result_;
};

etcdserverpb::TxnRequest ToEtcd(Transaction transaction, const std::string& prefix) {
  etcdserverpb::TxnRequest request;
  for (const Compare& compare : transaction.compares) {
    etcdserverpb::Compare& to = *request.add_compare();
    to.set_result(etcdserverpb::Compare::EQUAL);
    to.set_target(etcdserverpb::Compare::MOD);
    to.set_key(OrZero(prefix + compare.key));
    to.set_mod_revision(static_cast<int64_t>(compare.mod_revision.value));
    request.add_failure()->mutable_request_range()->set_key(OrZero(prefix + compare.key));
  }
  for (Put& put : transaction.puts) {
    etcdserverpb::PutRequest& to = *request.add_success()->mutable_request_put();
    to.set_key(prefix + put.key);
    to.set_value(std::move(put.value));
    to.set_lease(static_cast<int64_t>(put.lease.value));
  }
  for (const std::string& key : transaction.deletes) {
    request.add_success()->mutable_request_delete_range()->set_key(prefix + key);
  }
  if (request.success_size() == 0) {
    // A transaction without any operation is answered from the member's own, perhaps old, state.
    etcdserverpb::RangeRequest& read = *request.add_success()->mutable_request_range();
    read.set_key(OrZero(prefix));
    read.set_count_only(true);
  }
  return request;
}

Result<TransactionResult> FromEtcd(const etcdserverpb::TxnResponse& response, size_t prefix) {
  TransactionResult result;
  result.succeeded = response.succeeded();
  result.revision = ToRevision(response.header().revision());
  if (result.succeeded) return result;
  for (const etcdserverpb::ResponseOp& op : response.responses()) {
    for (const mvccpb::KeyValue& kv : op.response_range().kvs()) {
      result.current.push_back(FromEtcd(kv, prefix));
    }
  }
  return result;
}

class WatchEnd final : public WatchHandle {
 public:
  WatchEnd(std::shared_ptr<etcd::WatchState> watch, etcd::WatchHub* hub,
           std::shared_ptr<etcd::Poster> poster)
      : watch_(std::move(watch)), hub_(hub), poster_(std::move(poster)) {}
  ~WatchEnd() override {
    watch_->ended = true;
    poster_->Post([hub = hub_, watch = watch_] { hub->Remove(watch); });
  }

 private:
  const std::shared_ptr<etcd::WatchState> watch_;
  etcd::WatchHub* const hub_;
  const std::shared_ptr<etcd::Poster> poster_;
};

class Store final : public EtcdStore {
 public:
  explicit Store(EtcdOptions options)
      : options_(std::move(options)),
        metrics_(options_.registry),
        poster_(std::make_shared<etcd::Poster>(&loop_)),
        client_(options_, &loop_, &metrics_),
        watches_(&client_, poster_),
        leases_(&client_, poster_) {}
  ~Store() override { Close(); }

  Status Start(milliseconds connect_timeout);
  void Close() override;

  void AsyncRange(std::string start, std::string end, size_t limit,
                  RangeCallback callback) override;
  void AsyncCommit(Transaction transaction, TransactionCallback callback) override;
  std::unique_ptr<WatchHandle> Watch(std::string prefix, Revision from,
                                     asio::any_io_executor executor,
                                     WatchCallback callback) override;
  void AsyncGrantLease(std::chrono::seconds ttl, asio::any_io_executor executor,
                       std::function<void()> lost, LeaseCallback callback) override;
  void AsyncRevokeLease(LeaseId lease, StatusCallback callback) override;

 private:
  /// Runs `begin` on the loop's thread with the function that answers, or answers at once.
  template <class Answer>
  void Submit(Operation operation, size_t bytes, std::function<void(Answer)> callback,
              std::function<void(std::function<void(Answer)>)> begin);

  static Status StatusOf(const Status& status) { return status; }
  template <class T>
  static Status StatusOf(const Result<T>& result) {
    return result.status();
  }

  const EtcdOptions options_;
  etcd::Metrics metrics_;
  Loop loop_;
  const std::shared_ptr<etcd::Poster> poster_;
  std::atomic<bool> closed_{false};
  std::atomic<size_t> pending_{0};
  std::atomic<size_t> pending_bytes_{0};

  // The loop's thread's.
  Client client_;
  etcd::WatchHub watches_;
  etcd::LeaseKeeper leases_;
  bool started_ = false;
};

Status Store::Start(milliseconds connect_timeout) {
  RETURN_IF_ERROR(client_.Init());
  loop_.Start();
  started_ = true;
  const auto promise = std::make_shared<std::promise<Status>>();
  loop_.Post([this, promise, connect_timeout] {
    client_.Start();
    etcdserverpb::RangeRequest request;
    request.set_key(options_.key_prefix + "probe");
    request.set_count_only(true);
    client_.Range(std::move(request), Loop::Clock::now() + connect_timeout,
                  [promise](const Result<etcdserverpb::RangeResponse>& result) {
                    promise->set_value(result.status());
                  });
  });
  Status status = promise->get_future().get();
  if (status.code() != Code::kUnavailable) return status;
  // The members may be there and not be trusted, or not trust us: nobody else would say so.
  const std::string reasons = client_.Explain();
  return reasons.empty() ? status : Unavailable(status.message() + " (" + reasons + ")");
}

void Store::Close() {
  if (closed_.exchange(true) || !started_) return;
  const auto revoked = std::make_shared<std::promise<void>>();
  loop_.Post([this, revoked] { leases_.RevokeAll([revoked] { revoked->set_value(); }); });
  revoked->get_future().wait_for(kRevokeTimeout);
  loop_.Post([this] {
    poster_->Close();
    watches_.Close();
    leases_.Close();
    client_.Close();
    loop_.Shutdown();
  });
  loop_.Join();
}

template <class Answer>
void Store::Submit(Operation operation, size_t bytes, std::function<void(Answer)> callback,
                   std::function<void(std::function<void(Answer)>)> begin) {
  if (closed_) return callback(Closed());
  const bool full = pending_.fetch_add(1) >= options_.max_pending;
  if (pending_bytes_.fetch_add(bytes) + bytes > options_.max_pending_bytes || full) {
    --pending_;
    pending_bytes_ -= bytes;
    return callback(Status(Code::kResourceExhausted, "too many metadata requests in flight"));
  }
  metrics_.pending->Add(1);
  std::function<void(Answer)> finish = [this, operation, bytes, callback,
                                        start = Loop::Clock::now()](Answer answer) {
    --pending_;
    pending_bytes_ -= bytes;
    metrics_.pending->Add(-1);
    metrics_.Finished(operation, StatusOf(answer), Loop::Clock::now() - start);
    callback(std::move(answer));
  };
  if (!loop_.Post([begin = std::move(begin), finish] { begin(finish); })) finish(Closed());
}

void Store::AsyncRange(std::string start, std::string end, size_t limit, RangeCallback callback) {
  Submit<Result<RangeResult>>(
      Operation::kRange, 0, std::move(callback),
      [this, start = std::move(start), end = std::move(end), limit](RangeCallback done) {
        std::make_shared<RangeReader>(&client_, start, end, limit, std::move(done))->Start();
      });
}

void Store::AsyncCommit(Transaction transaction, TransactionCallback callback) {
  if (Status status = CheckLimits(transaction); !status.ok()) return callback(status);
  auto request = std::make_shared<etcdserverpb::TxnRequest>(
      ToEtcd(std::move(transaction), options_.key_prefix));
  Submit<Result<TransactionResult>>(
      Operation::kCommit, request->ByteSizeLong(), std::move(callback),
      [this, request](TransactionCallback done) {
        const auto method = [](etcd::Endpoint& endpoint, grpc::ClientContext* context,
                               const etcdserverpb::TxnRequest& asked,
                               grpc::CompletionQueue* queue) {
          return endpoint.kv->AsyncTxn(context, asked, queue);
        };
        const auto finish = [prefix = options_.key_prefix.size(), done = std::move(done)](
                                const Result<etcdserverpb::TxnResponse>& response) {
          if (response.ok()) return done(FromEtcd(*response, prefix));
          done(response.status());
        };
        client_.Ask<etcdserverpb::TxnRequest, etcdserverpb::TxnResponse>(
            Client::Kind::kWrite, +method, std::move(*request),
            Loop::Clock::now() + options_.request_timeout, finish);
      });
}

std::unique_ptr<WatchHandle> Store::Watch(std::string prefix, Revision from,
                                          asio::any_io_executor executor, WatchCallback callback) {
  auto watch = std::make_shared<etcd::WatchState>();
  watch->key = options_.key_prefix + prefix;
  watch->end = PrefixEnd(watch->key);
  watch->executor = std::move(executor);
  watch->callback = std::move(callback);
  // "From now on": whatever is asked after this call has a greater revision than any seen so far.
  watch->next = from == Revision() ? Revision(client_.newest().value + 1) : from;
  poster_->Post([this, watch] { watches_.Add(watch); });
  return std::make_unique<WatchEnd>(std::move(watch), &watches_, poster_);
}

void Store::AsyncGrantLease(std::chrono::seconds ttl, asio::any_io_executor executor,
                            std::function<void()> lost, LeaseCallback callback) {
  Submit<Result<std::unique_ptr<LeaseHandle>>>(
      Operation::kGrantLease, 0, std::move(callback),
      [this, ttl, executor = std::move(executor), lost = std::move(lost)](LeaseCallback done) {
        leases_.Grant(ttl, executor, lost, std::move(done));
      });
}

void Store::AsyncRevokeLease(LeaseId lease, StatusCallback callback) {
  Submit<Status>(Operation::kRevokeLease, 0, std::move(callback),
                 [this, lease](StatusCallback done) { leases_.Revoke(lease, std::move(done)); });
}

}  // namespace

Result<std::unique_ptr<EtcdStore>> EtcdStore::Open(EtcdOptions options,
                                                   milliseconds connect_timeout) {
  auto store = std::make_unique<Store>(std::move(options));
  RETURN_IF_ERROR(store->Start(connect_timeout));
  return std::unique_ptr<EtcdStore>(std::move(store));
}

}  // namespace onggi::metadata
