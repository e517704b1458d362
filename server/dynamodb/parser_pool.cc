#include "server/dynamodb/parser_pool.h"

#include <vector>

namespace onggi::dynamodb {
namespace {

std::vector<std::unique_ptr<simdjson::dom::parser>>& Pool() {
  thread_local std::vector<std::unique_ptr<simdjson::dom::parser>> pool;
  return pool;
}

}  // namespace

ParserLease::ParserLease() {
  auto& pool = Pool();
  if (pool.empty()) {
    parser_ = std::make_unique<simdjson::dom::parser>();
  } else {
    parser_ = std::move(pool.back());
    pool.pop_back();
  }
}

ParserLease::~ParserLease() {
  if (parser_ == nullptr) return;
  auto& pool = Pool();
  if (parser_->capacity() <= kKeptCapacity && pool.size() < kKeptParsers) {
    pool.push_back(std::move(parser_));
  }
}

}  // namespace onggi::dynamodb
