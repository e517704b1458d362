#include "common/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

namespace onggi {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Durations, AreRead) {
  const std::pair<std::string_view, int64_t> cases[] = {{"0", 0},
                                                        {"5s", 5'000'000'000},
                                                        {"250ms", 250'000'000},
                                                        {"10us", 10'000},
                                                        {"1m30s", 90'000'000'000},
                                                        {"2h", 7'200'000'000'000},
                                                        {"1.5s", 1'500'000'000},
                                                        {"1d", 86'400'000'000'000},
                                                        {"7ns", 7}};
  for (const auto& [text, ns] : cases) {
    const auto parsed = ParseDuration(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(parsed.value().count(), ns) << text;
    EXPECT_EQ(ParseDuration(FormatDuration(parsed.value())).value().count(), ns) << text;
  }
  for (const std::string_view bad :
       {"", "5", "s", "-5s", "5 s", "5x", "5ss", "1e3s", "99999999d"}) {
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
  }
}

TEST(ByteSizes, AreRead) {
  const std::pair<std::string_view, uint64_t> cases[] = {{"0", 0},
                                                         {"4096", 4096},
                                                         {"64KB", 64 << 10},
                                                         {"64KiB", 64 << 10},
                                                         {"512MB", 512 << 20},
                                                         {"512mb", 512 << 20},
                                                         {"1GB", 1 << 30},
                                                         {"1.5G", 3ULL << 29},
                                                         {"2TB", 2ULL << 40},
                                                         {"10 MB", 10 << 20}};
  for (const auto& [text, bytes] : cases) {
    const auto parsed = ParseByteSize(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(parsed.value(), bytes) << text;
    EXPECT_EQ(ParseByteSize(FormatByteSize(bytes)).value(), bytes) << text;
  }
  for (const std::string_view bad : {"", "MB", "-1", "5XB", "1MBs", "99999999TB"}) {
    EXPECT_FALSE(ParseByteSize(bad).ok()) << bad;
  }
}

class Options : public ::testing::Test {
 protected:
  Options() {
    table_.Group("Network");
    table_.Add("aws-port", &port_, "Port");
    table_.Add("bind", &bind_, "Address");
    table_.Group("Storage");
    table_.Add("memory", &memory_, "Memory");
    table_.Add("idle-timeout", &timeout_, "Idle");
    table_.Add("verbose", &verbose_, "Talks");
    table_.Add("ratio", &ratio_, "Ratio");
    table_.Add("keys", &keys_, "Keys");
    table_.AddChoice("durability", &durability_, {"sync", "relaxed"}, "When to sync");
  }

  Status Load(std::vector<std::string> arguments, std::vector<std::string> environment = {},
              std::string_view file = "") {
    CLI::App app;
    table_.AddFlags(app);
    std::reverse(arguments.begin(), arguments.end());
    app.parse(arguments);
    std::vector<const char*> pointers;
    for (const std::string& entry : environment) pointers.push_back(entry.c_str());
    pointers.push_back(nullptr);
    return table_.LoadText(pointers.data(), "onggi.yaml", file);
  }
  void ExpectError(const Status& status, const std::string& message) {
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(status.message(), message);
  }

  uint16_t port_ = 8000;
  std::string bind_ = "127.0.0.1";
  Bytes memory_ = MiB(64);
  std::chrono::milliseconds timeout_{60'000};
  bool verbose_ = false;
  double ratio_ = 0.5;
  std::vector<std::string> keys_;
  std::string durability_ = "sync";
  OptionTable table_;
};

TEST_F(Options, KeepDefaultsWhenNothingIsGiven) {
  ASSERT_TRUE(Load({}).ok());
  EXPECT_EQ(port_, 8000);
  EXPECT_EQ(durability_, "sync");
  EXPECT_EQ(table_.Source("aws-port"), "default");
}

TEST_F(Options, ComeFromEverySource) {
  const Status status = Load({"--aws-port", "1", "--verbose", "--keys", "a,b", "--keys=c"},
                             {"PATH=/bin", "ONGGI_MEMORY=1GB", "ONGGI_RATIO=0.25"},
                             "# comment\nidle_timeout: 1m\nbind: ::1\ndurability: relaxed\n");
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(port_, 1);
  EXPECT_TRUE(verbose_);
  EXPECT_EQ(memory_, GiB(1));
  EXPECT_EQ(ratio_, 0.25);
  EXPECT_EQ(timeout_, std::chrono::minutes(1));
  EXPECT_EQ(bind_, "::1");
  EXPECT_EQ(durability_, "relaxed");
  EXPECT_THAT(keys_, ElementsAre("a", "b", "c"));
  EXPECT_EQ(table_.Source("aws-port"), "--aws-port");
  EXPECT_EQ(table_.Source("memory"), "ONGGI_MEMORY");
  EXPECT_EQ(table_.Source("idle-timeout"), "onggi.yaml:2");
}

TEST_F(Options, FollowPrecedence) {
  ASSERT_TRUE(Load({"--aws-port=3"}, {"ONGGI_AWS_PORT=2", "ONGGI_BIND=env", "ONGGI_VERBOSE="},
                   "aws-port: 1\nbind: file\nverbose: true\nmemory: 1KB")
                  .ok());
  EXPECT_EQ(port_, 3);
  EXPECT_EQ(bind_, "env");
  EXPECT_TRUE(verbose_);
  EXPECT_EQ(memory_, KiB(1));
}

TEST_F(Options, SwitchOffByFlag) {
  ASSERT_TRUE(Load({"--verbose=false"}, {}, "verbose: true").ok());
  EXPECT_FALSE(verbose_);
}

TEST_F(Options, ReadListsFromFiles) {
  ASSERT_TRUE(Load({}, {}, "keys:\n  - x\n  - y z\n").ok());
  EXPECT_THAT(keys_, ElementsAre("x", "y z"));
}

TEST_F(Options, SayWhereABadValueIs) {
  ExpectError(Load({}, {}, "bind: x\naws-port: 70000"),
              "onggi.yaml:2: aws-port: not a whole number from 0 to 65535: '70000'");
  ExpectError(Load({}, {"ONGGI_MEMORY=lots"}),
              "ONGGI_MEMORY: not a size such as 4096, 64KB or 1.5GB: 'lots'");
  ExpectError(Load({"--idle-timeout=5"}),
              "--idle-timeout: not a duration such as 250ms, 5s or 1h30m: '5'");
  ExpectError(Load({}, {}, "durability: never"),
              "onggi.yaml:1: durability: not one of sync|relaxed: 'never'");
  ExpectError(Load({}, {}, "verbose: maybe"), "onggi.yaml:1: verbose: not true or false: 'maybe'");
}

TEST_F(Options, PassOverThoseOfOtherCommands) {
  std::string zone;
  OptionTable other;
  other.Add("fault-zone", &zone, "");
  table_.PassOver(other);
  ASSERT_TRUE(Load({}, {"ONGGI_FAULT_ZONE=a", "ONGGI_BIND=env"}, "fault_zone: [b]").ok());
  EXPECT_EQ(zone, "");
  EXPECT_EQ(bind_, "env");
  ExpectError(Load({}, {"ONGGI_FAULT=1"}), "environment: unknown variable 'ONGGI_FAULT'");
}

TEST_F(Options, RefuseWhatTheyDoNotKnow) {
  ExpectError(Load({}, {}, "a: 1"), "onggi.yaml:1: unknown key 'a'");
  ExpectError(Load({}, {}, "bind: x\n\nbind: y"), "onggi.yaml:3: key 'bind' is given twice");
  ExpectError(Load({}, {}, "- x"), "onggi.yaml:1: the file must be a list of key: value");
  ExpectError(Load({}, {}, "bind:\n  - x"), "onggi.yaml:1: bind: a plain value is needed");
  ExpectError(Load({}, {"ONGGI_NONSENSE=1"}), "environment: unknown variable 'ONGGI_NONSENSE'");
  const Status broken = Load({}, {}, "bind: [x\nfoo");
  EXPECT_EQ(broken.code(), Code::kInvalidArgument);
  EXPECT_THAT(broken.message(), HasSubstr("onggi.yaml:"));
  EXPECT_THROW((void)Load({"--nonsense"}), CLI::ParseError);
}

TEST_F(Options, RunChecksOverAll) {
  table_.AddCheck(
      [this] { return port_ == 8000 ? Status::Ok() : InvalidArgument("only 8000 will do"); });
  EXPECT_TRUE(Load({}).ok());
  ExpectError(Load({"--aws-port=1"}), "only 8000 will do");
}

TEST_F(Options, ReadTheFileThatIsNamed) {
  const std::string path = ::testing::TempDir() + "/onggi_config_test.yaml";
  std::ofstream(path) << "aws-port: 77\n";
  const std::string variable = "ONGGI_CONFIG=" + path;
  const char* environment[] = {variable.c_str(), nullptr};
  ASSERT_TRUE(table_.Load(environment).ok());
  EXPECT_EQ(port_, 77);
  std::remove(path.c_str());
  const Status missing = table_.Load(environment);
  EXPECT_EQ(missing.code(), Code::kIoError);
  EXPECT_THAT(missing.message(), HasSubstr(path));
}

TEST_F(Options, DescribeThemselves) {
  CLI::App app;
  table_.AddFlags(app);
  EXPECT_THAT(app.help(), HasSubstr("--aws-port N"));
  EXPECT_THAT(app.help(), HasSubstr("[8000]"));
  EXPECT_THAT(app.help(), HasSubstr("Storage:"));
  EXPECT_THAT(table_.Describe(), HasSubstr("ONGGI_AWS_PORT"));
  EXPECT_THAT(table_.Describe(), HasSubstr("--memory SIZE"));
}

}  // namespace
}  // namespace onggi
