#include "server/dynamodb/operation.h"

#include "common/check.h"

namespace onggi::dynamodb {

OperationTable::OperationTable() {
  for (const OperationModel& model : Operations()) {
    entries_.emplace(std::string(model.name), Entry{&model, nullptr});
  }
}

void OperationTable::Add(std::string_view name, std::unique_ptr<Operation> operation) {
  const auto it = entries_.find(name);
  CHECK_MSG(it != entries_.end(), name);
  CHECK_MSG(it->second.operation == nullptr, name);
  it->second.operation = std::move(operation);
}

const OperationTable::Entry* OperationTable::Find(std::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

}  // namespace onggi::dynamodb
