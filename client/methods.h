#pragma once

#include "onggi/v1/key_value.grpc.pb.h"
#include "onggi/v1/tables.grpc.pb.h"

/// The methods of onggi.v1.KeyValue and onggi.v1.Tables, for what is the same for all of them.
#define ONGGI_CLIENT_METHODS(X) \
  X(KeyValue, GetItem)          \
  X(KeyValue, PutItem)          \
  X(KeyValue, UpdateItem)       \
  X(KeyValue, DeleteItem)       \
  X(KeyValue, BatchGetItem)     \
  X(KeyValue, BatchWriteItem)   \
  X(KeyValue, Query)            \
  X(KeyValue, Scan)             \
  X(Tables, CreateTable)        \
  X(Tables, DescribeTable)      \
  X(Tables, UpdateTable)        \
  X(Tables, DeleteTable)        \
  X(Tables, ListTables)         \
  X(Tables, TagResource)        \
  X(Tables, UntagResource)      \
  X(Tables, ListTagsOfResource) \
  X(Tables, DescribeLimits)     \
  X(Tables, DescribeEndpoints)  \
  X(Tables, DescribeTimeToLive) \
  X(Tables, DescribeContinuousBackups)

namespace onggi::client {

/// What a request is answered with: ResponseOf<v1::GetItemRequest> is v1::GetItemResponse.
template <class Request>
struct MethodOf;

#define ONGGI_CLIENT_METHOD(service, method)      \
  template <>                                     \
  struct MethodOf<v1::method##Request> {          \
    using Response = v1::method##Response;        \
    static constexpr const char* kName = #method; \
  };
ONGGI_CLIENT_METHODS(ONGGI_CLIENT_METHOD)
#undef ONGGI_CLIENT_METHOD

template <class Request>
using ResponseOf = typename MethodOf<Request>::Response;

}  // namespace onggi::client
