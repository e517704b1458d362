#include "common/sigv4.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace onggi::sigv4 {
namespace {

using Headers = std::vector<std::pair<std::string_view, std::string_view>>;
using ::testing::StartsWith;

constexpr std::string_view kKey = "AKIDEXAMPLE";
constexpr std::string_view kSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

RequestView View(std::string_view method, std::string_view path, std::string_view query,
                 const Headers& headers, std::string_view body = "") {
  RequestView view;
  view.method = method;
  view.path = path;
  view.query = query;
  view.headers = headers;
  view.body = body;
  return view;
}

std::optional<std::string> Lookup(std::string_view key) {
  if (key != kKey) return std::nullopt;
  return std::string(kSecret);
}

WallTime At(int year, unsigned month, unsigned day, int hour, int minute) {
  return WallTime(std::chrono::sys_days(std::chrono::year_month_day(
             std::chrono::year(year), std::chrono::month(month), std::chrono::day(day)))) +
         std::chrono::hours(hour) + std::chrono::minutes(minute);
}

class Sigv4 : public ::testing::Test {
 protected:
  AuthResult Verify(const RequestView& request, VerifyOptions options = VerifyOptions()) {
    Verifier verifier(Lookup, options, clock_);
    return verifier.Verify(request, &authorization_);
  }
  void ExpectOk(const RequestView& request) {
    const AuthResult result = Verify(request);
    EXPECT_TRUE(result.ok()) << AuthErrorName(result.error) << ": " << result.message;
  }
  void ExpectError(const RequestView& request, AuthError error, std::string_view message,
                   VerifyOptions options = VerifyOptions()) {
    const AuthResult result = Verify(request, options);
    EXPECT_EQ(AuthErrorName(result.error), AuthErrorName(error));
    EXPECT_EQ(result.message, message);
  }

  ManualClock clock_{At(2015, 8, 30, 12, 36)};
  Authorization authorization_;
};

// The example of AWS General Reference, "Task 1" to "Task 4".
TEST_F(Sigv4, AgreesWithTheDocumentedExample) {
  const Headers headers = {
      {"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"},
      {"Host", "iam.amazonaws.com"},
      {"X-Amz-Date", "20150830T123600Z"},
      {"Authorization",
       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
       "SignedHeaders=content-type;host;x-amz-date, "
       "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"}};
  const RequestView request = View("GET", "/", "Action=ListUsers&Version=2010-05-08", headers);
  const std::vector<std::string> names = {"content-type", "host", "x-amz-date"};
  const std::string canonical = CanonicalRequest(request, names, Sha256Hex(""), false);
  EXPECT_EQ(Sha256Hex(canonical),
            "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59");
  ExpectOk(request);
  EXPECT_EQ(authorization_.scope.access_key, kKey);
  EXPECT_EQ(authorization_.scope.region, "us-east-1");
  EXPECT_EQ(authorization_.scope.service, "iam");
  EXPECT_EQ(authorization_.signed_headers, names);
}

// The signature test suite's plainest case.
TEST_F(Sigv4, AgreesWithTheVanillaVector) {
  const Headers headers = {
      {"Host", "example.amazonaws.com"},
      {"X-Amz-Date", "20150830T123600Z"},
      {"Authorization",
       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
       "SignedHeaders=host;x-amz-date, "
       "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"}};
  ExpectOk(View("GET", "/", "", headers));
}

// Made with botocore 1.29 (SigV4Auth and SigV4QueryAuth).
TEST_F(Sigv4, AgreesWithBotocoreForADynamoDbRequest) {
  const Headers headers = {
      {"Host", "localhost:8000"},
      {"X-Amz-Target", "DynamoDB_20120810.GetItem"},
      {"Content-Type", "application/x-amz-json-1.0"},
      {"X-Amz-Date", "20150830T123600Z"},
      {"Content-Length", "17"},
      {"Authorization",
       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/dynamodb/aws4_request, "
       "SignedHeaders=content-type;host;x-amz-date;x-amz-target, "
       "Signature=4f36a81ebf3d2a9e271f652561c337d400a9c09f8a0eb3c60d31fbc467bb9442"}};
  ExpectOk(View("POST", "/", "", headers, R"({"TableName":"t"})"));
  constexpr std::string_view kMismatch =
      "The request signature we calculated does not match the signature you provided. Check your "
      "AWS Secret Access Key and signing method. Consult the service documentation for details.";
  ExpectError(View("POST", "/", "", headers, R"({"TableName":"u"})"), AuthError::kInvalidSignature,
              kMismatch);
  ExpectError(View("PUT", "/", "", headers, R"({"TableName":"t"})"), AuthError::kInvalidSignature,
              kMismatch);
  ExpectError(View("POST", "/x", "", headers, R"({"TableName":"t"})"), AuthError::kInvalidSignature,
              kMismatch);
}

TEST_F(Sigv4, AgreesWithBotocoreForEncodedPathsAndQueries) {
  const Headers headers = {
      {"Host", "example.amazonaws.com"},
      {"X-Amz-Date", "20150830T123600Z"},
      {"Authorization",
       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request, "
       "SignedHeaders=host;x-amz-date, "
       "Signature=28d5c8bd2e8738ef4d1a5db4f7f370b95a14fd4fa260eb7d43289226a041a798"}};
  ExpectOk(View("GET", "/2015-03-31/functions/a%20b/", "Qualifier=x%2Fy&A=&B=2&A=1", headers));
}

TEST_F(Sigv4, AgreesWithBotocoreForDotSegmentsAndSpacedHeaders) {
  const Headers headers = {
      {"Host", "example.amazonaws.com"},
      {"My-Header", "  a   b  "},
      {"X-Amz-Meta", "v"},
      {"X-Amz-Date", "20150830T123600Z"},
      {"Authorization",
       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/execute-api/aws4_request, "
       "SignedHeaders=host;my-header;x-amz-date;x-amz-meta, "
       "Signature=48db03a0373fc7add0ca30665a5f5dca211239f230f57afb1717f3913d9067ad"}};
  ExpectOk(View("GET", "/a/./b/../c//d/%E1%88%B4", "x=%E1%88%B4&X=b%20c", headers));
}

TEST_F(Sigv4, AgreesWithBotocoreForBinaryBodies) {
  const Headers headers = {
      {"Host", "example.amazonaws.com"},
      {"Content-Type", "application/octet-stream"},
      {"X-Amz-Date", "20150830T123600Z"},
      {"Authorization",
       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
       "SignedHeaders=content-type;host;x-amz-date, "
       "Signature=fccb04293e1e0baab28c87a6157dc9f8e956501fbc46f985f754b837503d7b13"}};
  ExpectOk(View("PUT", "/plain~path_-.", "", headers,
                std::string_view("\x00\x01"
                                 "binary\xff",
                                 9)));
}

TEST_F(Sigv4, AgreesWithBotocoreForPresignedRequests) {
  const Headers headers = {{"Host", "example.amazonaws.com"}};
  const std::string query =
      "Qualifier=x%2Fy&A=&B=2&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE"
      "%2F20150830%2Fus-east-1%2Flambda%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires="
      "600&X-Amz-SignedHeaders=host&X-Amz-Signature="
      "d93f60f3ca1c581391a165135bffc7e74919e06625b115ea63f8bbeaf7e3178b";
  const RequestView request = View("GET", "/2015-03-31/functions/a%20b/", query, headers);
  ExpectOk(request);
  EXPECT_TRUE(authorization_.presigned);
  EXPECT_EQ(authorization_.expires, std::chrono::seconds(600));
  clock_.SetWall(At(2015, 8, 30, 12, 45));
  ExpectOk(request);
  clock_.SetWall(At(2015, 8, 30, 12, 47));
  ExpectError(request, AuthError::kInvalidSignature,
              "Signature expired: 20150830T123600Z is now earlier than 20150830T123700Z "
              "(20150830T124700Z - 10 min.)");
}

class Signed : public Sigv4 {
 protected:
  /// A request signed by our own signer, whose header the test may spoil.
  Signed() {
    CredentialScope scope;
    scope.access_key = kKey;
    scope.date = "20150830";
    scope.region = "us-east-1";
    scope.service = "dynamodb";
    header_ = AuthorizationHeader(View("POST", "/", "", headers_, "{}"), scope, kSecret);
  }
  RequestView With(std::string_view authorization, std::string_view query = "") {
    all_ = headers_;
    all_.emplace_back("Authorization", authorization);
    return View("POST", "/", query, all_, "{}");
  }
  std::string Replaced(std::string_view what, std::string_view with) const {
    std::string out = header_;
    const size_t at = out.find(what);
    EXPECT_NE(at, std::string::npos);
    return out.replace(at, what.size(), with);
  }

  Headers headers_ = {{"host", "h"}, {"x-amz-date", "20150830T123600Z"}};
  Headers all_;
  std::string header_;
};

TEST_F(Signed, VerifiesWhatItSigned) { ExpectOk(With(header_)); }

TEST_F(Signed, MissesAuthentication) {
  constexpr std::string_view kMessage = "Request is missing Authentication Token";
  ExpectError(View("POST", "/", "", headers_), AuthError::kMissingAuthenticationToken, kMessage);
  ExpectError(With("Basic abc"), AuthError::kMissingAuthenticationToken, kMessage);
  ExpectError(With(header_, "X-Amz-Algorithm=x"), AuthError::kInvalidSignature,
              "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP "
              "header.");
}

TEST_F(Signed, NamesMissingParts) {
  ExpectError(With("AWS4-HMAC-SHA256"), AuthError::kIncompleteSignature,
              "Authorization header requires 'Credential' parameter. Authorization header requires "
              "'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. "
              "Authorization=AWS4-HMAC-SHA256");
  headers_ = {{"host", "h"}};
  ExpectError(
      With("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=b"),
      AuthError::kIncompleteSignature,
      "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
      "Authorization=AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=b");
  ExpectError(
      With("AWS4-HMAC-SHA256 Credential"), AuthError::kIncompleteSignature,
      "'Credential' not a valid key=value pair (missing equal-sign) in Authorization header: "
      "'AWS4-HMAC-SHA256 Credential'.");
  ExpectError(View("GET", "/", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=1", headers_),
              AuthError::kIncompleteSignature,
              "AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string "
              "parameters must include 'X-Amz-Signature'. AWS query-string parameters must include "
              "'X-Amz-SignedHeaders'. Re-examine the query-string parameters.");
}

TEST_F(Signed, ChecksDates) {
  clock_.SetWall(At(2015, 8, 30, 12, 52));
  ExpectError(With(header_), AuthError::kInvalidSignature,
              "Signature expired: 20150830T123600Z is now earlier than 20150830T123700Z "
              "(20150830T125200Z - 15 min.)");
  clock_.SetWall(At(2015, 8, 30, 12, 51));
  ExpectOk(With(header_));
  clock_.SetWall(At(2015, 8, 30, 12, 20));
  ExpectError(With(header_), AuthError::kInvalidSignature,
              "Signature not yet current: 20150830T123600Z is still later than 20150830T123500Z "
              "(20150830T122000Z + 15 min.)");
  for (const std::string_view bad : {"201", "20150830T123600", "20151330T123600Z",
                                     "2015-08-30T12:36:00Z", "Sun, 30 Aug 2015 12:36:00 GMT"}) {
    headers_ = {{"host", "h"}, {"x-amz-date", bad}};
    ExpectError(With(header_), AuthError::kIncompleteSignature,
                "Date must be in ISO-8601 'basic format'. Got '" + std::string(bad) +
                    "'. See http://en.wikipedia.org/wiki/ISO_8601");
  }
}

TEST_F(Signed, ChecksTheScope) {
  ExpectError(With(Replaced("aws4_request", "e")), AuthError::kInvalidSignature,
              "Credential should be scoped with a valid terminator: 'aws4_request', not 'e'. ");
  ExpectError(With(Replaced("/aws4_request", "")), AuthError::kIncompleteSignature,
              "Credential must have exactly 5 slash-delimited elements, e.g. "
              "keyid/date/region/service/term, got 'AKIDEXAMPLE/20150830/us-east-1/dynamodb'");
  ExpectError(With(Replaced("HMAC-SHA256", "HMAC-SHA25")), AuthError::kIncompleteSignature,
              "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA25' (only AWS4-HMAC-SHA256 for now). ");
  ExpectError(With(Replaced("host;", "")), AuthError::kInvalidSignature,
              "'Host' must be a 'SignedHeader' in the AWS Authorization.");
  VerifyOptions options;
  options.region = "eu-west-1";
  options.service = "dynamodb";
  ExpectError(
      With(Replaced("20150830/us-east-1/dynamodb", "20150829/us-east-1/lambda")),
      AuthError::kInvalidSignature,
      "Credential should be scoped to a valid region, not 'us-east-1'. Credential should be "
      "scoped to correct service: 'dynamodb'. Date in Credential scope does not match "
      "YYYYMMDD from ISO-8601 version of date from HTTP: '20150829' != '20150830', from "
      "'20150830T123600Z'.",
      options);
}

TEST_F(Signed, RefusesUnknownKeysAndTokens) {
  constexpr std::string_view kMessage = "The security token included in the request is invalid.";
  ExpectError(With(Replaced("AKIDEXAMPLE", "AKIDOTHER")), AuthError::kUnrecognizedClient, kMessage);
  headers_.emplace_back("x-amz-security-token", "token");
  ExpectError(With(header_), AuthError::kUnrecognizedClient, kMessage);
}

TEST_F(Signed, LeavesTheBodyOutOnlyWhereAllowed) {
  headers_.emplace_back("x-amz-content-sha256", kUnsignedPayload);
  CredentialScope scope;
  scope.access_key = kKey;
  scope.date = "20150830";
  scope.region = "us-east-1";
  scope.service = "dynamodb";
  const std::string header =
      AuthorizationHeader(View("POST", "/", "", headers_, "anything"), scope, kSecret);
  ExpectOk(With(header));
  VerifyOptions options;
  options.allow_unsigned_payload = false;
  EXPECT_EQ(Verify(With(header), options).error, AuthError::kInvalidSignature);
}

TEST_F(Signed, VerifiesOurOwnPresignedQueries) {
  CredentialScope scope;
  scope.access_key = kKey;
  scope.date = "20150830";
  scope.region = "eu-west-1";
  scope.service = "lambda";
  const Headers headers = {{"Host", "h:80"}};
  const std::string query =
      "a=b%20c&" + PresignedQuery(View("GET", "/x y", "a=b%20c", headers), scope, kSecret,
                                  "20150830T123600Z", std::chrono::seconds(60));
  ExpectOk(View("GET", "/x y", query, headers));
  const std::string changed = "a=b&" + query.substr(query.find("X-Amz"));
  EXPECT_EQ(Verify(View("GET", "/x y", changed, headers)).error, AuthError::kInvalidSignature);
}

TEST(CredentialScopes, AreReadWithoutVerification) {
  const auto scope = PeekScope(
      "AWS4-HMAC-SHA256 Credential=AK/20150830/eu-west-1/dynamodb/aws4_request, SignedHeaders=x",
      "");
  ASSERT_TRUE(scope);
  EXPECT_EQ(scope->access_key, "AK");
  EXPECT_EQ(scope->date, "20150830");
  EXPECT_EQ(scope->region, "eu-west-1");
  EXPECT_EQ(scope->service, "dynamodb");
  EXPECT_EQ(PeekScope("", "X-Amz-Credential=K%2F1%2Fr%2Fs%2Faws4_request")->region, "r");
  EXPECT_FALSE(PeekScope("Basic x", ""));
  EXPECT_FALSE(ParseCredentialScope("a/b/c"));
}

}  // namespace
}  // namespace onggi::sigv4
