#pragma once

#include <openssl/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/status.h"
#include "common/tls/stream.h"

namespace onggi::http {

/// Where the PEM files of a server's certificate are.
struct TlsFiles {
  TlsFiles() {}
  TlsFiles(std::string cert, std::string key)
      : cert_file(std::move(cert)), key_file(std::move(key)) {}
  std::string cert_file;  ///< the chain, leaf first
  std::string key_file;   ///< of the leaf
  std::chrono::milliseconds poll_interval{1000};
};

/// What every TLS connection of a server has in common: certificate, key and rules (TLS 1.2 and 1.3
/// with forward secrecy and AEAD only, ALPN http/1.1, stateless session tickets).
///
/// A thread of its own looks at the files every second and takes what is new: connections made from
/// then on are shown the new certificate, and no restart is needed. Files that cannot be read, or
/// do not belong together (one of the two has been replaced and the other not yet), are left alone
/// with a warning; the certificate from before stays. Thread-safe.
class TlsContext {
 public:
  /// kInvalidArgument, naming the file, when the files cannot be read, are no PEM, or do not belong
  /// together.
  static Result<std::shared_ptr<TlsContext>> Load(TlsFiles files);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  /// The server's end of a connection. nullptr when there is no memory.
  std::unique_ptr<tls::Stream> NewStream(int fd);

  /// When the certificate that is shown now expires, in seconds since 1970.
  int64_t expires() const { return expires_.load(std::memory_order_relaxed); }

 private:
  explicit TlsContext(TlsFiles files) : files_(std::move(files)) {}
  /// Reads the files; true when they were new and are used now.
  Result<bool> ReadFiles();
  void Watch();

  const TlsFiles files_;
  std::string
      read_chain_;  ///< text of the files when they were last read; the thread's, after Load
  std::string read_key_;
  std::atomic<int64_t> expires_{0};
  std::mutex mutex_;
  SSL_CTX* context_ = nullptr;  // guarded by mutex_; streams hold references of their own
  bool stopping_ = false;       // guarded by mutex_
  std::condition_variable wake_;
  std::thread watcher_;
};

}  // namespace onggi::http
