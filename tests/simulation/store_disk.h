#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/ids.h"
#include "tests/simulation/scheduler.h"

namespace onggi::simulation {

/// The disks of all nodes as the stores of their replicas have them: a file system in memory that
/// knows what a crash would leave.
///
/// A path is /<node>/<life>/..., the node's disk as one of its processes sees it: once a life is
/// over, or the disk is cut off under it, everything it still tries fails. What a file holds is
/// durable after its fsync, a name after that of its directory, and a rename is whole or not at
/// all. Any thread.
class StoreDisks final : public rocksdb::FileSystem {
 public:
  using Life = uint64_t;
  struct Inode;
  struct Rename;

  StoreDisks();
  ~StoreDisks() override;

  /// The node's next life begins: the root of its paths.
  std::string Begin(NodeId node);
  /// The life ends without warning: what was not synced is lost, more or less of it.
  void Crash(NodeId node, Random* random);
  void Wipe(NodeId node);
  /// The `operations`th change from now on, and all that follow, do not happen any more: the power
  /// goes in the middle of something.
  void CutAfter(NodeId node, uint64_t operations);
  /// Nothing does from now on.
  void Cut(NodeId node);
  /// Does nothing reach the disk any more, in this life?
  bool IsCut(NodeId node) const;
  /// What the node's disk answers from now on, in all its lives: to writes that there is no room,
  /// to writes and syncs that they failed, to reads the same.
  struct Faults {
    bool full = false;
    bool unwritable = false;
    bool unreadable = false;
  };
  void SetFaults(NodeId node, const Faults& faults);
  bool unreadable(NodeId node) const;
  /// Counts what has become durable, and names that changed.
  uint64_t changes(NodeId node) const;

  /// All files of a directory, flat, as they are now; and such files as a durable directory.
  using Tree = std::map<std::string, std::string>;
  Tree Take(const std::string& directory) const;
  void Put(const std::string& directory, const Tree& files);

  // rocksdb::FileSystem.
  const char* Name() const override { return "StoreDisks"; }
  rocksdb::IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions&,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* file,
                                      rocksdb::IODebugContext*) override;
  rocksdb::IOStatus NewRandomAccessFile(const std::string& path, const rocksdb::FileOptions&,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext*) override;
  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions&,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext*) override;
  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions&,
                                 std::unique_ptr<rocksdb::FSDirectory>* directory,
                                 rocksdb::IODebugContext*) override;
  rocksdb::IOStatus FileExists(const std::string& path, const rocksdb::IOOptions&,
                               rocksdb::IODebugContext*) override;
  rocksdb::IOStatus GetChildren(const std::string& path, const rocksdb::IOOptions&,
                                std::vector<std::string>* children,
                                rocksdb::IODebugContext*) override;
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions&,
                               rocksdb::IODebugContext*) override;
  rocksdb::IOStatus CreateDir(const std::string& path, const rocksdb::IOOptions&,
                              rocksdb::IODebugContext*) override;
  rocksdb::IOStatus CreateDirIfMissing(const std::string& path, const rocksdb::IOOptions&,
                                       rocksdb::IODebugContext*) override;
  rocksdb::IOStatus DeleteDir(const std::string& path, const rocksdb::IOOptions&,
                              rocksdb::IODebugContext*) override;
  rocksdb::IOStatus GetFileSize(const std::string& path, const rocksdb::IOOptions&, uint64_t* size,
                                rocksdb::IODebugContext*) override;
  rocksdb::IOStatus GetFileModificationTime(const std::string& path, const rocksdb::IOOptions&,
                                            uint64_t* time, rocksdb::IODebugContext*) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions&, rocksdb::IODebugContext*) override;
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions&, rocksdb::IODebugContext*) override;
  rocksdb::IOStatus LockFile(const std::string& path, const rocksdb::IOOptions&,
                             rocksdb::FileLock** lock, rocksdb::IODebugContext*) override;
  rocksdb::IOStatus UnlockFile(rocksdb::FileLock* lock, const rocksdb::IOOptions&,
                               rocksdb::IODebugContext*) override;
  rocksdb::IOStatus GetTestDirectory(const rocksdb::IOOptions&, std::string*,
                                     rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::NotSupported("no such directory");
  }
  rocksdb::IOStatus GetAbsolutePath(const std::string& path, const rocksdb::IOOptions&,
                                    std::string* out, rocksdb::IODebugContext*) override {
    *out = path;
    return rocksdb::IOStatus::OK();
  }
  rocksdb::IOStatus IsDirectory(const std::string& path, const rocksdb::IOOptions&, bool* is,
                                rocksdb::IODebugContext*) override;

 private:
  class Reader;
  class Writer;
  class Syncer;
  class Lock;
  struct Disk;
  /// Whose operation it is.
  struct Owner {
    NodeId node;
    Life life = 0;
  };
  struct Place;

  // All under mutex_.
  Disk* Find(const Owner& owner) const;
  bool Change(const Owner& owner);
  Place Walk(const std::string& path) const;
  void Sync(Disk* disk, const std::shared_ptr<Inode>& directory);

  mutable std::mutex mutex_;
  std::map<NodeId, std::unique_ptr<Disk>> disks_;
};

/// RocksDB's environment over such disks. What it does in the background runs when the simulation
/// waits for it: flushes, for which their callers wait, at once, everything else in Settle(). So
/// the same seed has the same order of events.
class StoreEnv final : public rocksdb::EnvWrapper {
 public:
  explicit StoreEnv(const std::shared_ptr<rocksdb::FileSystem>& disks);
  ~StoreEnv() override;

  /// Returns when there is no background work left. On the simulation's thread, outside of RocksDB.
  void Settle();

  const char* Name() const override { return "StoreEnv"; }
  void Schedule(void (*function)(void*), void* arg, Priority priority, void* tag,
                void (*unschedule)(void*)) override;
  int UnSchedule(void* tag, Priority priority) override;
  unsigned int GetThreadPoolQueueLen(Priority priority) const override;
  void SetBackgroundThreads(int, Priority) override {}
  int GetBackgroundThreads(Priority priority) override { return priority == BOTTOM ? 0 : 1; }
  void IncBackgroundThreadsIfNeeded(int, Priority) override {}
  /// RocksDB does so after failed work, for the disk to recover: here that takes no real time.
  void SleepForMicroseconds(int) override {}

 private:
  struct Job {
    void (*function)(void*);
    void* arg;
    void* tag;
    void (*unschedule)(void*);
  };

  void RunFlushes();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> flushes_;  // guarded by mutex_
  std::deque<Job> others_;   // guarded by mutex_
  bool flushing_ = false;    // guarded by mutex_
  bool stopping_ = false;    // guarded by mutex_
  std::thread flusher_;
};

}  // namespace onggi::simulation
