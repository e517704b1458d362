#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "client/pages.h"
#include "tests/unit/client/fake_server.h"

namespace onggi::client {
namespace {

using grpc::StatusCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

const Item kKey = MakeItem({{"pk", "a"}});

v1::UpdateItemRequest Update() {
  v1::UpdateItemRequest request;
  request.set_table_name("t");
  *request.mutable_key() = kKey;
  request.set_update_expression("SET a = a + :one");
  return request;
}

std::unique_ptr<Client> Make(std::vector<std::string> endpoints,
                             const std::function<void(ClientOptions&)>& change = nullptr) {
  ClientOptions options;
  options.endpoints = std::move(endpoints);
  options.route = false;
  options.retry.base = milliseconds(1);
  if (change) change(options);
  auto client = Client::Make(options);
  EXPECT_TRUE(client.ok()) << client.status().ToString();
  return std::move(client).value();
}

/// A map of table "t" with one partition, led by node `primary`; nodes at these addresses, numbered
/// from 1.
v1::PartitionMap MapOf(const std::vector<std::string>& addresses, uint64_t primary) {
  v1::PartitionMap map;
  map.set_complete(true);
  map.set_revision(1);
  v1::MapTable& table = *map.add_tables();
  table.set_id(1);
  table.set_name("t");
  table.mutable_partition_key()->set_name("pk");
  table.mutable_partition_key()->set_type("S");
  v1::MapPartition& partition = *table.add_partitions();
  partition.set_primary_node(primary);
  for (size_t i = 0; i < addresses.size(); ++i) {
    v1::MapNode& node = *map.add_nodes();
    node.set_id(i + 1);
    node.set_grpc_address(addresses[i]);
    partition.add_nodes(i + 1);
  }
  return map;
}

bool Eventually(const std::function<bool()>& holds) {
  for (int i = 0; i < 1000; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return false;
}

TEST(Client, RefusesBadOptions) {
  ClientOptions options;
  options.endpoints.clear();
  EXPECT_EQ(Client::Make(options).status().code(), Code::kInvalidArgument);
  options = ClientOptions();
  options.access_key = "key";
  options.secret_key = "secret";
  EXPECT_THAT(Client::Make(options).status().message(), HasSubstr("without TLS"));
}

TEST(Client, SendsItsCredentialsAndOptions) {
  FakeServer server;
  auto client = Make({server.address()}, [](ClientOptions& options) {
    options.access_key = "key";
    options.secret_key = "secret";
    options.credentials_in_plain_text = true;
    options.region = "eu-west-1";
    options.compress = true;
  });
  ASSERT_TRUE(client->Get("t", kKey).get().ok());
  const auto asked = server.asked();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].Metadata("authorization"), "Bearer key:secret");
  EXPECT_EQ(asked[0].Metadata("onggi-region"), "eu-west-1");
  EXPECT_EQ(asked[0].Metadata("onggi-compress"), "gzip");
  EXPECT_EQ(asked[0].Metadata("onggi-write-id"), "");
}

TEST(Client, GivesTheServersError) {
  FakeServer server;
  v1::Error error;
  error.set_type("ConditionalCheckFailedException");
  error.set_message("The conditional request failed");
  (*error.mutable_item()->mutable_attributes())["a"].set_s(std::string(100'000, 'x'));
  server.SetScript(
      [&](size_t) { return FakeServer::ErrorStatus(StatusCode::FAILED_PRECONDITION, error); });
  auto client = Make({server.address()});
  const auto result = client->Put("t", kKey).get();
  ASSERT_FALSE(result.ok());
  EXPECT_TRUE(result.error().Is("ConditionalCheckFailedException"));
  EXPECT_EQ(result.error().message, "The conditional request failed");
  EXPECT_EQ(result.error().ToString(),
            "ConditionalCheckFailedException: The conditional request failed");
  EXPECT_EQ(result.error().request_id, "REQUEST0");
  EXPECT_EQ(result.error().attempts, 1);
  EXPECT_FALSE(result.error().unknown_outcome);
  ASSERT_TRUE(result.error().item.has_value());
  EXPECT_EQ(result.error().item->attributes().at("a").s().size(), 100'000u);
}

TEST(Client, TriesAgainWithTheSameWriteId) {
  FakeServer server;
  server.SetScript([](size_t number) {
    return number < 2 ? FakeServer::ErrorStatus(StatusCode::INTERNAL, "InternalServerError")
                      : grpc::Status::OK;
  });
  auto client = Make({server.address()});
  EXPECT_TRUE(client->Call(Update()).get().ok());
  const auto asked = server.asked();
  ASSERT_EQ(asked.size(), 3u);
  EXPECT_EQ(asked[0].Metadata("onggi-write-id").size(), 32u);
  EXPECT_EQ(asked[0].Metadata("onggi-write-id"), asked[1].Metadata("onggi-write-id"));
  EXPECT_EQ(asked[0].Metadata("onggi-write-id"), asked[2].Metadata("onggi-write-id"));
  EXPECT_TRUE(client->Call(Update()).get().ok());
  EXPECT_NE(server.asked()[3].Metadata("onggi-write-id"), asked[0].Metadata("onggi-write-id"));
}

TEST(Client, NamesOnlyWritesThatAreNotIdempotent) {
  FakeServer server;
  auto client = Make({server.address()});
  ASSERT_TRUE(client->Put("t", kKey).get().ok());
  v1::PutItemRequest conditional;
  conditional.set_table_name("t");
  *conditional.mutable_item() = kKey;
  conditional.set_condition_expression("attribute_not_exists(pk)");
  ASSERT_TRUE(client->Call(conditional).get().ok());
  v1::PutItemRequest old = conditional;
  old.clear_condition_expression();
  old.set_return_values(v1::RETURN_VALUES_ALL_OLD);
  ASSERT_TRUE(client->Call(old).get().ok());
  const auto asked = server.asked();
  EXPECT_EQ(asked[0].Metadata("onggi-write-id"), "");
  EXPECT_NE(asked[1].Metadata("onggi-write-id"), "");
  EXPECT_NE(asked[2].Metadata("onggi-write-id"), "");
}

TEST(Client, GivesUpAfterItsAttempts) {
  FakeServer server;
  server.SetScript(
      [](size_t) { return FakeServer::ErrorStatus(StatusCode::INTERNAL, "InternalServerError"); });
  auto client = Make({server.address()});
  const auto result = client->Call(Update()).get();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().attempts, 3);
  EXPECT_TRUE(result.error().unknown_outcome);
  EXPECT_EQ(server.asked().size(), 3u);
  CallOptions once;
  once.max_attempts = 1;
  EXPECT_EQ(client->Call(Update(), once).get().error().attempts, 1);
}

TEST(Client, DoesNotRepeatWhatTheServerRefused) {
  FakeServer server;
  server.SetScript([](size_t) {
    return FakeServer::ErrorStatus(StatusCode::INVALID_ARGUMENT, "ValidationException", "no");
  });
  auto client = Make({server.address()});
  EXPECT_TRUE(client->Get("t", kKey).get().error().Is("ValidationException"));
  EXPECT_EQ(server.asked().size(), 1u);
}

TEST(Client, AsksAnotherNodeWhenOneDoesNotAnswer) {
  FakeServer good;
  std::string gone;
  {
    FakeServer stopped;
    gone = stopped.address();
  }
  auto client = Make({gone, good.address()});
  for (int i = 0; i < 10; ++i) {
    const auto result = client->Get("t", kKey).get();
    ASSERT_TRUE(result.ok()) << result.error().ToString();
  }
  EXPECT_EQ(good.asked().size(), 10u);
}

TEST(Client, EndsAtItsTimeout) {
  std::string gone;
  {
    FakeServer stopped;
    gone = stopped.address();
  }
  auto client = Make({gone}, [](ClientOptions& options) {
    options.retry.max_attempts = 1000;
    options.retry.base = milliseconds(20);
    options.timeout = milliseconds(200);
  });
  const auto begun = std::chrono::steady_clock::now();
  const auto result = client->Get("t", kKey).get();
  EXPECT_FALSE(result.ok());
  EXPECT_TRUE(result.error().type.empty());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(5));
}

TEST(Client, GoesStraightToThePrimary) {
  FakeServer first;
  FakeServer second;
  const std::vector<std::string> addresses = {first.address(), second.address()};
  first.SetMap(MapOf(addresses, 2));
  auto client = Make({first.address()}, [](ClientOptions& options) { options.route = true; });
  ASSERT_TRUE(client->WaitForMap(seconds(10)));
  EXPECT_EQ(client->PrimaryOf("t", kKey), second.address());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(client->Put("t", kKey).get().ok());
  ASSERT_TRUE(client->Get("t", kKey, /*consistent=*/true).get().ok());
  EXPECT_EQ(second.CountOf("PutItem"), 5u);
  EXPECT_EQ(second.CountOf("GetItem"), 1u);
  // Eventually consistent reads go to all that have the data.
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(client->Get("t", kKey).get().ok());
  EXPECT_EQ(first.CountOf("GetItem") + second.CountOf("GetItem"), 11u);
  EXPECT_GE(first.CountOf("GetItem"), 3u);

  // The map changes.
  first.Send(MapOf(addresses, 1));
  ASSERT_TRUE(Eventually([&] { return client->PrimaryOf("t", kKey) == first.address(); }));
  ASSERT_TRUE(client->Put("t", kKey).get().ok());
  EXPECT_EQ(first.CountOf("PutItem"), 1u);
}

TEST(Client, GoesOnWhenThePrimaryIsGone) {
  FakeServer first;
  auto second = std::make_unique<FakeServer>();
  first.SetMap(MapOf({first.address(), second->address()}, 2));
  auto client = Make({first.address()}, [](ClientOptions& options) { options.route = true; });
  ASSERT_TRUE(client->WaitForMap(seconds(10)));
  ASSERT_TRUE(client->Put("t", kKey).get().ok());
  second.reset();
  for (int i = 0; i < 5; ++i) {
    const auto result = client->Put("t", kKey).get();
    ASSERT_TRUE(result.ok()) << result.error().ToString();
  }
  EXPECT_EQ(first.CountOf("PutItem"), 5u);
}

TEST(Client, WatchesTheMapElsewhereWhenItsNodeIsGone) {
  auto first = std::make_unique<FakeServer>();
  FakeServer second;
  const std::vector<std::string> addresses = {first->address(), second.address()};
  first->SetMap(MapOf(addresses, 1));
  second.SetMap(MapOf(addresses, 2));
  auto client = Make(addresses, [](ClientOptions& options) { options.route = true; });
  ASSERT_TRUE(client->WaitForMap(seconds(10)));
  first.reset();
  EXPECT_TRUE(Eventually([&] { return client->PrimaryOf("t", kKey) == second.address(); }));
}

TEST(Client, WorksWithoutAMap) {
  FakeServer server;
  server.SetScript([](size_t number) {
    return number == 0 ? grpc::Status(StatusCode::UNIMPLEMENTED, "") : grpc::Status::OK;
  });
  auto client = Make({server.address()}, [](ClientOptions& options) { options.route = true; });
  ASSERT_TRUE(Eventually([&] { return server.CountOf("WatchMap") == 1; }));
  EXPECT_TRUE(client->Get("t", kKey).get().ok());
  EXPECT_FALSE(client->WaitForMap(milliseconds(10)));
}

TEST(Client, ReadsPagesToTheirEnd) {
  FakeServer server;
  auto client = Make({server.address()});
  v1::QueryRequest query;
  query.set_table_name("t");
  Pages<v1::QueryRequest> pages(*client, query);
  int count = 0;
  while (auto page = pages.Next()) {
    ASSERT_TRUE(page->ok());
    EXPECT_EQ((*page)->items(0).attributes().at("page").n(), std::to_string(count));
    ++count;
    EXPECT_EQ(pages.position() != nullptr, count < 3);
  }
  EXPECT_EQ(count, 3);
  const auto items = AllItems(*client, query);
  ASSERT_TRUE(items.ok());
  EXPECT_EQ(items->size(), 3u);
}

TEST(Client, ResumesCoroutinesOnTheirExecutor) {
  FakeServer server;
  auto client = Make({server.address()});
  boost::asio::io_context io;
  std::string from;
  int pages_read = 0;
  std::exception_ptr failure;
  auto body = [&]() -> boost::asio::awaitable<void> {
    const auto thread = std::this_thread::get_id();
    v1::GetItemRequest get;
    get.set_table_name("t");
    *get.mutable_key() = kKey;
    const auto result = co_await client->AsyncCall(get);
    EXPECT_EQ(std::this_thread::get_id(), thread);
    if (result.ok()) from = StringOr(result->item(), "from", "");
    v1::QueryRequest query;
    query.set_table_name("t");
    Pages<v1::QueryRequest> pages(*client, query);
    for (;;) {
      const auto page = co_await pages.AsyncNext();
      if (!page) break;
      ++pages_read;
    }
  };
  boost::asio::co_spawn(io, body, [&](std::exception_ptr error) { failure = error; });
  io.run();
  EXPECT_EQ(failure, nullptr);
  EXPECT_EQ(from, server.address());
  EXPECT_EQ(pages_read, 3);
}

TEST(Client, CancelsWithTheCoroutine) {
  FakeServer server;
  server.SetScript(
      [](size_t) { return FakeServer::ErrorStatus(StatusCode::INTERNAL, "InternalServerError"); });
  auto client = Make({server.address()}, [](ClientOptions& options) {
    options.retry.base = seconds(3600);
    options.retry.max = seconds(3600);
    options.timeout = seconds(36000);
  });
  boost::asio::io_context io;
  boost::asio::cancellation_signal stop;
  bool ended = false;
  auto body = [&]() -> boost::asio::awaitable<void> {
    (void)co_await client->AsyncCall(Update());
    ended = true;
  };
  boost::asio::co_spawn(
      io, body,
      boost::asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr) { ended = true; }));
  boost::asio::steady_timer timer(io, milliseconds(100));
  timer.async_wait([&](auto) { stop.emit(boost::asio::cancellation_type::terminal); });
  io.run_for(seconds(20));
  EXPECT_TRUE(ended);
}

TEST(Client, CancelsWhatIsUnderWayWhenDestroyed) {
  FakeServer server;
  server.SetScript(
      [](size_t) { return FakeServer::ErrorStatus(StatusCode::INTERNAL, "InternalServerError"); });
  auto client = Make({server.address()}, [](ClientOptions& options) {
    options.route = true;
    options.retry.base = seconds(3600);
    options.retry.max = seconds(3600);
    options.timeout = seconds(36000);
  });
  std::vector<std::future<Result<v1::UpdateItemResponse>>> calls;
  for (int i = 0; i < 20; ++i) calls.push_back(client->Call(Update()));
  client.reset();
  for (auto& call : calls) EXPECT_FALSE(call.get().ok());
}

TEST(Client, BoundsCallsUnderWay) {
  FakeServer server;
  server.SetScript(
      [](size_t) { return FakeServer::ErrorStatus(StatusCode::INTERNAL, "InternalServerError"); });
  auto client = Make({server.address()}, [](ClientOptions& options) {
    options.max_calls = 2;
    options.retry.base = seconds(3600);
    options.retry.max = seconds(3600);
    options.timeout = seconds(36000);
  });
  auto first = client->Call(Update());
  auto second = client->Call(Update());
  EXPECT_EQ(client->Call(Update()).get().error().code, StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace onggi::client
