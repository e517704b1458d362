#include "server/storage/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace onggi::storage {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormatPrefix = "onggi-data ";

Result<std::string> ReadSmallFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return IoError("open", path, errno);
  char buffer[256];
  const ssize_t size = read(fd, buffer, sizeof(buffer));
  const int error = errno;
  close(fd);
  if (size < 0) return IoError("read", path, error);
  return std::string(buffer, static_cast<size_t>(size));
}

Status CheckFormat(const std::string& file) {
  ASSIGN_OR_RETURN(const std::string content, ReadSmallFile(file));
  std::string_view text = content;
  uint32_t version = 0;
  const char* end = text.data() + text.size();
  if (!text.starts_with(kFormatPrefix) ||
      std::from_chars(text.data() + kFormatPrefix.size(), end, version).ec != std::errc()) {
    return Corruption(file + ": not the format file of an Onggi data directory");
  }
  if (version > DataDirectory::kFormatVersion) {
    return Corruption(file + ": the directory has format " + std::to_string(version) +
                      ", newer than this program's " +
                      std::to_string(DataDirectory::kFormatVersion) + "; start a newer onggi");
  }
  if (version == 0) return Corruption(file + ": format 0 does not exist");
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return IoError("create directory", path, error.value());
  const std::string format_file = path + "/FORMAT";
  const std::string lock_file = path + "/LOCK";
  bool created = false;
  if (!fs::exists(format_file, error)) {
    // A crash between LOCK and FORMAT leaves a directory with LOCK alone: still ours to make.
    for (const auto& entry : fs::directory_iterator(path, error)) {
      const std::string name = entry.path().filename();
      if (name != "LOCK" && name != "FORMAT.new" && name != "lost+found") {
        return Corruption(format_file + ": missing, and " + path +
                          " is not empty: not an Onggi data directory");
      }
    }
    if (error) return IoError("read directory", path, error.value());
    created = true;
  } else {
    RETURN_IF_ERROR(CheckFormat(format_file));
  }

  const int fd = open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return IoError("open", lock_file, errno);
  auto directory = std::unique_ptr<DataDirectory>(new DataDirectory(path, fd, created));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return IoError("flock", lock_file, errno);
    char holder[32] = {};
    const ssize_t size = pread(fd, holder, sizeof(holder) - 1, 0);
    std::string message = path + ": in use by another onggi server";
    if (size > 0) message += " (process " + std::string(holder, static_cast<size_t>(size)) + ")";
    return Status(Code::kAlreadyExists, std::move(message));
  }
  if (created && fs::exists(format_file, error)) {
    // Another process made it, and ended, between our look and our lock.
    RETURN_IF_ERROR(CheckFormat(format_file));
    directory->created_ = created = false;
  }
  if (created) {
    const std::string content = std::string(kFormatPrefix) + std::to_string(kFormatVersion) + "\n";
    RETURN_IF_ERROR(WriteFileSynced(format_file + ".new", content));
    if (rename((format_file + ".new").c_str(), format_file.c_str()) != 0) {
      return IoError("rename", format_file, errno);
    }
    RETURN_IF_ERROR(SyncDirectory(path));
    // The directory's own name, too: what is acknowledged from now on stands in it.
    RETURN_IF_ERROR(SyncDirectory(path + "/.."));
  }
  return directory;
}

DataDirectory::~DataDirectory() { close(lock_fd_); }

Status DataDirectory::Claim() {
  const std::string pid = std::to_string(getpid());
  if (ftruncate(lock_fd_, 0) != 0 ||
      pwrite(lock_fd_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return IoError("write", path_ + "/LOCK", errno);
  }
  return Status::Ok();
}

Result<DiskSpace> QueryDiskSpace(const std::string& path) {
  struct statvfs info;
  if (statvfs(path.c_str(), &info) != 0) return IoError("statvfs", path, errno);
  return DiskSpace{uint64_t{info.f_bavail} * info.f_frsize,
                   uint64_t{info.f_blocks} * info.f_frsize};
}

Status WriteFileSynced(const std::string& path, std::string_view content) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return IoError("open", path, errno);
  const ssize_t written = write(fd, content.data(), content.size());
  const bool ok = written == static_cast<ssize_t>(content.size()) && fsync(fd) == 0;
  // A short write sets no errno; the next one would have said that the disk is full.
  const int error =
      written >= 0 && written != static_cast<ssize_t>(content.size()) ? ENOSPC : errno;
  close(fd);
  return ok ? Status::Ok() : IoError("write", path, error);
}

Status SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return IoError("open", path, errno);
  const bool ok = fsync(fd) == 0;
  const int error = errno;
  close(fd);
  return ok ? Status::Ok() : IoError("fsync", path, error);
}

}  // namespace onggi::storage
