#include "client/cli/commands.h"

#include <algorithm>
#include <cstdio>

#include "client/cli/output.h"

namespace onggi::cli {
namespace {

std::string LowerCase(std::string text, std::string_view prefix) {
  if (text.starts_with(prefix)) text.erase(0, prefix.size());
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '_') c = '-';
  }
  return text;
}

}  // namespace

Commands::Commands(CLI::App* parent) {
  AddStatus(parent);
  AddTables(parent);
  AddPartitions(parent);
  AddNodes(parent);
  for (const auto& command : commands_) {
    command->session.AddTo(&command->table);
    command->table.AddFlags(*command->app);
  }
}

CLI::App* AddGroup(CLI::App* parent, const std::string& name, const std::string& help) {
  for (CLI::App* existing : parent->get_subcommands([](CLI::App*) { return true; })) {
    if (existing->get_name() == name) {
      existing->require_subcommand(0, 1);
      return existing;
    }
  }
  CLI::App* group = parent->add_subcommand(name, help);
  group->require_subcommand(1);
  return group;
}

Command* Commands::Add(CLI::App* parent, const std::string& name, const std::string& help) {
  auto command = std::make_unique<Command>();
  command->app = parent->add_subcommand(name, help);
  commands_.push_back(std::move(command));
  return commands_.back().get();
}

Command* Commands::Chosen() {
  const auto it =
      std::ranges::find_if(commands_, [](const auto& command) { return command->app->parsed(); });
  return it == commands_.end() ? nullptr : it->get();
}

int Commands::Run(Command& command) {
  auto session = Session::Open(command.session);
  if (!session.ok()) {
    std::fprintf(stderr, "onggi: %s\n", session.status().message().c_str());
    return static_cast<int>(Exit::kUsage);
  }
  return static_cast<int>(command.run(**session));
}

void Print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::string NodeStateName(proto::NodeState state) {
  return LowerCase(proto::NodeState_Name(state), "NODE_STATE_");
}
std::string JobKindName(proto::JobKind kind) {
  return LowerCase(proto::JobKind_Name(kind), "JOB_KIND_");
}
std::string JobStateName(proto::JobState state) {
  return LowerCase(proto::JobState_Name(state), "JOB_STATE_");
}

Exit PrintJob(const Command& command, const proto::Job& job) {
  std::string out;
  if (command.session.json()) {
    JsonWriter json(&out);
    json.BeginObject();
    json.Key("job").Uint(job.id());
    json.Key("kind").String(JobKindName(job.kind()));
    json.Key("state").String(JobStateName(job.state()));
    json.Key("table").Uint(job.table());
    json.Key("partition").Uint(job.partition());
    json.EndObject();
  } else {
    out = "job " + std::to_string(job.id()) + " (" + JobKindName(job.kind()) + " of partition " +
          std::to_string(job.partition()) + ") is " + JobStateName(job.state()) +
          "; onggi status shows how it goes\n";
  }
  Print(out);
  return Exit::kOk;
}

}  // namespace onggi::cli
