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

namespace onggi::tls {

/// Where the PEM files of a certificate are.
struct CertificatePaths {
  CertificatePaths() {}
  CertificatePaths(std::string cert, std::string key, std::string ca = "")
      : cert_file(std::move(cert)), key_file(std::move(key)), ca_file(std::move(ca)) {}

  std::string cert_file;  ///< the chain, leaf first
  std::string key_file;   ///< of the leaf
  /// Authorities that the other side's certificate must come from. None: it is not asked for one.
  std::string ca_file;
  std::chrono::milliseconds poll_interval{1'000};
};

/// Certificate files, and the ends of connections that show what is in them: of a server that asks
/// its clients for nothing, or of mutual TLS, where both ends check the other's certificate.
///
/// A thread of its own looks at the files every poll_interval and takes what is new: connections
/// made from then on use it, those from before go on, and no restart is needed. Files that cannot
/// be read, or do not belong together (one of the two has been replaced and the other not yet), are
/// left alone, with a warning for each fault; what was taken before stays. Thread-safe: a lock
/// guards what is in use, and no file is read while it is held.
class CertificateFiles {
 public:
  /// Reads the files. `protocol`: as of NewContext. kInvalidArgument, naming the file, when they
  /// cannot be read, are no PEM, or do not belong together.
  static Result<std::shared_ptr<CertificateFiles>> Load(CertificatePaths paths,
                                                        const unsigned char* protocol);
  /// Whether the files could be used, with the same errors; those without a path are left out.
  static Status Check(const CertificatePaths& paths);
  ~CertificateFiles();
  CertificateFiles(const CertificateFiles&) = delete;
  CertificateFiles& operator=(const CertificateFiles&) = delete;

  /// The accepting end of a connection on `fd`. nullptr when there is no memory.
  std::unique_ptr<Stream> Accept(int fd);
  /// The calling end, of mutual TLS: the other's certificate must carry `name`, a host's name or
  /// address.
  std::unique_ptr<Stream> Connect(int fd, const std::string& name);

  /// When the certificate that is shown now expires, in seconds since 1970.
  int64_t expires() const { return expires_.load(std::memory_order_relaxed); }
  /// How often files have been taken, by Load first.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

 private:
  struct Texts;
  struct Content;
  struct FreeContext {
    void operator()(SSL_CTX* context) const;
  };
  using Context = std::unique_ptr<SSL_CTX, FreeContext>;

  CertificateFiles(CertificatePaths paths, const unsigned char* protocol);
  static Result<Texts> Read(const CertificatePaths& paths);
  static Result<Content> Parse(const Texts& texts, const CertificatePaths& paths);
  Result<Context> MakeContext(const SSL_METHOD* method, const Content& content) const;
  /// Reads the files, and takes them if they are new.
  Status Refresh();
  void Watch();

  const CertificatePaths paths_;
  const unsigned char* const protocol_;
  /// Of the files that are in use. Load's, then the thread's.
  std::unique_ptr<Texts> texts_;
  std::atomic<int64_t> expires_{0};
  std::atomic<uint64_t> generation_{0};
  std::mutex mutex_;
  Context accepting_;      // guarded by mutex_; streams hold references of their own
  Context calling_;        // likewise; null without authorities
  bool stopping_ = false;  // guarded by mutex_
  std::condition_variable wake_;
  std::thread watcher_;
};

}  // namespace onggi::tls
