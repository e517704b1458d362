#pragma once

#include <string_view>

#include "common/proto/catalog.pb.h"

namespace onggi::coordinator {

/// As metrics, logs and the command line write it: "move_replica".
std::string_view Name(proto::JobKind kind);
/// "active".
std::string_view Name(proto::NodeState state);

}  // namespace onggi::coordinator
