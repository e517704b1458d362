"""The item model: types, numbers, sets, nesting and sizes, as the service stores and refuses them."""

import pytest

from support.api import B, L, M, N, NS, S, SS, ApiError, b64

ITEM_TOO_BIG = "Item size has exceeded the maximum allowed size"
UPDATE_TOO_BIG = "Item size to update has exceeded the maximum allowed size"


def store(api, table, key, value):
    api.PutItem(TableName=table, Item={"pk": S(key), "v": value})
    return api.GetItem(TableName=table, Key={"pk": S(key)}, ConsistentRead=True)["Item"]["v"]


@pytest.mark.parametrize("written, read", [
    ("0", "0"), ("-0", "0"), ("0.0", "0"), ("+5", "5"), ("007", "7"), ("1.50", "1.5"),
    ("1e3", "1000"), ("1E+3", "1000"), ("12e-1", "1.2"), (".5", "0.5"), ("5.", "5"),
    ("-1.0e-2", "-0.01"), ("1e20", "100000000000000000000"),
    ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
    ("0.00000000000000000000000000000000000001", "0.00000000000000000000000000000000000001"),
    ("123456789012345678901234567890.12345678", "123456789012345678901234567890.12345678"),
    ("9.9999999999999999999999999999999999999E+125",
     "99999999999999999999999999999999999999" + "0" * 88),
    ("-9.9999999999999999999999999999999999999E+125",
     "-99999999999999999999999999999999999999" + "0" * 88),
    ("1E-130", "0." + "0" * 129 + "1"),
    ("-1E-130", "-0." + "0" * 129 + "1"),
    ("1" + "0" * 125, "1" + "0" * 125),
    ("0e500", "0"),
])
def test_numbers_are_exact_and_canonical(api, hash_table, key, written, read):
    assert store(api, hash_table, key, N(written)) == N(read)


@pytest.mark.parametrize("written, message", [
    ("", "The parameter cannot be converted to a numeric value"),
    ("abc", "The parameter cannot be converted to a numeric value: abc"),
    ("1.2.3", "The parameter cannot be converted to a numeric value: 1.2.3"),
    ("1e", "The parameter cannot be converted to a numeric value: 1e"),
    ("0x10", "The parameter cannot be converted to a numeric value: 0x10"),
    ("NaN", "The parameter cannot be converted to a numeric value: NaN"),
    ("Infinity", "The parameter cannot be converted to a numeric value: Infinity"),
    ("1 2", "The parameter cannot be converted to a numeric value: 1 2"),
    ("--1", "The parameter cannot be converted to a numeric value: --1"),
    ("1e126", "Number overflow. Attempting to store a number with magnitude larger than supported range"),
    ("-1e126", "Number overflow. Attempting to store a number with magnitude larger than supported range"),
    ("1e-131", "Number underflow. Attempting to store a number with magnitude smaller than supported range"),
    ("-1e-131", "Number underflow. Attempting to store a number with magnitude smaller than supported range"),
    ("1" * 39, "Attempting to store more than 38 significant digits in a Number"),
    ("0." + "1" * 39, "Attempting to store more than 38 significant digits in a Number"),
])
def test_numbers_that_are_refused(invalid, hash_table, key, written, message):
    for value in (N(written), L(N(written)), M(a=N(written)), {"NS": [written]}):
        invalid("PutItem", {"TableName": hash_table, "Item": {"pk": S(key), "v": value}}, message)


def test_arithmetic_is_exact(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "v": N("0.1")})
    for _ in range(9):
        api.UpdateItem(TableName=hash_table, Key={"pk": S(key)}, UpdateExpression="SET v = v + :d",
                       ExpressionAttributeValues={":d": N("0.1")})
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"]["v"] == N("1")
    big = "99999999999999999999999999999999999998"
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "v": N(big)})
    got = api.UpdateItem(TableName=hash_table, Key={"pk": S(key)}, UpdateExpression="ADD v :d",
                         ExpressionAttributeValues={":d": N(1)}, ReturnValues="ALL_NEW")
    assert got["Attributes"]["v"] == N(big[:-1] + "9")


def test_arithmetic_overflow(invalid, api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "v": N("9e125")})
    invalid("UpdateItem", {"TableName": hash_table, "Key": {"pk": S(key)},
                           "UpdateExpression": "SET v = v + :d",
                           "ExpressionAttributeValues": {":d": N("9e125")}},
            "Number overflow. Attempting to store a number with magnitude larger than supported range")


def test_numbers_order_numerically(api, tables, key):
    table = tables.create(range_type="N")
    ordered = ["-9e125", "-1e10", "-100.5", "-100", "-2", "-1.5", "-0.001", "-1e-130", "0", "1e-130",
               "0.5", "1", "1.0000000000000000000000000000000000001", "2", "10", "99.9", "1e10",
               "9e125"]
    for value in sorted(ordered):
        api.PutItem(TableName=table, Item={"pk": S(key), "sk": N(value), "as_sent": S(value)})
    page = api.Query(TableName=table, KeyConditionExpression="pk = :p",
                     ExpressionAttributeValues={":p": S(key)})
    assert [i["as_sent"]["S"] for i in page["Items"]] == ordered


def test_strings_order_by_utf8_bytes(api, tables, key):
    table = tables.create(range_type="S")
    ordered = ["\x00", "\x00a", "\x01", " ", "A", "Z", "a", "a\x00", "a\x00b", "a\x01", "aa", "b",
               "\u007f", "\u0080", "\u00e9", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff",
               "\U00010000", "\U0010ffff"]
    for value in reversed(ordered):
        api.PutItem(TableName=table, Item={"pk": S(key), "sk": S(value)})
    page = api.Query(TableName=table, KeyConditionExpression="pk = :p",
                     ExpressionAttributeValues={":p": S(key)})
    assert [i["sk"]["S"] for i in page["Items"]] == ordered


def test_binaries_order_by_unsigned_bytes(api, tables, key):
    table = tables.create(range_type="B")
    ordered = [b"\x00", b"\x00\x00", b"\x00\x01", b"\x01", b"\x7f", b"\x80", b"\xfe\xff", b"\xff",
               b"\xff\x00", b"\xff\xff"]
    for value in reversed(ordered):
        api.PutItem(TableName=table, Item={"pk": S(key), "sk": B(value)})
    page = api.Query(TableName=table, KeyConditionExpression="pk = :p",
                     ExpressionAttributeValues={":p": S(key)})
    assert [i["sk"] for i in page["Items"]] == [B(v) for v in ordered]


PREFIX = "One or more parameter values were invalid: "


@pytest.mark.parametrize("value, message", [
    ({}, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
    ({"S": "a", "N": "1"}, "Supplied AttributeValue has more than one datatypes set, "
                           "must contain exactly one of the supported datatypes"),
    ({"NULL": False}, PREFIX + "Null attribute value types must have the value of true"),
    ({"SS": []}, PREFIX + "An string set  may not be empty"),
    ({"NS": []}, PREFIX + "An number set  may not be empty"),
    ({"BS": []}, PREFIX + "Binary sets should not be empty"),
    ({"SS": ["a", "b", "a"]}, PREFIX + "Input collection [a, b, a] contains duplicates."),
    ({"NS": ["1", "1.0"]}, "Input collection contains duplicates"),
    ({"BS": [b64(b"x"), b64(b"x")]},
     PREFIX + f"Input collection [{b64(b'x')}, {b64(b'x')}]of type BS contains duplicates."),
])
def test_values_that_are_refused(invalid, hash_table, key, value, message):
    for nested in (value, L(value), M(a=value)):
        invalid("PutItem", {"TableName": hash_table, "Item": {"pk": S(key), "v": nested}}, message)


def test_empty_strings_and_binaries_are_allowed_outside_keys(api, hash_table, key):
    for value in (S(""), B(b""), SS("", "a"), {"BS": ["", b64(b"a")]}, L(), M(), L(S("")), M(a=S(""))):
        got = store(api, hash_table, key, value)
        if "SS" in value or "BS" in value:
            kind = next(iter(value))
            assert sorted(got[kind]) == sorted(value[kind])
        else:
            assert got == value


def test_number_sets_are_canonical(api, hash_table, key):
    got = store(api, hash_table, key, NS("1.0", "2e1", "-0.50"))
    assert sorted(got["NS"]) == ["-0.5", "1", "20"]


def nested(depth, wrap):
    value = S("x")
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda v: L(v), lambda v: M(a=v)], ids=["list", "map"])
def test_nesting_to_32_levels(api, invalid, hash_table, key, wrap):
    deepest = nested(31, wrap)
    assert store(api, hash_table, key, deepest) == deepest
    invalid("PutItem", {"TableName": hash_table, "Item": {"pk": S(key), "v": nested(33, wrap)}},
            "Nesting Levels have exceeded supported limits: "
            "Attributes in the item have nested levels beyond supported limit")


# The service's arithmetic: attribute names and values in UTF-8; a number takes (digits / 2) + 1
# bytes; lists and maps 3 bytes and 1 for each element; null and boolean 1.
def padding(key, extra=0):
    limit = 400 * 1024
    return "x" * (limit - len("pk") - len(key) - len("v") + extra)


def test_item_size_limit_is_exact(api, invalid, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "v": S(padding(key))})
    got = api.GetItem(TableName=hash_table, Key={"pk": S(key)}, ReturnConsumedCapacity="TOTAL",
                      ConsistentRead=True)
    assert len(got["Item"]["v"]["S"]) == len(padding(key))
    assert got["ConsumedCapacity"]["CapacityUnits"] == 100
    invalid("PutItem", {"TableName": hash_table, "Item": {"pk": S(key), "v": S(padding(key, 1))}},
            ITEM_TOO_BIG)


def test_item_size_counts_utf8_bytes(api, invalid, hash_table, key):
    text = padding(key)
    half = len(text) // 2
    invalid("PutItem", {"TableName": hash_table, "Item": {"pk": S(key), "v": S("\u00e9" * (half + 1))}},
            ITEM_TOO_BIG)
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "v": S("\u00e9" * half)})


@pytest.mark.parametrize("value, size", [
    (S("four"), 4), (B(b"four"), 4), ({"BOOL": True}, 1), ({"NULL": True}, 1),
    (L(), 3), (M(), 3), (L(S("ab"), {"BOOL": True}), 3 + 2 + 2 + 1),
    (M(ab={"BOOL": True}), 3 + 1 + 2 + 1), (SS("ab", "c"), 3), ({"BS": [b64(b"ab"), b64(b"c")]}, 3),
    (N("0"), 1), (N("1"), 2), (N("12"), 2), (N("123"), 3), (N("-1"), 3), (N("100"), 2),
    (N("12345678901234567890123456789012345678"), 20),
])
def test_sizes_of_values(api, invalid, hash_table, key, value, size):
    """Fills an item to exactly the limit around a value: one byte more must be refused."""
    room = 400 * 1024 - len("pk") - len(key) - len("v") - size - len("f")
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "v": value, "f": S("x" * room)})
    invalid("PutItem", {"TableName": hash_table,
                        "Item": {"pk": S(key), "v": value, "f": S("x" * (room + 1))}}, ITEM_TOO_BIG)


def test_updates_past_the_limit(api, invalid, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "v": S(padding(key))})
    invalid("UpdateItem", {"TableName": hash_table, "Key": {"pk": S(key)},
                           "UpdateExpression": "SET w = :w", "ExpressionAttributeValues": {":w": S("y")}},
            UPDATE_TOO_BIG)
    got = api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"]
    assert "w" not in got


def test_empty_attribute_names(api, hash_table, key):
    with pytest.raises(ApiError) as caught:
        api.PutItem(TableName=hash_table, Item={"pk": S(key), "": S("x")})
    assert caught.value.code == "ValidationException"
    assert "mpty attribute name" in caught.value.message


def test_empty_attribute_names_in_other_parameters(invalid, hash_table, key):
    message = "Empty attribute name"
    target = {"TableName": hash_table, "Key": {"pk": S(key)}}
    invalid("UpdateItem", {**target, "UpdateExpression": "SET #a = :v",
                           "ExpressionAttributeNames": {"#a": ""},
                           "ExpressionAttributeValues": {":v": S("x")}},
            f"ExpressionAttributeNames contains invalid value: {message} for key #a")
    invalid("UpdateItem", {**target, "AttributeUpdates": {"": {"Value": S("x")}}}, message)
    invalid("DeleteItem", {**target, "Expected": {"": {"Exists": False}}}, message)
    invalid("GetItem", {**target, "AttributesToGet": [""]}, message)


def test_attribute_names_of_any_characters(api, hash_table, key):
    item = {"pk": S(key), "a.b": N(1), "with space": N(2), "\ud55c\uae00": N(3), "[0]": N(4),
            "#x": N(5), ":y": N(6), "\"quoted\\": N(7), "\n": N(8)}
    api.PutItem(TableName=hash_table, Item=item)
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"] == item


def test_strings_with_every_escape(api, hash_table, key):
    text = "\u0000\u0001\b\t\n\f\r\u001f\"\\/\u007f\u2028\u2029\ufeff\U0001f600"
    assert store(api, hash_table, key, S(text)) == S(text)
    raw = ('{"TableName":"%s","Item":{"pk":{"S":"%s"},"v":{"S":"\\u0041\\ud83d\\ude00\\/"}}}'
           % (hash_table, key))
    assert api.call("PutItem", raw).status == 200
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"]["v"] == S("A\U0001f600/")


def test_wide_items(api, hash_table, key):
    item = {"pk": S(key), **{f"attribute{i:05d}": N(i) for i in range(5000)}}
    api.PutItem(TableName=hash_table, Item=item)
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"] == item
