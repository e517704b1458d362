#include "server/routing/wire.h"

#include "replication/group/record.h"
#include "server/expression/codec.h"

namespace onggi::routing {
namespace {

/// Every code that a peer may name; a newer one's are taken for kInternal.
Code CodeFromWire(uint32_t code) {
  if (code == 0 || code > static_cast<uint32_t>(Code::kInternal)) return Code::kInternal;
  return static_cast<Code>(code);
}

/// Where the peer left out what was asked for, an item's view must not be made.
Status CheckItem(std::string_view item, bool may_be_empty) {
  if (item.empty()) {
    return may_be_empty ? Status::Ok() : Corruption("a node's message has no item");
  }
  return model::ValidateItem(item);
}

}  // namespace

void ErrorToWire(const Status& status, proto::RoutedError* error) {
  error->set_code(static_cast<uint32_t>(status.code()));
  error->set_message(status.message());
}

Status ErrorFromWire(bool has_error, const proto::RoutedError& error) {
  if (!has_error) return Status::Ok();
  return {CodeFromWire(error.code()), error.message()};
}

void AddHint(const Route& route, proto::RoutedError* error) {
  proto::RoutedConfig* hint = error->add_configs();
  *hint->mutable_config() = route.config;
  hint->set_mod_revision(route.revision.value);
}

bool LearnFrom(const partition::Partition& partition, TableId table, RouteMap* map) {
  const std::shared_ptr<const partition::KnownConfiguration> known = partition.configuration();
  if (known == nullptr) return false;
  proto::PartitionConfig config;
  config.set_table(table.value);
  config.set_partition(partition.id().value);
  group::ToRecord(known->configuration, &config);
  return map->Learn(config, known->revision);
}

Status ReceivedWrite::Decode(partition::WriteRequest* request) {
  if (message_.kind() > static_cast<uint32_t>(partition::WriteRequest::Kind::kDelete)) {
    return {Code::kInvalidArgument, "a kind of write that this node does not know"};
  }
  RETURN_IF_ERROR(CheckItem(message_.item(), false));
  request->kind = static_cast<partition::WriteRequest::Kind>(message_.kind());
  request->key = message_.key();
  request->item = model::ItemView(message_.item());
  if (message_.has_condition()) {
    ASSIGN_OR_RETURN(condition_, expression::DecodeCondition(message_.condition()));
    request->condition = &*condition_;
  }
  if (message_.has_update()) {
    ASSIGN_OR_RETURN(update_, expression::DecodeUpdate(message_.update()));
    request->update = &*update_;
  }
  request->want_old = message_.want_old();
  request->want_new = message_.want_new();
  request->want_updated = message_.want_updated();
  request->id = {message_.request_boot(), message_.request_sequence()};
  return Status::Ok();
}

void OutcomeToWire(partition::WriteOutcome* outcome, proto::RoutedWriteResult* result) {
  if (!outcome->status.ok()) ErrorToWire(outcome->status, result->mutable_error());
  result->set_existed(outcome->existed);
  result->set_old_size(outcome->old_size);
  result->set_new_size(outcome->new_size);
  const auto move = [](std::string* from, std::string* to) {
    if (!from->empty()) *to = std::move(*from);
  };
  move(&outcome->old_item, result->mutable_old_item());
  move(&outcome->new_item, result->mutable_new_item());
  move(&outcome->updated_old, result->mutable_updated_old());
  move(&outcome->updated_new, result->mutable_updated_new());
  for (const uint32_t units : outcome->index_write_units) result->add_index_write_units(units);
  result->set_collection_bytes(outcome->collection_bytes);
}

Status OutcomeFromWire(proto::RoutedWriteResult* result, partition::WriteOutcome* outcome) {
  for (const std::string* item :
       {&result->old_item(), &result->new_item(), &result->updated_old(), &result->updated_new()}) {
    RETURN_IF_ERROR(CheckItem(*item, true));
  }
  outcome->status = ErrorFromWire(result->has_error(), result->error());
  outcome->existed = result->existed();
  outcome->old_size = result->old_size();
  outcome->new_size = result->new_size();
  outcome->old_item = std::move(*result->mutable_old_item());
  outcome->new_item = std::move(*result->mutable_new_item());
  outcome->updated_old = std::move(*result->mutable_updated_old());
  outcome->updated_new = std::move(*result->mutable_updated_new());
  outcome->index_write_units.assign(result->index_write_units().begin(),
                                    result->index_write_units().end());
  outcome->collection_bytes = result->collection_bytes();
  return Status::Ok();
}

Status ReceivedPage::Decode(PageQuery* query) {
  query->table = TableId(message_.table());
  query->index = static_cast<int>(message_.space()) - 1;
  query->lower = message_.lower();
  query->upper = message_.upper();
  query->reverse = message_.reverse();
  query->consistent = message_.consistent();
  query->fill_cache = message_.fill_cache();
  query->limit = message_.limit();
  query->max_bytes = message_.max_bytes();
  if (message_.has_filter()) {
    ASSIGN_OR_RETURN(filter_, expression::DecodeCondition(message_.filter()));
    query->filter = &*filter_;
  }
  if (message_.some_attributes()) {
    attributes_.assign(message_.attributes().begin(), message_.attributes().end());
    query->attributes = &attributes_;
  }
  query->count_only = message_.count_only();
  query->fetch_items = message_.fetch_items();
  return Status::Ok();
}

void FiguresToWire(PartitionId partition, const partition::PartitionStatistics& statistics,
                   proto::PartitionFigures* figures) {
  figures->set_partition(partition.value);
  figures->set_item_count(statistics.item_count);
  figures->set_item_bytes(statistics.item_bytes);
  for (const auto& index : statistics.local_indexes) {
    proto::IndexFigures* out = figures->add_local_indexes();
    out->set_entry_count(index.entry_count);
    out->set_entry_bytes(index.entry_bytes);
  }
}

partition::PartitionStatistics FiguresFromWire(const proto::PartitionFigures& figures) {
  partition::PartitionStatistics statistics;
  statistics.item_count = figures.item_count();
  statistics.item_bytes = figures.item_bytes();
  for (const proto::IndexFigures& index : figures.local_indexes()) {
    statistics.local_indexes.push_back({index.entry_count(), index.entry_bytes()});
  }
  return statistics;
}

void AddFigures(const partition::PartitionStatistics& one, partition::PartitionStatistics* sum) {
  sum->item_count += one.item_count;
  sum->item_bytes += one.item_bytes;
  if (sum->local_indexes.size() < one.local_indexes.size()) {
    sum->local_indexes.resize(one.local_indexes.size());
  }
  for (size_t i = 0; i < one.local_indexes.size(); ++i) {
    sum->local_indexes[i].entry_count += one.local_indexes[i].entry_count;
    sum->local_indexes[i].entry_bytes += one.local_indexes[i].entry_bytes;
  }
}

void GetCall::AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) {
  proto::RoutedGet* message = frame->add_gets();
  message->set_id(id);
  message->set_timeout_ms(timeout_ms);
  message->set_table(table.value);
  message->set_partition(partition.value);
  message->set_key(key.data(), key.size());
  message->set_consistent(consistent);
}

size_t WriteCall::Size() const {
  return request->key.size() + request->item.encoded().size() + condition.size() + update.size() +
         64;
}

void WriteCall::AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) {
  proto::RoutedWrite* message = frame->add_writes();
  message->set_id(id);
  message->set_timeout_ms(timeout_ms);
  message->set_table(table.value);
  message->set_partition(partition.value);
  message->set_key(request->key.data(), request->key.size());
  message->set_kind(static_cast<uint32_t>(request->kind));
  const std::string_view item = request->item.encoded();
  message->set_item(item.data(), item.size());
  if (request->condition != nullptr) message->set_condition(condition.data(), condition.size());
  if (request->update != nullptr) message->set_update(update.data(), update.size());
  message->set_want_old(request->want_old);
  message->set_want_new(request->want_new);
  message->set_want_updated(request->want_updated);
  message->set_request_boot(request->id.boot);
  message->set_request_sequence(request->id.sequence);
}

size_t PageCall::Size() const {
  size_t size = query->lower.size() + query->upper.size() + filter.size() + 64;
  if (query->attributes != nullptr) {
    for (const std::string& name : *query->attributes) size += name.size() + 3;
  }
  return size;
}

void PageCall::AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) {
  proto::RoutedPage* message = frame->add_pages();
  message->set_id(id);
  message->set_timeout_ms(timeout_ms);
  message->set_table(query->table.value);
  message->set_partition(partition.value);
  message->set_space(static_cast<uint32_t>(query->index + 1));
  message->set_lower(query->lower);
  message->set_upper(query->upper);
  message->set_reverse(query->reverse);
  message->set_consistent(query->consistent);
  message->set_fill_cache(query->fill_cache);
  message->set_limit(query->limit);
  message->set_max_bytes(query->max_bytes);
  if (query->filter != nullptr) message->set_filter(filter);
  if (query->attributes != nullptr) {
    message->set_some_attributes(true);
    for (const std::string& name : *query->attributes) message->add_attributes(name);
  }
  message->set_count_only(query->count_only);
  message->set_fetch_items(query->fetch_items);
}

void FiguresCall::AddTo(proto::RoutingFrame* frame, uint64_t id, uint32_t timeout_ms) {
  proto::RoutedFigures* message = frame->add_figures();
  message->set_id(id);
  message->set_timeout_ms(timeout_ms);
  message->set_table(table.value);
  for (const PartitionId one : partitions) message->add_partitions(one.value);
}

}  // namespace onggi::routing
