#pragma once

#include <string>
#include <vector>

#include "server/expression/tree.h"
#include "server/model/value.h"

namespace onggi::expression {

/// Orders paths by their elements: names by bytes, indexes by value, indexes before names, a path
/// before those that it is a prefix of.
int ComparePaths(const Tree& tree, PathRef a, PathRef b);
void SortPaths(const Tree& tree, std::vector<PathRef>* paths);

/// Document paths of one expression may not overlap (one a prefix of another) or conflict (one goes
/// into a list where another goes into a map). The service's message about the first path, in the
/// order given, that has such a problem with one before it (the last of those); empty when there is
/// none. Of the two, the one with the lower PathRef::first (the earlier in the text) is shown
/// first.
std::string FindPathProblem(const Tree& tree, const std::vector<PathRef>& paths);

/// Appends an item with only those parts of `item` that `paths` name; sorted by SortPaths, without
/// overlaps. Chosen list elements keep their order and close up. An invalid item gives an empty
/// one.
void SelectPaths(const Tree& tree, const std::vector<PathRef>& paths, const model::ItemView& item,
                 std::string* out);

}  // namespace onggi::expression
