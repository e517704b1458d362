#include "common/crc32.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

#include "common/uuid.h"

namespace onggi {
namespace {

uint32_t Zlib(std::string_view data, uint32_t crc = 0) {
  return static_cast<uint32_t>(
      crc32(crc, reinterpret_cast<const Bytef*>(data.data()), static_cast<uInt>(data.size())));
}

TEST(Crc32, KnowsTheCheckValue) {
  EXPECT_EQ(Crc32("123456789"), 0xCBF43926U);
  EXPECT_EQ(Crc32(""), 0U);
  EXPECT_EQ(Crc32("{}"), 2745614147U);  // X-Amz-Crc32 of an empty answer
}

TEST(Crc32, AgreesWithZlibAtEveryLengthAndAlignment) {
  std::string data(4096 + 64, 0);
  for (char& c : data) c = static_cast<char>(FastRandom());
  for (size_t length = 0; length < 600; ++length) {
    for (const size_t offset : {0, 1, 7, 13}) {
      const std::string_view part = std::string_view(data).substr(offset, length);
      ASSERT_EQ(Crc32(part), Zlib(part)) << length;
      ASSERT_EQ(internal::Crc32Tables(part, 0), Zlib(part)) << length;
    }
  }
  EXPECT_EQ(Crc32(data), Zlib(data));
}

TEST(Crc32, ContinuesFromAPrefix) {
  std::string data(1000, 0);
  for (char& c : data) c = static_cast<char>(FastRandom());
  for (size_t at = 0; at <= data.size(); at += 37) {
    const std::string_view all(data);
    EXPECT_EQ(Crc32(all.substr(at), Crc32(all.substr(0, at))), Zlib(data));
  }
}

}  // namespace
}  // namespace onggi
