#include "server/health_check.h"

#include <boost/asio/io_context.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace onggi {

namespace asio = boost::asio;
namespace beast = boost::beast;

namespace {

Status Ask(const std::string& host, uint16_t port, std::chrono::seconds timeout) {
  asio::io_context context;
  beast::tcp_stream stream(context);
  stream.expires_after(timeout);
  beast::http::request<beast::http::empty_body> request(beast::http::verb::get, "/readyz", 11);
  request.set(beast::http::field::host, host);
  beast::flat_buffer buffer;
  beast::http::response<beast::http::string_body> response;
  beast::error_code failed;

  boost::system::error_code bad_address;
  const auto address = asio::ip::make_address(host, bad_address);
  if (bad_address) return InvalidArgument("not an address: " + host);
  // Asynchronous throughout: only then does the stream keep to its time.
  stream.async_connect(asio::ip::tcp::endpoint(address, port), [&](beast::error_code connected) {
    failed = connected;
    if (connected) return;
    beast::http::async_write(stream, request, [&](beast::error_code written, size_t) {
      failed = written;
      if (written) return;
      beast::http::async_read(stream, buffer, response,
                              [&](beast::error_code read, size_t) { failed = read; });
    });
  });
  context.run();
  const std::string where = host + ":" + std::to_string(port);
  if (failed) return Unavailable(where + ": " + failed.message());
  if (response.result() != beast::http::status::ok) {
    return Unavailable(where + ": not ready: " + response.body());
  }
  return Status::Ok();
}

}  // namespace

Status CheckHealth(const std::string& bind, uint16_t admin_port, std::chrono::seconds timeout) {
  std::string host = bind;
  if (host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  return Ask(host, admin_port, timeout);
}

}  // namespace onggi
