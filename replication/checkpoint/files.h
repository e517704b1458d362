#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

struct XXH3_state_s;

/// Files of checkpoints: what a sender's directory holds, and what a receiver has got so far.
namespace onggi::checkpoint {

/// A file descriptor that is closed with it.
class File {
 public:
  File() = default;
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  int get() const { return descriptor_; }
  bool open() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

/// A file of a checkpoint.
struct FileInfo {
  std::string name;
  uint64_t bytes = 0;
  /// Of its inode and time of change: hard links of one file have the same, on one disk.
  uint64_t identity = 0;
  bool operator==(const FileInfo&) const = default;
};

/// xxh3 (64 bits, seed 0).
uint64_t Xxh3(std::string_view bytes);
/// The same of bytes that come in pieces.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;
  void Update(std::string_view bytes);
  uint64_t Digest() const;

 private:
  XXH3_state_s* const state_;
};

/// The files of a directory, by name. kInvalidArgument when there is anything but plain files.
Result<std::vector<FileInfo>> ListFiles(const std::string& directory);

/// Opens a file to be read from start to end.
Result<File> OpenToRead(const std::string& path);
/// Reads up to `size` bytes at `offset` into `out`; fewer at the end of the file.
Status ReadAt(const File& file, const std::string& path, uint64_t offset, size_t size,
              std::string* out);

/// Bytes free for unprivileged use where `path` is.
Result<uint64_t> FreeBytes(const std::string& path);

Status MakeDirectory(const std::string& path);
Status SyncDirectory(const std::string& path);
/// Removes it with all in it, if it is there.
void RemoveDirectory(const std::string& path);

/// What has been received of a checkpoint: its files, and a note of how much of each is durable,
/// from which a later attempt, or process, goes on.
///
/// One thread at a time.
class PartialDirectory {
 public:
  /// What there is of one file.
  struct Progress {
    FileInfo file;
    uint64_t durable = 0;  ///< file.bytes: all, and verified
  };

  /// Makes the directory or takes up what is in it: files without a note, and notes without a file,
  /// are dropped.
  static Result<PartialDirectory> Open(std::string directory);

  const std::map<std::string, Progress>& progress() const { return progress_; }

  /// Drops every file that is not among `files`.
  Status Keep(const std::vector<FileInfo>& files);

  /// Starts to write a file at `offset`, which is no further than what is durable of it.
  Status Begin(const FileInfo& file, uint64_t offset);
  /// kOutOfSpace when the disk is full.
  Status Write(std::string_view bytes);
  /// Makes what was written durable, and notes it.
  Status Sync();
  /// Syncs and closes the file being written, if there is one.
  Status Suspend();
  /// The file is complete: kCorruption, and it is dropped, when its xxh3 is another one.
  Status Finish(uint64_t xxh3);

  /// All files are complete: removes the note and syncs the directory.
  Status Complete();

  /// The file being written (nullptr: none), and how much of it there is.
  const FileInfo* current() const { return file_.open() ? &current_ : nullptr; }
  uint64_t written() const { return written_; }
  /// Bytes written and not synced.
  uint64_t unsynced() const { return written_ - synced_; }
  const std::string& path() const { return directory_; }

 private:
  explicit PartialDirectory(std::string directory) : directory_(std::move(directory)) {}
  Status ReadNotes();
  Status Note(const Progress& progress);
  Status Drop(const std::string& name);
  void WriteBehind();
  std::string PathOf(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_;
  std::map<std::string, Progress> progress_;
  File notes_;
  // The file being written.
  File file_;
  FileInfo current_;
  uint64_t written_ = 0;
  uint64_t synced_ = 0;
  uint64_t begun_ = 0;  ///< on its way to the disk up to here
  std::unique_ptr<Xxh3Stream> hash_;
};

/// Whether a sender's file name may be used here: a plain name, and none of ours.
bool ValidFileName(std::string_view name);

}  // namespace onggi::checkpoint
