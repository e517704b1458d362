// The C++ client against a running server: test_client.py starts this and reads what it prints.
//
//   onggi_client_check scenario HOST:PORT...
//       every kind of call once; "ok" or what failed
//   onggi_client_check count HOST:PORT,... TABLE SECONDS
//       adds to one counter all that time, with writes that may be tried again; prints how many
//       were acknowledged, refused and of unknown outcome

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "client/client.h"
#include "client/pages.h"

namespace client = onggi::client;
namespace v1 = onggi::v1;

namespace {

#define EXPECT(condition)                                                 \
  do {                                                                    \
    if (!(condition)) {                                                   \
      std::printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                       \
    }                                                                     \
  } while (false)

/// The value of a call, which must have succeeded.
template <class T>
T Get(std::future<client::Result<T>> future) {
  client::Result<T> result = future.get();
  if (!result.ok()) {
    std::printf("failed: %s\n", result.error().ToString().c_str());
    std::exit(1);
  }
  return std::move(result).value();
}

std::unique_ptr<client::Client> Connect(std::vector<std::string> endpoints) {
  client::ClientOptions options;
  options.endpoints = std::move(endpoints);
  auto made = client::Client::Make(options);
  EXPECT(made.ok());
  return std::move(made).value();
}

client::Item KeyOf(int i) { return client::MakeItem({{"pk", "p"}, {"sk", i}}); }

void CreateTable(client::Client& db, const std::string& name) {
  v1::CreateTableRequest create;
  create.set_table_name(name);
  create.set_billing_mode(v1::BILLING_MODE_PAY_PER_REQUEST);
  const auto add = [&](const char* attribute, v1::ScalarAttributeType type, v1::KeyType key) {
    auto* definition = create.add_attribute_definitions();
    definition->set_attribute_name(attribute);
    definition->set_attribute_type(type);
    auto* element = create.add_key_schema();
    element->set_attribute_name(attribute);
    element->set_key_type(key);
  };
  add("pk", v1::SCALAR_ATTRIBUTE_TYPE_S, v1::KEY_TYPE_HASH);
  add("sk", v1::SCALAR_ATTRIBUTE_TYPE_N, v1::KEY_TYPE_RANGE);
  Get(db.Call(create));
  v1::DescribeTableRequest describe;
  describe.set_table_name(name);
  for (int i = 0; i < 1000; ++i) {
    if (Get(db.Call(describe)).table().table_status() == v1::STATUS_ACTIVE) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT(!"the table became active");
}

void Items(client::Client& db, const std::string& table) {
  std::vector<std::future<client::Result<v1::PutItemResponse>>> puts;
  for (int i = 0; i < 500; ++i) {
    client::Item item = client::MakeItem({{"pk", "p"},
                                          {"sk", i},
                                          {"text", std::string(2000, 'x')},
                                          {"list", client::List({1, "two", nullptr})}});
    puts.push_back(db.Put(table, std::move(item)));
  }
  for (auto& put : puts) Get(std::move(put));
  const v1::GetItemResponse got = Get(db.Get(table, KeyOf(7), /*consistent=*/true));
  EXPECT(got.has_item() && client::IntOr(got.item(), "sk", -1) == 7);
  EXPECT(client::Find(got.item(), "list")->l().values_size() == 3);
  EXPECT(!Get(db.Get(table, KeyOf(1000))).has_item());
  Get(db.Delete(table, KeyOf(499)));
  EXPECT(!Get(db.Get(table, KeyOf(499), true)).has_item());
}

void Conditions(client::Client& db, const std::string& table) {
  v1::PutItemRequest put;
  put.set_table_name(table);
  *put.mutable_item() = KeyOf(1);
  put.set_condition_expression("attribute_not_exists(pk)");
  put.set_return_values_on_condition_check_failure(
      v1::RETURN_VALUES_ON_CONDITION_CHECK_FAILURE_ALL_OLD);
  const auto refused = db.Call(put).get();
  EXPECT(!refused.ok() && refused.error().Is("ConditionalCheckFailedException"));
  EXPECT(refused.error().item &&
         client::StringOr(*refused.error().item, "text", "").size() == 2000);
  EXPECT(refused.error().request_id.size() == 52);
  const auto invalid = db.Get("no", KeyOf(1)).get();
  EXPECT(!invalid.ok() && invalid.error().Is("ValidationException"));
  const auto absent = db.Get("absent_table", KeyOf(1)).get();
  EXPECT(!absent.ok() && absent.error().Is("ResourceNotFoundException"));
}

v1::UpdateItemRequest AddOne(const std::string& table, client::Item key) {
  v1::UpdateItemRequest update;
  update.set_table_name(table);
  *update.mutable_key() = std::move(key);
  update.set_update_expression("ADD n :one");
  (*update.mutable_expression_attribute_values())[":one"] = client::Value(1).proto();
  return update;
}

boost::asio::awaitable<void> Coroutines(client::Client& db, const std::string& table) {
  v1::QueryRequest query;
  query.set_table_name(table);
  query.set_key_condition_expression("pk = :p");
  (*query.mutable_expression_attribute_values())[":p"] = client::Value("p").proto();
  query.set_consistent_read(true);
  client::Pages<v1::QueryRequest> pages(db, query);
  int items = 0;
  int count = 0;
  for (;;) {
    const auto page = co_await pages.AsyncNext();
    if (!page) break;
    EXPECT(page->ok());
    items += (*page)->items_size();
    ++count;
  }
  EXPECT(items == 499 && count == 1);
  auto limited = query;
  limited.set_limit(100);
  const auto all = client::AllItems(db, limited);  // five pages; blocks, as a test may
  EXPECT(all.ok() && all->size() == 499);
  for (int i = 0; i < 10; ++i) {
    auto update = AddOne(table, KeyOf(3));
    const auto updated = co_await db.AsyncCall(update);
    EXPECT(updated.ok());
  }
}

void Batches(client::Client& db, const std::string& table) {
  v1::BatchWriteItemRequest write;
  for (int i = 0; i < 25; ++i) {
    auto* request = (*write.mutable_request_items())[table].add_requests();
    *request->mutable_put_request()->mutable_item() =
        client::MakeItem({{"pk", "batch"}, {"sk", i}, {"b", client::Binary("x")}});
  }
  EXPECT(Get(db.Call(write)).unprocessed_items().empty());
  v1::BatchGetItemRequest read;
  (*read.mutable_request_items())[table].set_consistent_read(true);
  for (int i = 0; i < 30; ++i) {
    *(*read.mutable_request_items())[table].add_keys() =
        client::MakeItem({{"pk", "batch"}, {"sk", i}});
  }
  EXPECT(Get(db.Call(read)).responses().at(table).items_size() == 25);
}

int Scenario(std::vector<std::string> endpoints) {
  const auto db = Connect(std::move(endpoints));
  const std::string table = "client_" + std::to_string(std::random_device()());
  CreateTable(*db, table);
  EXPECT(db->WaitForMap(std::chrono::seconds(10)));
  Items(*db, table);
  Conditions(*db, table);
  boost::asio::io_context io;
  boost::asio::co_spawn(io, Coroutines(*db, table), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  io.run();
  EXPECT(client::IntOr(Get(db->Get(table, KeyOf(3), true)).item(), "n", 0) == 10);
  Batches(*db, table);
  v1::DeleteTableRequest gone;
  gone.set_table_name(table);
  Get(db->Call(gone));
  std::printf("ok\n");
  return 0;
}

int Count(const std::string& endpoints, const std::string& table, double seconds) {
  client::ClientOptions options;
  options.endpoints.clear();
  for (size_t at = 0; at <= endpoints.size();) {
    const size_t comma = std::min(endpoints.find(',', at), endpoints.size());
    options.endpoints.push_back(endpoints.substr(at, comma - at));
    at = comma + 1;
  }
  options.timeout = std::chrono::seconds(30);
  options.attempt_timeout = std::chrono::seconds(5);
  options.retry.max_attempts = 1000;
  options.retry.max = std::chrono::milliseconds(200);
  auto made = client::Client::Make(options);
  EXPECT(made.ok());
  client::Client& db = **made;
  std::atomic<int> acknowledged{0};
  std::atomic<int> refused{0};
  std::atomic<int> unknown{0};
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      while (std::chrono::steady_clock::now() < until) {
        const auto result = db.Call(AddOne(table, client::MakeItem({{"pk", "counter"}}))).get();
        if (result.ok()) {
          ++acknowledged;
        } else if (result.error().unknown_outcome) {
          ++unknown;
        } else {
          ++refused;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("%d %d %d\n", acknowledged.load(), refused.load(), unknown.load());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "scenario" && argc > 2) return Scenario({argv + 2, argv + argc});
  if (mode == "count" && argc == 5) return Count(argv[2], argv[3], std::atof(argv[4]));
  std::fprintf(stderr, "scenario HOST:PORT... | count HOST:PORT TABLE SECONDS\n");
  return 2;
}
