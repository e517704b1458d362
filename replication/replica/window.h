#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "common/ids.h"

namespace onggi::replica {

/// The bytes of a log entry. Held plainly until somebody else needs them too: a partition with one
/// replica never shares.
class Payload {
 public:
  Payload() = default;
  explicit Payload(std::string bytes) : bytes_(std::move(bytes)) {}
  explicit Payload(std::shared_ptr<const std::string> shared) : shared_(std::move(shared)) {}

  std::string_view view() const { return shared_ != nullptr ? *shared_ : bytes_; }
  size_t size() const { return view().size(); }
  /// From here on shared.
  const std::shared_ptr<const std::string>& Share() {
    if (shared_ == nullptr) {
      shared_ = std::make_shared<const std::string>(std::move(bytes_));
      bytes_.clear();
    }
    return shared_;
  }

 private:
  std::string bytes_;
  std::shared_ptr<const std::string> shared_;
};

/// Entries at the end of a log whose payloads are in memory, without a gap.
class Window {
 public:
  struct Entry {
    LogPosition position;
    uint8_t type = 0;
    Payload payload;
  };

  bool empty() const { return entries_.empty(); }
  /// The first entry in memory; next() when there is none.
  LogIndex first() const { return LogIndex(next_.value - entries_.size()); }
  LogIndex next() const { return next_; }
  size_t bytes() const { return bytes_; }

  /// Forgets everything; the next entry is `next`.
  void Reset(LogIndex next) {
    entries_.clear();
    bytes_ = 0;
    next_ = next;
  }
  void Push(LogPosition position, uint8_t type, Payload payload) {
    CHECK(position.index == next_);
    bytes_ += payload.size() + kOverhead;
    entries_.push_back({position, type, std::move(payload)});
    ++next_.value;
  }
  /// An entry in [first, next).
  Entry& At(LogIndex index) {
    CHECK(index >= first() && index < next_);
    return entries_[index.value - first().value];
  }
  /// Forgets the entries up to `index`.
  void PopThrough(LogIndex index) {
    while (!entries_.empty() && entries_.front().position.index <= index) {
      bytes_ -= entries_.front().payload.size() + kOverhead;
      entries_.pop_front();
    }
  }
  /// The log's entries from `from` on are gone.
  void DropSuffix(LogIndex from) {
    while (!entries_.empty() && entries_.back().position.index >= from) {
      bytes_ -= entries_.back().payload.size() + kOverhead;
      entries_.pop_back();
    }
    next_ = from;
  }

 private:
  /// What an entry costs besides its payload.
  static constexpr size_t kOverhead = sizeof(Entry) + 64;

  std::deque<Entry> entries_;
  LogIndex next_{1};
  size_t bytes_ = 0;
};

}  // namespace onggi::replica
