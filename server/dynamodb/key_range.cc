#include "server/dynamodb/key_range.h"

#include "common/text.h"
#include "server/model/key.h"

namespace onggi::dynamodb {
namespace {

using expression::KeyCondition;
using expression::KeyOperator;
using model::ValueView;

/// `prefix` and the sort key in its place: last in the table's items, with the table's own sort key
/// behind it in an index.
std::string With(const std::string& prefix, bool is_index, ValueView sort_key) {
  std::string key = prefix;
  if (is_index) {
    model::AppendTerminated(sort_key, &key);
  } else {
    model::AppendSortKey(sort_key, &key);
  }
  return key;
}

/// The least key behind every key with this sort key value.
std::string Behind(const std::string& prefix, bool is_index, ValueView sort_key) {
  std::string key = With(prefix, is_index, sort_key);
  if (is_index) return PrefixEnd(key);
  key.push_back('\0');
  return key;
}

/// The end of the strings (or binaries) that begin with `text`, as a key; the collection's end
/// where none is greater.
std::string BehindPrefix(const std::string& prefix, bool is_index, ValueView text) {
  const std::string successor = PrefixEnd(text.AsString());
  if (successor.empty()) return PrefixEnd(prefix);
  const std::string value =
      std::string(text.encoded().substr(0, 1)) + successor;  // type and payload
  return With(prefix, is_index, ValueView(value));
}

void AppendHash(uint64_t hash, std::string* out) {
  for (int shift = 56; shift >= 0; shift -= 8) out->push_back(static_cast<char>(hash >> shift));
}

}  // namespace

void KeyRange::ContinueAfter(const std::string& key, bool reverse) {
  if (reverse) {
    if (upper.empty() || key < upper) upper = key;
    // Nothing is before the very first key.
    if (upper.empty()) lower = upper = std::string(1, '\0');
  } else if (key >= lower) {
    lower = key;
    lower.push_back('\0');
  }
}

KeyRange RangeOfQuery(bool is_index, const KeyCondition& condition) {
  std::string prefix;
  model::AppendCollectionPrefix(ValueView(condition.hash_value), &prefix);
  const ValueView value(condition.range_value);
  KeyRange range{prefix, PrefixEnd(prefix)};
  switch (condition.range_operator) {
    case KeyOperator::kNone: break;
    case KeyOperator::kEqual:
      range.lower = With(prefix, is_index, value);
      range.upper = Behind(prefix, is_index, value);
      break;
    case KeyOperator::kLess: range.upper = With(prefix, is_index, value); break;
    case KeyOperator::kLessEqual: range.upper = Behind(prefix, is_index, value); break;
    case KeyOperator::kGreater: range.lower = Behind(prefix, is_index, value); break;
    case KeyOperator::kGreaterEqual: range.lower = With(prefix, is_index, value); break;
    case KeyOperator::kBetween:
      range.lower = With(prefix, is_index, value);
      range.upper = Behind(prefix, is_index, ValueView(condition.range_upper));
      break;
    case KeyOperator::kBeginsWith:
      range.lower = With(prefix, is_index, value);
      range.upper = BehindPrefix(prefix, is_index, value);
      break;
  }
  return range;
}

KeyRange RangeOfSegment(uint32_t segment, uint32_t total) {
  // The first hash of segment i is ceil(i * 2^64 / total).
  const auto boundary = [total](uint32_t i) {
    const unsigned __int128 space = static_cast<unsigned __int128>(1) << 64;
    return static_cast<uint64_t>((space * i + total - 1) / total);
  };
  KeyRange range;
  if (segment > 0) AppendHash(boundary(segment), &range.lower);
  if (segment + 1 < total) AppendHash(boundary(segment + 1), &range.upper);
  return range;
}

bool SatisfiesSortCondition(const KeyCondition& condition, ValueView sort_key) {
  const ValueView value(condition.range_value);
  const auto order = [&] { return ValueView::Compare(sort_key, value); };
  switch (condition.range_operator) {
    case KeyOperator::kNone: return true;
    case KeyOperator::kEqual: return order() == 0;
    case KeyOperator::kLess: return order() < 0;
    case KeyOperator::kLessEqual: return order() <= 0;
    case KeyOperator::kGreater: return order() > 0;
    case KeyOperator::kGreaterEqual: return order() >= 0;
    case KeyOperator::kBetween:
      return order() >= 0 && ValueView::Compare(sort_key, ValueView(condition.range_upper)) <= 0;
    case KeyOperator::kBeginsWith: return sort_key.AsString().starts_with(value.AsString());
  }
  return false;
}

}  // namespace onggi::dynamodb
