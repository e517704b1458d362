#pragma once

#include <string>

#include "common/rpc/tls.h"
#include "tests/unit/common/certificates.h"

namespace onggi {

/// An authority whose certificates are for gRPC.
class TestAuthority : public PemAuthority {
 public:
  using PemAuthority::PemAuthority;

  rpc::TlsOptions Issue(const std::string& name) const {
    const TestCertificate made = PemAuthority::Issue(name);
    return {made.ca_file, made.cert_file, made.key_file};
  }
};

}  // namespace onggi
