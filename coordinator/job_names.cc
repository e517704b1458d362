#include "coordinator/job_names.h"

namespace onggi::coordinator {

std::string_view Name(proto::JobKind kind) {
  switch (kind) {
    case proto::JOB_KIND_ADD_REPLICA: return "add_replica";
    case proto::JOB_KIND_REPLACE_REPLICA: return "replace_replica";
    case proto::JOB_KIND_MOVE_REPLICA: return "move_replica";
    case proto::JOB_KIND_TRANSFER_PRIMARY: return "transfer_primary";
    case proto::JOB_KIND_SPLIT: return "split";
    case proto::JOB_KIND_MERGE: return "merge";
    case proto::JOB_KIND_REMOVE_REPLICA: return "remove_replica";
    case proto::JOB_KIND_SET_REPLICATION: return "set_replication";
    default: return "unknown";
  }
}

std::string_view Name(proto::NodeState state) {
  switch (state) {
    case proto::NODE_STATE_ACTIVE: return "active";
    case proto::NODE_STATE_DRAINING: return "draining";
    case proto::NODE_STATE_DECOMMISSIONED: return "decommissioned";
    case proto::NODE_STATE_DEAD: return "dead";
    default: return "unknown";
  }
}

}  // namespace onggi::coordinator
