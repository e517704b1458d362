#pragma once

#include <string>
#include <string_view>

#include "common/proto/catalog.pb.h"
#include "server/dynamodb/catalog.h"

namespace onggi::dynamodb {

/// Appends a TableDescription object: what CreateTable, UpdateTable, DeleteTable and DescribeTable
/// say of a table. `now_ms` decides whether decreases of throughput were today.
void WriteTableDescription(const proto::Table& record, std::string_view arn,
                           const TableFigures& figures, int64_t now_ms, std::string* out);

/// The days since the epoch of a time, in UTC.
inline int64_t DayOf(int64_t ms) { return ms / (24 * 60 * 60 * 1000); }

/// Sustained units per second that a table without provisioned ones is ready for at once, as the
/// service sets it for on-demand tables.
inline constexpr int64_t kOnDemandWarmRead = 12'000;
inline constexpr int64_t kOnDemandWarmWrite = 4'000;

/// What the table is ready for at once: what was asked for, at least what its billing mode gives.
struct WarmUnits {
  int64_t read;
  int64_t write;
};
WarmUnits WarmUnitsOf(const proto::Table& record);

inline constexpr std::string_view kProvisioned = "PROVISIONED";
inline constexpr std::string_view kPayPerRequest = "PAY_PER_REQUEST";

}  // namespace onggi::dynamodb
