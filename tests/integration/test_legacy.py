"""The parameters from before expressions: they must mean what they always meant."""

import pytest

from support.api import B, L, M, N, NS, S, SS

PREFIX = "One or more parameter values were invalid: "
ITEM = {"n": N(5), "s": S("hello"), "ss": SS("a", "b"), "yes": {"BOOL": True}, "l": L(N(1)),
        "m": M(k=S("v"))}


@pytest.fixture
def holds(api, hash_table, key):
    """Whether a PutItem with Expected goes through on an item {pk, **ITEM}."""
    api.PutItem(TableName=hash_table, Item={"pk": S(key), **ITEM})

    def run(expected, **extra):
        response = api.call("PutItem", {"TableName": hash_table, "Item": {"pk": S(key), **ITEM},
                                        "Expected": expected, **extra})
        if response.status == 200:
            return True
        assert response.error_type == "ConditionalCheckFailedException", response
        return False

    return run


def op(operator, *values):
    condition = {"ComparisonOperator": operator}
    if values:
        condition["AttributeValueList"] = list(values)
    return condition


@pytest.mark.parametrize("attribute, condition, result", [
    ("n", {"Value": N("5.0")}, True), ("n", {"Value": N(6)}, False),
    ("n", {"Exists": True, "Value": N(5)}, True), ("n", {"Exists": False}, False),
    ("absent", {"Exists": False}, True), ("absent", {"Value": N(1)}, False),
    ("n", op("EQ", N(5)), True), ("n", op("NE", N(5)), False), ("n", op("NE", S("5")), True),
    ("n", op("LT", N(6)), True), ("n", op("LE", N(5)), True), ("n", op("GT", N(5)), False),
    ("n", op("GE", N(5)), True), ("n", op("LT", S("9")), False),
    ("n", op("BETWEEN", N(1), N(5)), True), ("n", op("BETWEEN", N(6), N(9)), False),
    ("n", op("IN", N(1), N(5)), True), ("n", op("IN", N(1)), False),
    ("n", op("NOT_NULL"), True), ("n", op("NULL"), False), ("absent", op("NULL"), True),
    ("absent", op("NOT_NULL"), False),
    ("s", op("BEGINS_WITH", S("he")), True), ("s", op("BEGINS_WITH", S("lo")), False),
    ("s", op("CONTAINS", S("ell")), True), ("s", op("NOT_CONTAINS", S("ell")), False),
    ("ss", op("CONTAINS", S("a")), True), ("ss", op("NOT_CONTAINS", S("c")), True),
    ("ss", op("EQ", SS("b", "a")), True), ("l", op("EQ", L(N(1))), True), ("m", op("EQ", M(k=S("v"))), True),
    ("n", {"ComparisonOperator": "EQ", "Value": N(5)}, True),
])
def test_expected(holds, attribute, condition, result):
    assert holds({attribute: condition}) is result


@pytest.mark.parametrize("operation, extra, conditions", [
    ("PutItem", {"Item": {"pk": S("x")}}, "Expected"), ("DeleteItem", {"Key": {"pk": S("x")}}, "Expected"),
    ("UpdateItem", {"Key": {"pk": S("x")}}, "Expected"), ("Scan", {}, "ScanFilter"),
    ("Query", {"KeyConditions": {"pk": op("EQ", S("x"))}}, "QueryFilter")])
def test_conditional_operator_needs_two_conditions(api, hash_table, operation, extra, conditions):
    few = "ConditionalOperator can only be used when Filter or Expected has two or more elements"
    one = {"a": op("NULL")}
    for given, message in [({}, "ConditionalOperator cannot be used without Filter or Expected"),
                           ({conditions: one}, few)]:
        response = api.call(operation, {"TableName": hash_table, "ConditionalOperator": "OR", **extra, **given})
        assert (response.error_type, response.message) == ("ValidationException", message)
    two = {conditions: {**one, "b": op("NULL")}}
    assert api.call(operation, {"TableName": hash_table, "ConditionalOperator": "OR", **extra, **two}).status == 200


def test_conditional_operator(holds):
    yes, no = op("EQ", N(5)), op("EQ", S("zz"))
    assert holds({"n": yes, "s": no}, ConditionalOperator="OR") is True
    assert holds({"n": yes, "s": no}, ConditionalOperator="AND") is False
    assert holds({"n": yes, "s": no}) is False


@pytest.mark.parametrize("updates, changes", [
    ({"n": {"Value": N(9)}}, {"n": N(9)}), ({"fresh": {"Action": "PUT", "Value": S("x")}}, {"fresh": S("x")}),
    ({"n": {"Action": "ADD", "Value": N(2)}}, {"n": N(7)}),
    ({"fresh": {"Action": "ADD", "Value": N(2)}}, {"fresh": N(2)}),
    ({"ss": {"Action": "ADD", "Value": SS("b", "c")}}, {"ss": SS("a", "b", "c")}),
    ({"fresh": {"Action": "ADD", "Value": SS("c")}}, {"fresh": SS("c")}),
    ({"l": {"Action": "ADD", "Value": L(N(2))}}, {"l": L(N(1), N(2))}),
    ({"ss": {"Action": "DELETE", "Value": SS("a")}}, {"ss": SS("b")}),
    ({"ss": {"Action": "DELETE", "Value": SS("a", "b")}}, {"ss": None}),
    ({"n": {"Action": "DELETE"}, "absent": {"Action": "DELETE"}}, {"n": None}),
])
def test_attribute_updates(api, hash_table, key, updates, changes):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), **ITEM})
    got = api.UpdateItem(TableName=hash_table, Key={"pk": S(key)}, AttributeUpdates=updates,
                         ReturnValues="ALL_NEW")["Attributes"]
    expected = {k: v for k, v in {"pk": S(key), **ITEM, **changes}.items() if v is not None}
    for item in (got, expected):
        for v in item.values():
            if "SS" in v:
                v["SS"] = sorted(v["SS"])
    assert got == expected


def test_deleting_from_an_absent_item_does_not_create_it(api, hash_table, key):
    """The documentation of AttributeUpdates: DELETE causes nothing to happen, PUT and ADD create."""
    for update in ({"Action": "DELETE"}, {"Action": "DELETE", "Value": SS("a")}):
        api.UpdateItem(TableName=hash_table, Key={"pk": S(key)}, AttributeUpdates={"a": update})
        assert api.GetItem(TableName=hash_table, Key={"pk": S(key)}) == {}


def test_updates_with_expected(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), "n": N(1)})
    for status in (200, 400):
        response = api.call("UpdateItem", {
            "TableName": hash_table, "Key": {"pk": S(key)}, "Expected": {"n": {"Value": N(1)}},
            "AttributeUpdates": {"n": {"Action": "ADD", "Value": N(1)}}})
        assert response.status == status
    response = api.call("DeleteItem", {"TableName": hash_table, "Key": {"pk": S(key)},
                                       "Expected": {"n": {"Value": N(1)}}})
    assert response.error_type == "ConditionalCheckFailedException"


@pytest.fixture(scope="module")
def ranged(api, module_tables):
    table = module_tables.create(range_type="N")
    for i in range(10):
        api.PutItem(TableName=table, Item={"pk": S("p"), "sk": N(i), "even": {"BOOL": i % 2 == 0},
                                           "s": S("abcdefghij"[i])})
    return table


@pytest.mark.parametrize("condition, expected", [
    (None, range(10)), (op("EQ", N(3)), [3]), (op("LT", N(3)), [0, 1, 2]), (op("LE", N(3)), [0, 1, 2, 3]),
    (op("GT", N(7)), [8, 9]), (op("GE", N(7)), [7, 8, 9]), (op("BETWEEN", N(2), N(4)), [2, 3, 4]),
])
def test_key_conditions(api, ranged, condition, expected):
    conditions = {"pk": op("EQ", S("p"))}
    if condition:
        conditions["sk"] = condition
    page = api.Query(TableName=ranged, KeyConditions=conditions)
    assert [int(i["sk"]["N"]) for i in page["Items"]] == list(expected)


def test_query_and_scan_filters(api, ranged):
    keys = {"pk": op("EQ", S("p"))}
    assert api.Query(TableName=ranged, KeyConditions=keys,
                     QueryFilter={"s": op("GE", S("f")), "even": op("NOT_NULL")})["Count"] == 5
    assert api.Query(TableName=ranged, KeyConditions=keys, ConditionalOperator="OR",
                     QueryFilter={"s": op("EQ", S("a")), "absent": op("NOT_NULL")})["Count"] == 1
    page = api.Scan(TableName=ranged, ScanFilter={"s": op("IN", S("a"), S("j"))}, AttributesToGet=["sk"])
    assert sorted(i["sk"]["N"] for i in page["Items"]) == ["0", "9"]
    assert page["ScannedCount"] == 10
    assert api.Query(TableName=ranged, KeyConditions=keys, AttributesToGet=["s"], Limit=1)[
        "Items"] == [{"s": S("a")}]


@pytest.mark.parametrize("expected, message", [
    ({"n": {"Value": N(1), "AttributeValueList": [N(1)], "ComparisonOperator": "EQ"}},
     PREFIX + "Value and AttributeValueList cannot be used together for Attribute: n"),
    ({"n": {"Exists": True, "ComparisonOperator": "EQ", "AttributeValueList": [N(1)]}},
     PREFIX + "Exists and ComparisonOperator cannot be used together for Attribute: n"),
    ({"n": {"ComparisonOperator": "EQ"}},
     PREFIX + "Value or AttributeValueList must be used with ComparisonOperator: EQ for Attribute: n"),
    ({"n": {"AttributeValueList": [N(1)]}},
     PREFIX + "AttributeValueList can only be used with a ComparisonOperator for Attribute: n"),
    ({"n": {}}, PREFIX + "Value must be provided when Exists is null for Attribute: n"),
    ({"n": {"Exists": True}}, PREFIX + "Value must be provided when Exists is true for Attribute: n"),
    ({"n": {"Exists": False, "Value": N(1)}},
     PREFIX + "Value cannot be used when Exists is false for Attribute: n"),
    ({"n": op("EQ", N(1), N(2))}, PREFIX + "Invalid number of argument(s) for the EQ ComparisonOperator"),
    ({"n": op("NULL", N(1))}, PREFIX + "Invalid number of argument(s) for the NULL ComparisonOperator"),
    ({"n": op("BETWEEN", N(1))}, PREFIX + "Invalid number of argument(s) for the BETWEEN ComparisonOperator"),
    ({"n": op("BETWEEN", N(2), N(1))},
     "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"),
    ({"n": op("IN", N(2), S("1"))},
     PREFIX + "AttributeValues inside AttributeValueList must be of same type"),
    ({"n": {"Value": {}}},
     "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
])
def test_expected_refused(invalid, hash_table, key, expected, message):
    invalid("PutItem", {"TableName": hash_table, "Item": {"pk": S(key)}, "Expected": expected}, message)


@pytest.mark.parametrize("updates, message", [
    ({"n": {"Action": "PUT"}}, PREFIX + "Only DELETE action is allowed when no attribute value is specified"),
    ({"n": {"Action": "DELETE", "Value": N(1)}},
     PREFIX + "DELETE action with value is not supported for the type N"),
    ({"n": {"Action": "ADD", "Value": S("x")}}, PREFIX + "ADD action is not supported for the type S"),
    ({"pk": {"Value": S("x")}}, PREFIX + "Cannot update attribute pk. This attribute is part of the key"),
    ({"s": {"Action": "ADD", "Value": N(1)}}, "Type mismatch for attribute to update"),
    ({"n": {"Action": "DELETE", "Value": SS("a")}}, "Type mismatch for attribute to update"),
])
def test_updates_refused(api, hash_table, key, updates, message):
    api.PutItem(TableName=hash_table, Item={"pk": S(key), **ITEM})
    response = api.call("UpdateItem", {"TableName": hash_table, "Key": {"pk": S(key)},
                                       "AttributeUpdates": updates})
    assert response.error_type == "ValidationException", response
    # The service has written types both short and long here.
    assert response.message in (message, message.replace("type N", "type NUMBER").replace(
        "type S", "type STRING"))


@pytest.mark.parametrize("conditions, message", [
    ({}, "Conditions can be of length 1 or 2 only"),
    ({"pk": op("EQ", S("p")), "sk": op("NE", N(1))},
     "Attempted conditional constraint is not an indexable operation"),
    ({"pk": op("EQ", S("p")), "sk": op("IN", N(1))},
     "Attempted conditional constraint is not an indexable operation"),
    ({"pk": op("GT", S("p"))}, "Query key condition not supported"),
    ({"sk": op("EQ", N(1))}, "Query condition missed key schema element: pk"),
    ({"pk": op("EQ", S("p")), "sk": op("EQ", S("x"))},
     PREFIX + "Condition parameter type does not match schema type"),
    ({"pk": op("EQ", S("p")), "sk": op("BEGINS_WITH", N(1))},
     PREFIX + "ComparisonOperator BEGINS_WITH is not valid for N AttributeValue type"),
    ({"pk": op("EQ", S("p")), "sk": op("BETWEEN", N(2), N(1))},
     "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"),
    ({"pk": op("EQ")}, PREFIX + "Invalid number of argument(s) for the EQ ComparisonOperator"),
])
def test_key_conditions_refused(invalid, ranged, conditions, message):
    invalid("Query", {"TableName": ranged, "KeyConditions": conditions}, message)


def test_mixed_with_expressions(invalid, ranged, hash_table, key):
    invalid("Query", {"TableName": ranged, "KeyConditionExpression": "pk = :p",
                      "ExpressionAttributeValues": {":p": S("p")}, "QueryFilter": {"s": op("NOT_NULL")}},
            "Can not use both expression and non-expression parameters in the same request: "
            "Non-expression parameters: {QueryFilter} Expression parameters: {KeyConditionExpression}")
    invalid("Scan", {"TableName": ranged, "FilterExpression": "attribute_exists(s)",
                     "ScanFilter": {"s": op("NOT_NULL")}},
            "Can not use both expression and non-expression parameters in the same request: "
            "Non-expression parameters: {ScanFilter} Expression parameters: {FilterExpression}")
    invalid("UpdateItem", {"TableName": hash_table, "Key": {"pk": S(key)},
                           "ConditionExpression": "attribute_exists(pk)",
                           "AttributeUpdates": {"a": {"Value": N(1)}}},
            "Can not use both expression and non-expression parameters in the same request: "
            "Non-expression parameters: {AttributeUpdates} Expression parameters: {ConditionExpression}")
