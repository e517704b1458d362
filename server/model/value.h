#pragma once

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"
#include "server/model/number.h"

/// Attribute values in their stored form.
///
/// A value is one byte of Type and a payload (docs/formats.md). The form is canonical: number
/// texts that mean the same, sets in another order and maps in another order all have the same
/// bytes, so that DynamoDB's equality is memcmp of encodings. Requests are parsed straight into
/// this form, conditions and filters read it in place, and responses are written from it; only an
/// update of a nested path takes it apart (AttributeValue).
namespace onggi::model {

/// In the order of nothing visible; the numbers are on disk, so they never change.
enum class Type : uint8_t {
  kNull = 1,
  kBool = 2,
  kNumber = 3,
  kString = 4,
  kBinary = 5,
  kStringSet = 6,
  kNumberSet = 7,
  kBinarySet = 8,
  kList = 9,
  kMap = 10,
};

/// "S", "N", "B", "SS", "NS", "BS", "BOOL", "NULL", "L" or "M".
std::string_view TypeName(Type type);
std::optional<Type> TypeFromName(std::string_view name);

constexpr bool IsSet(Type type) { return type >= Type::kStringSet && type <= Type::kBinarySet; }
/// kString, kNumber or kBinary: the type of the elements of a set type.
Type ElementType(Type set_type);

/// Deepest nesting of lists and maps, counted as the service does: the item itself is the first
/// level, so an attribute's value nests 31 deep. A value by itself (of an expression) may nest 32
/// deep.
inline constexpr int kMaxNesting = 32;
/// What the service says to a request with a deeper value. (To an update whose *result* is deeper
/// it says the part before the colon.)
inline constexpr char kNestingError[] =
    "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels "
    "beyond "
    "supported limit";

/// Longest attribute name in bytes; names are not empty.
inline constexpr size_t kMaxAttributeNameSize = 65535;

/// First byte of an item in stored form.
inline constexpr uint8_t kItemFormat = 1;

class MapView;
class ListView;
class SetView;

/// A value in its stored form, not owned. As cheap to copy as a string_view. Accessors CHECK the
/// type in debug builds only: call type() first. Bytes must have passed Validate() or come from our
/// encoder.
class ValueView {
 public:
  ValueView() = default;
  explicit ValueView(std::string_view encoded) : encoded_(encoded) {}

  bool valid() const { return !encoded_.empty(); }
  Type type() const { return static_cast<Type>(encoded_[0]); }
  /// The whole encoding: type byte and payload.
  std::string_view encoded() const { return encoded_; }

  bool AsBool() const;
  std::string_view AsString() const;         ///< payload bytes of kString or kBinary
  std::string_view AsNumberEncoded() const;  ///< the Number encoding
  Number AsNumber() const;
  SetView AsSet() const;  ///< of kStringSet, kNumberSet or kBinarySet
  ListView AsList() const;
  MapView AsMap() const;

  /// Size as the service counts it for the 400 KB limit and capacity units.
  size_t BilledSize() const;

  /// size() of the service's size function: UTF-16 code units of a string (the service keeps text
  /// as Java does), bytes of a binary, elements of a set, list or map. nullopt for the types that
  /// it refuses.
  std::optional<uint64_t> FunctionSize() const;

  /// Levels of lists and maps: 0 for a scalar or set, 1 for a list of scalars. An attribute's value
  /// may have kMaxNesting - 1.
  int Nesting() const;

  bool operator==(const ValueView& other) const { return encoded_ == other.encoded_; }

  /// Order of two values of the same S, N or B type: bytes for S and B, numeric for N.
  static int Compare(ValueView a, ValueView b);

 private:
  std::string_view encoded_;
};

/// The elements of a set, in canonical (byte) order. Elements are payloads: string or binary bytes,
/// or Number encodings.
class SetView {
 public:
  SetView() = default;
  SetView(Type element_type, std::string_view elements, uint32_t count)
      : element_type_(element_type), elements_(elements), count_(count) {}

  uint32_t size() const { return count_; }
  Type element_type() const { return element_type_; }  ///< kString, kNumber or kBinary

  class Iterator {
   public:
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using pointer = const value_type*;
    using reference = value_type;
    Iterator() = default;
    explicit Iterator(std::string_view rest) : rest_(rest) { Load(); }
    std::string_view operator*() const { return current_; }
    Iterator& operator++() {
      Load();
      return *this;
    }
    void operator++(int) { Load(); }
    bool operator==(std::default_sentinel_t) const { return done_; }

   private:
    void Load();
    std::string_view rest_;
    std::string_view current_;
    bool done_ = false;
  };
  Iterator begin() const { return Iterator(elements_); }
  std::default_sentinel_t end() const { return {}; }

  /// Is there an element with this payload?
  bool Contains(std::string_view payload) const;

 private:
  Type element_type_ = Type::kString;
  std::string_view elements_;
  uint32_t count_ = 0;
};

/// The elements of a list, in order; at(i) is O(1) through the list's offset table.
class ListView {
 public:
  ListView() = default;
  explicit ListView(std::string_view payload);
  uint32_t size() const { return count_; }
  ValueView at(uint32_t index) const;  ///< index < size()

 private:
  std::string_view values_;
  std::string_view offsets_;
  uint8_t offset_width_ = 0;
  uint32_t count_ = 0;
};

/// The attributes of an item or a map, in byte order of their names. Find() is a binary search of
/// the directory of offsets: a projection or filter touches only the attributes that it names.
class MapView {
 public:
  struct Entry {
    std::string_view name;
    ValueView value;
  };

  MapView() = default;
  explicit MapView(std::string_view payload);

  uint32_t size() const { return count_; }
  Entry at(uint32_t index) const;               ///< index < size()
  ValueView Find(std::string_view name) const;  ///< invalid view when absent
  bool Contains(std::string_view name) const { return Find(name).valid(); }

 private:
  std::string_view entries_;
  std::string_view offsets_;
  uint8_t offset_width_ = 0;
  uint32_t count_ = 0;
};

/// An item in its stored form: a format byte and a map's payload. Owned bytes are a std::string;
/// this is the view of them.
class ItemView {
 public:
  ItemView() = default;
  explicit ItemView(std::string_view encoded);

  bool valid() const { return !encoded_.empty(); }
  std::string_view encoded() const { return encoded_; }
  const MapView& attributes() const { return attributes_; }
  ValueView Find(std::string_view name) const { return attributes_.Find(name); }

  /// Names and values as the service counts them; the 400 KB limit and capacity units use this.
  size_t BilledSize() const;

 private:
  std::string_view encoded_;
  MapView attributes_;
};

/// Checks every length, order and type of an item that comes from outside (a disk, a peer, a
/// fuzzer). Corruption says what is wrong. A value that passed may be viewed without further
/// checks.
Status ValidateItem(std::string_view encoded);
Status ValidateValue(std::string_view encoded);

}  // namespace onggi::model
