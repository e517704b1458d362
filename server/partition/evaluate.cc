#include "server/partition/evaluate.h"

#include "server/expression/condition.h"
#include "server/expression/update.h"
#include "server/model/key.h"
#include "server/partition/local_index.h"

namespace onggi::partition {
namespace {

/// Moves every local index's entry from the old item's to the new one's. Returns the bytes by which
/// the entries of the collection grow.
struct IndexChange {
  LocalIndexEntry before, after;
};

int64_t EntryGrowth(const std::vector<IndexChange>& changes) {
  int64_t growth = 0;
  for (const IndexChange& change : changes) {
    growth += static_cast<int64_t>(change.after.billed_size) -
              static_cast<int64_t>(change.before.billed_size);
  }
  return growth;
}

void ApplyIndexChanges(const std::vector<IndexChange>& changes, EffectWriter* effects,
                       PartitionStatistics* statistics, WriteOutcome* outcome) {
  outcome->index_write_units.resize(changes.size());
  for (size_t i = 0; i < changes.size(); ++i) {
    const auto& [before, after] = changes[i];
    outcome->index_write_units[i] = IndexWriteUnits(before, after);
    const char space = static_cast<char>(kLocalIndexSpace + static_cast<char>(i));
    auto& figures = statistics->local_indexes[i];
    if (before.exists && (!after.exists || before.key != after.key)) {
      effects->Delete(space, before.key);
    }
    if (after.exists &&
        (!before.exists || before.key != after.key || before.value != after.value)) {
      effects->Put(space, after.key, after.value);
    }
    figures.entry_count += after.exists;
    figures.entry_count -= before.exists;
    figures.entry_bytes += after.billed_size;
    figures.entry_bytes -= before.billed_size;
  }
}

}  // namespace

Evaluation Evaluate(const TableSchema& schema, uint64_t collection_limit_bytes,
                    const WriteRequest& request, const model::ItemView& old_item,
                    uint64_t collection_bytes, EffectWriter* effects,
                    PartitionStatistics* statistics, WriteOutcome* outcome) {
  Evaluation evaluation;
  outcome->existed = old_item.valid();
  outcome->old_size = old_item.valid() ? old_item.BilledSize() : 0;
  outcome->collection_bytes = collection_bytes;
  if (request.want_old && old_item.valid()) outcome->old_item = old_item.encoded();

  if (request.condition != nullptr && !request.condition->Evaluate(old_item)) {
    outcome->status = {Code::kConditionFailed, "The conditional request failed"};
    return evaluation;
  }

  // The new item, as bytes. An update builds it; a put brings it; a delete has none.
  std::string updated;
  std::string_view after;
  if (request.kind == WriteRequest::Kind::kPut) {
    after = request.item.encoded();
  } else if (request.kind == WriteRequest::Kind::kUpdate) {
    if (request.update != nullptr) {
      expression::Update::Output output;
      outcome->status =
          request.update->Apply(old_item, request.item, request.want_updated, &output);
      if (!outcome->status.ok()) return evaluation;
      updated = std::move(output.item);
      outcome->updated_old = std::move(output.updated_old);
      outcome->updated_new = std::move(output.updated_new);
      // Taking attributes away from an item that does not exist does not make one.
      if (!output.creates_nothing) after = updated;
    } else {
      after = old_item.valid() ? old_item.encoded() : request.item.encoded();
    }
    if (!after.empty()) {
      const model::ItemView view(after);
      if (view.BilledSize() > kMaxItemBytes) {
        outcome->status =
            InvalidArgument("Item size to update has exceeded the maximum allowed size");
        return evaluation;
      }
      outcome->status = CheckIndexKeysAfterUpdate(schema, view);
      if (!outcome->status.ok()) return evaluation;
    }
  }
  const model::ItemView new_item = after.empty() ? model::ItemView() : model::ItemView(after);
  outcome->new_size = new_item.valid() ? new_item.BilledSize() : 0;
  if (request.want_new && new_item.valid()) outcome->new_item = after;

  const std::string_view before = old_item.valid() ? old_item.encoded() : std::string_view();
  outcome->index_write_units.assign(schema.local_indexes.size(), 0);
  if (before == after) return evaluation;  // the same bytes: nothing to log (R5: a strong read)

  std::vector<IndexChange> index_changes;
  index_changes.reserve(schema.local_indexes.size());
  for (const LocalIndex& index : schema.local_indexes) {
    index_changes.push_back({MakeLocalIndexEntry(schema, index, old_item),
                             MakeLocalIndexEntry(schema, index, new_item)});
  }
  const int64_t growth = static_cast<int64_t>(outcome->new_size) -
                         static_cast<int64_t>(outcome->old_size) + EntryGrowth(index_changes);
  if (!schema.local_indexes.empty() && growth > 0 &&
      collection_bytes + static_cast<uint64_t>(growth) > collection_limit_bytes) {
    outcome->status = {Code::kResourceExhausted, "Collection size exceeded."};
    return evaluation;
  }

  ApplyIndexChanges(index_changes, effects, statistics, outcome);
  if (new_item.valid()) {
    effects->Put(kItemSpace, request.key, after);
  } else {
    effects->Delete(kItemSpace, request.key);
  }
  statistics->item_count += new_item.valid();
  statistics->item_count -= old_item.valid();
  statistics->item_bytes += outcome->new_size;
  statistics->item_bytes -= outcome->old_size;

  evaluation.changes = true;
  evaluation.deletes = !new_item.valid();
  evaluation.collection_delta = growth;
  if (new_item.valid()) {
    evaluation.new_item = updated.empty() ? std::string(after) : std::move(updated);
  }
  outcome->collection_bytes = collection_bytes + static_cast<uint64_t>(growth);
  return evaluation;
}

std::string_view CollectionPrefixOf(const TableSchema& schema, const WriteRequest& request,
                                    std::string* scratch) {
  scratch->clear();
  model::AppendCollectionPrefix(request.item.Find(schema.partition_key.name), scratch);
  return *scratch;
}

}  // namespace onggi::partition
