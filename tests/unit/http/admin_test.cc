#include "common/http/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/http/server.h"
#include "common/metrics.h"
#include "tests/unit/http/test_client.h"

namespace onggi::http {
namespace {

TEST(AdminServer, ServesMetricsAndHealth) {
  metrics::Registry registry;
  registry.AddCounter("onggi_test_total", "A test.").Add(3);
  Status ready = Unavailable("replaying");
  AdminHandler handler(registry, [&] { return ready; });
  handler.AddPage("/debug/x", [](const Request& request, Response& response) {
    response.body = "x " + std::string(request.query);
  });
  IoPool pool(1);
  Server server(pool, handler, ServerOptions());
  ASSERT_TRUE(server.Start().ok());
  TestClient client(server.port());
  const auto get = [&](const std::string& path) {
    client.Send("GET " + path + " HTTP/1.1\r\n\r\n");
    return *client.Read();
  };
  EXPECT_THAT(get("/metrics").body, ::testing::HasSubstr("onggi_test_total 3"));
  EXPECT_EQ(get("/healthz").status, 200);
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_EQ(get("/readyz").body, "Unavailable: replaying\n");
  ready = Status::Ok();
  EXPECT_EQ(get("/readyz").status, 200);
  EXPECT_EQ(get("/nothing").status, 404);
  EXPECT_EQ(get("/debug/x?q").body, "x q");
  client.Send(Post("/metrics", ""));
  EXPECT_EQ(client.Read()->status, 405);
}

}  // namespace
}  // namespace onggi::http
