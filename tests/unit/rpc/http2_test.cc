#include "common/rpc/http2.h"

#include <gmock/gmock.h>

#include <random>
namespace onggi::rpc {
namespace {

/// ONGGI_TEST_SEED repeats a run.
uint64_t Seed() {
  const char* given = std::getenv("ONGGI_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
}

std::vector<MessagePiece> Pieces(const std::string& message, size_t cut) {
  std::vector<MessagePiece> pieces(2);
  pieces[0].bytes = message.substr(0, cut);
  pieces[1].payload =
      std::make_shared<const std::string>(message.substr(std::min(cut, message.size())));
  return pieces;
}

/// Both ends of a call, and what has come out of each.
struct Pair {
  std::unique_ptr<Http2Session> caller =
      Http2Session::Call("/test.Service/Exchange", "host:1", false, 8 << 20);
  std::unique_ptr<Http2Session> answerer = Http2Session::Answer(8 << 20);
  std::vector<std::string> to_caller, to_answerer;

  /// Takes what `from` has to say to `to`, in chunks of `chunk` bytes at most; returns its bytes.
  static size_t Carry(Http2Session* from, Http2Session* to, std::vector<std::string>* got,
                      size_t chunk) {
    std::string bytes;
    EXPECT_TRUE(from->Produce(&bytes, 1 << 20));
    for (size_t at = 0; at < bytes.size(); at += chunk) {
      std::vector<IncomingMessage> messages;
      const Status status = to->Receive(std::string_view(bytes).substr(at, chunk), &messages);
      EXPECT_TRUE(status.ok()) << status.ToString();
      for (const IncomingMessage& message : messages) got->emplace_back(message.view());
    }
    return bytes.size();
  }
  void Exchange(size_t chunk = SIZE_MAX) {
    size_t carried = 1;
    while (carried > 0) {
      carried = Carry(caller.get(), answerer.get(), &to_answerer, chunk);
      if (answerer->called() && !accepted) {
        accepted = true;
        answerer->Accept();
      }
      carried += Carry(answerer.get(), caller.get(), &to_caller, chunk);
    }
  }
  bool accepted = false;
};

TEST(Http2Session, CarriesMessagesOfEverySizeInEveryChopping) {
  const uint64_t seed = Seed();
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (const size_t chunk : {size_t{1}, size_t{7}, size_t{1000}, size_t{1} << 20}) {
    Pair pair;
    std::vector<std::string> sent;
    for (const size_t size : {size_t{0}, size_t{1}, size_t{5}, size_t{16'384}, size_t{70'000},
                              chunk < 100 ? size_t{3} : size_t{3'000'000}}) {
      std::string message(size, 'x');
      for (char& c : message) c = static_cast<char>(random());
      sent.push_back(message);
      pair.caller->Send(Pieces(message, random() % (size + 1)));
      pair.answerer->Send(Pieces(message, 0));
      pair.Exchange(chunk);
      EXPECT_TRUE(pair.caller->sent() && pair.answerer->sent());
    }
    EXPECT_EQ(pair.answerer->called(), "/test.Service/Exchange");
    EXPECT_TRUE(pair.to_answerer == sent);
    EXPECT_TRUE(pair.to_caller == sent);
  }
}

TEST(Http2Session, GoesOnPastTheWindow) {
  Pair pair;
  const std::string message(1 << 20, 'w');
  for (int i = 0; i < 40; ++i) {
    pair.caller->Send(Pieces(message, 3));
    pair.Exchange();
  }
  EXPECT_EQ(pair.to_answerer.size(), 40u);
}

TEST(Http2Session, ALastWordFollowsWhatWasSentAndIsToldAsItWas) {
  Pair pair;
  pair.Exchange();
  pair.answerer->Send(Pieces("last", 2));
  pair.answerer->End({grpc::StatusCode::FAILED_PRECONDITION, "100 % \xec\x98\xb9\xea\xb8\xb0\n"});
  pair.Exchange();
  EXPECT_EQ(pair.to_caller, std::vector<std::string>{"last"});
  EXPECT_TRUE(pair.answerer->finished());
  ASSERT_TRUE(pair.caller->ended());
  EXPECT_EQ(pair.caller->ended()->error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(pair.caller->ended()->error_message(), "100 % \xec\x98\xb9\xea\xb8\xb0\n");
}

TEST(Http2Session, ACallersEndAndItsCancellationAreTwoThings) {
  Pair ended;
  ended.Exchange();
  ended.caller->End(grpc::Status::OK);
  ended.Exchange();
  ASSERT_TRUE(ended.answerer->ended());
  EXPECT_TRUE(ended.answerer->ended()->ok());
  Pair cancelled;
  cancelled.Exchange();
  cancelled.caller->Cancel();
  Pair::Carry(cancelled.caller.get(), cancelled.answerer.get(), &cancelled.to_answerer, SIZE_MAX);
  ASSERT_TRUE(cancelled.answerer->ended());
  EXPECT_EQ(cancelled.answerer->ended()->error_code(), grpc::StatusCode::CANCELLED);
}

TEST(Http2Session, RefusesMessagesThatAreTooLarge) {
  Pair pair;
  pair.caller = Http2Session::Call("/a.B/C", "host:1", false, 100 << 20);
  pair.Exchange();
  pair.caller->Send(Pieces(std::string((8 << 20) + 1, 'x'), 0));
  std::string bytes;
  ASSERT_TRUE(pair.caller->Produce(&bytes, SIZE_MAX));
  std::vector<IncomingMessage> messages;
  const Status status = pair.answerer->Receive(bytes, &messages);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(status.message(), "a message of 8388609 bytes, more than 8388608");
}

TEST(Http2Session, RefusesWhatIsNotItsProtocol) {
  std::vector<IncomingMessage> messages;
  EXPECT_FALSE(Http2Session::Answer(100)->Receive("GET / HTTP/1.1\r\n\r\n", &messages).ok());
  const uint64_t seed = Seed();
  SCOPED_TRACE("ONGGI_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 2000; ++i) {
    auto answerer = Http2Session::Answer(1000);
    std::string bytes;
    auto caller = Http2Session::Call("/a.B/C", "host:1", false, 1000);
    caller->Send(Pieces("message", 3));
    ASSERT_TRUE(caller->Produce(&bytes, SIZE_MAX));
    bytes[random() % bytes.size()] = static_cast<char>(random());
    (void)answerer->Receive(bytes, &messages);  // does not crash, whatever it says
    std::string out;
    (void)answerer->Produce(&out, SIZE_MAX);
  }
}

}  // namespace
}  // namespace onggi::rpc
