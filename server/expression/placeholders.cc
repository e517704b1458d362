#include "server/expression/placeholders.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace onggi::expression {
namespace {

// Up to here a search looks at every entry; a hostile request may have a hundred thousand.
constexpr size_t kLinearLimit = 16;

constexpr size_t kMaxPlaceholderSize = 255;  // bytes, with the sigil

bool IsPlaceholder(std::string_view text, char sigil) {
  if (text.size() < 2 || text[0] != sigil) return false;
  for (const char c : text.substr(1)) {
    const bool word =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!word) return false;
  }
  return true;
}

Status CheckPlaceholder(std::string_view parameter, std::string_view placeholder, char sigil) {
  std::string message(parameter);
  message.append(" contains invalid key: ");
  if (placeholder.size() > kMaxPlaceholderSize) {
    message.append("The expression attribute map contains a key that is too long; size of key: ")
        .append(std::to_string(placeholder.size()));
    return InvalidArgument(std::move(message));
  }
  if (IsPlaceholder(placeholder, sigil)) return Status::Ok();
  message.append("Syntax error; key: \"").append(placeholder).append("\"");
  return InvalidArgument(std::move(message));
}

}  // namespace

void Placeholders::Entries::Add(std::string_view placeholder, std::string content) {
  list.push_back({std::string(placeholder), std::move(content), false});
}

void Placeholders::AddName(std::string_view placeholder, std::string_view name) {
  names_.Add(placeholder, std::string(name));
}

void Placeholders::AddValue(std::string_view placeholder, std::string encoded_value) {
  values_.Add(placeholder, std::move(encoded_value));
}

Status Placeholders::CheckNamePlaceholder(std::string_view placeholder) {
  return CheckPlaceholder("ExpressionAttributeNames", placeholder, '#');
}

Status Placeholders::CheckValuePlaceholder(std::string_view placeholder) {
  return CheckPlaceholder("ExpressionAttributeValues", placeholder, ':');
}

void Placeholders::Entries::AppendUnused(std::string* out) const {
  for (const Entry& entry : list) {
    if (entry.used) continue;
    if (!out->empty()) out->append(", ");
    out->append(entry.placeholder);
  }
}

Status Placeholders::CheckAllUsed() const {
  std::string unused;
  names_.AppendUnused(&unused);
  if (!unused.empty()) {
    return InvalidArgument(
        "Value provided in ExpressionAttributeNames unused in expressions: keys: {" + unused + "}");
  }
  values_.AppendUnused(&unused);
  if (!unused.empty()) {
    return InvalidArgument(
        "Value provided in ExpressionAttributeValues unused in expressions: keys: {" + unused +
        "}");
  }
  return Status::Ok();
}

const std::string* Placeholders::Entries::Use(std::string_view placeholder) {
  // Of repeated JSON keys the last one counts, and all of them count as used.
  const std::string* found = nullptr;
  const auto take = [&](Entry& entry) {
    entry.used = true;
    found = &entry.content;
  };
  if (list.size() <= kLinearLimit) {
    for (Entry& entry : list) {
      if (entry.placeholder == placeholder) take(entry);
    }
    return found;
  }
  if (sorted.size() != list.size()) {
    sorted.resize(list.size());
    std::iota(sorted.begin(), sorted.end(), 0U);
    std::stable_sort(sorted.begin(), sorted.end(), [&](uint32_t a, uint32_t b) {
      return list[a].placeholder < list[b].placeholder;
    });
  }
  auto index = std::lower_bound(
      sorted.begin(), sorted.end(), placeholder,
      [&](uint32_t a, std::string_view wanted) { return list[a].placeholder < wanted; });
  for (; index != sorted.end() && list[*index].placeholder == placeholder; ++index) {
    take(list[*index]);
  }
  return found;
}

const std::string* Placeholders::UseName(std::string_view placeholder) {
  return names_.Use(placeholder);
}

const std::string* Placeholders::UseValue(std::string_view placeholder) {
  return values_.Use(placeholder);
}

}  // namespace onggi::expression
