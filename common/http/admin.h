#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/http/server.h"
#include "common/metrics.h"

namespace onggi::http {

/// Serves the admin port: GET /metrics (Prometheus text), /healthz (200 while the process lives)
/// and /readyz (200 when ready, otherwise 503 with the reason); further paths may be added.
///
/// Add pages before the server starts. Not thread-safe until then, afterwards read-only.
class AdminHandler final : public Handler {
 public:
  /// `registry` must outlive it. `ready` is called on io threads: cheap and thread-safe.
  AdminHandler(const metrics::Registry& registry, std::function<Status()> ready);

  /// GET `path` (exact) answers what `page` writes.
  using Page = std::function<void(const Request&, Response&)>;
  void AddPage(std::string path, Page page);

  bool TryHandle(Request& request, Response& response) override;
  boost::asio::awaitable<void> Handle(Request& request, Response& response) override;

 private:
  const metrics::Registry& registry_;
  const std::function<Status()> ready_;
  std::map<std::string, Page, std::less<>> pages_;
};

/// How a server of it is run: few connections, small requests.
ServerOptions AdminServerOptions(std::string bind, uint16_t port);

}  // namespace onggi::http
