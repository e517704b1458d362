#include "common/pem.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace onggi::pem {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

std::unique_ptr<BIO, Free> Reader(std::string_view text) {
  return std::unique_ptr<BIO, Free>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Status CannotRead(const std::string& path, std::string_view why) {
  return InvalidArgument("TLS: cannot read " + path + ": " + std::string(why));
}

}  // namespace

void Free::operator()(BIO* bio) const { BIO_free(bio); }
void Free::operator()(X509* certificate) const { X509_free(certificate); }
void Free::operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }

Result<std::string> ReadFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return CannotRead(path, std::strerror(errno));
  std::string text;
  char bytes[16 << 10];
  ssize_t n = 0;
  do {
    n = ::read(fd, bytes, sizeof(bytes));
    if (n > 0) text.append(bytes, static_cast<size_t>(n));
  } while ((n > 0 && text.size() <= kMaxFileBytes) || (n < 0 && errno == EINTR));
  const int error = errno;
  ::close(fd);
  if (n < 0) return CannotRead(path, std::strerror(error));
  if (text.empty()) return CannotRead(path, "empty");
  if (text.size() > kMaxFileBytes) return CannotRead(path, "larger than 1 MB");
  return text;
}

Result<std::vector<Certificate>> ParseCertificates(std::string_view text, const std::string& path) {
  const auto reader = Reader(text);
  std::vector<Certificate> certificates;
  for (;;) {
    Certificate next(PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr));
    if (!next) break;
    certificates.push_back(std::move(next));
  }
  // Anything but "no more" is damage in what follows.
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  if (certificates.empty()) return InvalidArgument("TLS: no PEM certificate in " + path);
  if (ERR_GET_REASON(error) != PEM_R_NO_START_LINE) {
    return InvalidArgument("TLS: a damaged PEM certificate in " + path);
  }
  return certificates;
}

Result<PrivateKey> ParsePrivateKey(std::string_view text, const std::string& path) {
  const auto reader = Reader(text);
  // The empty password callback keeps OpenSSL from asking on the terminal for an encrypted key.
  PrivateKey key(PEM_read_bio_PrivateKey(
      reader.get(), nullptr, [](char*, int, int, void*) { return 0; }, nullptr));
  ERR_clear_error();
  if (!key) return InvalidArgument("TLS: no PEM private key without a password in " + path);
  return key;
}

Status CheckPair(X509& certificate, EVP_PKEY& key, const std::string& certificate_path,
                 const std::string& key_path) {
  const bool match = X509_check_private_key(&certificate, &key) == 1;
  ERR_clear_error();
  if (match) return Status::Ok();
  return InvalidArgument("TLS: " + key_path + " is not the key of " + certificate_path);
}

}  // namespace onggi::pem
