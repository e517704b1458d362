#include "replication/group/messages.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/check.h"

namespace onggi::group {

AppendMessage SplitAppend(AppendMessage* message, LogIndex at) {
  CHECK(at >= message->previous.index && at < message->last);
  AppendMessage rest = *message;
  const auto after =
      std::upper_bound(message->runs.begin(), message->runs.end(), LogIndex(at.value + 1),
                       [](LogIndex index, const LogPosition& run) { return index < run.index; });
  const auto keep =
      std::upper_bound(message->runs.begin(), message->runs.end(), at,
                       [](LogIndex index, const LogPosition& run) { return index < run.index; });
  const bool any = keep != message->runs.begin();
  rest.previous = any ? LogPosition{std::prev(keep)->epoch, at} : message->previous;
  rest.runs.assign(std::prev(after), message->runs.end());
  rest.runs.front().index = LogIndex(at.value + 1);
  message->runs.erase(keep, message->runs.end());
  message->last = at;
  return rest;
}

}  // namespace onggi::group
