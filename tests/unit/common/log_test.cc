#include "common/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>

namespace onggi::log {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

std::vector<std::string>& Lines() {
  static std::vector<std::string> lines;
  return lines;
}

class Log : public ::testing::Test {
 protected:
  void SetUp() override {
    Lines().clear();
    SetSink([](std::string_view line) { Lines().emplace_back(line); });
  }
  void TearDown() override {
    SetSink(nullptr);
    EXPECT_TRUE(Configure(Options()).ok());
  }
};

enum class Color { kRed = 3 };

TEST_F(Log, WritesKeysAndValuesAsText) {
  Info("opened", "table", "my table", "id", 7, "ok", true, "color", Color::kRed, "ratio", 0.5,
       "status", NotFound("x"), "took_ms", std::chrono::microseconds(1500), "empty", "");
  ASSERT_EQ(Lines().size(), 1U);
  EXPECT_THAT(Lines()[0],
              EndsWith("Z info opened table=\"my table\" id=7 ok=true color=3 ratio=0.5 "
                       "status=\"NotFound: x\" took_ms=1.500 empty=\"\""));
}

TEST_F(Log, WritesJson) {
  Options options;
  options.format = Format::kJson;
  ASSERT_TRUE(Configure(options).ok());
  Warn("a \"b\"", "k", "line\nend\x01", "n", -1.5, "inf", std::numeric_limits<double>::infinity());
  ASSERT_EQ(Lines().size(), 1U);
  EXPECT_THAT(Lines()[0], HasSubstr("{\"time\":\"20"));
  EXPECT_THAT(Lines()[0], EndsWith(R"(Z","level":"warn","message":"a \"b\"","k":"line\nend\u0001",)"
                                   R"("n":-1.5,"inf":"inf"})"));
}

TEST_F(Log, CannotBeForgedByValues) {
  Info("x", "user", "a\n2026-01-01 error forged", "eq", "a=b");
  ASSERT_EQ(Lines().size(), 1U);
  EXPECT_EQ(Lines()[0].find('\n'), std::string::npos);
  EXPECT_THAT(Lines()[0], EndsWith("eq=\"a=b\""));
}

TEST_F(Log, ObeysItsLevel) {
  Debug("hidden");
  Options options;
  options.level = Level::kError;
  ASSERT_TRUE(Configure(options).ok());
  Warn("hidden");
  Error("shown");
  EXPECT_EQ(Lines().size(), 1U);
  EXPECT_TRUE(ParseLevel("debug").ok());
  EXPECT_FALSE(ParseLevel("loud").ok());
  EXPECT_EQ(ParseFormat("json").value(), Format::kJson);
  EXPECT_FALSE(ParseFormat("xml").ok());
}

TEST_F(Log, WritesToAFile) {
  SetSink(nullptr);
  Options options;
  options.file = ::testing::TempDir() + "/onggi_log_test.log";
  std::remove(options.file.c_str());
  ASSERT_TRUE(Configure(options).ok());
  Info("into the file", "k", 1);
  Flush();
  std::ifstream in(options.file);
  std::string line;
  std::getline(in, line);
  EXPECT_THAT(line, EndsWith("info into the file k=1"));
  std::remove(options.file.c_str());
  options.file = "/proc/no/such/x.log";
  EXPECT_EQ(Configure(options).code(), Code::kIoError);
}

TEST(RateLimit, LetsOneThroughPerInterval) {
  RateLimit limit(std::chrono::seconds(10));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(limit.Allow(start), 1U);
  EXPECT_EQ(limit.Allow(start + std::chrono::seconds(1)), 0U);
  EXPECT_EQ(limit.Allow(start + std::chrono::seconds(9)), 0U);
  EXPECT_EQ(limit.Allow(start + std::chrono::seconds(10)), 3U);
  EXPECT_EQ(limit.Allow(start + std::chrono::seconds(11)), 0U);
}

}  // namespace
}  // namespace onggi::log
