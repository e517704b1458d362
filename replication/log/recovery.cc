#include "replication/log/recovery.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace onggi::log {
namespace {

// Read ahead by this much while scanning.
constexpr size_t kWindow = 1u << 20;
// Of a segment behind the last valid batch, how much is looked through for signs of damage.
constexpr uint64_t kNextSegmentSearch = 1u << 20;

/// Reads a file front to back through a window.
class WindowReader {
 public:
  WindowReader(const Segment& segment, uint64_t size) : segment_(segment), size_(size) {}

  uint64_t size() const { return size_; }

  /// `bytes` at `offset`, which must lie in the file. Valid until the next call.
  Result<const char*> Get(uint64_t offset, uint64_t bytes) {
    if (offset < start_ || offset + bytes > start_ + held_) {
      const uint64_t want = std::min<uint64_t>(std::max<uint64_t>(bytes, kWindow), size_ - offset);
      if (window_.size() < want) window_.resize(want);
      ASSIGN_OR_RETURN(held_, segment_.file->Read(offset, window_.data(), want));
      start_ = offset;
      if (held_ < bytes)
        return Corruption(segment_.path + ": ends at " + std::to_string(offset + held_));
    }
    return window_.data() + (offset - start_);
  }

 private:
  const Segment& segment_;
  const uint64_t size_;
  uint64_t start_ = 0;
  size_t held_ = 0;
  std::string window_;
};

/// The last batch of the chain so far.
struct Chain {
  uint64_t sequence = 0;
  uint64_t check = 0;
  bool any = false;  ///< false: whatever comes first is taken

  bool Continues(const BatchHeader& header, uint64_t segment) const {
    if (header.segment != segment) return false;
    return !any || (header.sequence == sequence + 1 && header.previous == check);
  }
};

class Scanner {
 public:
  Scanner(const LogOptions& options, FileSystem* file_system)
      : options_(options), file_system_(file_system) {}

  Result<Recovered> Run() {
    RETURN_IF_ERROR(OpenSegments());
    if (found_.empty()) {
      std::random_device random;
      out_.keeper.log_id = uint64_t{random()} << 32 | random();
      out_.keeper.next_capacity = std::min(options_.initial_segment_bytes, options_.segment_bytes);
      return std::move(out_);
    }
    RETURN_IF_ERROR(ScanChain());
    const SegmentPtr& newest = found_.back();
    out_.keeper.log_id = log_id_;
    out_.keeper.next_number = newest->number + 1;
    out_.keeper.next_capacity = std::min(newest->capacity * 4, options_.segment_bytes);
    for (size_t i = out_.segments.size(); i < found_.size(); ++i)
      out_.keeper.prepared.push_back(found_[i]);
    return std::move(out_);
  }

 private:
  Status OpenSegments() {
    ASSIGN_OR_RETURN(std::vector<std::string> names, file_system_->List(options_.directory));
    std::vector<uint64_t> numbers;
    bool free_without_log = false;
    for (const std::string& name : names) {
      const std::string path = options_.directory + "/" + name;
      if (const auto number = ParseSegmentName(kLiveName, name)) {
        numbers.push_back(*number);
      } else if (ParseSegmentName(kFreeName, name)) {
        ASSIGN_OR_RETURN(std::unique_ptr<File> file, file_system_->Open(path, false));
        ASSIGN_OR_RETURN(const uint64_t size, file->Size());
        const bool usable = size == options_.segment_bytes &&
                            out_.keeper.free_paths.size() < options_.max_free_segments;
        (usable ? out_.keeper.free_paths : out_.leftovers).push_back(path);
        free_without_log = true;
      } else if (ParseSegmentName(kNewName, name)) {
        out_.leftovers.push_back(path);
      }
    }
    if (numbers.empty() && free_without_log)
      return Corruption(options_.directory + ": the log's segments are missing");
    std::sort(numbers.begin(), numbers.end());
    for (const uint64_t number : numbers) {
      if (!found_.empty() && number != found_.back()->number + 1) {
        return Corruption(options_.directory + "/" +
                          SegmentName(kLiveName, found_.back()->number + 1) + ": is missing");
      }
      RETURN_IF_ERROR(OpenSegment(number));
    }
    return {};
  }

  Status OpenSegment(uint64_t number) {
    auto segment = std::make_shared<Segment>();
    segment->path = options_.directory + "/" + SegmentName(kLiveName, number);
    ASSIGN_OR_RETURN(segment->file, file_system_->Open(segment->path, false));
    std::string bytes(kSegmentHeaderBytes, '\0');
    ASSIGN_OR_RETURN(const size_t size, segment->file->Read(0, bytes.data(), bytes.size()));
    bytes.resize(size);
    ASSIGN_OR_RETURN(const SegmentHeader header, DecodeSegmentHeader(bytes, segment->path));
    if (header.number != number) {
      return Corruption(segment->path + ": its header says that it is segment " +
                        std::to_string(header.number));
    }
    if (!found_.empty() && header.log_id != log_id_)
      return Corruption(segment->path + ": belongs to another log");
    log_id_ = header.log_id;
    segment->number = number;
    segment->capacity = header.capacity;
    ASSIGN_OR_RETURN(const uint64_t length, segment->file->Size());
    if (length < header.capacity) {
      return Corruption(segment->path + ": has " + std::to_string(length) + " bytes instead of " +
                        std::to_string(header.capacity));
    }
    found_.push_back(std::move(segment));
    return {};
  }

  Status ScanChain() {
    // The very first batch is known; that of an older log's first segment is taken as it is.
    if (found_.front()->number == 1) chain_.any = true;
    for (size_t i = 0; i < found_.size(); ++i) {
      const SegmentPtr& segment = found_[i];
      WindowReader reader(*segment, segment->capacity);
      uint64_t offset = kSegmentHeaderBytes;
      ASSIGN_OR_RETURN(bool more, TakeBatch(*segment, &reader, &offset));
      if (!more && i > 0) {
        // Nothing has been written here: a prepared segment, unless the one before was damaged.
        return CheckNothingBehind(i - 1, end_of_previous_);
      }
      // A segment is freed only once a later one has batches, so only the first may be without.
      if (!more && segment->number > 1)
        return Corruption(segment->path + ": damaged at offset " + std::to_string(offset));
      out_.segments.Push(segment);
      RETURN_IF_ERROR(ApplyPending(*segment));
      while (more) {
        ASSIGN_OR_RETURN(more, TakeBatch(*segment, &reader, &offset));
        RETURN_IF_ERROR(ApplyPending(*segment));
      }
      out_.write_offset = offset;
      out_.last_sequence = chain_.sequence;
      out_.last_check = chain_.check;
      end_of_previous_ = offset;
    }
    return CheckNothingBehind(found_.size() - 1, end_of_previous_);
  }

  /// Verifies the batch at *offset, which becomes pending_, and moves *offset past it. False when
  /// there is none that continues the chain.
  Result<bool> TakeBatch(const Segment& segment, WindowReader* reader, uint64_t* offset) {
    pending_ = {};
    if (*offset + kBatchHeaderBytes > segment.capacity) return false;
    ASSIGN_OR_RETURN(const char* head, reader->Get(*offset, kBatchHeaderBytes));
    const std::optional<BatchHeader> header = DecodeBatchHeader(head, log_id_);
    if (!header || !chain_.Continues(*header, segment.number)) return false;
    if (BatchBytes(header->length) > segment.capacity - *offset) return false;
    const uint64_t whole = kBatchHeaderBytes + header->length;
    ASSIGN_OR_RETURN(const char* bytes, reader->Get(*offset, whole));
    const std::string_view records(bytes + kBatchHeaderBytes, header->length);
    if (Checksum(records, log_id_) != header->checksum) return false;
    pending_ = records;
    pending_offset_ = *offset + kBatchHeaderBytes;
    pending_count_ = header->count;
    chain_ = {header->sequence, header->check, true};
    *offset += BatchBytes(header->length);
    return true;
  }

  Status ApplyPending(const Segment& segment) {
    uint64_t count = 0;
    uint64_t offset = pending_offset_;
    while (!pending_.empty()) {
      const size_t before = pending_.size();
      const std::optional<RecordView> record = DecodeRecord(&pending_, RecordCheck::kSkip);
      const size_t bytes = before - pending_.size();
      Status status =
          record ? ApplyRecord(*record, segment.number, offset, bytes, &out_.groups, &out_.segments)
                 : Corruption("an unreadable record");
      if (!status.ok()) {
        return Corruption(segment.path + ": offset " + std::to_string(offset) + ": " +
                          status.message());
      }
      offset += bytes;
      ++count;
    }
    if (count != pending_count_) {
      return Corruption(segment.path + ": the batch at offset " +
                        std::to_string(pending_offset_ - kBatchHeaderBytes) + " has " +
                        std::to_string(count) + " records instead of " +
                        std::to_string(pending_count_));
    }
    pending_count_ = 0;
    return {};
  }

  /// The chain ends at `offset` of found_[place]. A torn tail, unless a later batch proves that the
  /// next in the chain had been synced.
  Status CheckNothingBehind(size_t place, uint64_t offset) {
    for (size_t i = place; i < found_.size(); ++i) {
      const Segment& segment = *found_[i];
      const uint64_t begin = i == place ? offset : kSegmentHeaderBytes;
      const uint64_t end =
          i == place ? segment.capacity : std::min(segment.capacity, begin + kNextSegmentSearch);
      ASSIGN_OR_RETURN(const bool proof, FindProof(segment, begin, end));
      if (proof) {
        return Corruption(found_[place]->path + ": damaged at offset " + std::to_string(offset) +
                          " (batch " + std::to_string(chain_.sequence + 1) +
                          "), with durable entries behind it");
      }
    }
    return {};
  }

  Result<bool> FindProof(const Segment& segment, uint64_t begin, uint64_t end) {
    WindowReader reader(segment, segment.capacity);
    uint64_t offset = begin;
    while (offset + kBatchHeaderBytes <= end) {
      const uint64_t size = std::min<uint64_t>(kWindow, end - offset);
      ASSIGN_OR_RETURN(const char* window, reader.Get(offset, size));
      uint64_t at = 0;
      for (; at + kBatchHeaderBytes <= size; at += kBatchAlignment) {
        uint64_t magic;
        std::memcpy(&magic, window + at, sizeof(magic));
        if (magic != kBatchMagic) continue;
        const std::optional<BatchHeader> header = DecodeBatchHeader(window + at, log_id_);
        if (header && header->segment == segment.number && header->durable > chain_.sequence)
          return true;
      }
      offset += at;
    }
    return false;
  }

  const LogOptions& options_;
  FileSystem* const file_system_;
  Recovered out_;
  std::vector<SegmentPtr> found_;
  uint64_t log_id_ = 0;
  Chain chain_;
  uint64_t end_of_previous_ = 0;
  std::string_view pending_;
  uint64_t pending_offset_ = 0;
  uint64_t pending_count_ = 0;
};

}  // namespace

Result<Recovered> Recover(const LogOptions& options, FileSystem* file_system) {
  return Scanner(options, file_system).Run();
}

Status ApplyRecord(const RecordView& record, uint64_t segment, uint64_t offset, uint64_t bytes,
                   std::unordered_map<PartitionId, GroupIndex>* groups, SegmentTable* segments) {
  switch (record.kind) {
    case RecordKind::kEntry: {
      Run run;
      run.first = record.index;
      run.segment = segment;
      run.offset = static_cast<uint32_t>(offset);
      run.bytes = static_cast<uint32_t>(bytes);
      GroupIndex& group = (*groups)[record.partition];
      Status status = group.Add(record.index, record.index, record.epoch, run, segments);
      return status.WithContext("partition " + record.partition.ToString());
    }
    case RecordKind::kDropSuffix:
      if (const auto it = groups->find(record.partition); it != groups->end())
        it->second.DropSuffix(record.index, segments);
      return {};
    case RecordKind::kRemoveGroup:
      if (const auto it = groups->find(record.partition); it != groups->end()) {
        it->second.Clear(segments);
        groups->erase(it);
      }
      return {};
  }
  return Corruption("a record of unknown kind");
}

}  // namespace onggi::log
