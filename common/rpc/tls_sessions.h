#pragma once

#include <openssl/types.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/rpc/tls.h"
#include "common/status.h"

namespace onggi::rpc {

/// Where sessions of mutual TLS come from, for streams that this process carries itself
/// (rpc::MessageStream): both ends show a certificate, and both check the other's against the same
/// authorities.
///
/// The files are read again every TlsOptions::reload_interval, by whoever then asks for a session:
/// what is new is used from then on; what cannot be read, or does not fit together (one of two has
/// been replaced), is left alone with a warning. Thread-safe.
class TlsSessions {
 public:
  /// kInvalidArgument, as MakeServerCredentials, and where authorities or certificate are missing.
  static Result<std::shared_ptr<TlsSessions>> Load(const TlsOptions& tls);
  ~TlsSessions();
  TlsSessions(const TlsSessions&) = delete;
  TlsSessions& operator=(const TlsSessions&) = delete;

  /// The accepting end of a session; the caller frees it. nullptr when there is no memory.
  SSL* Accept();
  /// The calling end: the other's certificate must carry `name`, a host's name or address.
  SSL* Connect(const std::string& name);

 private:
  explicit TlsSessions(TlsOptions tls) : tls_(std::move(tls)) {}
  Status ReadFiles();
  /// Reads the files if that is due.
  void Renew();

  const TlsOptions tls_;
  std::mutex mutex_;
  // Guarded by mutex_ after Load.
  std::vector<std::string> texts_;  ///< of the files, as they are in use
  SSL_CTX* accepting_ = nullptr;
  SSL_CTX* calling_ = nullptr;
  std::chrono::steady_clock::time_point read_at_;
};

}  // namespace onggi::rpc
