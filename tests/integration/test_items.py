"""PutItem, GetItem, UpdateItem, DeleteItem through boto3: what they store, return and refuse."""

import boto3.dynamodb.conditions as conditions
import botocore.exceptions
import pytest

from support.api import B, L, M, N, NS, S, SS, ApiError, b64

EVERY_TYPE = {
    "s": {"S": "text with \u00fcml\u00e4uts, \ud55c\uae00 and \U0001f3fa"},
    "empty": {"S": ""},
    "n": {"N": "-12.5"},
    "b": {"B": b"\x00\x01\xff"},
    "empty_b": {"B": b""},
    "yes": {"BOOL": True},
    "no": {"BOOL": False},
    "nothing": {"NULL": True},
    "m": {"M": {"inner": {"M": {"deep": {"L": [{"N": "1"}]}}}, "empty": {"M": {}}}},
    "l": {"L": [{"S": "a"}, {"N": "2"}, {"L": []}, {"BOOL": False}]},
}


def test_put_then_get_returns_every_type_unchanged(client, hash_table, key):
    item = {"pk": {"S": key}, **EVERY_TYPE}
    assert "Attributes" not in client.put_item(TableName=hash_table, Item=item)
    for consistent in (True, False):
        got = client.get_item(TableName=hash_table, Key={"pk": {"S": key}}, ConsistentRead=consistent)
        assert got["Item"] == item


def test_sets_come_back_without_order_or_duplicates(client, hash_table, key):
    client.put_item(TableName=hash_table, Item={
        "pk": {"S": key}, "ss": {"SS": ["b", "a", "c"]}, "ns": {"NS": ["3", "1", "-2"]},
        "bs": {"BS": [b"\x02", b"\x01"]}})
    item = client.get_item(TableName=hash_table, Key={"pk": {"S": key}})["Item"]
    assert set(item["ss"]["SS"]) == {"a", "b", "c"} and len(item["ss"]["SS"]) == 3
    assert set(item["ns"]["NS"]) == {"3", "1", "-2"}
    assert set(item["bs"]["BS"]) == {b"\x01", b"\x02"}


def test_get_of_an_absent_item_has_no_item(client, hash_table, key):
    assert "Item" not in client.get_item(TableName=hash_table, Key={"pk": {"S": key}})


def test_put_replaces_the_whole_item(client, hash_table, key):
    client.put_item(TableName=hash_table, Item={"pk": {"S": key}, "a": {"N": "1"}, "b": {"N": "2"}})
    client.put_item(TableName=hash_table, Item={"pk": {"S": key}, "c": {"N": "3"}})
    item = client.get_item(TableName=hash_table, Key={"pk": {"S": key}}, ConsistentRead=True)["Item"]
    assert item == {"pk": {"S": key}, "c": {"N": "3"}}


def test_put_returns_the_old_item_when_asked(api, hash_table, key):
    first = api.PutItem(TableName=hash_table, Item={"pk": S(key), "a": N(1)}, ReturnValues="ALL_OLD")
    assert "Attributes" not in first
    second = api.PutItem(TableName=hash_table, Item={"pk": S(key), "a": N(2)}, ReturnValues="ALL_OLD")
    assert second["Attributes"] == {"pk": S(key), "a": N(1)}
    third = api.PutItem(TableName=hash_table, Item={"pk": S(key)}, ReturnValues="NONE")
    assert third == {}


@pytest.mark.parametrize("value", ["ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"])
def test_put_refuses_return_values_it_does_not_have(invalid, hash_table, key, value):
    invalid("PutItem", {"TableName": hash_table, "Item": {"pk": S(key)}, "ReturnValues": value},
            "ReturnValues can only be ALL_OLD or NONE")
    invalid("DeleteItem", {"TableName": hash_table, "Key": {"pk": S(key)}, "ReturnValues": value},
            "ReturnValues can only be ALL_OLD or NONE")


def test_delete_removes_and_returns_the_old_item(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "a": N(1)})
    gone = api.DeleteItem(TableName=hash_table, Key={"pk": S(key)}, ReturnValues="ALL_OLD")
    assert gone["Attributes"] == {"pk": S(key), "a": N(1)}
    again = api.DeleteItem(TableName=hash_table, Key={"pk": S(key)}, ReturnValues="ALL_OLD")
    assert "Attributes" not in again
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)}, ConsistentRead=True) == {}


def test_update_creates_the_item_when_absent(api, hash_table, key):
    api.UpdateItem(TableName=hash_table, Key={"pk": S(key)}, UpdateExpression="SET a = :v",
                   ExpressionAttributeValues={":v": N(1)})
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"] == {"pk": S(key), "a": N(1)}


def test_update_without_expression_creates_only_the_key(api, hash_table, key):
    assert api.UpdateItem(TableName=hash_table, Key={"pk": S(key)}, ReturnValues="ALL_NEW") == {
        "Attributes": {"pk": S(key)}}
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"] == {"pk": S(key)}


@pytest.mark.parametrize("values, expected", [
    ("NONE", None),
    ("ALL_OLD", {"a": N(1), "b": S("x"), "m": M(p=N(1), q=N(2))}),
    ("UPDATED_OLD", {"a": N(1), "m": M(p=N(1))}),
    ("ALL_NEW", {"a": N(5), "b": S("x"), "m": M(p=N(9), q=N(2)), "fresh": S("f")}),
    ("UPDATED_NEW", {"a": N(5), "m": M(p=N(9)), "fresh": S("f")}),
])
def test_update_return_values(api, hash_table, key, values, expected):
    api.PutItem(TableName=hash_table,
                Item={"pk": S(key), "a": N(1), "b": S("x"), "m": M(p=N(1), q=N(2))})
    answer = api.UpdateItem(
        TableName=hash_table, Key={"pk": S(key)}, ReturnValues=values,
        UpdateExpression="SET a = :a, m.p = :p, fresh = :f",
        ExpressionAttributeValues={":a": N(5), ":p": N(9), ":f": S("f")})
    if expected is None:
        assert answer == {}
    else:
        if values.startswith("ALL"):
            expected = {"pk": S(key), **expected}
        assert answer == {"Attributes": expected}


def test_update_of_an_absent_item_has_nothing_old(api, hash_table, key):
    for values in ("ALL_OLD", "UPDATED_OLD"):
        answer = api.UpdateItem(TableName=hash_table, Key={"pk": S(key + values)},
                                UpdateExpression="SET a = :a", ReturnValues=values,
                                ExpressionAttributeValues={":a": N(5)})
        assert "Attributes" not in answer


def test_updated_new_of_a_removal_is_empty(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "a": N(1), "b": N(2)})
    answer = api.UpdateItem(TableName=hash_table, Key={"pk": S(key)}, UpdateExpression="REMOVE a",
                            ReturnValues="UPDATED_NEW")
    assert "Attributes" not in answer
    answer = api.UpdateItem(TableName=hash_table, Key={"pk": S(key)}, UpdateExpression="REMOVE b",
                            ReturnValues="UPDATED_OLD")
    assert answer["Attributes"] == {"b": N(2)}


def test_condition_failures_change_nothing(api, fails, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "a": N(1)})
    message = "The conditional request failed"
    fails("PutItem", {"TableName": hash_table, "Item": {"pk": S(key), "a": N(2)},
                      "ConditionExpression": "attribute_not_exists(pk)"},
          "ConditionalCheckFailedException", message)
    fails("UpdateItem", {"TableName": hash_table, "Key": {"pk": S(key)},
                         "UpdateExpression": "SET a = :n", "ConditionExpression": "a > :n",
                         "ExpressionAttributeValues": {":n": N(7)}},
          "ConditionalCheckFailedException", message)
    fails("DeleteItem", {"TableName": hash_table, "Key": {"pk": S(key)},
                         "ConditionExpression": "a <> :n",
                         "ExpressionAttributeValues": {":n": N(1)}},
          "ConditionalCheckFailedException", message)
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"] == {"pk": S(key), "a": N(1)}


@pytest.mark.parametrize("operation, extra", [
    ("PutItem", {"Item": {"a": N(2)}}),
    ("UpdateItem", {"Key": {}, "UpdateExpression": "SET z = :z"}),
    ("DeleteItem", {"Key": {}}),
])
def test_failed_condition_returns_the_item_when_asked(api, hash_table, key, operation, extra):
    item = {"pk": S(key), "a": N(1), "s": SS("x")}
    api.PutItem(TableName=hash_table, Item=item)
    request = {"TableName": hash_table, "ConditionExpression": "a = :z",
               "ExpressionAttributeValues": {":z": N(3)}}
    for name, value in extra.items():
        request[name] = {**value, "pk": S(key)} if isinstance(value, dict) else value
    with pytest.raises(ApiError) as caught:
        getattr(api, operation)({**request, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"})
    assert caught.value.code == "ConditionalCheckFailedException"
    assert caught.value.json["Item"] == item
    with pytest.raises(ApiError) as caught:
        getattr(api, operation)({**request, "ReturnValuesOnConditionCheckFailure": "NONE"})
    assert "Item" not in caught.value.json


def test_failed_condition_on_an_absent_item_has_no_item(api, hash_table, key):
    with pytest.raises(ApiError) as caught:
        api.DeleteItem(TableName=hash_table, Key={"pk": S(key)}, ConditionExpression="attribute_exists(pk)",
                       ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert caught.value.code == "ConditionalCheckFailedException"
    assert "Item" not in caught.value.json


def test_projection_in_get(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={
        "pk": S(key), "a": N(1), "m": M(x=N(1), y=M(z=S("deep"))),
        "l": L(N(0), M(k=S("v"), other=N(1)), N(2), N(3))})

    def project(expression, **names):
        request = {"TableName": hash_table, "Key": {"pk": S(key)}, "ProjectionExpression": expression}
        if names:
            request["ExpressionAttributeNames"] = {"#" + k: v for k, v in names.items()}
        return api.GetItem(request).get("Item")

    assert project("a") == {"a": N(1)}
    assert project("pk, m.y.z") == {"pk": S(key), "m": M(y=M(z=S("deep")))}
    assert project("#m.#q, #m.x", m="m", q="y") == {"m": M(x=N(1), y=M(z=S("deep")))}
    assert project("l[3], l[1].k") == {"l": L(M(k=S("v")), N(3))}
    assert project("absent, m.absent, l[9], a.b") == {}
    assert project("l[0], l[2]") == {"l": L(N(0), N(2))}


def test_attributes_to_get(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "a": N(1), "b.c": N(2)})
    got = api.GetItem(TableName=hash_table, Key={"pk": S(key)}, AttributesToGet=["a", "b.c", "zz"])
    assert got["Item"] == {"a": N(1), "b.c": N(2)}


def test_keys_of_every_type(api, tables):
    for kind, values in {
        "S": [S("a"), S("\u00e9"), S("x" * 2048)],
        "N": [N("0"), N("-1.5"), N("1e100"), N("12345678901234567890123456789012345678")],
        "B": [B(b"\x00"), B(b"\xff\xfe"), B(b"y" * 2048)],
    }.items():
        name = tables.create(hash_type=kind)
        for value in values:
            api.PutItem(TableName=name, Item={"pk": value, "v": S("here")})
        for value in values:
            assert api.GetItem(TableName=name, Key={"pk": value})["Item"]["v"] == S("here")


def test_equal_numbers_are_one_key(api, tables):
    name = tables.create(hash_type="N", range_type="N")
    api.PutItem(TableName=name, Item={"pk": N("1.0"), "sk": N("100")})
    got = api.GetItem(TableName=name, Key={"pk": N("1"), "sk": N("1e2")})["Item"]
    assert got == {"pk": N("1"), "sk": N("100")}
    api.PutItem(TableName=name, Item={"pk": N("10e-1"), "sk": N("00100.00"), "v": S("second")})
    assert api.Scan(TableName=name)["Count"] == 1


def test_key_errors(fails, invalid, range_table, key):
    schema = "The provided key element does not match the schema"
    for bad in ({"pk": S(key)}, {"pk": S(key), "sk": N(1)}, {"pk": S(key), "sk": S("a"), "x": N(1)},
                {"pk": S(key), "other": S("a")}, {"sk": S("a")}, {}):
        for operation in ("GetItem", "DeleteItem", "UpdateItem"):
            invalid(operation, {"TableName": range_table, "Key": bad}, schema)


def test_put_key_errors(invalid, range_table, key):
    prefix = "One or more parameter values were invalid: "
    invalid("PutItem", {"TableName": range_table, "Item": {"pk": S(key)}},
            prefix + "Missing the key sk in the item")
    invalid("PutItem", {"TableName": range_table, "Item": {}},
            prefix + "Missing the key pk in the item")
    invalid("PutItem", {"TableName": range_table, "Item": {"pk": N(1), "sk": S("a")}},
            prefix + "Type mismatch for key pk expected: S actual: N")
    invalid("PutItem", {"TableName": range_table, "Item": {"pk": S(key), "sk": {"BOOL": True}}},
            prefix + "Type mismatch for key sk expected: S actual: BOOL")


def test_empty_keys(api, invalid, tables, range_table, key):
    words = ("One or more parameter values are not valid. The AttributeValue for a key attribute "
             "cannot contain an empty {} value. Key: {}")
    invalid("PutItem", {"TableName": range_table, "Item": {"pk": S(""), "sk": S("a")}},
            words.format("string", "pk"))
    invalid("PutItem", {"TableName": range_table, "Item": {"pk": S(key), "sk": S("")}},
            words.format("string", "sk"))
    refused = api.call("GetItem", {"TableName": range_table, "Key": {"pk": S(key), "sk": S("")}})
    # The service has used both wordings for reads.
    assert refused.message in (
        words.format("string", "sk"), words.format("string", "sk").replace(
            "are not valid. The", "were invalid: The"))
    binary = tables.create(hash_type="B")
    invalid("PutItem", {"TableName": binary, "Item": {"pk": B(b"")}}, words.format("binary", "pk"))


def test_key_sizes(api, invalid, range_table, key):
    hash_words = ("One or more parameter values were invalid: "
                  "Size of hashkey has exceeded the maximum size limit of2048 bytes")
    range_words = ("One or more parameter values were invalid: "
                   "Aggregated size of all range keys has exceeded the size limit of 1024 bytes")
    long_hash = key + "x" * (2048 - len(key))
    api.PutItem(TableName=range_table, Item={"pk": S(long_hash), "sk": S("y" * 1024)})
    assert api.GetItem(TableName=range_table, Key={"pk": S(long_hash), "sk": S("y" * 1024)})["Item"]
    invalid("PutItem", {"TableName": range_table, "Item": {"pk": S(long_hash + "x"), "sk": S("a")}},
            hash_words)
    invalid("PutItem", {"TableName": range_table, "Item": {"pk": S(key), "sk": S("y" * 1025)}},
            range_words)
    invalid("GetItem", {"TableName": range_table, "Key": {"pk": S(long_hash + "x"), "sk": S("a")}},
            hash_words)
    invalid("GetItem", {"TableName": range_table, "Key": {"pk": S(key), "sk": S("\u00e9" * 513)}},
            range_words)


def test_absent_tables(fails, key):
    for operation, extra in {
        "PutItem": {"Item": {"pk": S(key)}}, "GetItem": {"Key": {"pk": S(key)}},
        "DeleteItem": {"Key": {"pk": S(key)}}, "UpdateItem": {"Key": {"pk": S(key)}},
        "Scan": {}, "Query": {"KeyConditionExpression": "pk = :p",
                              "ExpressionAttributeValues": {":p": S(key)}},
    }.items():
        fails(operation, {"TableName": "no_such_table", **extra}, "ResourceNotFoundException",
              "Requested resource not found")


def test_boto3_resource_round_trip(resource, hash_table, key):
    from decimal import Decimal
    table = resource.Table(hash_table)
    item = {"pk": key, "n": Decimal("1.10"), "nested": {"list": [1, "two", None, True, b"3"]},
            "set": {"a", "b"}, "numbers": {Decimal(1), Decimal("2.5")}}
    table.put_item(Item=item)
    got = table.get_item(Key={"pk": key}, ConsistentRead=True)["Item"]
    assert got["n"] == Decimal("1.1") and got["set"] == item["set"]
    assert got["numbers"] == item["numbers"]
    assert got["nested"]["list"][:4] == [1, "two", None, True]
    assert got["nested"]["list"][4].value == b"3"
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        table.put_item(Item=item, ConditionExpression=conditions.Attr("pk").not_exists())
    assert caught.value.response["Error"] == {
        "Code": "ConditionalCheckFailedException", "Message": "The conditional request failed"}
    updated = table.update_item(
        Key={"pk": key}, UpdateExpression="ADD n :one", ReturnValues="UPDATED_NEW",
        ConditionExpression=conditions.Attr("n").gt(1) & conditions.Attr("set").contains("a"),
        ExpressionAttributeValues={":one": 1})
    assert updated["Attributes"] == {"n": Decimal("2.1")}


def test_binary_is_base64_on_the_wire(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "b": {"B": b64(bytes(range(256)))}})
    got = api.GetItem(TableName=hash_table, Key={"pk": S(key)})["Item"]
    assert got["b"] == {"B": b64(bytes(range(256)))}


def test_counters_under_concurrency(api, hash_table, key):
    """ADD from many connections at once: no increment is lost."""
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: api.UpdateItem(
            TableName=hash_table, Key={"pk": S(key)}, UpdateExpression="ADD c :one",
            ExpressionAttributeValues={":one": N(1)}), range(400)))
    assert api.GetItem(TableName=hash_table, Key={"pk": S(key)}, ConsistentRead=True)[
        "Item"]["c"] == N(400)


def test_conditional_create_has_one_winner(api, hash_table, key):
    import concurrent.futures

    def attempt(number):
        return api.call("PutItem", {"TableName": hash_table, "Item": {"pk": S(key), "n": N(number)},
                                    "ConditionExpression": "attribute_not_exists(pk)"}).status

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(attempt, range(64)))[:2] == [200, 400]
