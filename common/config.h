#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace CLI {
class App;
}

namespace onggi {

/// "5s", "250ms", "1m30s", "2h", "1d", "10us"; a bare number is refused except 0.
Result<std::chrono::nanoseconds> ParseDuration(std::string_view text);
std::string FormatDuration(std::chrono::nanoseconds duration);

/// "512MB", "1GB", "64KB", "4096", "1.5GiB". KB, MB, GB and TB are powers of 1024, as KiB is.
Result<uint64_t> ParseByteSize(std::string_view text);
std::string FormatByteSize(uint64_t bytes);

/// A number of bytes in an options struct: told apart from a plain number so that "512MB" is read.
struct Bytes {
  uint64_t value = 0;
  constexpr Bytes() = default;
  constexpr explicit Bytes(uint64_t v) : value(v) {}
  constexpr operator uint64_t() const { return value; }  // NOLINT
};
inline constexpr Bytes KiB(uint64_t n) { return Bytes(n << 10); }
inline constexpr Bytes MiB(uint64_t n) { return Bytes(n << 20); }
inline constexpr Bytes GiB(uint64_t n) { return Bytes(n << 30); }

/// The table of options of a command: each one a flag (--aws-port), a key of the configuration file
/// (aws-port: 8000; aws_port is read too) and an environment variable (ONGGI_AWS_PORT).
///
/// Precedence: flag, environment, file, default. The default is what the target held when it was
/// added. Unknown keys of the file and values that do not parse are errors that say where they come
/// from ("onggi.yaml:3: ..."); unknown ONGGI_* variables are errors too. Made and used by main on
/// one thread; targets must outlive Load.
///
///     OptionTable table;
///     table.Group("Network");
///     table.Add("aws-port", &options.aws_port, "Port of the AWS-compatible endpoint (0: any
///     free)"); CLI::App app; table.AddFlags(app); app.parse(argc, argv);
///     RETURN_IF_ERROR(table.Load(environ));
class OptionTable {
 public:
  OptionTable();
  ~OptionTable();
  OptionTable(const OptionTable&) = delete;
  OptionTable& operator=(const OptionTable&) = delete;

  /// Options added from here on are shown under this title by --help.
  void Group(std::string title);

  // Types: a switch (--flag, --flag=false), numbers with their type's range, text, durations,
  // sizes, lists (repeat the flag, or separate by commas; a sequence in the file).
  void Add(std::string name, bool* target, std::string help);
  void Add(std::string name, int* target, std::string help);
  void Add(std::string name, uint16_t* target, std::string help);
  void Add(std::string name, uint32_t* target, std::string help);
  void Add(std::string name, uint64_t* target, std::string help);
  void Add(std::string name, double* target, std::string help);
  void Add(std::string name, std::string* target, std::string help);
  void Add(std::string name, std::chrono::nanoseconds* target, std::string help);
  void Add(std::string name, std::chrono::milliseconds* target, std::string help);
  void Add(std::string name, std::chrono::seconds* target, std::string help);
  void Add(std::string name, Bytes* target, std::string help);
  void Add(std::string name, std::vector<std::string>* target, std::string help);
  /// Text that must be one of `choices`.
  void AddChoice(std::string name, std::string* target, std::vector<std::string> choices,
                 std::string help);
  /// Anything else: `parse` reads one value and stores it; `shown_default` is for --help.
  void AddCustom(std::string name, std::string value_name, std::string shown_default,
                 std::string help, std::function<Status(std::string_view)> parse);

  /// Options of `other` are no mistake here: the file and the environment may be shared by several
  /// commands, and what this one does not have it passes over. Call after both tables are filled.
  void PassOver(const OptionTable& other);

  /// A check over all options together, run at the end of Load.
  void AddCheck(std::function<Status()> check);

  /// Adds every option, and --config FILE, to the command. The table must outlive the app's parse.
  void AddFlags(CLI::App& app);

  /// After the flags were parsed: reads the environment ("NAME=value" strings, ended by nullptr)
  /// and the file (--config or ONGGI_CONFIG; none otherwise), and stores every value in its target.
  Status Load(const char* const* environment);

  /// Like Load, with the file's text given (tests, and reloads). `file_name` is for messages.
  Status LoadText(const char* const* environment, std::string_view file_name,
                  std::string_view file_text);

  /// Where an option's value came from: "default", "onggi.yaml:3", "ONGGI_AWS_PORT", "--aws-port".
  std::string Source(std::string_view name) const;

  /// The option's name, type, default and meaning, one per line, for docs and --help.
  std::string Describe() const;

 private:
  struct Option;
  Option& NewOption(std::string name, std::string value_name, std::string shown_default,
                    std::string help);
  Option* Find(std::string_view name);
  /// Another command's option: its name, or its variable's.
  bool PassedOver(std::string_view name) const;
  Status Apply(const char* const* environment, std::string_view file_name, std::string_view text);

  std::vector<std::unique_ptr<Option>> options_;
  std::vector<std::function<Status()>> checks_;
  std::set<std::string, std::less<>> passed_over_;
  std::string group_ = "Options";
  std::string config_file_;
};

}  // namespace onggi
