#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "server/expression/placeholders.h"
#include "server/expression/tree.h"
#include "server/model/value.h"

namespace onggi::expression {

/// A ProjectionExpression, or AttributesToGet.
class Projection {
 public:
  /// AttributesToGet: top-level attributes, whatever characters their names have. Repeated names
  /// count once (the service refuses them before it comes to this).
  static Projection OfAttributes(const std::vector<std::string>& names);

  /// Appends the projected item in stored form to `out`. An invalid item gives an empty item.
  void Project(const model::ItemView& item, std::string* out_item) const;

  /// Top-level attributes it names, each once. The names live as long as this object stays in
  /// place.
  std::vector<AttributeUse> attributes() const;

  /// Does it name whole top-level attributes only?
  bool only_top_level() const;

 private:
  friend class ProjectionParser;
  Tree tree_;
  std::vector<PathRef> paths_;  ///< sorted
};

/// Errors are InvalidArgument: "Invalid ProjectionExpression: ...".
Result<Projection> ParseProjection(std::string_view text, Placeholders* placeholders);

}  // namespace onggi::expression
