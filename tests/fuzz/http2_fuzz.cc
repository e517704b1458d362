// What another process may send on a connection of the peer port: HTTP/2 of any kind, to either end
// of a call, in pieces of any size. Found faults are crashes, leaks and messages past the bound.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "common/rpc/http2.h"

namespace onggi::rpc {
namespace {

constexpr size_t kMaxMessageBytes = 4096;
/// What a peer makes us say is bounded by what it sends: acknowledgements, refusals.
constexpr size_t kMaxOutBytes = size_t{1} << 20;

void Run(std::string_view input) {
  if (input.size() < 2) return;
  const bool answers = (input[0] & 1) != 0;
  const size_t piece = 1 + static_cast<uint8_t>(input[1]) * size_t{16};
  input.remove_prefix(2);
  const auto session = answers ? Http2Session::Answer(kMaxMessageBytes)
                               : Http2Session::Call("/a.B/C", "host:1", false, kMaxMessageBytes);
  std::string out;
  bool accepted = false;
  for (size_t at = 0; at < input.size(); at += piece) {
    std::vector<IncomingMessage> messages;
    const Status status = session->Receive(input.substr(at, piece), &messages);
    for (const IncomingMessage& message : messages) {
      if (message.view().size() > kMaxMessageBytes) std::abort();
    }
    if (session->called() && !accepted) {
      accepted = true;
      session->Accept();
    }
    if (!session->Produce(&out, kMaxOutBytes)) return;
    if (out.size() > 2 * kMaxOutBytes) std::abort();
    if (!status.ok() || session->ended()) return;
    if (session->sent() && messages.size() == 1) {
      std::vector<MessagePiece> echo(1);
      echo[0].bytes = messages[0].view();
      session->Send(std::move(echo));
    }
  }
  session->End({grpc::StatusCode::ABORTED, "end"});
  (void)session->Produce(&out, 2 * kMaxOutBytes);
}

}  // namespace
}  // namespace onggi::rpc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  onggi::rpc::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
