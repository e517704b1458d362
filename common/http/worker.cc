#include <algorithm>

#include "common/check.h"
#include "common/http/connection.h"

namespace onggi::http {

using boost::system::error_code;

Worker::Worker(ServerShared& shared, boost::asio::io_context& io, size_t index)
    : shared_(shared),
      io_(io),
      index_(index),
      timer_(io.get_executor()),
      epoch_(std::chrono::steady_clock::now()),
      wheel_(kBuckets) {}

Worker::~Worker() { CHECK(count_ == 0); }

int64_t Worker::TickOf(SteadyTime time) const { return (time - epoch_) / shared_.options.tick; }

void Worker::Link(Connection* connection) {
  const int64_t latest = current_tick_ + static_cast<int64_t>(kBuckets) - 1;
  int64_t tick = latest;
  if (connection->deadline_ != SteadyTime::max()) {
    tick = std::clamp(TickOf(connection->deadline_) + 1, current_tick_ + 1, latest);
  }
  connection->wheel_tick_ = tick;
  Bucket& bucket = wheel_[static_cast<size_t>(tick) % kBuckets];
  connection->previous_ = nullptr;
  connection->next_ = bucket.first;
  if (bucket.first != nullptr) bucket.first->previous_ = connection;
  bucket.first = connection;
}

void Worker::Unlink(Connection* connection) {
  if (connection->previous_ != nullptr) {
    connection->previous_->next_ = connection->next_;
  } else {
    wheel_[static_cast<size_t>(connection->wheel_tick_) % kBuckets].first = connection->next_;
  }
  if (connection->next_ != nullptr) connection->next_->previous_ = connection->previous_;
  connection->next_ = connection->previous_ = nullptr;
}

void Worker::ArmTimer() {
  timer_armed_ = true;
  timer_.expires_after(shared_.options.tick);
  timer_.async_wait([this](const error_code& ec) {
    timer_armed_ = false;
    if (!ec) OnTick();
    if (count_ > 0 && !timer_armed_) ArmTimer();
  });
}

void Worker::OnTick() {
  const SteadyTime now = std::chrono::steady_clock::now();
  const int64_t target = TickOf(now);
  // After a long pause one round sees every bucket.
  current_tick_ = std::max(current_tick_, target - static_cast<int64_t>(kBuckets));
  while (current_tick_ < target) {
    ++current_tick_;
    Bucket& bucket = wheel_[static_cast<size_t>(current_tick_) % kBuckets];
    Connection* next = bucket.first;
    bucket.first = nullptr;
    while (next != nullptr) {
      Connection* connection = next;
      next = connection->next_;
      if (connection->deadline_ <= now) connection->OnDeadline();
      Link(connection);
    }
  }
}

void Worker::AddConnection(int fd, const boost::asio::ip::tcp::endpoint& remote) {
  Connection::Socket socket(io_.get_executor());
  error_code ec;
  socket.assign(remote.protocol(), fd, ec);
  if (ec) {
    ::close(fd);
    load.fetch_sub(1, std::memory_order_relaxed);
    shared_.connections.fetch_sub(1);
    if (shared_.on_empty) shared_.on_empty();
    return;
  }
  const SteadyTime now = std::chrono::steady_clock::now();
  if (count_++ == 0) current_tick_ = TickOf(now);
  auto* connection = new Connection(*this, std::move(socket), remote);  // NOLINT: owns itself
  connection->request_start_ = now;
  const bool tls = shared_.options.tls != nullptr;
  connection->deadline_ =
      now + (tls ? shared_.options.header_timeout : shared_.options.idle_timeout);
  Link(connection);
  if (!timer_armed_) ArmTimer();
  connection->Start();
  if (draining_) connection->Drain();
}

void Worker::Remove(Connection* connection) {
  Unlink(connection);
  if (connection->exchange_) ReturnExchange(std::move(connection->exchange_));
  delete connection;  // NOLINT: see AddConnection
  if (--count_ == 0) timer_.cancel();
  load.fetch_sub(1, std::memory_order_relaxed);
  shared_.connections.fetch_sub(1);
  if (shared_.on_empty) shared_.on_empty();
}

std::unique_ptr<Exchange> Worker::TakeExchange() {
  if (spare_.empty()) {
    return std::make_unique<Exchange>(shared_.options.max_header, shared_.options.max_body);
  }
  auto exchange = std::move(spare_.back());
  spare_.pop_back();
  return exchange;
}

void Worker::ReturnExchange(std::unique_ptr<Exchange> exchange) {
  constexpr size_t kSpares = 64;
  constexpr size_t kKeptOutBytes = 128 << 10;
  if (exchange->charged > 0) {
    shared_.buffered.fetch_sub(exchange->charged, std::memory_order_relaxed);
    exchange->charged = 0;
  }
  if (spare_.size() >= kSpares) return;
  exchange->reader.Reset();
  exchange->response.Clear();
  if (exchange->out.capacity() > kKeptOutBytes) std::string().swap(exchange->out);
  exchange->out.clear();
  exchange->out_sent = 0;
  exchange->body_pending = false;
  spare_.push_back(std::move(exchange));
}

void Worker::StartDrain() {
  draining_ = true;
  for (Bucket& bucket : wheel_) {
    for (Connection* c = bucket.first; c != nullptr; c = c->next_) c->Drain();
  }
}

void Worker::Cut() {
  for (Bucket& bucket : wheel_) {
    for (Connection* c = bucket.first; c != nullptr; c = c->next_) c->Cut();
  }
}

std::string_view Worker::CommonHeaders() {
  const time_t now = time(nullptr);
  if (now != headers_second_ || common_headers_.empty()) {
    headers_second_ = now;
    common_headers_.clear();
    if (!shared_.options.server_header.empty()) {
      common_headers_ += "Server: " + shared_.options.server_header + "\r\n";
    }
    common_headers_ += "Date: " + FormatHttpDate(std::chrono::system_clock::now()) + "\r\n";
  }
  return common_headers_;
}

}  // namespace onggi::http
