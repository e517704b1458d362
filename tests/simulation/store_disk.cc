#include "tests/simulation/store_disk.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace onggi::simulation {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

/// A file, or a directory.
struct StoreDisks::Inode {
  bool directory = false;
  // A file.
  std::string data;
  size_t synced = 0;  ///< bytes of data that a crash leaves
  // A directory: as it is, and as a crash leaves it.
  std::map<std::string, std::shared_ptr<Inode>> entries;
  std::map<std::string, std::shared_ptr<Inode>> durable;
};

/// One whose two directories have not been synced since.
struct StoreDisks::Rename {
  std::shared_ptr<Inode> from;
  std::string old_name;
  std::shared_ptr<Inode> to;
  std::string name;
  std::shared_ptr<Inode> what;
};

struct StoreDisks::Disk {
  std::shared_ptr<Inode> root = std::make_shared<Inode>(Inode{true, {}, 0, {}, {}});
  Life life = 0;
  bool cut = true;               ///< nobody lives on it, or nothing gets there any more
  uint64_t operations_left = 0;  ///< 0: as many as wanted
  uint64_t changes = 0;
  Faults faults;
  std::vector<Rename> renames;
  std::map<std::string, Life> locks;
};

/// Where a path leads.
struct StoreDisks::Place {
  Owner owner;
  Disk* disk = nullptr;  ///< null: of a life that is over, or cut off
  std::shared_ptr<Inode> parent;
  std::string name;
  std::shared_ptr<Inode> here;  ///< null: there is nothing
};

namespace {

IOStatus Gone() { return IOStatus::IOError("the disk is cut off"); }
/// On this thread. A compaction that has no room is tried again for as long as that lasts, and no
/// time passes here meanwhile: compactions have room.
thread_local bool compacting = false;

IOStatus Failed() { return IOStatus::IOError("the disk fails"); }
IOStatus Missing(const std::string& path) {
  return IOStatus::PathNotFound(path, "no such file or directory");
}

}  // namespace

class StoreDisks::Reader final : public rocksdb::FSSequentialFile,
                                 public rocksdb::FSRandomAccessFile {
 public:
  Reader(StoreDisks* disks, Owner owner, std::shared_ptr<Inode> inode)
      : disks_(disks), owner_(owner), inode_(std::move(inode)) {}

  IOStatus Read(size_t n, const IOOptions& options, Slice* result, char* scratch,
                IODebugContext* context) override {
    const IOStatus status = Read(offset_, n, options, result, scratch, context);
    offset_ += result->size();
    return status;
  }
  IOStatus Skip(uint64_t n) override {
    offset_ += n;
    return IOStatus::OK();
  }
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    std::lock_guard lock(disks_->mutex_);
    *result = Slice();
    const Disk* const disk = disks_->Find(owner_);
    if (disk == nullptr) return Gone();
    if (disk->faults.unreadable) return Failed();
    if (offset >= inode_->data.size()) return IOStatus::OK();
    const size_t size = std::min(n, inode_->data.size() - offset);
    std::memcpy(scratch, inode_->data.data() + offset, size);
    *result = Slice(scratch, size);
    return IOStatus::OK();
  }
  bool use_direct_io() const override { return false; }
  size_t GetRequiredBufferAlignment() const override { return 4096; }
  IOStatus InvalidateCache(size_t, size_t) override { return IOStatus::OK(); }
  rocksdb::Temperature GetTemperature() const override { return rocksdb::Temperature::kUnknown; }

 private:
  StoreDisks* const disks_;
  const Owner owner_;
  const std::shared_ptr<Inode> inode_;
  uint64_t offset_ = 0;
};

class StoreDisks::Writer final : public rocksdb::FSWritableFile {
 public:
  Writer(StoreDisks* disks, Owner owner, std::shared_ptr<Inode> inode)
      : disks_(disks), owner_(owner), inode_(std::move(inode)) {}

  using rocksdb::FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(disks_->mutex_);
    if (!disks_->Change(owner_)) return Gone();
    const Faults& faults = disks_->Find(owner_)->faults;
    if (faults.full && !compacting) return IOStatus::NoSpace("the disk is full");
    if (faults.unwritable) return Failed();
    inode_->data.append(data.data(), data.size());
    return IOStatus::OK();
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(disks_->mutex_);
    if (disks_->Find(owner_) == nullptr) return Gone();
    if (size < inode_->data.size()) inode_->data.resize(size);
    inode_->synced = std::min(inode_->synced, inode_->data.size());
    return IOStatus::OK();
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(disks_->mutex_);
    if (!disks_->Change(owner_)) return Gone();
    if (disks_->Find(owner_)->faults.unwritable) return Failed();
    inode_->synced = inode_->data.size();
    return IOStatus::OK();
  }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(disks_->mutex_);
    return inode_->data.size();
  }

 private:
  StoreDisks* const disks_;
  const Owner owner_;
  const std::shared_ptr<Inode> inode_;
};

class StoreDisks::Syncer final : public rocksdb::FSDirectory {
 public:
  Syncer(StoreDisks* disks, Owner owner, std::shared_ptr<Inode> inode)
      : disks_(disks), owner_(owner), inode_(std::move(inode)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    std::lock_guard lock(disks_->mutex_);
    if (!disks_->Change(owner_)) return Gone();
    disks_->Sync(disks_->Find(owner_), inode_);
    return IOStatus::OK();
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  StoreDisks* const disks_;
  const Owner owner_;
  const std::shared_ptr<Inode> inode_;
};

class StoreDisks::Lock final : public rocksdb::FileLock {
 public:
  Lock(Owner owner, std::string path) : owner_(owner), path_(std::move(path)) {}
  const Owner owner_;
  const std::string path_;
};

StoreDisks::StoreDisks() = default;
StoreDisks::~StoreDisks() = default;

// Lives. ------------------------------------------------------------------------------------------

std::string StoreDisks::Begin(NodeId node) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<Disk>& disk = disks_[node];
  if (disk == nullptr) disk = std::make_unique<Disk>();
  ++disk->life;
  ++disk->changes;
  disk->cut = false;
  disk->operations_left = 0;
  return "/" + node.ToString() + "/" + std::to_string(disk->life);
}

void StoreDisks::Crash(NodeId node, Random* random) {
  std::lock_guard lock(mutex_);
  Disk& disk = *disks_.at(node);
  disk.cut = true;
  disk.operations_left = 0;
  disk.locks.clear();
  ++disk.changes;
  // What the file system had written by itself: all names, or none that nobody asked for.
  const bool names = random->Chance(500);
  std::vector<std::shared_ptr<Inode>> todo{disk.root};
  while (!todo.empty()) {
    const std::shared_ptr<Inode> inode = todo.back();
    todo.pop_back();
    if (!inode->directory) {
      const size_t loose = inode->data.size() - inode->synced;
      if (loose > 0) inode->data.resize(inode->synced + random->Below(loose + 1));
      inode->synced = inode->data.size();
      continue;
    }
    if (names) {
      inode->durable = inode->entries;
    } else {
      inode->entries = inode->durable;
    }
    for (const auto& [name, child] : inode->entries) todo.push_back(child);
  }
  disk.renames.clear();
}

void StoreDisks::Wipe(NodeId node) {
  std::lock_guard lock(mutex_);
  Disk& disk = *disks_.at(node);
  disk.root = std::make_shared<Inode>(Inode{true, {}, 0, {}, {}});
  disk.renames.clear();
  ++disk.changes;
}

void StoreDisks::CutAfter(NodeId node, uint64_t operations) {
  std::lock_guard lock(mutex_);
  disks_.at(node)->operations_left = operations;
}

void StoreDisks::Cut(NodeId node) {
  std::lock_guard lock(mutex_);
  disks_.at(node)->cut = true;
}

bool StoreDisks::IsCut(NodeId node) const {
  std::lock_guard lock(mutex_);
  return disks_.at(node)->cut;
}

void StoreDisks::SetFaults(NodeId node, const Faults& faults) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<Disk>& disk = disks_[node];
  if (disk == nullptr) disk = std::make_unique<Disk>();
  disk->faults = faults;
}

bool StoreDisks::unreadable(NodeId node) const {
  std::lock_guard lock(mutex_);
  return disks_.at(node)->faults.unreadable;
}

uint64_t StoreDisks::changes(NodeId node) const {
  std::lock_guard lock(mutex_);
  return disks_.at(node)->changes;
}

StoreDisks::Tree StoreDisks::Take(const std::string& directory) const {
  std::lock_guard lock(mutex_);
  Tree files;
  const Place place = Walk(directory);
  if (place.disk == nullptr || place.here == nullptr) return files;
  for (const auto& [name, inode] : place.here->entries) {
    if (!inode->directory) files[name] = inode->data;
  }
  return files;
}

void StoreDisks::Put(const std::string& directory, const Tree& files) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(directory);
  if (place.disk == nullptr || place.parent == nullptr) return;
  auto made = std::make_shared<Inode>();
  made->directory = true;
  for (const auto& [name, data] : files) {
    auto file = std::make_shared<Inode>();
    file->data = data;
    file->synced = data.size();
    made->entries[name] = std::move(file);
  }
  made->durable = made->entries;
  place.parent->entries[place.name] = made;
  place.parent->durable[place.name] = made;
}

// Paths and changes. ------------------------------------------------------------------------------

StoreDisks::Disk* StoreDisks::Find(const Owner& owner) const {
  const auto disk = disks_.find(owner.node);
  if (disk == disks_.end() || disk->second->cut || disk->second->life != owner.life) return nullptr;
  return disk->second.get();
}

/// May a change happen? Counts it.
bool StoreDisks::Change(const Owner& owner) {
  Disk* const disk = Find(owner);
  if (disk == nullptr) return false;
  if (disk->operations_left != 0 && --disk->operations_left == 0) {
    disk->cut = true;
    return false;
  }
  ++disk->changes;
  return true;
}

StoreDisks::Place StoreDisks::Walk(const std::string& path) const {
  std::vector<std::string> parts;
  for (size_t at = 0; at < path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    if (slash > at) parts.push_back(path.substr(at, slash - at));
    at = slash + 1;
  }
  CHECK(parts.size() >= 2);
  Place place;
  place.owner = {NodeId(std::stoull(parts[0])), std::stoull(parts[1])};
  place.disk = Find(place.owner);
  if (place.disk == nullptr) return place;
  place.here = place.disk->root;
  for (size_t i = 2; i < parts.size(); ++i) {
    place.parent = std::exchange(place.here, nullptr);
    if (place.parent == nullptr || !place.parent->directory)
      return Place{place.owner, place.disk, nullptr, {}, nullptr};
    place.name = parts[i];
    const auto found = place.parent->entries.find(parts[i]);
    if (found != place.parent->entries.end()) place.here = found->second;
  }
  return place;
}

/// With the other side of every rename that this directory has part in.
void StoreDisks::Sync(Disk* disk, const std::shared_ptr<Inode>& directory) {
  directory->durable = directory->entries;
  std::erase_if(disk->renames, [&](const Rename& rename) {
    if (rename.from != directory && rename.to != directory) return false;
    const auto old = rename.from->durable.find(rename.old_name);
    if (old != rename.from->durable.end() && old->second == rename.what)
      rename.from->durable.erase(old);
    if (rename.to != directory) {
      const auto now = rename.to->entries.find(rename.name);
      if (now != rename.to->entries.end() && now->second == rename.what)
        rename.to->durable[rename.name] = rename.what;
    }
    return true;
  });
}

// rocksdb::FileSystem. ----------------------------------------------------------------------------

IOStatus StoreDisks::NewSequentialFile(const std::string& path, const rocksdb::FileOptions&,
                                       std::unique_ptr<rocksdb::FSSequentialFile>* file,
                                       IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  if (place.here == nullptr || place.here->directory) return Missing(path);
  *file = std::make_unique<Reader>(this, place.owner, place.here);
  return IOStatus::OK();
}

IOStatus StoreDisks::NewRandomAccessFile(const std::string& path, const rocksdb::FileOptions&,
                                         std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                         IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  if (place.here == nullptr || place.here->directory) return Missing(path);
  *file = std::make_unique<Reader>(this, place.owner, place.here);
  return IOStatus::OK();
}

IOStatus StoreDisks::NewWritableFile(const std::string& path, const rocksdb::FileOptions&,
                                     std::unique_ptr<rocksdb::FSWritableFile>* file,
                                     IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr || !Change(place.owner)) return Gone();
  if (place.parent == nullptr || !place.parent->directory) return Missing(path);
  auto made = std::make_shared<Inode>();
  place.parent->entries[place.name] = made;
  *file = std::make_unique<Writer>(this, place.owner, std::move(made));
  return IOStatus::OK();
}

IOStatus StoreDisks::NewDirectory(const std::string& path, const IOOptions&,
                                  std::unique_ptr<rocksdb::FSDirectory>* directory,
                                  IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  if (place.here == nullptr || !place.here->directory) return Missing(path);
  *directory = std::make_unique<Syncer>(this, place.owner, place.here);
  return IOStatus::OK();
}

IOStatus StoreDisks::FileExists(const std::string& path, const IOOptions&, IODebugContext*) {
  if (path.find('/', 1) == std::string::npos) return IOStatus::OK();  // a node's lives
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  return place.here == nullptr ? IOStatus::NotFound() : IOStatus::OK();
}

IOStatus StoreDisks::IsDirectory(const std::string& path, const IOOptions&, bool* is,
                                 IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  if (place.here == nullptr) return Missing(path);
  *is = place.here->directory;
  return IOStatus::OK();
}

IOStatus StoreDisks::GetChildren(const std::string& path, const IOOptions&,
                                 std::vector<std::string>* children, IODebugContext*) {
  std::lock_guard lock(mutex_);
  children->clear();
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  if (place.here == nullptr || !place.here->directory) return IOStatus::NotFound(path);
  for (const auto& [name, inode] : place.here->entries) children->push_back(name);
  return IOStatus::OK();
}

IOStatus StoreDisks::DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr || !Change(place.owner)) return Gone();
  if (place.here == nullptr || place.here->directory) return Missing(path);
  place.parent->entries.erase(place.name);
  return IOStatus::OK();
}

IOStatus StoreDisks::CreateDir(const std::string& path, const IOOptions& options,
                               IODebugContext* context) {
  if (FileExists(path, options, context).ok())
    return IOStatus::IOError(path, "there is such a directory");
  return CreateDirIfMissing(path, options, context);
}

IOStatus StoreDisks::CreateDirIfMissing(const std::string& path, const IOOptions&,
                                        IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  if (place.here != nullptr)
    return place.here->directory ? IOStatus::OK() : IOStatus::IOError(path, "not a directory");
  if (!Change(place.owner)) return Gone();
  if (place.parent == nullptr) return Missing(path);
  auto made = std::make_shared<Inode>();
  made->directory = true;
  place.parent->entries[place.name] = std::move(made);
  return IOStatus::OK();
}

IOStatus StoreDisks::DeleteDir(const std::string& path, const IOOptions&, IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr || !Change(place.owner)) return Gone();
  if (place.here == nullptr || !place.here->directory) return Missing(path);
  if (!place.here->entries.empty()) return IOStatus::IOError(path, "not empty");
  place.parent->entries.erase(place.name);
  return IOStatus::OK();
}

IOStatus StoreDisks::GetFileSize(const std::string& path, const IOOptions&, uint64_t* size,
                                 IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  if (place.here == nullptr || place.here->directory) return Missing(path);
  *size = place.here->data.size();
  return IOStatus::OK();
}

IOStatus StoreDisks::GetFileModificationTime(const std::string&, const IOOptions&, uint64_t* time,
                                             IODebugContext*) {
  *time = 1'700'000'000;
  return IOStatus::OK();
}

IOStatus StoreDisks::RenameFile(const std::string& from, const std::string& to, const IOOptions&,
                                IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place source = Walk(from);
  const Place target = Walk(to);
  if (source.disk == nullptr || !Change(source.owner)) return Gone();
  if (source.here == nullptr) return Missing(from);
  if (target.parent == nullptr) return Missing(to);
  if (target.here != nullptr && target.here->directory)
    return IOStatus::IOError(to, "there is such a directory");
  source.parent->entries.erase(source.name);
  target.parent->entries[target.name] = source.here;
  source.disk->renames.push_back(
      {source.parent, source.name, target.parent, target.name, source.here});
  return IOStatus::OK();
}

IOStatus StoreDisks::LinkFile(const std::string& from, const std::string& to, const IOOptions&,
                              IODebugContext*) {
  std::lock_guard lock(mutex_);
  const Place source = Walk(from);
  const Place target = Walk(to);
  if (source.disk == nullptr || !Change(source.owner)) return Gone();
  if (source.here == nullptr || source.here->directory) return Missing(from);
  if (target.parent == nullptr) return Missing(to);
  if (target.here != nullptr) return IOStatus::IOError(to, "there is such a file");
  target.parent->entries[target.name] = source.here;
  return IOStatus::OK();
}

IOStatus StoreDisks::LockFile(const std::string& path, const IOOptions&, rocksdb::FileLock** lock,
                              IODebugContext*) {
  std::lock_guard guard(mutex_);
  const Place place = Walk(path);
  if (place.disk == nullptr) return Gone();
  if (!place.disk->locks.try_emplace(path, place.owner.life).second)
    return IOStatus::IOError(path, "somebody has it open");
  *lock = new Lock(place.owner, path);
  return IOStatus::OK();
}

IOStatus StoreDisks::UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) {
  std::lock_guard guard(mutex_);
  const std::unique_ptr<Lock> owned(static_cast<Lock*>(lock));
  if (Disk* disk = Find(owned->owner_)) disk->locks.erase(owned->path_);
  return IOStatus::OK();
}

// Background work. --------------------------------------------------------------------------------

StoreEnv::StoreEnv(const std::shared_ptr<rocksdb::FileSystem>& disks)
    : EnvWrapper(rocksdb::NewCompositeEnv(disks)), flusher_([this] { RunFlushes(); }) {}

StoreEnv::~StoreEnv() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  flusher_.join();
}

void StoreEnv::Schedule(void (*function)(void*), void* arg, Priority priority, void* tag,
                        void (*unschedule)(void*)) {
  std::lock_guard lock(mutex_);
  (priority == HIGH ? flushes_ : others_).push_back({function, arg, tag, unschedule});
  if (priority == HIGH) changed_.notify_all();
}

int StoreEnv::UnSchedule(void* tag, Priority priority) {
  std::vector<Job> removed;
  {
    std::lock_guard lock(mutex_);
    std::erase_if(priority == HIGH ? flushes_ : others_, [&](const Job& job) {
      if (job.tag != tag) return false;
      removed.push_back(job);
      return true;
    });
  }
  for (const Job& job : removed) {
    if (job.unschedule != nullptr) job.unschedule(job.arg);
  }
  return static_cast<int>(removed.size());
}

unsigned int StoreEnv::GetThreadPoolQueueLen(Priority priority) const {
  std::lock_guard lock(mutex_);
  return static_cast<unsigned int>(priority == HIGH ? flushes_.size() : others_.size());
}

void StoreEnv::RunFlushes() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !flushes_.empty(); });
    if (flushes_.empty()) return;
    const Job job = flushes_.front();
    flushes_.pop_front();
    flushing_ = true;
    lock.unlock();
    job.function(job.arg);
    lock.lock();
    flushing_ = false;
    changed_.notify_all();
  }
}

void StoreEnv::Settle() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !flushing_ && flushes_.empty(); });
    if (others_.empty()) return;
    const Job job = others_.front();
    others_.pop_front();
    lock.unlock();
    compacting = true;
    job.function(job.arg);
    compacting = false;
    lock.lock();
  }
}

}  // namespace onggi::simulation
