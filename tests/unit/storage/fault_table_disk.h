#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace onggi::storage {

/// A place in the code under test where the next who comes by is held until Open().
class Gate {
 public:
  /// Holds the next at a file whose path has `part` in it.
  void Close(std::string part) {
    std::lock_guard lock(mutex_);
    part_ = std::move(part);
  }
  void Open() {
    std::lock_guard lock(mutex_);
    part_.clear();
    held_ = false;
    opened_.notify_all();
  }
  bool held() const {
    std::lock_guard lock(mutex_);
    return held_;
  }
  void Pass(const std::string& path) {
    std::unique_lock lock(mutex_);
    if (part_.empty() || path.find(part_) == std::string::npos) return;
    part_.clear();
    held_ = true;
    opened_.wait(lock, [this] { return !held_; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable opened_;
  std::string part_;   // guarded by mutex_; empty: open
  bool held_ = false;  // guarded by mutex_
};

/// RocksDB's disk, on which no table file can be made while `full`, or `broken`, and no small file
/// beside the stores read while `unreadable`.
class FaultTableDisk : public rocksdb::FileSystemWrapper {
 public:
  FaultTableDisk() : rocksdb::FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FaultTableDisk"; }
  std::atomic<bool> full{false};
  std::atomic<bool> broken{false};
  std::atomic<bool> unreadable{false};
  Gate making;   ///< of table files
  Gate reading;  ///< of table files that were opened since

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* context) override {
    if (full && name.ends_with(".sst")) return rocksdb::IOStatus::NoSpace("injected");
    if (broken && name.ends_with(".sst")) return rocksdb::IOStatus::IOError("injected");
    if (name.ends_with(".sst")) making.Pass(name);
    return rocksdb::FileSystemWrapper::NewWritableFile(name, options, result, context);
  }
  rocksdb::IOStatus NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                      rocksdb::IODebugContext* context) override {
    const bool small = name.ends_with("/REPLICA") || name.ends_with("/PARENT");
    if (unreadable && small) return rocksdb::IOStatus::IOError("injected");
    return rocksdb::FileSystemWrapper::NewSequentialFile(name, options, result, context);
  }
  rocksdb::IOStatus NewRandomAccessFile(const std::string& name,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                        rocksdb::IODebugContext* context) override {
    std::unique_ptr<rocksdb::FSRandomAccessFile> file;
    rocksdb::IOStatus status =
        rocksdb::FileSystemWrapper::NewRandomAccessFile(name, options, &file, context);
    if (status.ok()) *result = std::make_unique<TableFile>(this, name, std::move(file));
    return status;
  }

 private:
  class TableFile : public rocksdb::FSRandomAccessFileOwnerWrapper {
   public:
    TableFile(FaultTableDisk* disk, std::string name,
              std::unique_ptr<rocksdb::FSRandomAccessFile> base)
        : rocksdb::FSRandomAccessFileOwnerWrapper(std::move(base)),
          disk_(disk),
          name_(std::move(name)) {}
    rocksdb::IOStatus Read(uint64_t offset, size_t size, const rocksdb::IOOptions& options,
                           rocksdb::Slice* result, char* scratch,
                           rocksdb::IODebugContext* context) const override {
      disk_->reading.Pass(name_);
      return rocksdb::FSRandomAccessFileOwnerWrapper::Read(offset, size, options, result, scratch,
                                                           context);
    }

   private:
    FaultTableDisk* const disk_;
    const std::string name_;
  };
};

}  // namespace onggi::storage
