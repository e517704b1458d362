#include "common/tls/certificate_files.h"

#include <gmock/gmock.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/unit/common/certificates.h"
#include "tests/unit/tls/pair.h"

namespace onggi::tls {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using Files = std::shared_ptr<CertificateFiles>;

class CertificateFilesTest : public testing::Test {
 protected:
  static CertificatePaths PathsOf(const TestCertificate& made) {
    CertificatePaths paths(made.cert_file, made.key_file, made.ca_file);
    paths.poll_interval = 10ms;
    return paths;
  }
  /// Of mutual TLS.
  static Files Load(const TestCertificate& made) {
    auto files = CertificateFiles::Load(PathsOf(made), kHttp2);
    CHECK_MSG(files.ok(), files.status().ToString());
    return *std::move(files);
  }
  static std::unique_ptr<Pair> Connect(const Files& server, const Files& client,
                                       const std::string& name) {
    return std::make_unique<Pair>([&](int fd) { return server->Accept(fd); },
                                  [&](int fd) { return client->Connect(fd, name); });
  }
  static bool Carries(Pair& pair) {
    return Pair::Fill(pair.client(), "there") == 5 && Pair::Drain(pair.server()) == 5 &&
           Pair::Fill(pair.server(), "back") == 4 && Pair::Drain(pair.client()) == 4;
  }
  static void Replace(const std::string& from, const std::string& to) {
    std::filesystem::copy_file(from, to + ".new");
    std::filesystem::rename(to + ".new", to);
  }
  static bool Reaches(const CertificateFiles& files, uint64_t generation) {
    for (int i = 0; i < 1000 && files.generation() < generation; ++i) {
      std::this_thread::sleep_for(10ms);
    }
    return files.generation() == generation;
  }
  /// Long enough for files to be looked at some times.
  static void Wait() { std::this_thread::sleep_for(200ms); }

  TestDirectory directory_;
  PemAuthority authority_{directory_.path()};
};

TEST_F(CertificateFilesTest, BothEndsCheckTheOthersCertificate) {
  const Files server = Load(authority_.Issue("server")), client = Load(authority_.Issue("client"));
  const auto pair = Connect(server, client, "server");
  ASSERT_TRUE(pair->shaken()) << pair->error();
  EXPECT_EQ(pair->shown(), "server");
  EXPECT_EQ(pair->server().PeerNames().back(), "client");
  EXPECT_TRUE(Carries(*pair));
  for (const char* name : {"client", "127.0.0.1", "::1"}) {
    const auto other = Connect(server, client, name);
    EXPECT_FALSE(other->shaken()) << name;
    EXPECT_THAT(other->error(), HasSubstr("certificate verify failed"));
  }
  // Of another authority: each end refuses the other.
  const PemAuthority foreign(directory_.path(), "foreign");
  TestCertificate stranger = foreign.Issue("stranger");
  EXPECT_FALSE(Connect(server, Load(stranger), "server")->shaken());
  stranger.ca_file = directory_.path() + "/ca.crt";  // trusts, and is not trusted
  const auto refused = Connect(server, Load(stranger), "server");
  EXPECT_FALSE(refused->shaken());
  EXPECT_THAT(refused->error(), HasSubstr("certificate verify failed"));
}

TEST_F(CertificateFilesTest, WithoutAuthoritiesNoCertificateIsAskedFor) {
  const TestCertificate made = authority_.Issue("server");
  const auto server = CertificateFiles::Load({made.cert_file, made.key_file}, kHttp2);
  ASSERT_TRUE(server.ok());
  const auto pair = Connect(*server, Load(authority_.Issue("client")), "server");
  ASSERT_TRUE(pair->shaken()) << pair->error();
  EXPECT_TRUE(pair->server().PeerNames().empty());
}

TEST_F(CertificateFilesTest, WhatIsNewIsTakenOnceItIsWhole) {
  const TestCertificate used = authority_.Issue("server"), renewed = authority_.Issue("renewed");
  const Files server = Load(used), client = Load(authority_.Issue("client"));
  EXPECT_GT(server->expires(), std::time(nullptr));
  EXPECT_LT(server->expires(), std::time(nullptr) + 3 * 24 * 3600);
  const auto before = Connect(server, client, "server");
  ASSERT_TRUE(before->shaken());

  // Half of it does not count, and neither does a torn file.
  Replace(renewed.cert_file, used.cert_file);
  Wait();
  EXPECT_EQ(Connect(server, client, "server")->shown(), "server");
  std::ofstream(used.key_file) << "-----BEGIN PRIVATE KEY-----\nMIGH";
  Wait();
  EXPECT_EQ(Connect(server, client, "server")->shown(), "server");
  std::filesystem::remove(used.key_file);
  Wait();
  EXPECT_EQ(Connect(server, client, "server")->shown(), "server");
  EXPECT_EQ(server->generation(), 1u);
  Replace(renewed.key_file, used.key_file);
  ASSERT_TRUE(Reaches(*server, 2));
  EXPECT_EQ(Connect(server, client, "renewed")->shown(), "renewed");
  EXPECT_FALSE(Connect(server, client, "server")->shaken());
  EXPECT_TRUE(Carries(*before));

  // The same again is nothing new.
  Replace(renewed.key_file, used.key_file);
  Wait();
  EXPECT_EQ(server->generation(), 2u);
}

TEST_F(CertificateFilesTest, AuthoritiesAreReadAgainToo) {
  const PemAuthority next(directory_.path(), "next");
  const TestCertificate made = authority_.Issue("server"), later = next.Issue("later");
  TestCertificate used = made;
  used.ca_file = directory_.path() + "/trusted.crt";
  Replace(made.ca_file, used.ca_file);
  const Files server = Load(used), old = Load(authority_.Issue("old"));
  // Both, as while one is being replaced.
  TestCertificate moving = later;
  moving.ca_file = directory_.path() + "/both.crt";
  std::ofstream(moving.ca_file) << std::ifstream(made.ca_file).rdbuf()
                                << std::ifstream(later.ca_file).rdbuf();
  const Files young = Load(moving);
  EXPECT_TRUE(Connect(server, old, "server")->shaken());
  EXPECT_FALSE(Connect(server, young, "server")->shaken());
  Replace(moving.ca_file, used.ca_file);
  ASSERT_TRUE(Reaches(*server, 2));
  EXPECT_TRUE(Connect(server, old, "server")->shaken());
  EXPECT_TRUE(Connect(server, young, "server")->shaken());
  Replace(later.ca_file, used.ca_file);
  ASSERT_TRUE(Reaches(*server, 3));
  EXPECT_FALSE(Connect(server, old, "server")->shaken());
  EXPECT_TRUE(Connect(server, young, "server")->shaken());
}

TEST_F(CertificateFilesTest, FilesThatCannotBeUsedAreNamed) {
  const TestCertificate made = authority_.Issue("server"), other = authority_.Issue("other");
  const std::string &cert = made.cert_file, &key = made.key_file, &ca = made.ca_file;
  const auto why = [](const CertificatePaths& paths) {
    const Status status = CertificateFiles::Load(paths, kHttp1).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    return status.message();
  };
  EXPECT_EQ(why({cert, other.key_file}), "TLS: " + other.key_file + " is not the key of " + cert);
  EXPECT_EQ(why({"/nowhere", key}), "TLS: cannot read /nowhere: No such file or directory");
  EXPECT_EQ(why({cert, key, "/nowhere"}), "TLS: cannot read /nowhere: No such file or directory");
  EXPECT_EQ(why({directory_.path(), key}),
            "TLS: cannot read " + directory_.path() + ": Is a directory");
  EXPECT_EQ(why({"/dev/null", key}), "TLS: cannot read /dev/null: empty");
  EXPECT_EQ(why({"/dev/zero", key}), "TLS: cannot read /dev/zero: larger than 1 MB");
  EXPECT_EQ(why({key, key}), "TLS: no PEM certificate in " + key);
  EXPECT_EQ(why({cert, key, key}), "TLS: no PEM certificate in " + key);
  EXPECT_EQ(why({cert, cert}), "TLS: no PEM private key without a password in " + cert);
  EXPECT_EQ(why({"", "", ca}), "TLS: a server needs a certificate");
  // Cut off in its second certificate.
  const std::string torn = directory_.path() + "/torn";
  std::ofstream(torn) << std::ifstream(cert).rdbuf() << "-----BEGIN CERTIFICATE-----\nMIIB\n";
  EXPECT_EQ(why({torn, key}), "TLS: a damaged PEM certificate in " + torn);
  const TestCertificate weak = authority_.Issue("weak", "rsa:1024");
  EXPECT_EQ(why({weak.cert_file, weak.key_file}),
            "TLS: cannot use " + weak.cert_file + ": ee key too small");
  // A client may have authorities only.
  EXPECT_TRUE(CertificateFiles::Check({"", "", ca}).ok());
  EXPECT_EQ(CertificateFiles::Check({"", "", key}).message(), "TLS: no PEM certificate in " + key);
}

TEST_F(CertificateFilesTest, TheEndDoesNotWaitForTheNextLook) {
  CertificatePaths paths = PathsOf(authority_.Issue("server"));
  paths.poll_interval = 60s;
  auto files = CertificateFiles::Load(paths, kHttp1);
  ASSERT_TRUE(files.ok());
  const auto pair = Connect(*files, *files, "server");
  const auto begun = std::chrono::steady_clock::now();
  files->reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
  EXPECT_TRUE(Carries(*pair));  // connections outlive it
}

}  // namespace
}  // namespace onggi::tls
