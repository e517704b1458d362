#include "replication/log/segment.h"

#include <charconv>
#include <cstdio>

#include "common/check.h"

namespace onggi::log {

void SegmentTable::Push(SegmentPtr segment) {
  CHECK(segments_.empty() || segment->number == segments_.back()->number + 1);
  segments_.push_back(std::move(segment));
}

SegmentPtr SegmentTable::PopFront() {
  SegmentPtr segment = std::move(segments_.front());
  segments_.pop_front();
  return segment;
}

const SegmentPtr& SegmentTable::At(uint64_t number) const {
  CHECK(!segments_.empty() && number >= segments_.front()->number);
  const uint64_t place = number - segments_.front()->number;
  CHECK(place < segments_.size());
  return segments_[place];
}

uint64_t SegmentTable::TotalBytes() const {
  uint64_t total = 0;
  for (const SegmentPtr& segment : segments_) total += segment->capacity;
  return total;
}

std::string SegmentName(std::string_view prefix, uint64_t number) {
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(number));
  return std::string(prefix) + digits;
}

std::optional<uint64_t> ParseSegmentName(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix) || name.size() != prefix.size() + 16) return std::nullopt;
  uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(name.data() + prefix.size(), name.data() + name.size(), number, 16);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return number;
}

}  // namespace onggi::log
