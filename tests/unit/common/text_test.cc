#include "common/text.h"

#include <gtest/gtest.h>

namespace onggi {
namespace {

TEST(PrefixEnd, IsTheLeastStringAfterAllWithThePrefix) {
  EXPECT_EQ(PrefixEnd("abc"), "abd");
  EXPECT_EQ(PrefixEnd("ab\xFF\xFF"), "ac");
  EXPECT_EQ(PrefixEnd("\xFF\xFF"), "");
  EXPECT_EQ(PrefixEnd(""), "");
  EXPECT_EQ(PrefixEnd("a\x7F"), "a\x80");
  EXPECT_EQ(PrefixEnd(std::string_view("a\0", 2)), std::string_view("a\x01", 2));
}

}  // namespace
}  // namespace onggi
