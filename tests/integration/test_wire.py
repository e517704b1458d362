"""The HTTP edge by raw sockets: headers, checksums, compression, pipelining, limits, bad input."""

import gzip
import json
import re
import socket
import time
import zlib

import pytest

from support import wire
from support.api import N, S


def error(answer):
    status, headers, body = answer
    parsed = json.loads(body)
    return status, parsed["__type"].split("#")[-1], parsed.get("message", parsed.get("Message"))


def test_headers_of_an_answer(endpoint, hash_table, key):
    for operation, body, expected in [
        ("PutItem", {"TableName": hash_table, "Item": {"pk": S(key)}}, 200),
        ("GetItem", {"TableName": hash_table, "Key": {"pk": S(key)}}, 200),
        ("GetItem", {"TableName": hash_table, "Key": {"wrong": S(key)}}, 400),
    ]:
        status, headers, data = wire.exchange(endpoint, wire.request(operation, body))
        assert status == expected
        assert int(headers["x-amz-crc32"]) == zlib.crc32(data)
        assert headers["content-type"] == "application/x-amz-json-1.0"
        assert re.fullmatch(r"[A-Z0-9]{52}", headers["x-amzn-requestid"])
        assert int(headers["content-length"]) == len(data)
        assert "server" in headers and "date" in headers


def test_request_ids_differ(endpoint):
    ids = {wire.exchange(endpoint, wire.request("ListTables", {}))[1]["x-amzn-requestid"]
           for _ in range(20)}
    assert len(ids) == 20


def test_error_type_names(endpoint, hash_table):
    """The full shape names, as the service prefixes them."""
    for operation, body, name in [
        ("GetItem", {"TableName": "no_such_table", "Key": {"pk": S("a")}},
         "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"),
        ("DeleteItem", {"TableName": hash_table, "Key": {"pk": S("a")},
                        "ConditionExpression": "attribute_exists(pk)"},
         "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"),
        ("GetItem", {}, "com.amazon.coral.validate#ValidationException"),
        ("GetItem", {"TableName": 5}, "com.amazon.coral.service#SerializationException"),
        ("NoSuchOperation", {}, "com.amazon.coral.service#UnknownOperationException"),
    ]:
        status, _, data = wire.exchange(endpoint, wire.request(operation, body))
        assert (status, json.loads(data)["__type"]) == (400, name)


def test_keep_alive(endpoint):
    with wire.connect(endpoint) as connection:
        reader = wire.Reader(connection)
        for _ in range(50):
            connection.sendall(wire.request("ListTables", {}))
            assert reader.response()[0] == 200


def test_connection_close_is_honoured(endpoint):
    with wire.connect(endpoint) as connection:
        connection.sendall(wire.request("ListTables", {}, {"Connection": "close"}))
        reader = wire.Reader(connection)
        assert reader.response()[0] == 200
        assert reader.closed(5)


def test_http_1_0(endpoint):
    with wire.connect(endpoint) as connection:
        connection.sendall(wire.request("ListTables", {}, version="HTTP/1.0"))
        reader = wire.Reader(connection)
        assert reader.response()[0] == 200
        assert reader.closed(5)


def test_pipelining_keeps_order(endpoint, api, hash_table, key):
    count = 60
    for i in range(count):
        api.PutItem(TableName=hash_table, Item={"pk": S(f"{key}{i}"), "n": N(i)})
    burst = b"".join(wire.request("GetItem", {"TableName": hash_table, "Key": {"pk": S(f"{key}{i}")}})
                     if i % 7 else wire.request("GetItem", "{broken") for i in range(count))
    with wire.connect(endpoint) as connection:
        connection.sendall(burst)
        reader = wire.Reader(connection)
        for i in range(count):
            status, _, data = reader.response()
            if i % 7:
                assert status == 200 and json.loads(data)["Item"]["n"] == N(i)
            else:
                assert status == 400


def test_a_request_in_small_pieces(endpoint, hash_table, key):
    data = wire.request("PutItem", {"TableName": hash_table, "Item": {"pk": S(key)}})
    with wire.connect(endpoint) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(data), 11):
            connection.sendall(data[i:i + 11])
        assert wire.Reader(connection).response()[0] == 200


def test_chunked_request(endpoint, hash_table, key):
    body = json.dumps({"TableName": hash_table, "Item": {"pk": S(key), "v": S("x" * 5000)}}).encode()
    head = wire.request("PutItem", b"", {"Content-Length": None, "Transfer-Encoding": "chunked"})
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 700]), body[i:i + 700])
                      for i in range(0, len(body), 700)) + b"0\r\n\r\n"
    assert wire.exchange(endpoint, head + chunks)[0] == 200


def test_expect_100_continue(endpoint, hash_table, key):
    data = wire.request("PutItem", {"TableName": hash_table, "Item": {"pk": S(key)}},
                        {"Expect": "100-continue"})
    head, body = data.split(b"\r\n\r\n", 1)
    with wire.connect(endpoint) as connection:
        reader = wire.Reader(connection)
        connection.sendall(head + b"\r\n\r\n")
        assert reader.response()[0] == 100
        connection.sendall(body)
        assert reader.response()[0] == 200


def test_compressed_requests(endpoint, hash_table, key, api):
    body = gzip.compress(json.dumps({"TableName": hash_table,
                                     "Item": {"pk": S(key), "v": S("x" * 100_000)}}).encode())
    answer = wire.exchange(endpoint, wire.request("PutItem", body, {"Content-Encoding": "gzip"}))
    assert answer[0] == 200
    assert len(api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"]["v"]["S"]) == 100_000


def test_broken_compression(endpoint):
    status, kind, _ = error(wire.exchange(endpoint, wire.request(
        "ListTables", b"not gzip at all", {"Content-Encoding": "gzip"})))
    assert (status, kind) == (400, "SerializationException")


def test_decompression_is_bounded(endpoint):
    """A small body that grows past 16 MB is refused like a large one."""
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    status, _, _ = wire.exchange(endpoint, wire.request("ListTables", bomb, {"Content-Encoding": "gzip"}))
    assert status in (400, 413)


def test_compressed_answers(endpoint, api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "v": S("x" * 100_000)})
    get = {"TableName": hash_table, "Key": {"pk": S(key)}}
    status, headers, data = wire.exchange(endpoint, wire.request("GetItem", get, {"Accept-Encoding": "gzip"}))
    assert status == 200 and headers["content-encoding"] == "gzip" and len(data) < 10_000
    # The service's checksum is of the bytes as sent.
    assert int(headers["x-amz-crc32"]) == zlib.crc32(data)
    assert len(json.loads(gzip.decompress(data))["Item"]["v"]["S"]) == 100_000
    _, headers, _ = wire.exchange(endpoint, wire.request("GetItem", get, {"Accept-Encoding": "identity"}))
    assert "content-encoding" not in headers


def test_cors_preflight(endpoint):
    answer = wire.exchange(endpoint, wire.request(None, b"", {
        "Origin": "https://app.example", "Access-Control-Request-Method": "POST", "Authorization": None,
        "Access-Control-Request-Headers": "authorization,content-type,x-amz-date,x-amz-target"},
        method="OPTIONS"))
    status, headers, _ = answer
    assert status in (200, 204)
    assert headers["access-control-allow-origin"] in ("*", "https://app.example")
    assert "POST" in headers["access-control-allow-methods"]
    allowed = headers["access-control-allow-headers"].lower()
    assert allowed == "*" or all(h in allowed for h in ("authorization", "x-amz-target", "x-amz-date"))
    assert int(headers["access-control-max-age"]) > 0


def test_cors_answers(endpoint):
    _, headers, _ = wire.exchange(endpoint, wire.request("ListTables", {}, {"Origin": "https://a.example"}))
    assert headers["access-control-allow-origin"] in ("*", "https://a.example")
    exposed = headers.get("access-control-expose-headers", "").lower()
    assert "x-amzn-requestid" in exposed and "x-amz-crc32" in exposed


def test_health(endpoint):
    status, headers, data = wire.exchange(endpoint, wire.request(
        None, b"", {"Authorization": None, "Content-Type": None}, method="GET"), "GET")
    assert status == 200
    assert re.fullmatch(rb"healthy: \S+ ", data), data
    assert int(headers["x-amz-crc32"]) == zlib.crc32(data)


@pytest.mark.parametrize("headers, method", [
    ({"Content-Type": "text/plain"}, "POST"), ({}, "PUT"), ({}, "DELETE"),
    ({"Content-Type": None}, "POST"),
])
def test_what_is_not_the_api(endpoint, headers, method):
    status, _, data = wire.exchange(endpoint, wire.request("ListTables", {}, headers, method=method))
    assert (status, data) == (404, b"<UnknownOperationException/>\n")


@pytest.mark.parametrize("target", ["", "DynamoDB_20120810", "DynamoDB_20120810.", "ListTables",
                                    "DynamoDB_20111205.ListTables", "DynamoDB_20120810.listTables",
                                    "DynamoDB_20120810.ListTables.x", "Dynamo.ListTables"])
def test_unknown_operations(endpoint, target):
    status, _, data = wire.exchange(endpoint, wire.request("x", {}, {"X-Amz-Target": target}))
    assert status == 400
    assert json.loads(data)["__type"] == "com.amazon.coral.service#UnknownOperationException"


def test_json_1_1_is_answered_in_kind(endpoint):
    status, headers, _ = wire.exchange(endpoint, wire.request(
        "ListTables", {}, {"Content-Type": "application/json; charset=utf-8"}))
    assert status == 200 and headers["content-type"].startswith("application/json")


BROKEN = [b"", b"{", b"[", b"}", b"nul", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{'a':1}", b'{"a":1}x', b'{"a":"\\x"}',
          b'{"a":"\x01"}', b'{"TableName":"\xff\xfe"}', b'{"TableName":"\\ud800"}', b"\xef\xbb\xbf{", b"{" * 5000,
          b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a":01}', b'{"a":1e}', b'"string"', b"5", b"true", b"[]"]


@pytest.mark.parametrize("body", BROKEN, ids=lambda b: repr(b[:16]))
def test_malformed_json(endpoint, body):
    status, kind, _ = error(wire.exchange(endpoint, wire.request("ListTables", body)))
    if body.startswith(b'{"TableName"') or body.startswith(b'{"a":{"a"'):
        assert status in (200, 400)     # unknown members are skipped; bad text may be let through
    else:
        assert (status, kind) == (400, "SerializationException")


@pytest.mark.parametrize("operation, body, message", [
    ("PutItem", {"TableName": 1}, "NUMBER_VALUE cannot be converted to String"),
    ("PutItem", {"TableName": 1.5}, "DECIMAL_VALUE cannot be converted to String"),
    ("PutItem", {"TableName": True}, "TRUE_VALUE cannot be converted to String"),
    ("PutItem", {"TableName": False}, "FALSE_VALUE cannot be converted to String"),
    ("PutItem", {"TableName": []}, "Unrecognized collection type class java.lang.String"),
    ("PutItem", {"TableName": {}}, "Start of structure or map found where not expected"),
    ("PutItem", {"TableName": "abc", "Item": "x"}, "Unexpected field type"),
    ("PutItem", {"TableName": "abc", "Item": []},
     "Unrecognized collection type java.util.Map<java.lang.String, "
     "com.amazonaws.dynamodb.v20120810.AttributeValue>"),
    ("PutItem", {"TableName": "abc", "Item": {"a": 1}}, "Unexpected value type in payload"),
    ("PutItem", {"TableName": "abc", "Item": {"a": "x"}}, "Unexpected value type in payload"),
    ("PutItem", {"TableName": "abc", "Item": {"a": []}},
     "Unrecognized collection type class com.amazonaws.dynamodb.v20120810.AttributeValue"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"S": 1}}}, "NUMBER_VALUE cannot be converted to String"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"N": 1}}}, "NUMBER_VALUE cannot be converted to String"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"N": True}}}, "TRUE_VALUE cannot be converted to String"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"B": 1}}},
     "only base-64-encoded strings are convertible to bytes"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"B": "abc"}}},
     "Base64 encoded length is expected a multiple of 4 bytes but found: 3"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"BOOL": 1}}}, "NUMBER_VALUE cannot be converted to Boolean"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"BOOL": "maybe"}}}, "Unexpected token received from parser"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"SS": "x"}}}, "Unexpected field type"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"SS": [1]}}}, "NUMBER_VALUE cannot be converted to String"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"SS": {}}}},
     "Start of structure or map found where not expected"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"L": {}}}},
     "Start of structure or map found where not expected"),
    ("PutItem", {"TableName": "abc", "Item": {"a": {"M": []}}},
     "Unrecognized collection type java.util.Map<java.lang.String, "
     "com.amazonaws.dynamodb.v20120810.AttributeValue>"),
    ("GetItem", {"TableName": "abc", "Key": {}, "ConsistentRead": 1},
     "NUMBER_VALUE cannot be converted to Boolean"),
    ("Scan", {"TableName": "abc", "Limit": "5"}, "STRING_VALUE cannot be converted to Integer"),
    ("Scan", {"TableName": "abc", "Limit": True}, "TRUE_VALUE cannot be converted to Integer"),
    ("CreateTable", {"TableName": "abc", "ProvisionedThroughput": {"ReadCapacityUnits": "x"}},
     "STRING_VALUE cannot be converted to Long"),
    ("BatchGetItem", {"RequestItems": []},
     "Unrecognized collection type java.util.Map<java.lang.String, "
     "com.amazonaws.dynamodb.v20120810.KeysAndAttributes>"),
])
def test_wrong_types(fails, operation, body, message):
    fails(operation, body, "SerializationException", message)


def test_unknown_members_are_ignored(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key)}, NotAParameter={"a": [1, 2, {"b": None}]})
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)}, ConsistentRead=None)["Item"]


def test_sixteen_megabytes(api, endpoint, hash_table, key):
    limit = 16 * 1024 * 1024

    def body(size):
        base = json.dumps({"TableName": hash_table, "Key": {"pk": S(key)}})
        return base + " " * (size - len(base))

    assert api.call("GetItem", body(limit)).status == 200
    with wire.connect(endpoint) as connection:
        try:
            connection.sendall(wire.request("GetItem", body(limit + 1)))
        except (BrokenPipeError, ConnectionResetError):
            pass    # refused by the head alone: also right
        else:
            answer = wire.Reader(connection).response()
            assert answer is None or answer[0] == 413
    assert api.call("GetItem", {"TableName": hash_table, "Key": {"pk": S(key)}}).status == 200


def test_a_declared_size_past_the_limit_is_refused_at_once(endpoint):
    head = wire.request("GetItem", b"", {"Content-Length": str(1 << 40)})
    with wire.connect(endpoint) as connection:
        connection.sendall(head)
        answer = wire.Reader(connection).response()
        assert answer is None or answer[0] == 413


def test_truncated_body(endpoint, api):
    for cut in (0, 1, 40):
        with wire.connect(endpoint) as connection:
            connection.sendall(wire.request("ListTables", "{" + " " * 100, {"Content-Length": "500"})[:-cut or None])
            connection.shutdown(socket.SHUT_WR)
            reader = wire.Reader(connection)
            try:
                answer = reader.response()
            except ConnectionError:
                answer = None
            assert answer is None or answer[0] in (400, 408)
    assert api.ListTables()["TableNames"] is not None


@pytest.mark.parametrize("data", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GARBAGE\r\n\r\n", b"GET\r\n\r\n",
    b"POST / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + b"".join(b"H%d: v\r\n" % i for i in range(20_000)) + b"\r\n",
    b"\x00" * 4096,
], ids=range(10))
def test_what_is_not_http(endpoint, api, data):
    """Refused or closed, never hung, and the server lives on."""
    with wire.connect(endpoint, timeout_s=15) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = wire.Reader(connection).response()
        except (ConnectionError, BrokenPipeError):
            answer = None
        assert answer is None or 400 <= answer[0] < 600
    assert api.call("ListTables", {}).status == 200


def test_many_clients_that_leave(endpoint, api):
    for i in range(300):
        connection = wire.connect(endpoint)
        connection.sendall(wire.request("ListTables", {})[: i])
        connection.close()
    assert api.call("ListTables", {}).status == 200


def test_metrics(own_server, api, hash_table, key):
    import urllib.request
    api.PutItem(TableName=hash_table, Item={"pk": S(key)})
    api.GetItem(TableName=hash_table, Key={"pk": S(key)})
    text = urllib.request.urlopen(own_server.admin + "/metrics", timeout=5).read().decode()
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and line[0] != "#"}
    assert any("request" in n for n in names) and any("fsync" in n or "sync" in n for n in names), names
    assert 'PutItem' in text and "_bucket" in text
    for path in ("/healthz", "/readyz"):
        assert urllib.request.urlopen(own_server.admin + path, timeout=5).status == 200
