#include "server/expression/describe.h"

namespace onggi::expression {

void AppendDescription(model::ValueView value, std::string* out) {
  out->append("AttributeValue: {").append(TypeName(value.type())).append(":");
  switch (value.type()) {
    case model::Type::kNumber: value.AsNumber().AppendTo(out); break;
    case model::Type::kString: out->append(value.AsString()); break;
    case model::Type::kBinary: {
      // The service prints its Java buffer here, not the bytes.
      const std::string size = std::to_string(value.AsString().size());
      out->append("java.nio.HeapByteBuffer[pos=0 lim=").append(size).append(" cap=");
      out->append(size).append("]");
      break;
    }
    default: break;
  }
  out->append("}");
}

std::string_view LongTypeName(model::Type type) {
  switch (type) {
    case model::Type::kNull: return "NULL";
    case model::Type::kBool: return "BOOLEAN";
    case model::Type::kNumber: return "NUMBER";
    case model::Type::kString: return "STRING";
    case model::Type::kBinary: return "BINARY";
    case model::Type::kList: return "LIST";
    case model::Type::kMap: return "MAP";
    case model::Type::kStringSet: return "STRING_SET";
    case model::Type::kNumberSet: return "NUMBER_SET";
    case model::Type::kBinarySet: return "BINARY_SET";
  }
  return {};
}

}  // namespace onggi::expression
