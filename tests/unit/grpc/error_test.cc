#include "server/grpc/error.h"

#include <gtest/gtest.h>

#include "common/proto/error.pb.h"
#include "onggi/v1/item.pb.h"
#include "server/grpc/credentials.h"

namespace onggi::grpc_api {
namespace {

using dynamodb::ApiError;
using dynamodb::ErrorType;

const MessagePlan& ErrorPlan() {
  static auto* plans = new PlanTable();
  return plans->Add(*v1::Error::descriptor());
}

v1::Error DetailOf(const grpc::Status& status) {
  proto::ErrorStatus details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), status.error_code());
  EXPECT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/onggi.v1.Error");
  v1::Error error;
  EXPECT_TRUE(error.ParseFromString(details.details(0).value()));
  return error;
}

TEST(GrpcError, CarriesTypeMessageAndItem) {
  const ApiError error{ErrorType::kConditionalCheckFailed, "The conditional request failed",
                       R"("Item":{"pk":{"S":"a"},"n":{"N":"1"}})"};
  const grpc::Status status = ToGrpc(error, ErrorPlan(), kDefaultErrorBytes);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(),
            "ConditionalCheckFailedException: The conditional request failed");
  const v1::Error detail = DetailOf(status);
  EXPECT_EQ(detail.type(), "ConditionalCheckFailedException");
  EXPECT_EQ(detail.message(), "The conditional request failed");
  EXPECT_EQ(detail.item().attributes().at("n").n(), "1");
  EXPECT_FALSE(detail.items_omitted());
}

TEST(GrpcError, CarriesReasonsOfCancelledTransactions) {
  const ApiError error{
      ErrorType::kTransactionCanceled, "cancelled",
      R"("CancellationReasons":[{"Code":"None"},)"
      R"({"Code":"ConditionalCheckFailed","Message":"m","Item":{"a":{"N":"1"}}}])"};
  const v1::Error detail = DetailOf(ToGrpc(error, ErrorPlan(), kDefaultErrorBytes));
  ASSERT_EQ(detail.cancellation_reasons_size(), 2);
  EXPECT_EQ(detail.cancellation_reasons(0).code(), "None");
  EXPECT_FALSE(detail.cancellation_reasons(0).has_message());
  EXPECT_EQ(detail.cancellation_reasons(1).item().attributes().at("a").n(), "1");
}

TEST(GrpcError, LeavesOutItemsThatAreTooLong) {
  const ApiError error{ErrorType::kConditionalCheckFailed, "failed",
                       R"("Item":{"pk":{"S":")" + std::string(10'000, 'x') + R"("}})"};
  const v1::Error short_detail = DetailOf(ToGrpc(error, ErrorPlan(), kDefaultErrorBytes));
  EXPECT_TRUE(short_detail.items_omitted());
  EXPECT_FALSE(short_detail.has_item());
  EXPECT_FALSE(DetailOf(ToGrpc(error, ErrorPlan(), kMaxErrorBytes)).items_omitted());
}

TEST(GrpcError, CutsLongMessagesBetweenCharacters) {
  std::string message;
  for (int i = 0; i < 5000; ++i) message += "\xEC\x98\xB9";
  const grpc::Status status =
      ToGrpc({ErrorType::kValidation, message, {}}, ErrorPlan(), kDefaultErrorBytes);
  EXPECT_LT(status.error_message().size(), 600u);
  EXPECT_LT(status.error_details().size(), 4000u);
  const v1::Error detail = DetailOf(status);  // parses: whole characters
  EXPECT_EQ(detail.message().size() % 3, 0u);
  EXPECT_GT(detail.message().size(), 2000u);
}

TEST(GrpcError, HasACodeForEveryType) {
  for (size_t type = 0; type < static_cast<size_t>(ErrorType::kCount_); ++type) {
    EXPECT_NE(CodeOf(static_cast<ErrorType>(type)), grpc::StatusCode::OK);
  }
  EXPECT_EQ(CodeOf(ErrorType::kThrottling), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(CodeOf(ErrorType::kServiceUnavailable), grpc::StatusCode::UNAVAILABLE);
}

class CredentialsTest : public ::testing::Test {
 protected:
  /// The type of the error for this authorization; "" when it passes.
  std::string Check(const Credentials& credentials, const std::string& authorization) {
    Metadata metadata;
    if (!authorization.empty()) metadata.emplace("authorization", authorization);
    access_key_.clear();
    const dynamodb::Outcome outcome = credentials.Check(metadata, &access_key_);
    return outcome.ok() ? "" : std::string(dynamodb::InfoOf(outcome.error().type).name);
  }

  const Credentials known_{[](std::string_view key) -> std::optional<std::string> {
    if (key == "KEY") return "a:secret";
    return std::nullopt;
  }};
  std::string access_key_;
};

TEST_F(CredentialsTest, TakesAKeyAndItsSecret) {
  EXPECT_EQ(Check(known_, "Bearer KEY:a:secret"), "");
  EXPECT_EQ(access_key_, "KEY");
  EXPECT_EQ(Check(known_, "bearer KEY:a:secret"), "");
  EXPECT_EQ(Check(known_, ""), "MissingAuthenticationTokenException");
  EXPECT_EQ(Check(known_, "Bearer KEY"), "IncompleteSignatureException");
  EXPECT_EQ(Check(known_, "Bearer :a:secret"), "IncompleteSignatureException");
  EXPECT_EQ(Check(known_, "Bearer "), "IncompleteSignatureException");
  EXPECT_EQ(Check(known_, "AWS4-HMAC-SHA256 Credential=KEY"), "IncompleteSignatureException");
  EXPECT_EQ(Check(known_, "Bearer OTHER:a:secret"), "UnrecognizedClientException");
  EXPECT_EQ(Check(known_, "Bearer KEY:a:secreT"), "InvalidSignatureException");
  EXPECT_EQ(Check(known_, "Bearer KEY:"), "InvalidSignatureException");
}

TEST_F(CredentialsTest, AsksNobodyWhereThereAreNone) {
  const Credentials open{sigv4::SecretLookup()};
  EXPECT_EQ(Check(open, ""), "");
  EXPECT_EQ(Check(open, "nonsense"), "");
  EXPECT_EQ(access_key_, "");
  EXPECT_EQ(Check(open, "Bearer ME:anything"), "");
  EXPECT_EQ(access_key_, "ME");
}

}  // namespace
}  // namespace onggi::grpc_api
