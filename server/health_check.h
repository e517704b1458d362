#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "common/status.h"

namespace onggi {

/// Asks the process of this machine that listens on `admin_port` whether it is ready (GET /readyz).
/// Ok; otherwise what it answered, or why there is no answer, within `timeout`. `bind` is the
/// address it was told to listen on; any address means this machine's own. Blocks.
Status CheckHealth(const std::string& bind, uint16_t admin_port, std::chrono::seconds timeout);

}  // namespace onggi
