#pragma once

#include <simdjson.h>

#include <memory>

namespace onggi::dynamodb {

/// A JSON parser from the calling thread's pool, held as long as anything points into its document.
///
/// A request that suspends keeps its own, so that another one on the same thread takes another.
/// Given back to the pool of the thread that drops it; parsers grown past kKeptCapacity are freed
/// instead, and a pool keeps at most kKeptParsers.
class ParserLease {
 public:
  static constexpr size_t kKeptCapacity = 1u << 20;
  static constexpr size_t kKeptParsers = 64;

  ParserLease();
  ~ParserLease();
  /// `other` holds none from now on, and may only be destroyed.
  ParserLease(ParserLease&& other) noexcept = default;
  ParserLease(const ParserLease&) = delete;
  ParserLease& operator=(const ParserLease&) = delete;

  simdjson::dom::parser& operator*() { return *parser_; }
  simdjson::dom::parser* operator->() { return parser_.get(); }

 private:
  std::unique_ptr<simdjson::dom::parser> parser_;
};

}  // namespace onggi::dynamodb
