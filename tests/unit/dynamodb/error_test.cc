#include "server/dynamodb/error.h"

#include <gtest/gtest.h>

namespace onggi::dynamodb {
namespace {

TEST(Errors, RenderWithTheirNamespaceAndMessageKey) {
  EXPECT_EQ(RenderError(TableNotFoundForControl("abc")),
            R"({"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",)"
            R"("message":"Requested resource not found: Table: abc not found"})");
  EXPECT_EQ(RenderError(TableNotFoundForData()),
            R"({"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",)"
            R"("message":"Requested resource not found"})");
  EXPECT_EQ(RenderError(ValidationError("a \"b\"")),
            R"({"__type":"com.amazon.coral.validate#ValidationException","message":"a \"b\""})");
  EXPECT_EQ(RenderError({ErrorType::kAccessDenied, "no", {}}),
            R"({"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"})");
}

TEST(Errors, RenderWithoutAMessageAsTheServiceDoes) {
  EXPECT_EQ(RenderError(SerializationError({})),
            R"({"__type":"com.amazon.coral.service#SerializationException"})");
  EXPECT_EQ(RenderError({ErrorType::kUnknownOperation, {}, {}}),
            R"({"__type":"com.amazon.coral.service#UnknownOperationException"})");
}

TEST(Errors, RenderFurtherMembers) {
  EXPECT_EQ(RenderError({ErrorType::kConditionalCheckFailed, "The conditional request failed",
                         R"("Item":{"a":{"S":"x"}})"}),
            R"({"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",)"
            R"("message":"The conditional request failed","Item":{"a":{"S":"x"}}})");
}

TEST(Errors, TranslateStatus) {
  EXPECT_EQ(FromStatus(InvalidArgument("x")).type, ErrorType::kValidation);
  EXPECT_EQ(FromStatus({Code::kConditionFailed, ""}).message, "The conditional request failed");
  EXPECT_EQ(FromStatus({Code::kResourceExhausted, "Collection size exceeded."}).type,
            ErrorType::kItemCollectionSizeLimitExceeded);
  EXPECT_EQ(FromStatus({Code::kResourceExhausted, "queue"}).type, ErrorType::kThrottling);
  EXPECT_EQ(FromStatus({Code::kOutOfSpace, "x"}).type, ErrorType::kInternalServerError);
  EXPECT_EQ(InfoOf(FromStatus({Code::kUnavailable, "x"}).type).http_status, 500);
  // What a fault is about is not told to clients.
  EXPECT_EQ(FromStatus({Code::kIoError, "/var/x: fsync"}).message, "Internal server error");
}

TEST(Errors, NameWhatIsNotBuilt) {
  EXPECT_EQ(NotSupported("GlobalSecondaryIndexes").message,
            "GlobalSecondaryIndexes is not supported yet by this version of Onggi");
}

}  // namespace
}  // namespace onggi::dynamodb
