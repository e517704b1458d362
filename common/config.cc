#include "common/config.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <sstream>

#include "common/check.h"

namespace onggi {

struct OptionTable::Option {
  std::string name;
  std::string value_name;
  std::string shown_default;
  std::string help;
  std::string group;
  bool is_switch = false;
  bool is_list = false;
  /// Replaces the target; a scalar gets exactly one value.
  std::function<Status(const std::vector<std::string>&)> parse;

  std::vector<std::string> flag_values;  ///< filled by CLI11
  std::string source = "default";
};

namespace {

constexpr std::string_view kEnvironmentPrefix = "ONGGI_";

std::string EnvironmentName(std::string_view option) {
  std::string out(kEnvironmentPrefix);
  for (const char c : option) {
    out.push_back(c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
  }
  return out;
}

std::string WithDashes(std::string_view key) {
  std::string out(key);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

std::vector<std::string> SplitCommas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    std::string_view part = text.substr(0, comma);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    if (!part.empty()) parts.emplace_back(part);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  return parts;
}

template <class Number>
Result<Number> ParseNumber(std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && at == end) return value;
  if constexpr (std::is_floating_point_v<Number>) {
    return InvalidArgument("not a number: '" + std::string(text) + "'");
  } else {
    return InvalidArgument(
        "not a whole number from " + std::to_string(std::numeric_limits<Number>::min()) + " to " +
        std::to_string(std::numeric_limits<Number>::max()) + ": '" + std::string(text) + "'");
  }
}

template <class Number>
auto NumberParser(Number* target) {
  return [target](std::string_view text) -> Status {
    ASSIGN_OR_RETURN(*target, ParseNumber<Number>(text));
    return Status::Ok();
  };
}

template <class Duration>
auto DurationParser(Duration* target) {
  return [target](std::string_view text) -> Status {
    ASSIGN_OR_RETURN(const std::chrono::nanoseconds ns, ParseDuration(text));
    const Duration value = std::chrono::duration_cast<Duration>(ns);
    if (value != ns) {
      return InvalidArgument("finer than this option can be: '" + std::string(text) + "'");
    }
    *target = value;
    return Status::Ok();
  };
}

Status ParseBool(std::string_view text, bool* value) {
  for (const std::string_view yes : {"true", "yes", "on", "1"}) {
    if (text == yes) return *value = true, Status::Ok();
  }
  for (const std::string_view no : {"false", "no", "off", "0"}) {
    if (text == no) return *value = false, Status::Ok();
  }
  return InvalidArgument("not true or false: '" + std::string(text) + "'");
}

}  // namespace

OptionTable::OptionTable() = default;
OptionTable::~OptionTable() = default;

void OptionTable::Group(std::string title) { group_ = std::move(title); }

OptionTable::Option& OptionTable::NewOption(std::string name, std::string value_name,
                                            std::string shown_default, std::string help) {
  CHECK_MSG(Find(name) == nullptr, name);
  CHECK_MSG(name != "config", name);
  auto option = std::make_unique<Option>();
  option->name = std::move(name);
  option->value_name = std::move(value_name);
  option->shown_default = std::move(shown_default);
  option->help = std::move(help);
  option->group = group_;
  options_.push_back(std::move(option));
  return *options_.back();
}

void OptionTable::PassOver(const OptionTable& other) {
  for (const auto& option : other.options_) {
    passed_over_.insert(option->name);
    passed_over_.insert(EnvironmentName(option->name));
  }
}

bool OptionTable::PassedOver(std::string_view name) const { return passed_over_.contains(name); }

OptionTable::Option* OptionTable::Find(std::string_view name) {
  for (auto& option : options_) {
    if (option->name == name) return option.get();
  }
  return nullptr;
}

void OptionTable::AddCustom(std::string name, std::string value_name, std::string shown_default,
                            std::string help, std::function<Status(std::string_view)> parse) {
  NewOption(std::move(name), std::move(value_name), std::move(shown_default), std::move(help))
      .parse = [parse = std::move(parse)](const std::vector<std::string>& values) {
    return parse(values.back());
  };
}

void OptionTable::Add(std::string name, bool* target, std::string help) {
  Option& option = NewOption(std::move(name), "", *target ? "true" : "false", std::move(help));
  option.is_switch = true;
  option.parse = [target](const std::vector<std::string>& values) {
    return ParseBool(values.back(), target);
  };
}

void OptionTable::Add(std::string name, int* target, std::string help) {
  AddCustom(std::move(name), "N", std::to_string(*target), std::move(help), NumberParser(target));
}
void OptionTable::Add(std::string name, uint16_t* target, std::string help) {
  AddCustom(std::move(name), "N", std::to_string(*target), std::move(help), NumberParser(target));
}
void OptionTable::Add(std::string name, uint32_t* target, std::string help) {
  AddCustom(std::move(name), "N", std::to_string(*target), std::move(help), NumberParser(target));
}
void OptionTable::Add(std::string name, uint64_t* target, std::string help) {
  AddCustom(std::move(name), "N", std::to_string(*target), std::move(help), NumberParser(target));
}
void OptionTable::Add(std::string name, double* target, std::string help) {
  std::ostringstream shown;
  shown << *target;
  AddCustom(std::move(name), "X", shown.str(), std::move(help), NumberParser(target));
}
void OptionTable::Add(std::string name, std::string* target, std::string help) {
  AddCustom(std::move(name), "TEXT", *target, std::move(help), [target](std::string_view text) {
    *target = std::string(text);
    return Status::Ok();
  });
}
void OptionTable::Add(std::string name, std::chrono::nanoseconds* target, std::string help) {
  AddCustom(std::move(name), "TIME", FormatDuration(*target), std::move(help),
            DurationParser(target));
}
void OptionTable::Add(std::string name, std::chrono::milliseconds* target, std::string help) {
  AddCustom(std::move(name), "TIME", FormatDuration(*target), std::move(help),
            DurationParser(target));
}
void OptionTable::Add(std::string name, std::chrono::seconds* target, std::string help) {
  AddCustom(std::move(name), "TIME", FormatDuration(*target), std::move(help),
            DurationParser(target));
}
void OptionTable::Add(std::string name, Bytes* target, std::string help) {
  AddCustom(std::move(name), "SIZE", FormatByteSize(*target), std::move(help),
            [target](std::string_view text) -> Status {
              ASSIGN_OR_RETURN(const uint64_t bytes, ParseByteSize(text));
              *target = Bytes(bytes);
              return Status::Ok();
            });
}

void OptionTable::Add(std::string name, std::vector<std::string>* target, std::string help) {
  std::string shown;
  for (const std::string& value : *target) shown.append(shown.empty() ? "" : ",").append(value);
  Option& option = NewOption(std::move(name), "TEXT,...", std::move(shown), std::move(help));
  option.is_list = true;
  option.parse = [target](const std::vector<std::string>& values) {
    *target = values;
    return Status::Ok();
  };
}

void OptionTable::AddChoice(std::string name, std::string* target, std::vector<std::string> choices,
                            std::string help) {
  std::string listed;
  for (const std::string& choice : choices) listed.append(listed.empty() ? "" : "|").append(choice);
  CHECK_MSG(std::find(choices.begin(), choices.end(), *target) != choices.end(), name);
  AddCustom(std::move(name), listed, *target, std::move(help),
            [target, choices = std::move(choices), listed](std::string_view text) -> Status {
              if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
                return InvalidArgument("not one of " + listed + ": '" + std::string(text) + "'");
              }
              *target = std::string(text);
              return Status::Ok();
            });
}

void OptionTable::AddCheck(std::function<Status()> check) { checks_.push_back(std::move(check)); }

void OptionTable::AddFlags(CLI::App& app) {
  app.add_option("--config", config_file_,
                 "Configuration file, YAML: every option below is a key of it (ONGGI_CONFIG)")
      ->type_name("FILE");
  for (auto& owned : options_) {
    Option& option = *owned;
    std::string help = option.help;
    if (!option.shown_default.empty()) help += " [" + option.shown_default + "]";
    CLI::Option* flag = option.is_switch
                            ? app.add_flag("--" + option.name, option.flag_values, help)
                            : app.add_option("--" + option.name, option.flag_values, help)
                                  ->allow_extra_args(false)
                                  ->type_name(option.value_name);
    flag->group(option.group);
  }
}

namespace {

/// "NAME=value" strings as a map; only ours.
std::map<std::string, std::string, std::less<>> OurEnvironment(const char* const* environment) {
  std::map<std::string, std::string, std::less<>> ours;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    if (!entry.starts_with(kEnvironmentPrefix)) continue;
    const size_t equals = entry.find('=');
    // An empty variable is as good as none: container tools leave those behind.
    if (equals == std::string_view::npos || equals + 1 == entry.size()) continue;
    ours.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return ours;
}

std::string Place(std::string_view file, const YAML::Mark& mark) {
  return std::string(file) + ":" + std::to_string(mark.line + 1);
}

}  // namespace

Status OptionTable::Load(const char* const* environment) {
  std::string file = config_file_;
  if (file.empty()) {
    const auto ours = OurEnvironment(environment);
    if (const auto found = ours.find("ONGGI_CONFIG"); found != ours.end()) file = found->second;
  }
  if (file.empty()) return Apply(environment, "", "");
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  if (!in) return IoError("open", file, errno == 0 ? EIO : errno);
  return Apply(environment, file, text.str());
}

Status OptionTable::LoadText(const char* const* environment, std::string_view file_name,
                             std::string_view file_text) {
  return Apply(environment, file_name, file_text);
}

Status OptionTable::Apply(const char* const* environment, std::string_view file_name,
                          std::string_view text) {
  // Lowest precedence first, each overwriting the one before: so that a bad value is reported even
  // where a better one hides it.
  YAML::Node root;
  try {
    root = YAML::Load(std::string(text));
  } catch (const YAML::Exception& e) {
    return InvalidArgument(Place(file_name, e.mark) + ": " + e.msg);
  }
  if (!root.IsNull() && !root.IsMap()) {
    return InvalidArgument(Place(file_name, root.Mark()) +
                           ": the file must be a list of key: value");
  }
  std::map<std::string, int> seen;
  if (root.IsMap()) {
    for (const auto& entry : root) {
      const std::string place = Place(file_name, entry.first.Mark());
      if (!entry.first.IsScalar()) return InvalidArgument(place + ": not a key");
      const std::string key = WithDashes(entry.first.Scalar());
      Option* option = Find(key);
      if (option == nullptr && PassedOver(key)) continue;
      if (option == nullptr) return InvalidArgument(place + ": unknown key '" + key + "'");
      if (!seen.emplace(key, 0).second) {
        return InvalidArgument(place + ": key '" + key + "' is given twice");
      }
      std::vector<std::string> values;
      if (entry.second.IsScalar()) {
        values = option->is_list ? SplitCommas(entry.second.Scalar())
                                 : std::vector<std::string>{entry.second.Scalar()};
      } else if (entry.second.IsSequence() && option->is_list) {
        for (const auto& element : entry.second) {
          if (!element.IsScalar()) {
            return InvalidArgument(Place(file_name, element.Mark()) + ": " + key +
                                   ": elements must be plain values");
          }
          values.push_back(element.Scalar());
        }
      } else {
        return InvalidArgument(place + ": " + key + ": a plain value is needed" +
                               (option->is_list ? ", or a list of them" : ""));
      }
      RETURN_IF_ERROR(option->parse(values).WithContext(place + ": " + key));
      option->source = place;
    }
  }
  for (const auto& [name, value] : OurEnvironment(environment)) {
    if (name == "ONGGI_CONFIG") continue;
    const auto option = std::find_if(options_.begin(), options_.end(), [&](const auto& candidate) {
      return EnvironmentName(candidate->name) == name;
    });
    if (option == options_.end() && PassedOver(name)) continue;
    if (option == options_.end()) {
      return InvalidArgument("environment: unknown variable '" + name + "'");
    }
    const std::vector<std::string> values =
        (*option)->is_list ? SplitCommas(value) : std::vector<std::string>{value};
    RETURN_IF_ERROR((*option)->parse(values).WithContext(name));
    (*option)->source = name;
  }
  for (auto& option : options_) {
    if (option->flag_values.empty()) continue;  // not given
    std::vector<std::string> values;
    if (option->is_list) {
      for (const std::string& value : option->flag_values) {
        for (std::string& part : SplitCommas(value)) values.push_back(std::move(part));
      }
    } else {
      values = {option->flag_values.back()};
    }
    RETURN_IF_ERROR(option->parse(values).WithContext("--" + option->name));
    option->source = "--" + option->name;
  }
  for (const auto& check : checks_) RETURN_IF_ERROR(check());
  return Status::Ok();
}

std::string OptionTable::Source(std::string_view name) const {
  for (const auto& option : options_) {
    if (option->name == name) return option->source;
  }
  return "";
}

std::string OptionTable::Describe() const {
  std::string out;
  std::string group;
  for (const auto& option : options_) {
    if (option->group != group) {
      group = option->group;
      out.append(out.empty() ? "" : "\n").append(group).append("\n");
    }
    std::string line = "  --" + option->name;
    if (!option->value_name.empty()) line += " " + option->value_name;
    if (line.size() < 32) line.resize(32, ' ');
    line += " " + option->help;
    if (!option->shown_default.empty()) line += " [" + option->shown_default + "]";
    out += line + " (" + EnvironmentName(option->name) + ")\n";
  }
  return out;
}

}  // namespace onggi
