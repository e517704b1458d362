#include "server/dynamodb/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <map>

#include "common/crc32.h"
#include "common/http/compress.h"
#include "common/uuid.h"
#include "server/dynamodb/catalog.h"

namespace onggi::dynamodb {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kUnknownOperation =
    R"({"__type":"com.amazon.coral.service#UnknownOperationException"})";
constexpr std::string_view kSerialization =
    R"({"__type":"com.amazon.coral.service#SerializationException"})";

using Headers = std::vector<std::pair<std::string, std::string>>;

struct Answer {
  int status = 0;
  std::string body;
  std::string content_type;
  std::map<std::string, std::string> headers;
};

/// A request with everything that it points into.
struct Given {
  std::string body;
  Headers headers;
  std::vector<http::Header> views;
  http::Request request;
};

class ApiTest : public ::testing::Test {
 protected:
  ApiTest() { Remake(ApiOptions()); }

  void Remake(ApiOptions options) {
    OperationTable operations;
    operations.AddImmediate("DescribeLimits",
                            [](CallContext& context, Input, std::string* body) -> Outcome {
                              *body = "{\"Account\":\"" + context.scope->account + "\"}";
                              return {};
                            });
    operations.AddImmediate("ListTables", [](CallContext&, Input, std::string* body) -> Outcome {
      *body = std::string(5000, 'x');
      return {};
    });
    operations.AddImmediate("DescribeTable", [](CallContext&, Input, std::string*) -> Outcome {
      return FromStatus(Internal("a secret"));
    });
    // Suspends in the middle and reads its input again: the parser must still be its own.
    operations.AddAwaited(
        "PutItem",
        [](CallContext&, Input input, std::string* body) -> boost::asio::awaitable<Outcome> {
          boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
          timer.expires_after(std::chrono::milliseconds(5));
          co_await timer.async_wait(boost::asio::use_awaitable);
          body->append("{\"Table\":\"").append(input.StringOr("TableName", "")).append("\"}");
          co_return Outcome();
        });
    api_ = std::make_unique<Api>(std::move(options), catalog_, std::move(operations), registry_);
  }

  static std::unique_ptr<Given> Make(http::Method method, std::string body, Headers headers) {
    auto given = std::make_unique<Given>();
    given->body = std::move(body);
    given->body.reserve(given->body.size() + http::kBodyPadding);
    given->headers = std::move(headers);
    for (const auto& [name, value] : given->headers) given->views.push_back({name, value});
    http::Request& request = given->request;
    request.method = method;
    request.method_name = http::MethodName(method);
    request.target = request.path = "/";
    request.headers = given->views;
    request.body = given->body;
    request.mutable_body = given->body.data();
    request.arrival = std::chrono::steady_clock::now();
    request.request_id = NewRequestId();
    return given;
  }

  static Answer Read(const http::Response& response) {
    Answer answer;
    answer.status = response.status;
    answer.body = response.body;
    answer.content_type = response.content_type;
    std::string_view rest = response.headers();
    while (!rest.empty()) {
      const size_t end = rest.find("\r\n");
      const std::string_view line = rest.substr(0, end);
      const size_t colon = line.find(": ");
      answer.headers.emplace(line.substr(0, colon), line.substr(colon + 2));
      rest.remove_prefix(end + 2);
    }
    return answer;
  }

  Answer Send(http::Method method, std::string body, Headers headers) {
    const auto given = Make(method, std::move(body), std::move(headers));
    http::Response response;
    if (!api_->TryHandle(given->request, response)) {
      boost::asio::io_context context{1};
      boost::asio::co_spawn(context, api_->Handle(given->request, response), boost::asio::detached);
      context.run();
    }
    Answer answer = Read(response);
    EXPECT_EQ(answer.headers["x-amzn-RequestId"], given->request.request_id);
    return answer;
  }

  static Headers Target(const std::string& operation, Headers more = {}) {
    Headers headers = {{"Host", "localhost"},
                       {"Content-Type", "application/x-amz-json-1.0"},
                       {"X-Amz-Target", "DynamoDB_20120810." + operation}};
    headers.insert(headers.end(), more.begin(), more.end());
    return headers;
  }
  Answer Post(const std::string& operation, std::string body, Headers more = {}) {
    return Send(http::Method::kPost, std::move(body), Target(operation, std::move(more)));
  }

  Catalog catalog_;
  metrics::Registry registry_;
  std::unique_ptr<Api> api_;
};

TEST_F(ApiTest, SaysThatItIsHealthy) {
  const Answer answer = Send(http::Method::kGet, "", {});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "healthy: dynamodb.us-east-1.amazonaws.com ");
  EXPECT_EQ(answer.headers.at("x-amz-crc32"), "3128867991");
}

TEST_F(ApiTest, AnswersAnOperationWithItsChecksum) {
  const Answer answer = Post("DescribeLimits", "{}");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, R"({"Account":"default"})");
  EXPECT_EQ(answer.content_type, "application/x-amz-json-1.0");
  EXPECT_EQ(answer.headers.at("x-amz-crc32"), std::to_string(Crc32(answer.body)));
}

TEST_F(ApiTest, AnswersInTheTypeOfTheQuestion) {
  const Answer answer = Send(http::Method::kPost, "{}",
                             {{"content-type", "application/json; charset=utf-8"},
                              {"x-amz-target", "DynamoDB_20120810.DescribeLimits"}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.content_type, "application/json");
}

TEST_F(ApiTest, RefusesOtherTypesAndMethods) {
  for (const Answer& answer :
       {Send(http::Method::kPost, "{}", {{"Content-Type", "text/plain"}}),
        Send(http::Method::kPut, "{}", {{"Content-Type", "application/x-amz-json-1.0"}}),
        Send(http::Method::kOptions, "", {})}) {
    EXPECT_EQ(answer.status, 404);
    EXPECT_EQ(answer.body, "<UnknownOperationException/>\n");
    EXPECT_EQ(answer.headers.at("x-amz-crc32"), "3552371480");
  }
}

TEST_F(ApiTest, AnswersPreflights) {
  const Answer answer = Send(http::Method::kOptions, "",
                             {{"Origin", "http://a"},
                              {"Access-Control-Request-Headers", "x-amz-target"},
                              {"Access-Control-Request-Method", "POST"}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "");
  EXPECT_EQ(answer.headers.at("Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(answer.headers.at("Access-Control-Allow-Headers"), "x-amz-target");
  EXPECT_EQ(answer.headers.at("Access-Control-Allow-Methods"), "POST");
  EXPECT_EQ(answer.headers.at("Access-Control-Max-Age"), "172800");
}

TEST_F(ApiTest, AllowsOriginsThatAsk) {
  EXPECT_EQ(Post("DescribeLimits", "{}", {{"Origin", "http://a"}})
                .headers.at("Access-Control-Allow-Origin"),
            "*");
  EXPECT_FALSE(Post("DescribeLimits", "{}").headers.contains("Access-Control-Allow-Origin"));
}

TEST_F(ApiTest, RefusesUnknownOperations) {
  for (const char* name : {"Nothing", "", "describelimits", "DescribeLimits.x"}) {
    const Answer answer = Post(name, "{}");
    EXPECT_EQ(answer.status, 400);
    EXPECT_EQ(answer.body, kUnknownOperation);
  }
  const Answer streams = Send(http::Method::kPost, "{}",
                              {{"Content-Type", "application/x-amz-json-1.0"},
                               {"X-Amz-Target", "DynamoDBStreams_20120810.ListStreams"}});
  EXPECT_EQ(streams.body,
            R"({"__type":"com.amazon.coral.validate#ValidationException",)"
            R"("message":"ListStreams is not supported yet by this version of Onggi"})");
  EXPECT_EQ(Send(http::Method::kPost, "{}", {{"Content-Type", "application/json"}}).body,
            kUnknownOperation);
}

TEST_F(ApiTest, NamesOperationsThatAreNotBuilt) {
  EXPECT_THAT(Post("ListBackups", "{}").body,
              HasSubstr("ListBackups is not supported yet by this version of Onggi"));
}

TEST_F(ApiTest, RefusesMalformedBodies) {
  for (const char* body : {"{", "{\"a\":}", "[]", "1", "{}{}", "\xFF", "", "{'a':1}"}) {
    const Answer answer = Post("DescribeLimits", body);
    EXPECT_EQ(answer.status, 400) << body;
    EXPECT_EQ(answer.body, kSerialization) << body;
  }
  // The body is looked at before the operation.
  EXPECT_EQ(Post("Nothing", "{").body, kSerialization);
  EXPECT_EQ(Post("Nothing", "").body, kUnknownOperation);
}

TEST_F(ApiTest, RefusesBodiesNestedWithoutEnd) {
  EXPECT_EQ(Post("DescribeLimits", "{\"a\":" + std::string(100'000, '[')).body, kSerialization);
}

TEST_F(ApiTest, ChecksInputAgainstTheModel) {
  EXPECT_THAT(Post("PutItem", "{}").body, HasSubstr("2 validation errors detected: "));
  EXPECT_THAT(Post("PutItem", R"({"TableName":1})").body,
              HasSubstr("NUMBER_VALUE cannot be converted to String"));
}

TEST_F(ApiTest, ReadsCompressedRequests) {
  std::string compressed;
  http::GzipCompress("{}", &compressed);
  EXPECT_EQ(Post("DescribeLimits", compressed, {{"Content-Encoding", "gzip"}}).status, 200);
  EXPECT_EQ(Post("DescribeLimits", "{}", {{"Content-Encoding", "gzip"}}).body, kSerialization);
  ApiOptions options;
  options.max_body = 100;
  Remake(std::move(options));
  http::GzipCompress(std::string(101, ' '), &compressed);
  const Answer answer = Post("DescribeLimits", compressed, {{"Content-Encoding", "gzip"}});
  EXPECT_EQ(answer.status, 413);
  EXPECT_EQ(answer.body, "");
}

TEST_F(ApiTest, CompressesLargeAnswersForThoseWhoAccept) {
  EXPECT_EQ(Post("ListTables", "{}").body.size(), 5000u);
  const Answer answer = Post("ListTables", "{}", {{"Accept-Encoding", "gzip, deflate"}});
  EXPECT_EQ(answer.headers.at("Content-Encoding"), "gzip");
  EXPECT_EQ(answer.headers.at("x-amz-crc32"), std::to_string(Crc32(answer.body)));
  std::string plain;
  ASSERT_TRUE(http::Decompress(http::Encoding::kGzip, answer.body, 10000, &plain).ok());
  EXPECT_EQ(plain, std::string(5000, 'x'));
  EXPECT_FALSE(Post("DescribeLimits", "{}", {{"Accept-Encoding", "gzip"}})
                   .headers.contains("Content-Encoding"));
}

TEST_F(ApiTest, KeepsFaultsToItself) {
  const Answer answer = Post("DescribeTable", R"({"TableName":"abc"})");
  EXPECT_EQ(answer.status, 500);
  EXPECT_THAT(answer.body, Not(HasSubstr("secret")));
}

TEST_F(ApiTest, KeepsAParserForEachRequestThatIsUnderWay) {
  boost::asio::io_context context{1};
  std::vector<std::unique_ptr<Given>> given;
  std::vector<http::Response> responses(20);
  for (int i = 0; i < 20; ++i) {
    given.push_back(Make(http::Method::kPost,
                         R"({"Item":{},"TableName":"table)" + std::to_string(i) + "\"}",
                         Target("PutItem")));
    ASSERT_FALSE(api_->TryHandle(given.back()->request, responses[static_cast<size_t>(i)]));
    boost::asio::co_spawn(context,
                          api_->Handle(given.back()->request, responses[static_cast<size_t>(i)]),
                          boost::asio::detached);
  }
  context.run();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(responses[static_cast<size_t>(i)].body,
              R"({"Table":"table)" + std::to_string(i) + "\"}");
  }
}

TEST_F(ApiTest, SeparatesAccountsWhenAsked) {
  const auto credential = [](const std::string& key, const std::string& region) {
    return Headers{
        {"Authorization", "AWS4-HMAC-SHA256 Credential=" + key + "/20130524/" + region +
                              "/dynamodb/aws4_request, SignedHeaders=host, Signature=0"}};
  };
  EXPECT_EQ(Post("DescribeLimits", "{}", credential("key", "eu-west-1")).body,
            R"({"Account":"default"})");
  ApiOptions options;
  options.isolate_accounts = true;
  Remake(std::move(options));
  EXPECT_EQ(Post("DescribeLimits", "{}", credential("key", "eu-west-1")).body,
            R"({"Account":"key@eu-west-1"})");
  EXPECT_EQ(Post("DescribeLimits", "{}", credential("k.y", "us-east-1")).body,
            R"({"Account":"k%2ey@us-east-1"})");
  EXPECT_EQ(Post("DescribeLimits", "{}").body, R"({"Account":"default"})");
}

TEST_F(ApiTest, AsksForCredentialsWhenKeysAreConfigured) {
  ApiOptions options;
  options.secrets = [](std::string_view key) -> std::optional<std::string> {
    if (key == "known") return "secret";
    return std::nullopt;
  };
  Remake(std::move(options));
  EXPECT_EQ(Post("DescribeLimits", "{}").body,
            R"({"__type":"com.amazon.coral.service#MissingAuthenticationTokenException",)"
            R"("message":"Request is missing Authentication Token"})");
  const std::string date = FormatAmzDate(Clock::System().WallNow());
  const Headers wrong = {
      {"X-Amz-Date", date},
      {"Authorization", "AWS4-HMAC-SHA256 Credential=nobody/" + date.substr(0, 8) +
                            "/us-east-1/dynamodb/aws4_request, SignedHeaders=host;x-amz-date, "
                            "Signature=" +
                            std::string(64, '0')}};
  EXPECT_THAT(Post("DescribeLimits", "{}", wrong).body,
              HasSubstr("com.amazon.coral.service#UnrecognizedClientException"));
}

TEST_F(ApiTest, CountsRequestsByOutcome) {
  Post("DescribeLimits", "{}");
  Post("DescribeLimits", "{");
  Post("DescribeTable", R"({"TableName":"abc"})");
  const std::string text = registry_.TextExposition();
  EXPECT_THAT(text, HasSubstr("onggi_dynamodb_requests_total{operation=\"DescribeLimits\","
                              "outcome=\"ok\"} 1"));
  EXPECT_THAT(text, HasSubstr("onggi_dynamodb_requests_total{operation=\"DescribeLimits\","
                              "outcome=\"client_error\"} 1"));
  EXPECT_THAT(text, HasSubstr("onggi_dynamodb_requests_total{operation=\"DescribeTable\","
                              "outcome=\"server_error\"} 1"));
  EXPECT_THAT(text, HasSubstr("onggi_dynamodb_errors_total{operation=\"DescribeLimits\","
                              "type=\"SerializationException\"} 1"));
}

TEST_F(ApiTest, WordsOverload) {
  const auto given = Make(http::Method::kPost, "", {});
  http::Response response;
  response.status = 503;
  api_->HandleError(http::ServerError::kOverloaded, given->request, response);
  EXPECT_THAT(response.body, HasSubstr("ServiceUnavailableException"));
  http::Response large;
  large.status = 413;
  api_->HandleError(http::ServerError::kBodyTooLarge, given->request, large);
  EXPECT_EQ(large.body, "");
}

}  // namespace
}  // namespace onggi::dynamodb
