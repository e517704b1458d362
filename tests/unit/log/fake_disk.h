#pragma once

#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "replication/log/file_system.h"

namespace onggi::log {

/// A disk in memory that can be full, fail, and lose what was not synced. Names are durable at
/// once.
class FakeDisk : public FileSystem {
 public:
  struct Image {
    std::string now;
    std::string synced;
    /// Writes since the last sync, in order.
    std::vector<std::pair<uint64_t, std::string>> unsynced;
  };

  // Faults. --------------------------------------------------------------------------------------
  using OnWrite = std::function<Status(const std::string& path, uint64_t offset, size_t size)>;
  using OnSync = std::function<Status(const std::string& path)>;
  /// Asked before each write and sync; an error is what the call returns. A failed write leaves
  /// half of its bytes.
  void set_on_write(OnWrite hook) {
    std::lock_guard lock(mutex_);
    on_write_ = std::make_shared<const OnWrite>(std::move(hook));
  }
  void set_on_sync(OnSync hook) {
    std::lock_guard lock(mutex_);
    on_sync_ = std::make_shared<const OnSync>(std::move(hook));
  }

  void set_capacity(uint64_t bytes) {
    std::lock_guard lock(mutex_);
    capacity_ = bytes;
  }

  /// Loses power: of each file's unsynced writes the first `keep` bytes survive.
  void Crash(uint64_t keep) {
    std::lock_guard lock(mutex_);
    for (auto& [path, image] : files_) {
      std::string after = image->synced;
      uint64_t left = keep;
      for (const auto& [offset, bytes] : image->unsynced) {
        const size_t n = std::min<uint64_t>(left, bytes.size());
        Apply(&after, offset, std::string_view(bytes).substr(0, n));
        left -= n;
      }
      *image = {after, after, {}};
    }
  }

  /// What a loss of power leaves: each unsynced 512-byte sector survives or not, as `random` has
  /// it. For Restore(); the files themselves stay as they are, since their user is still at work
  /// and may be told at any moment that they are synced.
  std::map<std::string, std::string> CrashAtRandom(std::mt19937_64* random) {
    std::map<std::string, std::string> all;
    std::lock_guard lock(mutex_);
    for (const auto& [path, image] : files_) {
      std::string after = image->synced;
      after.resize(image->now.size());
      for (const auto& [offset, bytes] : image->unsynced) {
        for (uint64_t at = 0; at < bytes.size();) {
          const uint64_t end =
              std::min<uint64_t>(bytes.size(), ((offset + at) / 512 + 1) * 512 - offset);
          if ((*random)() % 2 == 0)
            Apply(&after, offset + at, std::string_view(bytes).substr(at, end - at));
          at = end;
        }
      }
      all[path] = std::move(after);
    }
    return all;
  }

  /// The bytes of a file, to look at or damage between two lives of a log.
  std::string& Bytes(const std::string& path) { return files_.at(path)->now; }
  /// Makes Bytes what a crash keeps.
  void Settle() {
    std::lock_guard lock(mutex_);
    for (auto& [path, image] : files_) *image = {image->now, image->now, {}};
  }
  std::map<std::string, std::string> Snapshot() {
    std::lock_guard lock(mutex_);
    std::map<std::string, std::string> all;
    for (auto& [path, image] : files_) all[path] = image->now;
    return all;
  }
  void Restore(const std::map<std::string, std::string>& all) {
    std::lock_guard lock(mutex_);
    files_.clear();
    for (auto& [path, bytes] : all) {
      files_[path] = std::make_shared<Image>();
      *files_[path] = {bytes, bytes, {}};
    }
  }
  size_t CountNames(std::string_view prefix) {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (auto& [path, image] : files_)
      count += path.substr(path.rfind('/') + 1).starts_with(prefix) ? 1 : 0;
    return count;
  }

  // FileSystem. ----------------------------------------------------------------------------------
  Status CreateDirectories(const std::string&) override { return {}; }

  Result<std::vector<std::string>> List(const std::string& directory) override {
    std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (auto& [path, image] : files_)
      if (path.starts_with(directory + "/")) names.push_back(path.substr(directory.size() + 1));
    return names;
  }

  Result<std::unique_ptr<File>> Open(const std::string& path, bool create) override {
    std::lock_guard lock(mutex_);
    if (create) files_[path] = std::make_shared<Image>();
    if (!files_.contains(path)) return IoError("open", path, ENOENT);
    return std::unique_ptr<File>(std::make_unique<FakeFile>(this, path, files_[path]));
  }

  Status Rename(const std::string& from, const std::string& to) override {
    std::lock_guard lock(mutex_);
    if (!files_.contains(from)) return IoError("rename", from, ENOENT);
    auto node = files_.extract(from);
    node.key() = to;
    files_.erase(to);
    files_.insert(std::move(node));
    return {};
  }

  Status Remove(const std::string& path) override {
    std::lock_guard lock(mutex_);
    if (files_.erase(path) == 0) return IoError("unlink", path, ENOENT);
    return {};
  }

  Status SyncDirectory(const std::string&) override { return {}; }

  Result<uint64_t> FreeBytes(const std::string&) override {
    std::lock_guard lock(mutex_);
    const uint64_t used = Used();
    return used >= capacity_ ? 0 : capacity_ - used;
  }

 private:
  class FakeFile : public File {
   public:
    FakeFile(FakeDisk* disk, std::string path, std::shared_ptr<Image> image)
        : disk_(disk), path_(std::move(path)), image_(std::move(image)) {}

    Status Write(uint64_t offset, std::span<const std::string_view> pieces) override {
      std::string all;
      for (const std::string_view piece : pieces) all += piece;
      Status status;
      const auto hook = disk_->Hook(disk_->on_write_);
      if (*hook) status = (*hook)(path_, offset, all.size());
      if (!status.ok()) all.resize(all.size() / 2);
      std::lock_guard lock(disk_->mutex_);
      Apply(&image_->now, offset, all);
      image_->unsynced.emplace_back(offset, std::move(all));
      return status;
    }

    Result<size_t> Read(uint64_t offset, char* data, size_t size) override {
      std::lock_guard lock(disk_->mutex_);
      if (offset >= image_->now.size()) return size_t{0};
      const size_t n = std::min<size_t>(size, image_->now.size() - offset);
      std::memcpy(data, image_->now.data() + offset, n);
      return n;
    }

    Status Sync() override {
      const auto hook = disk_->Hook(disk_->on_sync_);
      if (*hook) RETURN_IF_ERROR((*hook)(path_));
      std::lock_guard lock(disk_->mutex_);
      image_->synced.resize(image_->now.size());
      for (const auto& [offset, bytes] : image_->unsynced) Apply(&image_->synced, offset, bytes);
      image_->unsynced.clear();
      return {};
    }

    Status Allocate(uint64_t size) override {
      std::lock_guard lock(disk_->mutex_);
      if (size <= image_->now.size()) return {};
      if (disk_->Used() + size - image_->now.size() > disk_->capacity_)
        return IoError("fallocate", path_, ENOSPC);
      image_->now.resize(size);
      return {};
    }

    Result<uint64_t> Size() override {
      std::lock_guard lock(disk_->mutex_);
      return image_->now.size();
    }

   private:
    FakeDisk* const disk_;
    const std::string path_;
    const std::shared_ptr<Image> image_;
  };

  static void Apply(std::string* bytes, uint64_t offset, std::string_view piece) {
    if (bytes->size() < offset + piece.size()) bytes->resize(offset + piece.size());
    bytes->replace(offset, piece.size(), piece);
  }

  // A hook runs without the lock: it may wait.
  template <class T>
  T Hook(const T& hook) {
    std::lock_guard lock(mutex_);
    return hook;
  }

  uint64_t Used() const {
    uint64_t used = 0;
    for (auto& [path, image] : files_) used += image->now.size();
    return used;
  }

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Image>> files_;
  uint64_t capacity_ = 1ull << 40;
  std::shared_ptr<const OnWrite> on_write_ = std::make_shared<const OnWrite>();
  std::shared_ptr<const OnSync> on_sync_ = std::make_shared<const OnSync>();
};

}  // namespace onggi::log
