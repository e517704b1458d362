#include "replication/checkpoint/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "common/check.h"

namespace onggi::checkpoint {
namespace {

/// The file of a PartialDirectory that says what is durable. No sender's file has this name.
constexpr std::string_view kNotesName = ".received";

constexpr size_t kReadBytes = 1 << 20;
/// What is on its way to the disk at once, about twice.
constexpr uint64_t kWriteBehindBytes = 1 << 20;

Status WriteError(std::string_view call, const std::string& path, int error) {
  Status status = IoError(call, path, error);
  if (error == ENOSPC || error == EDQUOT) return {Code::kOutOfSpace, status.message()};
  return status;
}

Status WriteAll(int descriptor, const std::string& path, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return WriteError("write", path, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return Status::Ok();
}

}  // namespace

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}
File::File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

uint64_t Xxh3(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

Xxh3Stream::Xxh3Stream() : state_(XXH3_createState()) {
  CHECK(state_ != nullptr);
  XXH3_64bits_reset(state_);
}
Xxh3Stream::~Xxh3Stream() { XXH3_freeState(state_); }
void Xxh3Stream::Update(std::string_view bytes) {
  XXH3_64bits_update(state_, bytes.data(), bytes.size());
}
uint64_t Xxh3Stream::Digest() const { return XXH3_64bits_digest(state_); }

bool ValidFileName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name.front() != '.' &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos &&
         name.find('\n') == std::string_view::npos;
}

Result<std::vector<FileInfo>> ListFiles(const std::string& directory) {
  std::error_code error;
  std::vector<FileInfo> files;
  auto entries = std::filesystem::directory_iterator(directory, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::string path = entries->path().string();
    FileInfo info;
    info.name = entries->path().filename().string();
    struct stat stat {};
    if (::lstat(path.c_str(), &stat) != 0) return IoError("lstat", path, errno);
    if (!S_ISREG(stat.st_mode) || !ValidFileName(info.name)) {
      return InvalidArgument("a checkpoint has plain files only, not " + path);
    }
    info.bytes = static_cast<uint64_t>(stat.st_size);
    const uint64_t parts[] = {stat.st_dev, stat.st_ino, static_cast<uint64_t>(stat.st_mtim.tv_sec),
                              static_cast<uint64_t>(stat.st_mtim.tv_nsec), info.bytes};
    info.identity = XXH3_64bits(parts, sizeof parts);
    files.push_back(std::move(info));
  }
  if (error) return IoError("readdir", directory, error.value());
  std::sort(files.begin(), files.end(),
            [](const FileInfo& a, const FileInfo& b) { return a.name < b.name; });
  return files;
}

Result<File> OpenToRead(const std::string& path) {
  File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.open()) return IoError("open", path, errno);
  (void)::posix_fadvise(file.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  return file;
}

Status ReadAt(const File& file, const std::string& path, uint64_t offset, size_t size,
              std::string* out) {
  out->resize(size);
  size_t read = 0;
  while (read < size) {
    const ssize_t n =
        ::pread(file.get(), out->data() + read, size - read, static_cast<off_t>(offset + read));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return IoError("pread", path, errno);
    if (n == 0) break;
    read += static_cast<size_t>(n);
  }
  out->resize(read);
  return Status::Ok();
}

Result<uint64_t> FreeBytes(const std::string& path) {
  struct statvfs stat {};
  if (::statvfs(path.c_str(), &stat) != 0) return IoError("statvfs", path, errno);
  return static_cast<uint64_t>(stat.f_bavail) * stat.f_frsize;
}

Status MakeDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  return error ? IoError("mkdir", path, error.value()) : Status::Ok();
}

Status SyncDirectory(const std::string& path) {
  const File directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.open()) return IoError("open", path, errno);
  if (::fsync(directory.get()) != 0) return IoError("fsync", path, errno);
  return Status::Ok();
}

void RemoveDirectory(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
}

// PartialDirectory --------------------------------------------------------------------------------

Result<PartialDirectory> PartialDirectory::Open(std::string directory) {
  RETURN_IF_ERROR(MakeDirectory(directory));
  PartialDirectory partial(std::move(directory));
  RETURN_IF_ERROR(partial.ReadNotes());
  return partial;
}

Status PartialDirectory::ReadNotes() {
  const std::string path = PathOf(std::string(kNotesName));
  {
    // A line per Sync: the xxh3 of the rest, then name, size, identity, bytes durable. The last of
    // a file counts; a line that a crash has cut is no line.
    std::ifstream in(path);
    std::string line;
    while (std::getline(in, line)) {
      const size_t space = line.find(' ');
      if (space == std::string::npos) continue;
      const std::string rest = line.substr(space + 1);
      if (fmt::format("{:016x}", Xxh3(rest)) != line.substr(0, space)) continue;
      // The name comes last: it may have spaces.
      Progress progress;
      int name_at = 0;
      if (std::sscanf(rest.c_str(), "%lu %lu %lu %n", &progress.durable, &progress.file.bytes,
                      &progress.file.identity, &name_at) != 3 ||
          name_at == 0) {
        continue;
      }
      progress.file.name = rest.substr(static_cast<size_t>(name_at));
      if (!ValidFileName(progress.file.name)) continue;
      progress_[progress.file.name] = progress;
    }
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    const std::string name = entry.path().filename().string();
    if (name != kNotesName && !progress_.contains(name)) {
      std::error_code ignored;
      std::filesystem::remove_all(entry.path(), ignored);
    }
  }
  if (error) return IoError("readdir", directory_, error.value());
  for (auto it = progress_.begin(); it != progress_.end();) {
    struct stat stat {};
    const bool there = it->second.durable > 0 && ::lstat(PathOf(it->first).c_str(), &stat) == 0 &&
                       S_ISREG(stat.st_mode) &&
                       static_cast<uint64_t>(stat.st_size) >= it->second.durable &&
                       it->second.durable <= it->second.file.bytes;
    if (there) {
      ++it;
    } else {
      ::unlink(PathOf(it->first).c_str());
      it = progress_.erase(it);
    }
  }
  notes_ = File(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!notes_.open()) return WriteError("open", path, errno);
  // Ends a line that a crash has cut.
  return WriteAll(notes_.get(), path, "\n");
}

Status PartialDirectory::Note(const Progress& progress) {
  const std::string rest = fmt::format("{} {} {} {}", progress.durable, progress.file.bytes,
                                       progress.file.identity, progress.file.name);
  progress_[progress.file.name] = progress;
  return WriteAll(notes_.get(), PathOf(std::string(kNotesName)),
                  fmt::format("{:016x} {}\n", Xxh3(rest), rest));
}

Status PartialDirectory::Drop(const std::string& name) {
  // Durable before another file can have the name, or the note of this one might vouch for it.
  Progress none;
  none.file.name = name;
  RETURN_IF_ERROR(Note(none));
  if (::fdatasync(notes_.get()) != 0) return WriteError("fdatasync", directory_, errno);
  progress_.erase(name);
  if (::unlink(PathOf(name).c_str()) != 0) return WriteError("unlink", PathOf(name), errno);
  return Status::Ok();
}

Status PartialDirectory::Keep(const std::vector<FileInfo>& files) {
  std::vector<std::string> foreign;
  for (const auto& [name, progress] : progress_) {
    if (std::find(files.begin(), files.end(), progress.file) == files.end()) {
      foreign.push_back(name);
    }
  }
  for (const std::string& name : foreign) RETURN_IF_ERROR(Drop(name));
  return Status::Ok();
}

Status PartialDirectory::Begin(const FileInfo& file, uint64_t offset) {
  CHECK(!file_.open());
  const auto found = progress_.find(file.name);
  const uint64_t durable = found == progress_.end() ? 0 : found->second.durable;
  if (offset > durable) return Corruption("checkpoint: a file begins past what is here");
  const std::string path = PathOf(file.name);
  file_ = File(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!file_.open()) return WriteError("open", path, errno);
  if (::ftruncate(file_.get(), static_cast<off_t>(offset)) != 0) {
    return WriteError("ftruncate", path, errno);
  }
  if (::lseek(file_.get(), 0, SEEK_END) < 0) return WriteError("lseek", path, errno);
  current_ = file;
  hash_ = std::make_unique<Xxh3Stream>();
  std::string bytes;
  for (uint64_t at = 0; at < offset; at += bytes.size()) {
    const size_t size = static_cast<size_t>(std::min<uint64_t>(kReadBytes, offset - at));
    RETURN_IF_ERROR(ReadAt(file_, path, at, size, &bytes));
    if (bytes.empty()) return Corruption("checkpoint: " + path + " is shorter than noted");
    hash_->Update(bytes);
  }
  written_ = offset;
  synced_ = offset;
  begun_ = offset;
  // Room for all of it at once: the file stays in few pieces, and a full disk is known now.
  const auto more = static_cast<off_t>(file.bytes - offset);
  if (more > 0 &&
      ::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), more) != 0) {
    if (errno == ENOSPC || errno == EDQUOT) return WriteError("fallocate", path, errno);
  }
  return Status::Ok();
}

Status PartialDirectory::Write(std::string_view bytes) {
  CHECK(file_.open());
  RETURN_IF_ERROR(WriteAll(file_.get(), PathOf(current_.name), bytes));
  hash_->Update(bytes);
  written_ += bytes.size();
  WriteBehind();
  return Status::Ok();
}

/// Sends what was written on its way to the disk a little at a time, and waits for the piece
/// before: the disk's queue stays short, and a sync of the log, which stands in it too, does not
/// wait for megabytes of ours. Durable it is with Sync() only.
void PartialDirectory::WriteBehind() {
  if (written_ - begun_ < kWriteBehindBytes) return;
  const auto from = static_cast<off64_t>(begun_);
  (void)::sync_file_range(file_.get(), from, static_cast<off64_t>(written_ - begun_),
                          SYNC_FILE_RANGE_WRITE);
  if (begun_ > synced_) {
    const auto size = static_cast<off64_t>(std::min<uint64_t>(kWriteBehindBytes, begun_ - synced_));
    (void)::sync_file_range(file_.get(), from - size, size, SYNC_FILE_RANGE_WAIT_BEFORE);
  }
  begun_ = written_;
}

Status PartialDirectory::Sync() {
  CHECK(file_.open());
  const std::string path = PathOf(current_.name);
  if (::fdatasync(file_.get()) != 0) return WriteError("fdatasync", path, errno);
  // It is read next when it is served from: the cache has better use for the memory.
  (void)::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED);
  synced_ = begun_ = written_;
  Progress progress;
  progress.file = current_;
  progress.durable = written_;
  // All bytes are there only once Finish has compared them: a note of less says "go on here".
  if (progress.durable == current_.bytes && current_.bytes > 0) --progress.durable;
  return Note(progress);
}

Status PartialDirectory::Suspend() {
  if (!file_.open()) return Status::Ok();
  const Status status = written_ > 0 ? Sync() : Status::Ok();
  file_ = File();
  return status;
}

Status PartialDirectory::Finish(uint64_t xxh3) {
  CHECK(file_.open());
  const std::string path = PathOf(current_.name);
  if (written_ != current_.bytes || hash_->Digest() != xxh3) {
    file_ = File();
    if (progress_.contains(current_.name)) {
      RETURN_IF_ERROR(Drop(current_.name));
    } else {
      ::unlink(path.c_str());
    }
    return Corruption("checkpoint: " + current_.name + " did not arrive as it was sent");
  }
  if (::fsync(file_.get()) != 0) return WriteError("fsync", path, errno);
  (void)::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED);
  file_ = File();
  Progress progress;
  progress.file = current_;
  progress.durable = current_.bytes;
  return Note(progress);
}

Status PartialDirectory::Complete() {
  notes_ = File();
  const std::string path = PathOf(std::string(kNotesName));
  if (::unlink(path.c_str()) != 0) return WriteError("unlink", path, errno);
  RETURN_IF_ERROR(SyncDirectory(directory_));
  const size_t slash = directory_.rfind('/');
  return slash == std::string::npos ? Status::Ok() : SyncDirectory(directory_.substr(0, slash));
}

}  // namespace onggi::checkpoint
