#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "replication/log/file_system.h"
#include "replication/log/format.h"

namespace onggi::log {

/// One segment file in its present life.
struct Segment {
  uint64_t number = 0;
  uint64_t capacity = 0;
  std::string path;
  std::unique_ptr<File> file;
  /// Runs of entries in it that some partition still needs. Guarded by the store's mutex.
  uint64_t live_runs = 0;
};
using SegmentPtr = std::shared_ptr<Segment>;

/// The segments that hold entries, oldest first, their numbers without gaps; the last one is being
/// written. Guarded by the store's mutex.
class SegmentTable {
 public:
  bool empty() const { return segments_.empty(); }
  size_t size() const { return segments_.size(); }
  const SegmentPtr& front() const { return segments_.front(); }
  const SegmentPtr& back() const { return segments_.back(); }
  auto begin() const { return segments_.begin(); }
  auto end() const { return segments_.end(); }

  void Push(SegmentPtr segment);
  SegmentPtr PopFront();
  /// Must be there.
  const SegmentPtr& At(uint64_t number) const;
  uint64_t TotalBytes() const;

 private:
  std::deque<SegmentPtr> segments_;
};

/// Files of the log's directory: "log-", "free-" and "new-" and 16 hexadecimal digits.
inline constexpr std::string_view kLiveName = "log-";
inline constexpr std::string_view kFreeName = "free-";
inline constexpr std::string_view kNewName = "new-";
std::string SegmentName(std::string_view prefix, uint64_t number);
/// The number of a name with this prefix.
std::optional<uint64_t> ParseSegmentName(std::string_view prefix, std::string_view name);

}  // namespace onggi::log
