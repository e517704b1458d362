#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/check.h"

namespace onggi {

/// A directory of its own, removed at the end.
class TestDirectory {
 public:
  TestDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "onggi-XXXXXX").string();
    CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TestDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// PEM files of one certificate.
struct TestCertificate {
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
};

/// An authority made by openssl, and certificates of it.
class PemAuthority {
 public:
  explicit PemAuthority(const std::string& directory, const std::string& name = "ca")
      : directory_(directory), name_(name) {
    Run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=" +
        name + " -keyout " + name + ".key -out " + name + ".crt");
  }

  /// A certificate that carries `name`, for both ends of a connection. `key` is what `openssl req
  /// -newkey` takes.
  TestCertificate Issue(const std::string& name,
                        const std::string& key = "ec -pkeyopt ec_paramgen_curve:P-256") const {
    const std::string file = name_ + "-" + name;
    Run("openssl req -newkey " + key + " -nodes -subj /CN=" + name + " -keyout " + file +
        ".key -out " + file + ".csr");
    Run("printf 'subjectAltName=DNS:" + name + "\\n' > " + file + ".ext");
    Run("openssl x509 -req -in " + file + ".csr -CA " + name_ + ".crt -CAkey " + name_ +
        ".key -CAcreateserial -days 2 -extfile " + file + ".ext -out " + file + ".crt");
    const std::string base = directory_ + "/" + file;
    return {directory_ + "/" + name_ + ".crt", base + ".crt", base + ".key"};
  }

 private:
  void Run(const std::string& command) const {
    CHECK(std::system(("cd " + directory_ + " && " + command + " > log 2>&1").c_str()) == 0);
  }
  const std::string directory_;
  const std::string name_;
};

}  // namespace onggi
