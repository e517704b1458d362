#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "server/expression/placeholders.h"
#include "server/expression/tree.h"
#include "server/model/value.h"

namespace onggi::expression {

/// An UpdateExpression, or AttributeUpdates.
class Update {
 public:
  struct Output {
    /// The new item in stored form.
    std::string item;
    /// Items with the touched paths only, before and after, as ReturnValues UPDATED_OLD and
    /// UPDATED_NEW give them. An item without attributes means that the response has none. Empty
    /// strings unless wanted.
    std::string updated_old;
    std::string updated_new;
    /// There was no item and every action only takes away: the service then creates none, and
    /// `item` has the key attributes only.
    bool creates_nothing = false;
  };

  /// Evaluates against the item as it was; every right-hand side sees that item. `old_item`
  /// invalid: there is none, and `key`, an item that has the key attributes only, stands in for it.
  /// Writes `output` on success only. InvalidArgument with the service's messages: "The document
  /// path provided in the update expression is invalid for update", "An operand in the update
  /// expression has an incorrect data type", "The provided expression refers to an attribute that
  /// does not exist in the item", "Type mismatch for attribute to update" (AttributeUpdates), and
  /// those of numbers. The item's size is for the caller to check.
  Status Apply(const model::ItemView& old_item, const model::ItemView& key, bool want_updated,
               Output* output) const;

  /// Top-level attributes it writes, in order of mention, for "Cannot update attribute x. This
  /// attribute is part of the key".
  std::vector<AttributeUse> written_attributes() const;
  /// Top-level attributes it writes or reads.
  std::vector<AttributeUse> attributes() const;

  /// A whole top-level attribute whose action has a literal as its value.
  struct LiteralWrite {
    std::string_view name;
    model::Type type;
  };
  /// In order of mention, for types of index keys that are known to be wrong without the item.
  std::vector<LiteralWrite> literal_writes() const;

 private:
  friend class UpdateParser;
  friend class LegacyTranslator;
  friend class Codec;

  enum class Kind : uint8_t { kSet, kRemove, kAdd, kDelete };
  struct Action {
    Kind kind = Kind::kSet;
    PathRef path;
    uint32_t value = kNoNode;
  };
  /// What becomes of an action's path.
  struct Change {
    enum class Effect : uint8_t { kNone, kPut, kRemove };
    Effect effect = Effect::kNone;
    PathRef path;
    model::ValueView value;  ///< kPut: of the old item, of the tree or of `owned`
    std::string owned;

    void Put(model::ValueView view) {
      effect = Effect::kPut;
      value = view;
    }
    void PutOwned() { Put(model::ValueView(owned)); }
  };

  /// After parsing: prepares what Apply needs in sorted order.
  void Finish();

  Status Compute(const Action& action, const model::ItemView& old_item, Change* change) const;
  Status ComputeSet(uint32_t node, const model::ItemView& old_item, Change* change) const;
  Status ComputeAdd(model::ValueView old_value, model::ValueView operand, Change* change) const;
  Status ComputeDelete(model::ValueView old_value, model::ValueView operand, Change* change) const;
  Status ResolveOperand(uint32_t node, const model::ItemView& old_item,
                        model::ValueView* value) const;
  Status WrongType() const;
  bool ParentExists(PathRef path, const model::ItemView& old_item) const;
  /// Appends `old_value` as `changes`, sorted paths into it, leave it.
  void ApplyNested(std::span<const Change> changes, model::ValueView old_value,
                   std::string* out) const;
  void Merge(std::span<const Change> changes, const model::ItemView& base, std::string* out) const;

  Tree tree_;
  std::vector<Action> actions_;   ///< in the order of the text
  std::vector<uint32_t> sorted_;  ///< indexes of actions_, sorted by path
  std::vector<PathRef> paths_;    ///< of the actions, sorted
  bool legacy_ = false;
};

/// Errors are InvalidArgument: "Invalid UpdateExpression: ...".
Result<Update> ParseUpdate(std::string_view text, Placeholders* placeholders);

}  // namespace onggi::expression
