#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/session.h"
#include "common/config.h"

namespace onggi::cli {

/// One command, with its connection and what is its own.
struct Command {
  Command() {}
  CLI::App* app = nullptr;
  SessionOptions session;
  OptionTable table;
  std::function<Exit(Session&)> run;
};

/// The administrative commands: status, table, partition, node.
///
///     cli::Commands commands(&app);                // before the parse
///     app.parse(argc, argv);
///     if (cli::Command* command = commands.Chosen()) {
///       for (... every other option table ...) command->table.PassOver(...);
///       command->table.Load(environ) ...; return commands.Run(*command);
///     }
class Commands {
 public:
  /// Adds them to `parent`, which outlives this and has its other commands already.
  explicit Commands(CLI::App* parent);
  Commands(const Commands&) = delete;
  Commands& operator=(const Commands&) = delete;

  /// The one that was given; null: another command of the program.
  Command* Chosen();
  /// Carries it out, after its options were loaded. Returns the exit code.
  static int Run(Command& command);

  const std::vector<std::unique_ptr<Command>>& all() const { return commands_; }

 private:
  Command* Add(CLI::App* parent, const std::string& name, const std::string& help);
  void AddStatus(CLI::App* parent);
  void AddTables(CLI::App* parent);
  void AddPartitions(CLI::App* parent);
  void AddNodes(CLI::App* parent);

  std::vector<std::unique_ptr<Command>> commands_;
};

/// A group of commands such as `onggi table`. If `parent` has a command of this name, they become
/// its own: `onggi node` by itself is the role.
CLI::App* AddGroup(CLI::App* parent, const std::string& name, const std::string& help);

/// Prints to stdout.
void Print(const std::string& text);

// Names of what enums of the catalog say, for people and programs: "active", "split".
std::string NodeStateName(proto::NodeState state);
std::string JobKindName(proto::JobKind kind);
std::string JobStateName(proto::JobState state);

/// Prints what was begun: a job.
Exit PrintJob(const Command& command, const proto::Job& job);

}  // namespace onggi::cli
