#include "common/rpc/status.h"

#include <gtest/gtest.h>

namespace onggi::rpc {
namespace {

TEST(RpcStatus, EveryCodeOfOursComesBackAsItWas) {
  for (int code = 0; code <= static_cast<int>(Code::kInternal); ++code) {
    const Status status =
        code == 0 ? Status()
                  : Status(static_cast<Code>(code), "what happened to " + std::to_string(code));
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status) << code;
  }
}

TEST(RpcStatus, ForeignCodesAreTheNearestOfOurs) {
  const auto from = [](grpc::StatusCode code) { return FromGrpc({code, "x"}).code(); };
  EXPECT_EQ(from(grpc::StatusCode::UNAVAILABLE), Code::kUnavailable);
  EXPECT_EQ(from(grpc::StatusCode::CANCELLED), Code::kUnavailable);
  EXPECT_EQ(from(grpc::StatusCode::DEADLINE_EXCEEDED), Code::kDeadlineExceeded);
  EXPECT_EQ(from(grpc::StatusCode::UNIMPLEMENTED), Code::kInvalidArgument);
  EXPECT_EQ(from(grpc::StatusCode::UNKNOWN), Code::kInternal);
  EXPECT_EQ(FromGrpc({grpc::StatusCode::NOT_FOUND, "x", "not a protobuf \xff"}).code(),
            Code::kNotFound);
}

TEST(RpcStatus, SaysWhatMayHaveRun) {
  EXPECT_TRUE(MayHaveRun({grpc::StatusCode::UNAVAILABLE, "connection reset"}));
  EXPECT_FALSE(MayHaveRun(ToGrpc(Unavailable("closing"))));
  EXPECT_TRUE(MayHaveRun(ToGrpc({Code::kUnknownOutcome, "x"})));
  EXPECT_FALSE(MayHaveRun(ToGrpc({Code::kNotPrimary, "x"})));
}

}  // namespace
}  // namespace onggi::rpc
