#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "replication/metadata/etcd_store.h"

namespace onggi::metadata {

/// A cluster of real etcd processes on free ports of the loopback interface, in a directory of its
/// own. Ends with the object; each process ends with this one at the latest.
class EtcdCluster {
 public:
  struct Options {
    Options() {}
    int members = 3;
    bool tls = false;
    std::vector<std::string> arguments;
  };

  static bool Installed() { return ::access("/usr/bin/etcd", X_OK) == 0; }

  explicit EtcdCluster(Options options = {}) : options_(std::move(options)) {
    static int count = 0;
    directory_ =
        Base() / ("onggi_etcd_test." + std::to_string(::getpid()) + "." + std::to_string(count++));
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    members_.resize(static_cast<size_t>(options_.members));
    std::vector<int> held;
    for (Member& member : members_) {
      member.client_port = FreePort(&held);
      member.peer_port = FreePort(&held);
    }
    for (const int fd : held) ::close(fd);
    if (options_.tls) MakeCertificates();
    for (size_t i = 0; i < members_.size(); ++i) Start(i);
  }

  ~EtcdCluster() {
    for (size_t i = 0; i < members_.size(); ++i) Kill(i);
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  size_t size() const { return members_.size(); }

  EtcdOptions ClientOptions() const {
    EtcdOptions options;
    for (const Member& member : members_) {
      options.endpoints.push_back("localhost:" + std::to_string(member.client_port));
    }
    if (options_.tls) {
      options.ca_file = File("ca.pem");
      options.certificate_file = File("client.pem");
      options.key_file = File("client.key");
    }
    return options;
  }

  void Start(size_t i) {
    Member& member = members_[i];
    std::string cluster;
    for (size_t j = 0; j < members_.size(); ++j) {
      cluster += (j > 0 ? "," : "") + Name(j) + "=" + PeerUrl(j);
    }
    std::vector<std::string> arguments = {"/usr/bin/etcd",
                                          "--name=" + Name(i),
                                          "--data-dir=" + File(Name(i)),
                                          "--listen-peer-urls=" + PeerUrl(i),
                                          "--initial-advertise-peer-urls=" + PeerUrl(i),
                                          "--listen-client-urls=" + ClientUrl(i),
                                          "--advertise-client-urls=" + ClientUrl(i),
                                          "--initial-cluster=" + cluster,
                                          "--initial-cluster-state=new",
                                          "--heartbeat-interval=50",
                                          "--election-timeout=500",
                                          "--logger=zap",
                                          "--log-outputs=" + File(Name(i) + ".log")};
    if (options_.tls) {
      arguments.push_back("--cert-file=" + File("server.pem"));
      arguments.push_back("--key-file=" + File("server.key"));
      arguments.push_back("--trusted-ca-file=" + File("ca.pem"));
      arguments.push_back("--client-cert-auth");
    }
    arguments.insert(arguments.end(), options_.arguments.begin(), options_.arguments.end());
    member.pid = Spawn(arguments, File(Name(i) + ".out"));
  }

  void Kill(size_t i) {
    Member& member = members_[i];
    if (member.pid <= 0) return;
    ::kill(member.pid, SIGKILL);
    ::waitpid(member.pid, nullptr, 0);
    member.pid = 0;
  }
  void Freeze(size_t i) { ::kill(members_[i].pid, SIGSTOP); }
  void Thaw(size_t i) { ::kill(members_[i].pid, SIGCONT); }

  /// Runs etcdctl against one member; true when it succeeds.
  bool Control(const std::vector<std::string>& command, size_t member = 0) const {
    std::vector<std::string> arguments = {"/usr/bin/etcdctl", "--endpoints=" + ClientUrl(member),
                                          "--command-timeout=10s"};
    if (options_.tls) {
      arguments.push_back("--cacert=" + File("ca.pem"));
      arguments.push_back("--cert=" + File("client.pem"));
      arguments.push_back("--key=" + File("client.key"));
    }
    arguments.insert(arguments.end(), command.begin(), command.end());
    return Run(arguments);
  }

  /// True once member `i` has a leader and all that was committed: another may go then.
  bool AwaitCaughtUp(size_t i) const {
    for (int attempt = 0; attempt < 20; ++attempt) {
      if (Control({"get", "a key"}, i)) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return false;
  }

  std::string File(const std::string& name) const { return (directory_ / name).string(); }

  static int FreePort(std::vector<int>* held) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    held->push_back(fd);
    return ntohs(address.sin_port);
  }

 private:
  /// In memory where there is room (each member takes 130 MB for its log): a disk that others keep
  /// busy makes leases run out, and members that are killed need no more than the page cache.
  static std::filesystem::path Base() {
    const std::filesystem::path memory = "/dev/shm";
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(memory, error);
    const bool roomy = !error && space.available > (uint64_t{2} << 30);
    if (roomy && ::access(memory.c_str(), W_OK) == 0) return memory;
    return std::filesystem::temp_directory_path();
  }

  struct Member {
    int client_port = 0;
    int peer_port = 0;
    pid_t pid = 0;
  };

  static std::string Name(size_t i) { return "m" + std::to_string(i); }
  std::string PeerUrl(size_t i) const {
    return "http://127.0.0.1:" + std::to_string(members_[i].peer_port);
  }
  std::string ClientUrl(size_t i) const {
    return (options_.tls ? "https://127.0.0.1:" : "http://127.0.0.1:") +
           std::to_string(members_[i].client_port);
  }

  static pid_t Spawn(const std::vector<std::string>& arguments, const std::string& output) {
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    ::setenv("ETCDCTL_API", "3", 1);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }

  bool Run(const std::vector<std::string>& arguments) const {
    const pid_t pid = Spawn(arguments, File("run.out"));
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  void MakeCertificates() {
    std::ofstream(File("server.ext")) << "subjectAltName=DNS:localhost,IP:127.0.0.1\n"
                                         "extendedKeyUsage=serverAuth,clientAuth\n";
    std::ofstream(File("client.ext")) << "extendedKeyUsage=clientAuth\n";
    const auto openssl = [&](std::vector<std::string> arguments) {
      arguments.insert(arguments.begin(), "/usr/bin/openssl");
      if (!Run(arguments)) ADD_FAILURE() << "openssl " << arguments[1] << " failed";
    };
    for (const std::string ca : {"ca", "other"}) {
      openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
               "-keyout", File(ca + ".key"), "-out", File(ca + ".pem"), "-days", "2", "-subj",
               "/CN=test " + ca});
    }
    for (const std::string name : {"server", "client"}) {
      openssl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
               File(name + ".key"), "-out", File(name + ".csr"), "-subj", "/CN=" + name});
      openssl({"x509", "-req", "-in", File(name + ".csr"), "-CA", File("ca.pem"), "-CAkey",
               File("ca.key"), "-CAcreateserial", "-out", File(name + ".pem"), "-days", "2",
               "-extfile", File(name + ".ext")});
    }
  }

  const Options options_;
  std::filesystem::path directory_;
  std::vector<Member> members_;
};

/// Ends the test where etcd is not installed: a failure under CI, else skipped.
#define ONGGI_NEEDS_ETCD()                                                 \
  do {                                                                     \
    if (!::onggi::metadata::EtcdCluster::Installed()) {                    \
      if (std::getenv("CI") != nullptr) FAIL() << "etcd is not installed"; \
      GTEST_SKIP() << "etcd is not installed";                             \
    }                                                                      \
  } while (false)

}  // namespace onggi::metadata
