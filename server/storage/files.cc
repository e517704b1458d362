#include "server/storage/files.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

namespace onggi::storage {

namespace {

Status FromRocks(const rocksdb::IOStatus& status, std::string_view call, const std::string& path) {
  if (status.ok()) return Status::Ok();
  std::string message = path + ": ";
  message.append(call).append(": ").append(status.ToString());
  return {status.IsNoSpace() ? Code::kOutOfSpace : Code::kIoError, std::move(message)};
}

rocksdb::FileOptions Plain() {
  rocksdb::FileOptions options;
  options.use_mmap_reads = false;
  options.use_mmap_writes = false;
  return options;
}

bool IsDirectory(rocksdb::FileSystem* system, const std::string& path) {
  bool directory = false;
  return system->IsDirectory(path, rocksdb::IOOptions(), &directory, nullptr).ok() && directory;
}

}  // namespace

Files::Files(rocksdb::Env* env)
    : system_((env != nullptr ? env : rocksdb::Env::Default())->GetFileSystem()) {}

bool Files::Exists(const std::string& path) const {
  return !system_->FileExists(path, rocksdb::IOOptions(), nullptr).IsNotFound();
}

Status Files::MakeDirectories(const std::string& path) const {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    const bool last = slash == std::string::npos || slash + 1 == path.size();
    if (last || !Exists(part)) {
      RETURN_IF_ERROR(FromRocks(system_->CreateDirIfMissing(part, rocksdb::IOOptions(), nullptr),
                                "make directory", part));
    }
    if (last) return Status::Ok();
  }
}

Status Files::Remove(const std::string& path) const {
  if (!Exists(path)) return Status::Ok();
  if (!IsDirectory(system_.get(), path)) {
    return FromRocks(system_->DeleteFile(path, rocksdb::IOOptions(), nullptr), "remove", path);
  }
  std::vector<std::string> children;
  RETURN_IF_ERROR(FromRocks(system_->GetChildren(path, rocksdb::IOOptions(), &children, nullptr),
                            "read directory", path));
  for (const std::string& child : children) {
    if (child != "." && child != "..") RETURN_IF_ERROR(Remove(path + "/" + child));
  }
  return FromRocks(system_->DeleteDir(path, rocksdb::IOOptions(), nullptr), "remove", path);
}

Status Files::Rename(const std::string& from, const std::string& to) const {
  return FromRocks(system_->RenameFile(from, to, rocksdb::IOOptions(), nullptr), "rename", to);
}

Result<std::vector<std::string>> Files::ListDirectories(const std::string& path) const {
  std::vector<std::string> children, directories;
  RETURN_IF_ERROR(FromRocks(system_->GetChildren(path, rocksdb::IOOptions(), &children, nullptr),
                            "read directory", path));
  for (std::string& child : children) {
    if (child == "." || child == "..") continue;
    if (IsDirectory(system_.get(), path + "/" + child)) directories.push_back(std::move(child));
  }
  return directories;
}

Result<std::string> Files::Read(const std::string& path) const {
  if (!Exists(path)) return NotFound(path + ": missing");
  std::unique_ptr<rocksdb::FSSequentialFile> file;
  RETURN_IF_ERROR(
      FromRocks(system_->NewSequentialFile(path, Plain(), &file, nullptr), "open", path));
  std::string content;
  char buffer[4096];
  for (;;) {
    rocksdb::Slice piece;
    RETURN_IF_ERROR(FromRocks(
        file->Read(sizeof(buffer), rocksdb::IOOptions(), &piece, buffer, nullptr), "read", path));
    if (piece.empty()) return content;
    content.append(piece.data(), piece.size());
  }
}

Status Files::WriteSynced(const std::string& path, std::string_view content) const {
  std::unique_ptr<rocksdb::FSWritableFile> file;
  RETURN_IF_ERROR(FromRocks(system_->NewWritableFile(path, Plain(), &file, nullptr), "open", path));
  const rocksdb::IOOptions none;
  rocksdb::IOStatus written =
      file->Append(rocksdb::Slice(content.data(), content.size()), none, nullptr);
  if (written.ok()) written = file->Fsync(none, nullptr);
  const rocksdb::IOStatus closed = file->Close(none, nullptr);
  return FromRocks(written.ok() ? closed : written, "write", path);
}

Status Files::SyncDirectory(const std::string& path) const {
  std::unique_ptr<rocksdb::FSDirectory> directory;
  RETURN_IF_ERROR(FromRocks(system_->NewDirectory(path, rocksdb::IOOptions(), &directory, nullptr),
                            "open", path));
  return FromRocks(directory->Fsync(rocksdb::IOOptions(), nullptr), "fsync", path);
}

}  // namespace onggi::storage
