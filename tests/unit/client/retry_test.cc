#include "client/retry.h"

#include <gtest/gtest.h>

#include "client/error.h"

namespace onggi::client {
namespace {

using std::chrono::milliseconds;

TEST(Backoff, DoublesUpToItsBound) {
  RetryPolicy policy;
  policy.base = milliseconds(50);
  policy.max = milliseconds(1000);
  EXPECT_EQ(Backoff(policy, 1, 0.5), milliseconds(25));
  EXPECT_EQ(Backoff(policy, 2, 0.5), milliseconds(50));
  EXPECT_EQ(Backoff(policy, 3, 0.5), milliseconds(100));
  EXPECT_EQ(Backoff(policy, 10, 0.5), milliseconds(500));
  EXPECT_EQ(Backoff(policy, 1000, 0.0), milliseconds(0));
}

TEST(RetryQuota, GivesUpWhenMostCallsFail) {
  RetryQuota quota;
  int taken = 0;
  while (quota.Take(false)) ++taken;
  EXPECT_EQ(taken, RetryQuota::kCapacity / RetryQuota::kCost);
  EXPECT_FALSE(quota.Take(true));
  quota.Success(true, false);  // what its try had cost
  EXPECT_TRUE(quota.Take(false));
  for (int i = 0; i < RetryQuota::kTimeoutCost; ++i) quota.Success(false, false);
  EXPECT_TRUE(quota.Take(true));
  for (int i = 0; i < 10'000; ++i) quota.Success(false, false);
  EXPECT_EQ(quota.available(), RetryQuota::kCapacity);
}

Error Of(std::string type, grpc::StatusCode code) {
  Error error;
  error.type = std::move(type);
  error.code = code;
  return error;
}

TEST(IsRetryable, FollowsTheStandardMode) {
  using grpc::StatusCode;
  EXPECT_TRUE(IsRetryable(Of("InternalServerError", StatusCode::INTERNAL)));
  EXPECT_TRUE(IsRetryable(Of("ThrottlingException", StatusCode::RESOURCE_EXHAUSTED)));
  EXPECT_TRUE(
      IsRetryable(Of("ProvisionedThroughputExceededException", StatusCode::RESOURCE_EXHAUSTED)));
  EXPECT_TRUE(IsRetryable(Of("", StatusCode::UNAVAILABLE)));
  EXPECT_TRUE(IsRetryable(Of("", StatusCode::DEADLINE_EXCEEDED)));
  EXPECT_FALSE(IsRetryable(Of("ValidationException", StatusCode::INVALID_ARGUMENT)));
  EXPECT_FALSE(IsRetryable(Of("ConditionalCheckFailedException", StatusCode::FAILED_PRECONDITION)));
  EXPECT_FALSE(IsRetryable(Of("LimitExceededException", StatusCode::RESOURCE_EXHAUSTED)));
  EXPECT_FALSE(IsRetryable(Of("", StatusCode::RESOURCE_EXHAUSTED)));  // too long a message
  EXPECT_FALSE(IsRetryable(Of("", StatusCode::CANCELLED)));
}

TEST(NothingHappened, OnlyWhenTheServerSaysSo) {
  using grpc::StatusCode;
  EXPECT_TRUE(NothingHappened(Of("ValidationException", StatusCode::INVALID_ARGUMENT)));
  EXPECT_FALSE(NothingHappened(Of("InternalServerError", StatusCode::INTERNAL)));
  EXPECT_FALSE(NothingHappened(Of("", StatusCode::UNAVAILABLE)));
}

}  // namespace
}  // namespace onggi::client
