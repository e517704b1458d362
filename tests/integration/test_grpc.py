"""The gRPC services: what they answer is what the HTTP API answers, and what is gRPC's own."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import unique, wait_active
from support.api import Api
from support.grpc_api import GrpcApi, Unrepresentable, common_module, error_of, module
from support.server import Server, binary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "differential"))

from generator import Program  # noqa: E402

PROGRAMS = int(os.environ.get("ONGGI_GRPC_PROGRAMS", "12"))


@pytest.fixture(scope="module")
def rpc(server):
    if server is None:
        pytest.skip("needs a server that this session started")
    api = GrpcApi(server.grpc, metadata=[("onggi-max-error-bytes", "1000000")])
    yield api
    api.close()


def normal(value):
    """JSON with sets and unordered lists in one order, and what differs by time and name left out."""
    if isinstance(value, dict):
        if len(value) == 1:
            (kind, inner), = value.items()
            if kind in ("SS", "NS", "BS") and isinstance(inner, list):
                return {kind: sorted(inner)}
        return {k: normal(v) for k, v in value.items()
                if k not in ("CreationDateTime", "TableId", "LastUpdateToPayPerRequestDateTime",
                             "LastIncreaseDateTime", "LastDecreaseDateTime")
                and (v != [] or k == "L") and (v != {} or k in ("Item", "Attributes", "M"))}
    if isinstance(value, list):
        return [normal(v) for v in value]
    return value


class Twins:
    """The same requests through both, each with tables of its own that are named alike but for a prefix."""

    def __init__(self, http, rpc):
        self.http, self.rpc = http, rpc
        self.tables = set()
        self.compared = self.passed_over = 0

    def named(self, body, prefix):
        """The body with `prefix` before the names of tables, wherever they stand."""
        text = json.dumps(body)
        return json.loads(text.replace("TWIN_", prefix + "_"))

    def unnamed(self, answer, prefix):
        message = re.sub(r"\{(.*?)\}", lambda m: "{" + ", ".join(sorted(m.group(1).split(", "))) + "}",
                         answer.message or "")
        text = json.dumps([answer.status, answer.error_type, message, normal(answer.json or {})
                           if answer.status == 200 else normal((answer.json or {}).get("Item"))], sort_keys=True)
        return json.loads(text.replace(prefix + "_", "TWIN_"))

    def same(self, operation, body):
        """Both answer alike; returns the gRPC answer. None: the request has no message."""
        try:
            message = self.rpc.message(operation, self.named(body, "grpc"))
        except Unrepresentable:
            self.passed_over += 1
            return None
        theirs = self.http.call(operation, self.named(body, "http"))
        ours = self.rpc.send(operation, message)
        left, right = self.unnamed(theirs, "http"), self.unnamed(ours, "grpc")
        if operation.startswith("Batch") and theirs.status == 200:
            # Tables are a map, and so have no order over gRPC.
            for side in (left[3], right[3]):
                side.get("ConsumedCapacity", []).sort(key=lambda c: c["TableName"])
                for items in side.get("Responses", {}).values():
                    items.sort(key=lambda i: json.dumps(i, sort_keys=True))
                for items in side.get("UnprocessedKeys", {}).values():
                    items["Keys"].sort(key=lambda i: json.dumps(i, sort_keys=True))
        assert left == right, f"{operation} {json.dumps(body)}"
        self.compared += 1
        if operation == "CreateTable" and ours.status == 200:
            for prefix in ("http", "grpc"):
                name = self.named(body["TableName"], prefix)
                self.tables.add(name)
                wait_active(self.http, name)
        return ours

    def drop(self):
        for name in self.tables:
            self.http.call("DeleteTable", {"TableName": name})


@pytest.fixture
def twins(api, rpc):
    pair = Twins(api, rpc)
    yield pair
    pair.drop()


def create(twins, name, sort=None, local=False, **extra):
    definitions = [{"AttributeName": "pk", "AttributeType": "S"}]
    schema = [{"AttributeName": "pk", "KeyType": "HASH"}]
    if sort:
        definitions.append({"AttributeName": "sk", "AttributeType": sort})
        schema.append({"AttributeName": "sk", "KeyType": "RANGE"})
    request = {"TableName": name, "AttributeDefinitions": definitions, "KeySchema": schema,
               "BillingMode": "PAY_PER_REQUEST", **extra}
    if local:
        definitions.append({"AttributeName": "a", "AttributeType": "N"})
        request["LocalSecondaryIndexes"] = [{
            "IndexName": "by-a", "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["b"]},
            "KeySchema": [schema[0], {"AttributeName": "a", "KeyType": "RANGE"}]}]
    assert twins.same("CreateTable", request).status == 200


EVERY_TYPE = {"pk": {"S": "every"}, "sk": {"N": "1.50"}, "s": {"S": "caf\u00e9 \u0000\U0001F600"}, "n": {"N": "1E+100"},
              "b": {"B": base64.b64encode(bytes(range(256))).decode()}, "t": {"BOOL": True}, "f": {"BOOL": False},
              "null": {"NULL": True}, "ss": {"SS": ["b", "a"]}, "ns": {"NS": ["2", "1.0"]},
              "bs": {"BS": ["AA==", "AQ=="]}, "l": {"L": [{"S": "x"}, {"L": []}, {"M": {}}]},
              "m": {"M": {"k": {"N": "0"}, "": {"S": ""}}}, "empty": {"S": ""}, "no bytes": {"B": ""}}

# Against tables TWIN_t (pk S, sk N, local index) and, in turn.
ITEM_REQUESTS = [
    ("PutItem", {"Item": EVERY_TYPE, "ReturnConsumedCapacity": "INDEXES", "ReturnItemCollectionMetrics": "SIZE"}),
    ("GetItem", {"Key": {"pk": {"S": "every"}, "sk": {"N": "1.5"}}, "ConsistentRead": True}),
    ("GetItem", {"Key": {"pk": {"S": "every"}, "sk": {"N": "15e-1"}}, "ProjectionExpression": "m.k, #l[0], ss",
                 "ExpressionAttributeNames": {"#l": "l"}, "ReturnConsumedCapacity": "TOTAL"}),
    ("GetItem", {"Key": {"pk": {"S": "absent"}, "sk": {"N": "0"}}}),
    ("GetItem", {"Key": {"pk": {"S": "every"}}}),
    ("GetItem", {"Key": {}}),
    ("GetItem", {}),
    ("GetItem", {"Key": {"pk": {"S": "every"}, "sk": {"S": "1"}}}),
    ("GetItem", {"Key": {"pk": {"S": ""}, "sk": {"N": "1"}}}),
    ("GetItem", {"Key": {"pk": {"S": "every"}, "sk": {"N": "x"}}}),
    ("GetItem", {"Key": {"pk": {"S": "every"}, "sk": {"N": "1"}}, "ProjectionExpression": "a,,b"}),
    ("GetItem", {"Key": {"pk": {"S": "every"}, "sk": {"N": "1"}}, "ProjectionExpression": "#a"}),
    ("GetItem", {"Key": {"pk": {"S": "e"}, "sk": {"N": "1"}}, "ExpressionAttributeNames": {"#a": "a"}}),
    ("PutItem", {"Item": {}}),
    ("PutItem", {}),
    ("PutItem", {"Item": {"pk": {"S": "x"}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "a": {"S": "not a number"}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "v": {"SS": []}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "v": {"SS": ["a", "a"]}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "v": {"N": "1" * 39}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "v": {"N": "1E+200"}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "v": {"NULL": False}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "v": {"S": "y" * 410_000}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "a": {"N": "5"}}}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}, "a": {"N": "6"}, "b": {"S": "b"}},
                 "ReturnValues": "ALL_OLD", "ReturnConsumedCapacity": "INDEXES"}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "ReturnValues": "ALL_NEW"}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "ConditionExpression": "attribute_not_exists(pk)"}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "ConditionExpression": "a = :v",
                 "ExpressionAttributeValues": {":v": {"N": "7"}}, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}),
    ("PutItem", {"Item": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "ConditionExpression": "a = "}),
    ("UpdateItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "UpdateExpression": "SET a = a + :o, c = :l",
                    "ExpressionAttributeValues": {":o": {"N": "1"}, ":l": {"L": [{"BOOL": False}]}},
                    "ReturnValues": "UPDATED_NEW", "ReturnItemCollectionMetrics": "SIZE"}),
    ("UpdateItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "UpdateExpression": "REMOVE c[0]",
                    "ReturnValues": "ALL_NEW"}),
    ("UpdateItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "UpdateExpression": "SET b = b + :o",
                    "ExpressionAttributeValues": {":o": {"N": "1"}}}),
    ("UpdateItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "UpdateExpression": "SET pk = :o",
                    "ExpressionAttributeValues": {":o": {"S": "1"}}}),
    ("UpdateItem", {"Key": {"pk": {"S": "new"}, "sk": {"N": "1"}}, "ReturnValues": "ALL_OLD"}),
    ("UpdateItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "UpdateExpression": ""}),
    ("Query", {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "x"}}}),
    ("Query", {"KeyConditionExpression": "pk = :p AND a > :a", "IndexName": "by-a", "ScanIndexForward": False,
               "ExpressionAttributeValues": {":p": {"S": "x"}, ":a": {"N": "0"}}, "ReturnConsumedCapacity": "INDEXES"}),
    ("Query", {"KeyConditionExpression": "pk = :p", "IndexName": "by-a", "Select": "ALL_ATTRIBUTES",
               "ExpressionAttributeValues": {":p": {"S": "x"}}}),
    ("Query", {"KeyConditionExpression": "pk = :p", "Select": "COUNT", "Limit": 1, "FilterExpression": "a > :a",
               "ExpressionAttributeValues": {":p": {"S": "x"}, ":a": {"N": "100"}}}),
    ("Query", {"KeyConditionExpression": "pk > :p", "ExpressionAttributeValues": {":p": {"S": "x"}}}),
    ("Query", {"KeyConditionExpression": "pk = :p", "Limit": 0, "ExpressionAttributeValues": {":p": {"S": "x"}}}),
    ("Query", {"KeyConditionExpression": "pk = :p", "IndexName": "none", "ExpressionAttributeValues": {
        ":p": {"S": "x"}}}),
    ("Query", {}),
    ("Query", {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "x"}},
               "ExclusiveStartKey": {"pk": {"S": "y"}, "sk": {"N": "1"}}}),
    ("Scan", {"Limit": 1}),
    ("Scan", {"Limit": 1, "ExclusiveStartKey": {"pk": {"S": "x"}, "sk": {"N": "1"}}}),
    ("Scan", {"TotalSegments": 2, "Segment": 2}),
    ("Scan", {"TotalSegments": 4, "Segment": 1, "ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}),
    ("Scan", {"FilterExpression": "attribute_exists(a)", "ProjectionExpression": "pk"}),
    ("Scan", {"ExclusiveStartKey": {}}),
    ("DeleteItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "ConditionExpression": "attribute_exists(zz)",
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}),
    ("DeleteItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "ReturnValues": "ALL_OLD"}),
    ("DeleteItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "ReturnValues": "ALL_OLD"}),
    ("DeleteItem", {"Key": {"pk": {"S": "x"}, "sk": {"N": "1"}}, "ReturnValues": "UPDATED_NEW"}),
]


def test_item_operations_answer_as_over_http(twins):
    create(twins, "TWIN_items", sort="N", local=True)
    for operation, body in ITEM_REQUESTS:
        assert twins.same(operation, {"TableName": "TWIN_items", **body}) is not None, f"{operation} {body}"
    assert twins.passed_over == 0


@pytest.mark.parametrize("name", ["", "ab", "TWIN_absent", "a b", "x" * 256, None,
                                  "arn:aws:dynamodb:us-east-1:000000000000:table/TWIN_absent",
                                  "arn:aws:dynamodb:eu-west-1:000000000000:table/TWIN_absent"])
@pytest.mark.parametrize("operation,body", [
    ("GetItem", {"Key": {"pk": {"S": "x"}}}), ("PutItem", {"Item": {"pk": {"S": "x"}}}),
    ("UpdateItem", {"Key": {"pk": {"S": "x"}}}), ("DeleteItem", {"Key": {"pk": {"S": "x"}}}),
    ("Query", {"KeyConditionExpression": "a = b"}), ("Scan", {}), ("DescribeTable", {}), ("DeleteTable", {}),
    ("UpdateTable", {}), ("DescribeTimeToLive", {}), ("DescribeContinuousBackups", {})])
def test_names_of_tables_are_checked_as_over_http(twins, operation, body, name):
    request = dict(body) if name is None else {"TableName": name, **body}
    assert twins.same(operation, request).status == 400


def test_table_operations_answer_as_over_http(twins):
    create(twins, "TWIN_one", sort="B", local=True, Tags=[{"Key": "k", "Value": "v"}], DeletionProtectionEnabled=True,
           TableClass="STANDARD")
    create(twins, "TWIN_two", BillingMode="PROVISIONED",
           ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 6})
    arn = "arn:aws:dynamodb:us-east-1:000000000000:table/TWIN_one"
    for operation, body in [
            ("DescribeTable", {"TableName": "TWIN_one"}), ("DescribeTable", {"TableName": arn}),
            ("CreateTable", {"TableName": "TWIN_one", "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"}], "KeySchema": [
                {"AttributeName": "pk", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST"}),
            ("DeleteTable", {"TableName": "TWIN_one"}),
            ("UpdateTable", {"TableName": "TWIN_one", "DeletionProtectionEnabled": False}),
            ("UpdateTable", {"TableName": "TWIN_two", "ProvisionedThroughput": {
                "ReadCapacityUnits": 5, "WriteCapacityUnits": 6}}),
            ("UpdateTable", {"TableName": "TWIN_two", "ProvisionedThroughput": {
                "ReadCapacityUnits": 0, "WriteCapacityUnits": 6}}),
            ("ListTagsOfResource", {"ResourceArn": arn}),
            ("TagResource", {"ResourceArn": arn, "Tags": [{"Key": "a", "Value": ""}]}),
            ("TagResource", {"ResourceArn": "nonsense", "Tags": [{"Key": "a", "Value": ""}]}),
            ("ListTagsOfResource", {"ResourceArn": arn}),
            ("UntagResource", {"ResourceArn": arn, "TagKeys": ["k"]}),
            ("ListTagsOfResource", {"ResourceArn": arn}),
            ("DescribeTimeToLive", {"TableName": "TWIN_one"}),
            ("DescribeContinuousBackups", {"TableName": "TWIN_one"}),
            ("DescribeLimits", {}), ("ListTables", {"Limit": 101}), ("ListTables", {"Limit": 0}),
            ("CreateTable", {"TableName": "TWIN_bad", "BillingMode": "PAY_PER_REQUEST", "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "other", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}]}),
            ("CreateTable", {"TableName": "TWIN_bad", "BillingMode": "PAY_PER_REQUEST", "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"}], "KeySchema": [
                {"AttributeName": "pk", "KeyType": "RANGE"}]}),
            ("CreateTable", {"TableName": "TWIN_bad", "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"}], "KeySchema": [
                {"AttributeName": "pk", "KeyType": "HASH"}], "SSESpecification": {"Enabled": False, "SSEType": "KMS"}})]:
        assert twins.same(operation, body) is not None, f"{operation} {body}"
    assert twins.passed_over == 0


def test_batches_answer_as_over_http(twins):
    create(twins, "TWIN_b1", sort="S")
    create(twins, "TWIN_b2")
    puts = [{"PutRequest": {"Item": {"pk": {"S": "p"}, "sk": {"S": str(i)}, "v": {"N": str(i)}}}} for i in range(10)]
    for operation, body in [
            ("BatchWriteItem", {"RequestItems": {
                "TWIN_b1": puts, "TWIN_b2": [{"PutRequest": {"Item": {"pk": {"S": "x"}}}}]},
                "ReturnConsumedCapacity": "TOTAL"}),
            ("BatchGetItem", {"RequestItems": {
                "TWIN_b1": {"Keys": [{"pk": {"S": "p"}, "sk": {"S": str(i)}} for i in range(5, 15)],
                            "ProjectionExpression": "#v", "ExpressionAttributeNames": {"#v": "v"}},
                "TWIN_b2": {"Keys": [{"pk": {"S": "x"}}], "ConsistentRead": True}}}),
            ("BatchGetItem", {"RequestItems": {"TWIN_b2": {"Keys": [{"pk": {"S": "x"}}, {"pk": {"S": "x"}}]}}}),
            ("BatchGetItem", {"RequestItems": {"TWIN_absent": {"Keys": [{"pk": {"S": "x"}}]}}}),
            ("BatchGetItem", {"RequestItems": {"TWIN_b2": {"Keys": [
                {"pk": {"S": str(i)}} for i in range(101)]}}}),
            ("BatchWriteItem", {"RequestItems": {"TWIN_b2": [
                {"PutRequest": {"Item": {"pk": {"S": str(i)}}}} for i in range(26)]}}),
            ("BatchWriteItem", {"RequestItems": {"TWIN_b2": [{}]}}),
            ("BatchWriteItem", {"RequestItems": {"TWIN_b2": [{"DeleteRequest": {"Key": {"pk": {"S": "x"}}}}]}})]:
        assert twins.same(operation, body) is not None, f"{operation} {body}"


@pytest.mark.parametrize("operation,body,same_as", [
    ("BatchGetItem", {}, {"RequestItems": {}}), ("BatchWriteItem", {}, {"RequestItems": {}}),
    ("CreateTable", {"TableName": "some_table"},
     {"TableName": "some_table", "AttributeDefinitions": [], "KeySchema": []}),
    ("TagResource", {"ResourceArn": "arn"}, {"ResourceArn": "arn", "Tags": []})])
def test_lists_that_are_required_are_empty_and_not_absent(api, rpc, operation, body, same_as):
    ours, theirs = rpc.call(operation, body), api.call(operation, same_as)
    assert (ours.error_type, ours.message) == (theirs.error_type, theirs.message)


@pytest.mark.parametrize("seed", range(1, PROGRAMS + 1))
def test_random_programs_answer_as_over_http(twins, seed):
    program = Program(seed * 1000 + 7, 60)
    for operation, request in program.steps:
        twins.same(operation, json.loads(json.dumps(request).replace("diff_", "TWIN_diff_")))
    for table in program.tables:
        twins.same("Scan", {"TableName": table["name"].replace("diff_", "TWIN_diff_"), "ConsistentRead": True})
    assert twins.compared > 20


# -- gRPC's own ------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def table(rpc, module_tables):
    return module_tables.create()


def key_of(text):
    return {"pk": {"S": text}}


def test_errors_have_their_grpc_code(rpc, table):
    code = rpc.grpc.StatusCode
    assert rpc.call("GetItem", {"TableName": "absent_table", "Key": key_of("a")}).code == code.NOT_FOUND
    assert rpc.call("GetItem", {"TableName": table, "Key": {}}).code == code.INVALID_ARGUMENT
    assert rpc.call("DeleteItem", {"TableName": table, "Key": key_of("none"),
                                   "ConditionExpression": "attribute_exists(pk)"}).code == code.FAILED_PRECONDITION
    with pytest.raises(rpc.grpc.RpcError) as refused:
        rpc.methods["GetItem"][0](rpc.message("GetItem", {"TableName": "absent_table", "Key": key_of("a")}))
    assert refused.value.details() == "ResourceNotFoundException: Requested resource not found"


def test_every_answer_names_its_request(rpc, table):
    good = rpc.call("GetItem", {"TableName": table, "Key": key_of("a")})
    bad = rpc.call("GetItem", {"TableName": table, "Key": {}})
    assert len(good.metadata["onggi-request-id"]) == len(bad.metadata["onggi-request-id"]) == 52
    assert good.metadata["onggi-request-id"] != bad.metadata["onggi-request-id"]


def test_a_write_with_a_name_is_done_once(rpc, table):
    name = [("onggi-write-id", unique("")[-12:].rjust(16, "0") + "0" * 15 + "1")]
    add = {"TableName": table, "Key": key_of(unique()), "UpdateExpression": "ADD n :one",
           "ExpressionAttributeValues": {":one": {"N": "1"}}, "ReturnValues": "ALL_NEW"}
    answers = [rpc.call("UpdateItem", add, name).json["Attributes"]["n"] for _ in range(3)]
    assert answers == [{"N": "1"}] * 3
    name = [("onggi-write-id", name[0][1][:-1] + "2")]
    assert rpc.call("UpdateItem", add, name).json["Attributes"]["n"] == {"N": "2"}
    assert rpc.call("UpdateItem", add).json["Attributes"]["n"] == {"N": "3"}
    bad = rpc.call("UpdateItem", add, [("onggi-write-id", "1234")])
    assert bad.message == "onggi-write-id must be 32 hexadecimal digits"


def test_long_items_of_failed_conditions_need_asking(server, rpc, table):
    item = {**key_of(unique()), "long": {"S": "x" * 100_000}}
    rpc.call("PutItem", {"TableName": table, "Item": item})
    request = {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(pk)",
               "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    assert rpc.call("PutItem", request).json["Item"] == item
    plain = GrpcApi(server.grpc)
    with pytest.raises(plain.grpc.RpcError) as refused:
        plain.methods["PutItem"][0](plain.message("PutItem", request))
    error = error_of(refused.value)
    assert error.type == "ConditionalCheckFailedException"
    assert error.items_omitted and not error.HasField("item")
    plain.close()


def test_messages_that_are_none_are_refused(rpc, table):
    raw = rpc.channel.unary_unary("/onggi.v1.KeyValue/GetItem")
    for wire in (b"\x0a", b"\x0b", b"\x0a\x02\xff\xfe", b"\x12" * 50):
        with pytest.raises(rpc.grpc.RpcError) as refused:
            raw(wire)
        assert refused.value.code() == rpc.grpc.StatusCode.INVALID_ARGUMENT, wire
        assert error_of(refused.value).type == "SerializationException"
    # Fields that the server does not know are passed over.
    known = rpc.message("GetItem", {"TableName": table, "Key": key_of("a")}).SerializeToString()
    assert raw(known + b"\xc8\x3e\x01") == b""


def test_what_is_too_long_is_refused(rpc, table):
    many = {"TableName": table, "Item": {**key_of("a"), "b": {"S": "x" * (17 << 20)}}}
    answer = rpc.call("PutItem", many)
    assert answer.error_type == "RequestEntityTooLargeException"
    assert answer.code == rpc.grpc.StatusCode.RESOURCE_EXHAUSTED


def test_deadlines_are_kept(rpc, table):
    # An answer may be faster than gRPC's clock ticks: one of many is not.
    with pytest.raises(rpc.grpc.RpcError) as late:
        for _ in range(500):
            rpc.methods["GetItem"][0](rpc.message("GetItem", {"TableName": table, "Key": key_of("a")}), timeout=1e-6)
    assert late.value.code() == rpc.grpc.StatusCode.DEADLINE_EXCEEDED


def test_requests_and_answers_may_be_compressed(rpc, table):
    item = {**key_of(unique()), "long": {"S": "x" * 50_000}}
    message = rpc.message("PutItem", {"TableName": table, "Item": item})
    assert rpc.send("PutItem", message, compression=rpc.grpc.Compression.Gzip).status == 200
    got = rpc.call("GetItem", {"TableName": table, "Key": {"pk": item["pk"]}}, [("onggi-compress", "gzip")])
    assert got.json["Item"] == item


def test_many_calls_at_once(rpc, table):
    stub, _ = rpc.methods["UpdateItem"]
    keys = [unique() for _ in range(8)]
    calls = [stub.future(rpc.message("UpdateItem", {
        "TableName": table, "Key": key_of(keys[i % 8]), "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}}})) for i in range(800)]
    for call in calls:
        call.result(timeout=60)
    for key in keys:
        got = rpc.call("GetItem", {"TableName": table, "Key": key_of(key), "ConsistentRead": True})
        assert got.json["Item"]["n"] == {"N": "100"}


def test_reflection_shows_the_services(rpc):
    reflection = common_module("reflection")
    ask = rpc.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection.ServerReflectionResponse.FromString)
    requests = [reflection.ServerReflectionRequest(list_services=""),
                reflection.ServerReflectionRequest(file_containing_symbol="onggi.v1.KeyValue"),
                reflection.ServerReflectionRequest(file_containing_symbol="onggi.v1.AttributeValue"),
                reflection.ServerReflectionRequest(file_containing_symbol="onggi.v1.Nothing")]
    listed, service, value, nothing = ask(iter(requests))
    names = {s.name for s in listed.list_services_response.service}
    assert {"onggi.v1.KeyValue", "onggi.v1.Tables", "onggi.v1.Cluster", "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection"} <= names
    from google.protobuf import descriptor_pb2
    file = descriptor_pb2.FileDescriptorProto.FromString(service.file_descriptor_response.file_descriptor_proto[0])
    assert file.name == "onggi/v1/key_value.proto"
    assert "GetItem" in [m.name for m in file.service[0].method]
    # A stream sends a file once.
    sent = [descriptor_pb2.FileDescriptorProto.FromString(f).name for answer in (service, value)
            for f in answer.file_descriptor_response.file_descriptor_proto]
    assert "onggi/v1/item.proto" in sent
    assert nothing.HasField("error_response")


def test_health_says_that_it_serves(rpc):
    health = common_module("health")
    check = rpc.channel.unary_unary("/grpc.health.v1.Health/Check",
                                    request_serializer=health.HealthCheckRequest.SerializeToString,
                                    response_deserializer=health.HealthCheckResponse.FromString)
    assert check(health.HealthCheckRequest()).status == health.HealthCheckResponse.SERVING


def test_metrics_count_calls(server, rpc, table):
    import urllib.request
    rpc.call("GetItem", {"TableName": table, "Key": key_of("a")})
    rpc.call("GetItem", {"TableName": table, "Key": {}})
    text = urllib.request.urlopen(server.admin + "/metrics", timeout=10).read().decode()
    assert 'onggi_grpc_requests_total{code="0",method="GetItem"}' in text
    assert 'onggi_grpc_requests_total{code="3",method="GetItem"}' in text


# -- the partition map -----------------------------------------------------------------------------

def test_the_map_follows_the_tables(rpc, tables):
    cluster = module("cluster_pb2")
    stub = module("cluster_pb2_grpc").ClusterStub(rpc.channel)
    name, later = tables.create(), unique()
    one = stub.GetMap(cluster.GetMapRequest(table_names=[name]))
    assert one.complete and [t.name for t in one.tables] == [name]
    made = one.tables[0]
    assert (made.partition_key.name, made.partition_key.type, made.HasField("sort_key")) == ("pk", "S", False)
    assert made.partitions[0].range_start == b"" and made.partitions[-1].range_end == b""
    assert 1 in [n.id for n in one.nodes]
    stream = stub.WatchMap(cluster.WatchMapRequest(table_names=[name, later]), timeout=60)
    first = next(stream)
    assert first.complete and [t.name for t in first.tables] == [name]
    tables.create(later, range_type="N")
    seen = {}
    while later not in seen or not seen[later].partitions:
        update = next(stream)
        assert not update.complete and update.revision > first.revision
        seen.update({t.name: t for t in update.tables})
    assert seen[later].sort_key.type == "N"
    rpc.call("DeleteTable", {"TableName": later})
    while seen[later].id not in next(stream).removed_tables:
        pass
    stream.cancel()


def test_the_map_stream_ends_with_the_server():
    with Server() as own:
        rpc = GrpcApi(own.grpc)
        stream = module("cluster_pb2_grpc").ClusterStub(rpc.channel).WatchMap(
            module("cluster_pb2").WatchMapRequest(), timeout=60)
        assert next(stream).complete
        begun = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - begun < 5
        with pytest.raises(rpc.grpc.RpcError) as ended:
            next(stream)
        assert ended.value.code() == rpc.grpc.StatusCode.UNAVAILABLE
        rpc.close()


# -- credentials -----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def guarded():
    with Server(arguments=["--credentials", "KEY:the:secret", "--isolate-accounts"]) as own:
        yield own


@pytest.mark.parametrize("metadata,kind,message", [
    ([], "MissingAuthenticationTokenException", "Request is missing Authentication Token"),
    ([("authorization", "Basic S0VZOg==")], "IncompleteSignatureException",
     "Authorization must be 'Bearer ACCESSKEY:SECRET'"),
    ([("authorization", "Bearer nothing")], "IncompleteSignatureException",
     "Authorization must be 'Bearer ACCESSKEY:SECRET'"),
    ([("authorization", "Bearer OTHER:secret")], "UnrecognizedClientException",
     "The security token included in the request is invalid."),
    ([("authorization", "Bearer KEY:wrong")], "InvalidSignatureException", None)])
def test_credentials_are_asked_for(guarded, metadata, kind, message):
    rpc = GrpcApi(guarded.grpc)
    answer = rpc.call("ListTables", {}, metadata)
    assert answer.error_type == kind and answer.code == rpc.grpc.StatusCode.UNAUTHENTICATED
    assert message is None or answer.message == message
    with pytest.raises(rpc.grpc.RpcError) as refused:
        module("cluster_pb2_grpc").ClusterStub(rpc.channel).GetMap(
            module("cluster_pb2").GetMapRequest(), metadata=metadata)
    assert error_of(refused.value).type == kind
    rpc.close()


def test_accounts_are_apart(guarded):
    rpc = GrpcApi(guarded.grpc, metadata=[("authorization", "Bearer KEY:the:secret")])
    name = unique()
    request = {"TableName": name, "BillingMode": "PAY_PER_REQUEST", "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"}], "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}]}
    assert rpc.call("CreateTable", request).status == 200
    assert rpc.call("ListTables", {}).json["TableNames"] == [name]
    assert rpc.call("ListTables", {}, [("onggi-region", "eu-west-1")]).json.get("TableNames", []) == []
    stub, cluster = module("cluster_pb2_grpc").ClusterStub(rpc.channel), module("cluster_pb2")
    seen = stub.GetMap(cluster.GetMapRequest(), metadata=rpc.metadata)
    assert [t.name for t in seen.tables] == [name]
    other = stub.GetMap(cluster.GetMapRequest(), metadata=(*rpc.metadata, ("onggi-region", "eu-west-1")))
    assert not other.tables
    rpc.close()


# -- the command line ------------------------------------------------------------------------------

def onggi(address, *arguments, environment=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("ONGGI_")}
    return subprocess.run([binary(), *arguments, "--endpoint", address], capture_output=True, text=True, timeout=60,
                          env={**clean, **(environment or {})})


def asked(address, *arguments, **options):
    done = onggi(address, *arguments, "--output", "json", **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_line_shows_one_node(server, rpc, tables):
    name = tables.create(range_type="N")
    rpc.call("PutItem", {"TableName": name, "Item": {**key_of("a"), "sk": {"N": "1"}}})
    status = asked(server.grpc, "status")
    assert status["tables"] >= 1 and status["nodes"] == [
        {"id": 1, "zone": "local", "state": "active", "alive": True}]
    assert "1 of 1 alive" in onggi(server.grpc, "status").stdout
    assert name in [t["name"] for t in asked(server.grpc, "table", "list")]
    assert asked(server.grpc, "table", "describe", name)["table_name"] == name
    text = onggi(server.grpc, "table", "describe", name).stdout
    assert "pk (S), sk (N)" in text and "ACTIVE" in text
    partitions = asked(server.grpc, "partition", "list", "--table", name)
    assert [(p["table"], p["primary"], p["available"]) for p in partitions] == [(name, 1, True)]
    assert partitions[0]["items"] == 1
    assert [n["id"] for n in asked(server.grpc, "node", "list")] == [1]
    assert isinstance(asked(server.grpc, "partition", "hot"), list)
    lines = onggi(server.grpc, "partition", "list").stdout.splitlines()
    assert lines[0].split()[:2] == ["PARTITION", "TABLE"]


def test_the_command_line_says_what_is_wrong(server, tables):
    refused = onggi(server.grpc, "table", "describe", "absent_table")
    assert refused.returncode == 1
    assert refused.stderr == ("onggi: ResourceNotFoundException: Requested resource not found: "
                              "Table: absent_table not found\n")
    assert onggi(server.grpc, "node", "drain", "1").stderr == (
        "onggi: this is onggi dev: one node, whose partitions stay as they are\n")
    nobody = onggi("127.0.0.1:1", "status")
    assert nobody.returncode == 3 and "--endpoint" in nobody.stderr
    missing = onggi(server.grpc, "partition", "split", "999999")
    assert missing.returncode == 1 and "there is no partition 999999" in missing.stderr
    tables.create()
    there = str(asked(server.grpc, "partition", "list")[0]["id"])
    alone = onggi(server.grpc, "partition", "recover", there, "--node", "1", "--accept-data-loss")
    assert alone.returncode == 1 and "this is onggi dev" in alone.stderr
    assert onggi(server.grpc, "partition", "recover", there).returncode not in (0, 1)
    assert onggi(server.grpc, "node", "drain").returncode not in (0, 1)
    assert onggi(server.grpc, "table", "list", "--output", "xml").returncode == 2
    # The first endpoint that answers will do.
    assert onggi("127.0.0.1:1," + server.grpc, "status").returncode == 0


def test_the_command_line_sends_credentials(guarded):
    refused = onggi(guarded.grpc, "status")
    assert refused.returncode == 1 and "ONGGI_SECRET_KEY" in refused.stderr
    secret = {"ONGGI_ACCESS_KEY": "KEY", "ONGGI_SECRET_KEY": "the:secret"}
    assert onggi(guarded.grpc, "status", environment=secret).returncode == 0
    assert onggi(guarded.grpc, "table", "list", environment=secret).returncode == 0


def test_a_taken_port_is_told(server):
    port = server.grpc.rsplit(":", 1)[1]
    from support.server import StartFailure
    with pytest.raises(StartFailure) as refused:
        with Server(arguments=["--grpc-port", port]):
            pass
    assert f"cannot listen on 127.0.0.1:{port}" in refused.value.output
