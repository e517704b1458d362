#pragma once

#include <chrono>
#include <span>

#include "common/proto/catalog.pb.h"
#include "common/status.h"
#include "common/tls/certificate_files.h"

namespace onggi {

/// Whether this node and those that live speak the same: a node that registers and that nobody can
/// talk to would count as alive, and would be given replicas.
///
/// Each of `members` is called at its peer address until one has accepted this node's certificate
/// and shown one that is trusted here (TLS 1.3: the other side's no comes after the handshake, so
/// its first byte is waited for). Ok then, and when nobody could be asked, as when all start at
/// once. kInvalidArgument: all who answered refuse it, or are refused; the reason names one.
/// `files` null: plain text, which must be what they speak. Waits, `patience` for each at the
/// longest.
Status CheckMembers(std::span<const proto::Node> members, tls::CertificateFiles* files,
                    std::chrono::milliseconds patience);

}  // namespace onggi
