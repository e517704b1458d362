#include "server/expression/projection.h"

#include <algorithm>

#include "server/expression/parser.h"
#include "server/expression/paths.h"

namespace onggi::expression {

class ProjectionParser : public ParserBase {
 public:
  ProjectionParser(std::string_view text, Placeholders* placeholders, Projection* projection)
      : ParserBase(text, "ProjectionExpression", placeholders, &projection->tree_),
        paths_(projection->paths_) {}

  Status Parse() {
    RETURN_IF_ERROR(Run([&] { return ParsePaths(); }));
    std::reverse(paths_.begin(), paths_.end());  // the service binds from the last to the first
    RETURN_IF_ERROR(BindTargets(&paths_));
    SortPaths(tree_, &paths_);
    return Status::Ok();
  }

 private:
  bool ParsePaths() {
    while (true) {
      PathRef path;
      if (!ParsePath(&path)) return false;
      paths_.push_back(path);
      if (!At(TokenKind::kComma)) return true;
      Advance();
    }
  }

  std::vector<PathRef>& paths_;
};

Result<Projection> ParseProjection(std::string_view text, Placeholders* placeholders) {
  Projection projection;
  ProjectionParser parser(text, placeholders, &projection);
  RETURN_IF_ERROR(parser.Parse());
  return projection;
}

Projection Projection::OfAttributes(const std::vector<std::string>& names) {
  Projection projection;
  for (const std::string& name : names) {
    projection.paths_.push_back(projection.tree_.AddTopLevelPath(name));
  }
  const Tree& tree = projection.tree_;
  SortPaths(tree, &projection.paths_);
  const auto last = std::unique(projection.paths_.begin(), projection.paths_.end(),
                                [&](PathRef a, PathRef b) { return tree.SamePath(a, b); });
  projection.paths_.erase(last, projection.paths_.end());
  return projection;
}

void Projection::Project(const model::ItemView& item, std::string* out_item) const {
  SelectPaths(tree_, paths_, item, out_item);
}

std::vector<AttributeUse> Projection::attributes() const {
  std::vector<AttributeUse> uses;
  for (const PathRef path : paths_) tree_.AddUse(path, &uses);
  return uses;
}

bool Projection::only_top_level() const {
  return std::all_of(paths_.begin(), paths_.end(), [](PathRef path) { return path.count == 1; });
}

}  // namespace onggi::expression
