#pragma once

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
    /// Items with the touched paths only, before and after, as ReturnValues UPDATED_OLD and UPDATED_NEW
    /// give them. An item without attributes means that the response has none. Empty strings unless
    /// wanted.
    std::string updated_old;
    std::string updated_new;
  };

  /// Evaluates against the item as it was; every right-hand side sees that item. `old_item` invalid:
  /// there is none, and the new item starts from the attributes of `key` (an item that has the key
  /// attributes only). Writes `output` on success only. InvalidArgument with the service's messages:
  /// "The document path provided in the update expression is invalid for update", "An operand in the
  /// update expression has an incorrect data type", "The provided expression refers to an attribute
  /// that does not exist in the item", "Type mismatch for attribute to update" (AttributeUpdates), and
  /// those of numbers. The item's size is for the caller to check.
  Status Apply(const model::ItemView& old_item, const model::ItemView& key, bool want_updated,
               Output* output) const;

  /// Top-level attributes it writes, in order of mention, for "Cannot update attribute x. This
  /// attribute is part of the key".
  std::vector<AttributeUse> written_attributes() const;
  /// Top-level attributes it writes or reads.
  std::vector<AttributeUse> attributes() const;

 private:
  friend class UpdateParser;
  friend class LegacyTranslator;

  enum class Kind : uint8_t { kSet, kRemove, kAdd, kDelete };
  struct Action {
    Kind kind;
    PathRef path;
    uint32_t value = kNoNode;
  };

  Tree tree_;
  std::vector<Action> actions_;
  bool legacy_ = false;
};

/// Errors are InvalidArgument: "Invalid UpdateExpression: ...".
Result<Update> ParseUpdate(std::string_view text, Placeholders* placeholders);

}  // namespace onggi::expression
