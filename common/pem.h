#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

/// Certificates and keys in PEM files, with errors that name the file. Every error is
/// kInvalidArgument and begins with "TLS: ".
namespace onggi::pem {

struct Free {
  void operator()(BIO* bio) const;
  void operator()(X509* certificate) const;
  void operator()(EVP_PKEY* key) const;
};
using Certificate = std::unique_ptr<X509, Free>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Free>;

/// The text of a file, of 1 MB at most; an empty one is an error.
Result<std::string> ReadFile(const std::string& path);

/// The certificates in `text`, in its order, at least one. `path` is for messages, as below.
Result<std::vector<Certificate>> ParseCertificates(std::string_view text, const std::string& path);

/// The first private key in `text`; one with a password is an error.
Result<PrivateKey> ParsePrivateKey(std::string_view text, const std::string& path);

/// Whether the two belong together.
Status CheckPair(X509& certificate, EVP_PKEY& key, const std::string& certificate_path,
                 const std::string& key_path);

}  // namespace onggi::pem
