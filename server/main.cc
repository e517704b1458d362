#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>

#include "client/cli/commands.h"
#include "common/log.h"
#include "server/cluster_options.h"
#include "server/cluster_store.h"
#include "server/coordinator_server.h"
#include "server/dev_server.h"
#include "server/health_check.h"
#include "server/node_server.h"
#include "server/options.h"

namespace onggi {
namespace {

/// Signals are taken by main's sigwait: every thread started from here on inherits the mask.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);  // a client that went away is an error of its write
  return signals;
}

Status ConfigureLog(const ServerOptions& options) {
  log::Options log_options;
  ASSIGN_OR_RETURN(log_options.level, log::ParseLevel(options.log_level));
  ASSIGN_OR_RETURN(log_options.format, log::ParseFormat(options.log_format));
  log_options.file = options.log_file;
  return log::Configure(log_options);
}

void PrintWelcome(const ServerOptions& options, const DevServer& server) {
  const std::string host =
      options.bind.find(':') == std::string::npos ? options.bind : "[" + options.bind + "]";
  const std::string endpoint =
      std::string(server.aws_scheme()) + host + ":" + std::to_string(server.aws_port());
  std::printf("dynamodb  %s\n", endpoint.c_str());
  std::printf("grpc      %s:%d\n", host.c_str(), server.grpc_port());
  std::printf("admin     http://%s:%u/metrics\n", host.c_str(), server.admin_port());
  std::printf("data      %s\n", options.data_dir.c_str());
  std::printf(
      "try       AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s "
      "aws dynamodb list-tables --region %s --endpoint-url %s\n",
      options.credentials.empty() ? "dev" : "...", options.credentials.empty() ? "dev" : "...",
      options.region.c_str(), endpoint.c_str());
  std::fflush(stdout);
}

/// Starts a role, tells people about it, waits for SIGTERM or SIGINT, stops it.
template <class Role>
int Run(Role& role, const sigset_t& signals, const std::function<void()>& welcome) {
  const Status started = role.Start();
  if (!started.ok()) {
    std::fprintf(stderr, "onggi: %s\n", started.message().c_str());
    return 1;
  }
  welcome();
  int received = 0;
  sigwait(&signals, &received);
  log::Info("stopping", "signal", received);
  role.Stop();
  log::Flush();
  return 0;
}

int RunDev(const ServerOptions& options, const sigset_t& signals) {
  DevServer server(options);
  return Run(server, signals, [&] {
    if (options.credentials.empty() && options.bind != "::1" && !options.bind.starts_with("127.")) {
      log::Warn("every request is accepted: no --credentials, and not bound to loopback", "bind",
                options.bind);
    }
    PrintWelcome(options, server);
  });
}

/// Has somebody asked the process to end? For a start that waits, with signals blocked.
bool StopRequested() {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}

int RunNode(const ServerOptions& options, const ClusterOptions& cluster, const sigset_t& signals) {
  NodeServer server(options, cluster, StopRequested);
  return Run(server, signals, [&] {
    std::printf("dynamodb  %s%s\n", std::string(server.aws_scheme()).c_str(),
                HostAndPort(options.bind, server.aws_port()).c_str());
    std::printf("grpc      %s:%d\n", options.bind.c_str(), server.grpc_port());
    std::printf("admin     http://%s/metrics\n",
                HostAndPort(options.bind, server.admin_port()).c_str());
    std::printf("data      %s\n", options.data_dir.c_str());
    std::printf("node      %s of cluster %s\n", server.id().ToString().c_str(),
                server.cluster_id().c_str());
    std::fflush(stdout);
  });
}

int RunCoordinator(const ServerOptions& options, const ClusterOptions& cluster,
                   const sigset_t& signals) {
  CoordinatorServer server(options, cluster, StopRequested);
  return Run(server, signals, [&] {
    std::printf("grpc      %s:%d\n", options.bind.c_str(), server.grpc_port());
    std::printf("admin     http://%s/metrics\n",
                HostAndPort(options.bind, server.admin_port()).c_str());
    std::printf("cluster   %s\n", server.cluster_id().c_str());
    std::fflush(stdout);
  });
}

int RunHealth(const ServerOptions& options) {
  const Status healthy = CheckHealth(options.bind, options.admin_port, std::chrono::seconds(2));
  if (healthy.ok()) return 0;
  std::fprintf(stderr, "onggi: %s\n", healthy.message().c_str());
  return 1;
}

/// One subcommand with options of its own.
struct Command {
  Command(CLI::App* parent, const std::string& name, const std::string& help)
      : app(parent->add_subcommand(name, help)) {}
  CLI::App* const app;
  ServerOptions server;
  ClusterOptions cluster;
  OptionTable table;
};

int Main(int argc, char** argv) {
  CLI::App app("Onggi: a self-hosted serverless data platform", "onggi");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);

  Command dev(&app, "dev", "Everything in one process, for a laptop");
  dev.server.AddTo(ServerOptions::Role::kDev, &dev.table);
  Command node(&app, "node", "A storage node of a cluster; answers any request");
  node.server.AddTo(ServerOptions::Role::kNode, &node.table);
  node.cluster.AddTo(ClusterOptions::Role::kNode, &node.table);
  Command coordinator(&app, "coordinator",
                      "Places and splits partitions; one of several is active");
  coordinator.server.AddTo(ServerOptions::Role::kCoordinator, &coordinator.table);
  coordinator.cluster.AddTo(ClusterOptions::Role::kCoordinator, &coordinator.table);
  Command health(&app, "health", "Exit 0 if the process of this machine's --admin-port is ready");
  health.server.AddTo(ServerOptions::Role::kHealth, &health.table);
  Command* const commands[] = {&dev, &node, &coordinator, &health};
  for (Command* command : commands) command->table.AddFlags(*command->app);
  cli::Commands administration(&app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  Command* chosen = nullptr;
  for (Command* command : commands) {
    if (command->app->parsed()) chosen = command;
  }
  cli::Command* const asked = administration.Chosen();
  OptionTable& table = asked != nullptr ? asked->table : chosen->table;
  // One file or environment may serve several commands.
  for (Command* command : commands) table.PassOver(command->table);
  for (const auto& command : administration.all()) table.PassOver(command->table);
  Status status = table.Load(environ);
  if (!status.ok()) {
    std::fprintf(stderr, "onggi: %s\n", status.message().c_str());
    return 2;
  }
  if (asked != nullptr) return cli::Commands::Run(*asked);
  if (chosen == &health) return RunHealth(health.server);

  const sigset_t signals = BlockSignals();
  if (status = ConfigureLog(chosen->server); !status.ok()) {
    std::fprintf(stderr, "onggi: %s\n", status.message().c_str());
    return 1;
  }
  if (chosen == &dev) return RunDev(dev.server, signals);
  if (chosen == &node) return RunNode(node.server, node.cluster, signals);
  return RunCoordinator(coordinator.server, coordinator.cluster, signals);
}

}  // namespace
}  // namespace onggi

int main(int argc, char** argv) { return onggi::Main(argc, argv); }
