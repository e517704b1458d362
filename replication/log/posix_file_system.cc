#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "replication/log/file_system.h"

namespace onggi::log {
namespace {

class PosixFile : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixFile() override { ::close(fd_); }

  Status Write(uint64_t offset, std::span<const std::string_view> pieces) override {
    constexpr size_t kMaxPieces = 16;
    while (!pieces.empty()) {
      std::array<iovec, kMaxPieces> vectors;
      size_t count = 0;
      size_t total = 0;
      for (const std::string_view piece : pieces.first(std::min(pieces.size(), kMaxPieces))) {
        vectors[count++] = {const_cast<char*>(piece.data()), piece.size()};
        total += piece.size();
      }
      pieces = pieces.subspan(count);
      RETURN_IF_ERROR(WriteVectors(offset, std::span(vectors).first(count)));
      offset += total;
    }
    return {};
  }

  Result<size_t> Read(uint64_t offset, char* data, size_t size) override {
    size_t done = 0;
    while (done < size) {
      const ssize_t n = ::pread(fd_, data + done, size - done, static_cast<off_t>(offset + done));
      if (n < 0) {
        if (errno == EINTR) continue;
        return IoError("pread", path_, errno);
      }
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }

  Status Sync() override {
    if (::fdatasync(fd_) != 0) return IoError("fdatasync", path_, errno);
    return {};
  }

  Status Allocate(uint64_t size) override {
    // posix_fallocate falls back to writing zeros where the file system cannot reserve.
    for (;;) {
      const int error = ::posix_fallocate(fd_, 0, static_cast<off_t>(size));
      if (error == 0) return {};
      if (error != EINTR) return IoError("fallocate", path_, error);
    }
  }

  Result<uint64_t> Size() override {
    struct stat info {};
    if (::fstat(fd_, &info) != 0) return IoError("fstat", path_, errno);
    return static_cast<uint64_t>(info.st_size);
  }

 private:
  // Goes on after a short write: it is the next call that says why it was short.
  Status WriteVectors(uint64_t offset, std::span<iovec> vectors) {
    while (!vectors.empty()) {
      const ssize_t n = ::pwritev(fd_, vectors.data(), static_cast<int>(vectors.size()),
                                  static_cast<off_t>(offset));
      if (n < 0) {
        if (errno == EINTR) continue;
        return IoError("pwritev", path_, errno);
      }
      offset += static_cast<uint64_t>(n);
      size_t left = static_cast<size_t>(n);
      while (!vectors.empty() && left >= vectors.front().iov_len) {
        left -= vectors.front().iov_len;
        vectors = vectors.subspan(1);
      }
      if (n == 0 && !vectors.empty()) return IoError("pwritev", path_, ENOSPC);
      if (left != 0) {
        vectors.front().iov_base = static_cast<char*>(vectors.front().iov_base) + left;
        vectors.front().iov_len -= left;
      }
    }
    return {};
  }

  const int fd_;
  const std::string path_;
};

class PosixFileSystem : public FileSystem {
 public:
  Status CreateDirectories(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return IoError("mkdir", path, error.value());
    return {};
  }

  Result<std::vector<std::string>> List(const std::string& directory) override {
    std::error_code error;
    std::vector<std::string> names;
    std::filesystem::directory_iterator it(directory, error);
    for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
      if (it->is_regular_file(error)) names.push_back(it->path().filename().string());
    }
    if (error) return IoError("readdir", directory, error.value());
    return names;
  }

  Result<std::unique_ptr<File>> Open(const std::string& path, bool create) override {
    const int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0);
    const int fd = ::open(path.c_str(), flags, 0640);
    if (fd < 0) return IoError("open", path, errno);
    return std::unique_ptr<File>(std::make_unique<PosixFile>(fd, path));
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return IoError("rename", from, errno);
    return {};
  }

  Status Remove(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return IoError("unlink", path, errno);
    return {};
  }

  Status SyncDirectory(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return IoError("open", path, errno);
    const int result = ::fsync(fd);
    const int error = errno;
    ::close(fd);
    if (result != 0) return IoError("fsync", path, error);
    return {};
  }

  Result<uint64_t> FreeBytes(const std::string& path) override {
    struct statvfs info {};
    if (::statvfs(path.c_str(), &info) != 0) return IoError("statvfs", path, errno);
    return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
  }
};

}  // namespace

FileSystem* FileSystem::Posix() {
  static PosixFileSystem instance;
  return &instance;
}

}  // namespace onggi::log
