#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/expression/projection.h"
#include "server/model/json.h"
#include "server/model/value.h"

namespace onggi::dynamodb {

/// Writes items, whole or projected, as DynamoDB JSON straight from their stored form. One
/// request's; `projection` (null: everything) outlives it and does not move.
class ItemWriter {
 public:
  explicit ItemWriter(const expression::Projection* projection) : projection_(projection) {
    if (projection != nullptr && projection->only_top_level()) {
      attributes_ = projection->attributes();
      in_place_ = true;
    }
  }

  void Write(const model::ItemView& item, std::string* out) {
    if (projection_ == nullptr) return model::WriteItem(item, out);
    if (!in_place_) {
      scratch_.clear();
      projection_->Project(item, &scratch_);
      return model::WriteItem(model::ItemView(scratch_), out);
    }
    char separator = '{';
    for (const expression::AttributeUse& use : attributes_) {
      const model::ValueView value = item.Find(use.name);
      if (!value.valid()) continue;
      out->push_back(separator);
      separator = ',';
      model::WriteJsonString(use.name, out);
      out->push_back(':');
      model::WriteValue(value, out);
    }
    out->append(separator == '{' ? "{}" : "}");
  }

 private:
  const expression::Projection* projection_;
  bool in_place_ = false;  ///< no nested paths: attributes can be copied one by one
  std::vector<expression::AttributeUse> attributes_;
  std::string scratch_;
};

}  // namespace onggi::dynamodb
