#pragma once

#include <string_view>

namespace onggi {

/// Prints the expression, the place and `detail` to stderr and ends the process with abort().
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression,
                              std::string_view detail = {});

}  // namespace onggi

/// Ends the process, in release builds too, when an invariant of our own code is broken. Never for
/// user input or for the state of a disk: those are Status.
#define CHECK(condition)                                    \
  do {                                                      \
    if (!(condition)) [[unlikely]]                          \
      ::onggi::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_MSG(condition, detail)                                  \
  do {                                                                \
    if (!(condition)) [[unlikely]]                                    \
      ::onggi::CheckFailed(__FILE__, __LINE__, #condition, (detail)); \
  } while (false)
