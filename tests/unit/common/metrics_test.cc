#include "common/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace onggi::metrics {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Metrics, CountAcrossThreads) {
  Registry registry;
  Counter& counter = registry.AddCounter("onggi_test_total", "Test.");
  Histogram& histogram = registry.AddLatency("onggi_test_seconds", "Test.");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10'000; ++i) {
        counter.Add();
        histogram.Observe(std::chrono::microseconds(150));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.Value(), 40'000U);
  EXPECT_EQ(histogram.Count(), 40'000U);
  EXPECT_EQ(histogram.Sum(), uint64_t{40'000} * 150'000);
}

TEST(Metrics, PutObservationsIntoTheirBuckets) {
  const uint64_t bounds[] = {10, 20};
  Histogram histogram(bounds, 1.0);
  for (const uint64_t value : {0, 10, 11, 20, 21, 1000}) histogram.Observe(uint64_t{value});
  const Histogram::Snapshot snapshot = histogram.Collect();
  ASSERT_EQ(snapshot.cumulative.size(), 2U);
  EXPECT_EQ(snapshot.cumulative[0], std::make_pair(10.0, uint64_t{2}));
  EXPECT_EQ(snapshot.cumulative[1], std::make_pair(20.0, uint64_t{4}));
  EXPECT_EQ(snapshot.count, 6U);
  EXPECT_EQ(snapshot.sum, 1062);
}

TEST(Metrics, AreTheSameForTheSameNameAndLabels) {
  Registry registry;
  Counter& a = registry.AddCounter("onggi_x_total", "X.", {{"a", "1"}, {"b", "2"}});
  Counter& b = registry.AddCounter("onggi_x_total", "X.", {{"b", "2"}, {"a", "1"}});
  Counter& c = registry.AddCounter("onggi_x_total", "X.", {{"a", "2"}});
  EXPECT_EQ(&a, &b);
  EXPECT_NE(&a, &c);
}

TEST(Metrics, AreShownAsPrometheusText) {
  Registry registry;
  registry.AddCounter("onggi_x_total", "How many.", {{"operation", "Get\"Item"}}).Add(7);
  registry.AddGauge("onggi_depth", "How deep.").Set(-3);
  registry.AddLatency("onggi_time_seconds", "How long.").Observe(std::chrono::milliseconds(1));
  registry.AddGaugeCallback("onggi_asked", "Asked.", {}, [] { return 1.5; });
  const std::string text = registry.TextExposition();
  EXPECT_THAT(text, HasSubstr("# HELP onggi_x_total How many.\n# TYPE onggi_x_total counter\n"));
  EXPECT_THAT(text, HasSubstr("onggi_x_total{operation=\"Get\\\"Item\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("onggi_depth -3\n"));
  EXPECT_THAT(text, HasSubstr("onggi_asked 1.5\n"));
  EXPECT_THAT(text, HasSubstr("onggi_time_seconds_count 1\n"));
  EXPECT_THAT(text, HasSubstr("onggi_time_seconds_bucket{le=\"+Inf\"} 1\n"));
}

TEST(Metrics, AreRemovedByLabel) {
  Registry registry;
  registry.AddCounter("onggi_x_total", "X.", {{"table", "a"}, {"operation", "o"}});
  registry.AddCounter("onggi_x_total", "X.", {{"table", "b"}});
  registry.Remove({{"table", "a"}});
  EXPECT_THAT(registry.TextExposition(), Not(HasSubstr("table=\"a\"")));
  EXPECT_THAT(registry.TextExposition(), HasSubstr("table=\"b\""));
}

TEST(Metrics, DescribeTheProcess) {
  Registry registry;
  AddProcessMetrics(registry);
  EXPECT_GT(ResidentMemoryBytes(), 1U << 20);
  const std::string text = registry.TextExposition();
  for (const char* name :
       {"process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_threads",
        "process_cpu_seconds_total", "process_start_time_seconds"}) {
    EXPECT_THAT(text, HasSubstr("\n" + std::string(name) + " ")) << name;
  }
  for (const auto& family : registry.Collect()) {
    if (family.name != "process_start_time_seconds") continue;
    EXPECT_NEAR(family.metric[0].gauge.value, static_cast<double>(time(nullptr)), 600);
  }
}

}  // namespace
}  // namespace onggi::metrics
