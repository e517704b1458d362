#include "common/status.h"

#include <cstring>

namespace onggi {

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kOk: return "Ok";
    case Code::kInvalidArgument: return "InvalidArgument";
    case Code::kNotFound: return "NotFound";
    case Code::kAlreadyExists: return "AlreadyExists";
    case Code::kConditionFailed: return "ConditionFailed";
    case Code::kNotPrimary: return "NotPrimary";
    case Code::kUnavailable: return "Unavailable";
    case Code::kResourceExhausted: return "ResourceExhausted";
    case Code::kOutOfSpace: return "OutOfSpace";
    case Code::kUnknownOutcome: return "UnknownOutcome";
    case Code::kCorruption: return "Corruption";
    case Code::kIoError: return "IoError";
    case Code::kDeadlineExceeded: return "DeadlineExceeded";
    case Code::kInternal: return "Internal";
  }
  return "Unknown";
}

std::string Status::ToString() const {
  if (ok()) return "Ok";
  return std::string(CodeName(code_)) + ": " + message_;
}

Status Status::WithContext(std::string_view context) const {
  if (ok()) return *this;
  return {code_, std::string(context) + ": " + message_};
}

Status IoError(std::string_view call, std::string_view path, int error_number) {
  std::string message(path);
  message += ": ";
  message += call;
  message += ": ";
  message += std::strerror(error_number);
  return {error_number == ENOSPC ? Code::kOutOfSpace : Code::kIoError, std::move(message)};
}

}  // namespace onggi
