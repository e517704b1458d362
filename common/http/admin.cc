#include "common/http/admin.h"

namespace onggi::http {

AdminHandler::AdminHandler(const metrics::Registry& registry, std::function<Status()> ready)
    : registry_(registry), ready_(std::move(ready)) {
  AddPage("/metrics", [this](const Request&, Response& response) {
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = registry_.TextExposition();
  });
  AddPage("/healthz", [](const Request&, Response& response) {
    response.content_type = "text/plain";
    response.body = "ok\n";
  });
  AddPage("/readyz", [this](const Request&, Response& response) {
    const Status status = ready_ ? ready_() : Status::Ok();
    response.content_type = "text/plain";
    response.status = status.ok() ? 200 : 503;
    response.body = status.ok() ? "ready\n" : status.ToString() + "\n";
  });
}

void AdminHandler::AddPage(std::string path, Page page) {
  pages_[std::move(path)] = std::move(page);
}

bool AdminHandler::TryHandle(Request& request, Response& response) {
  const auto page = pages_.find(request.path);
  if (page == pages_.end()) {
    response.status = 404;
    response.content_type = "text/plain";
    response.body = "not found\n";
  } else if (request.method != Method::kGet && request.method != Method::kHead) {
    response.status = 405;
    response.AddHeader("Allow", "GET, HEAD");
  } else {
    page->second(request, response);
  }
  return true;
}

boost::asio::awaitable<void> AdminHandler::Handle(Request&, Response&) { co_return; }

ServerOptions AdminServerOptions(std::string bind, uint16_t port) {
  ServerOptions options;
  options.bind = std::move(bind);
  options.port = port;
  options.name = "admin";
  options.max_body = KiB(64);
  options.max_connections = 256;
  return options;
}

}  // namespace onggi::http
