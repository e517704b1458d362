"""Query: key conditions, order, pages, filters, Select in all forms and every refusal."""

import pytest

from support.api import B, L, M, N, NS, S, SS, ApiError

PREFIX = "One or more parameter values were invalid: "


@pytest.fixture(scope="module")
def songs(api, module_tables):
    """pk "p" holds sk 00..19 with n = number; "other" holds one; index by_n is KEYS_ONLY on n."""
    table = module_tables.create(range_type="S", local={
        "by_n": ("n", "N", {"ProjectionType": "KEYS_ONLY"}),
        "by_n_all": ("n", "N", {"ProjectionType": "ALL"})})
    for i in range(20):
        api.PutItem(TableName=table, Item={"pk": S("p"), "sk": S(f"{i:02d}"), "n": N(100 - i),
                                           "even": {"BOOL": i % 2 == 0}, "x": S("v" * 10)})
    api.PutItem(TableName=table, Item={"pk": S("other"), "sk": S("00"), "n": N(1)})
    return table


VALUES = {":p": S("p"), ":s": S("05"), ":t": S("08"), ":one": S("1"), ":n": N(90), ":m": N(95),
          ":true": {"BOOL": True}, ":none": S("nobody"), ":b": B(b"x")}


@pytest.fixture
def query(api, songs):
    import re

    def run(condition, raw=False, **parameters):
        used = set(re.findall(r":\w+", condition + " " + parameters.get("FilterExpression", "")))
        request = {"TableName": songs, "KeyConditionExpression": condition, **parameters}
        if used and "ExpressionAttributeValues" not in request:
            request["ExpressionAttributeValues"] = {u: VALUES[u] for u in used}
        request = {k: v for k, v in request.items() if v is not None}
        return api.call("Query", request) if raw else api.Query(request)

    return run


def keys(page):
    return [i["sk"]["S"] for i in page["Items"]]


def span(a, b):
    return [f"{i:02d}" for i in range(a, b)]


@pytest.mark.parametrize("condition, expected", [
    ("pk = :p", span(0, 20)), (":p = pk", span(0, 20)), ("pk = :none", []),
    ("pk = :p AND sk = :s", ["05"]), ("sk = :s AND pk = :p", ["05"]), ("pk = :p AND :s = sk", ["05"]),
    ("pk = :p AND sk < :s", span(0, 5)), ("pk = :p AND sk <= :s", span(0, 6)),
    ("pk = :p AND sk > :s", span(6, 20)), ("pk = :p AND sk >= :s", span(5, 20)),
    ("pk = :p AND :s < sk", span(6, 20)),
    ("pk = :p AND sk BETWEEN :s AND :t", span(5, 9)), ("pk = :p AND begins_with(sk, :one)", span(10, 20)),
    ("(pk = :p) AND (sk > :s)", span(6, 20)), ("pk = :p and sk between :s and :t", span(5, 9)),
])
def test_key_conditions(query, condition, expected):
    page = query(condition)
    assert keys(page) == expected
    assert page["Count"] == page["ScannedCount"] == len(expected)
    assert "LastEvaluatedKey" not in page
    assert keys(query(condition, ScanIndexForward=False)) == expected[::-1]
    assert keys(query(condition, ConsistentRead=True)) == expected


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 7, 20, 21])
def test_pages_by_limit(query, forward, limit):
    found, start, pages = [], None, 0
    while True:
        page = query("pk = :p", Limit=limit, ScanIndexForward=forward, ExclusiveStartKey=start)
        assert len(page["Items"]) <= limit
        found += keys(page)
        pages += 1
        start = page.get("LastEvaluatedKey")
        if start is None:
            break
        assert set(start) == {"pk", "sk"} and start["sk"]["S"] == found[-1]
    assert found == (span(0, 20) if forward else span(0, 20)[::-1])
    # A page that fills its limit exactly has a next key, even if nothing follows.
    assert pages == 20 // limit + 1


def test_index_pages_carry_all_keys(query):
    found, start = [], None
    while True:
        page = query("pk = :p", IndexName="by_n", Limit=6, ExclusiveStartKey=start)
        found += keys(page)
        start = page.get("LastEvaluatedKey")
        if start is None:
            break
        assert set(start) == {"pk", "sk", "n"}
    assert found == span(0, 20)[::-1]


def test_index_conditions(query):
    assert keys(query("pk = :p AND n > :n", IndexName="by_n")) == span(0, 10)[::-1]
    assert keys(query("pk = :p AND n BETWEEN :n AND :m", IndexName="by_n",
                      ScanIndexForward=False)) == span(5, 11)
    assert keys(query("pk = :p AND n = :n", IndexName="by_n_all", ConsistentRead=True)) == ["10"]


def test_filter_counts(query):
    page = query("pk = :p", FilterExpression="even = :true")
    assert page["Count"] == 10 and page["ScannedCount"] == 20
    page = query("pk = :p", FilterExpression="even = :true", Limit=5)
    assert page["Count"] == 3 and page["ScannedCount"] == 5
    assert page["LastEvaluatedKey"]["sk"] == S("04")


def test_select_count(query):
    page = query("pk = :p", Select="COUNT")
    assert page["Count"] == 20 and page["ScannedCount"] == 20 and "Items" not in page
    page = query("pk = :p", Select="COUNT", FilterExpression="even = :true", Limit=4)
    assert page["Count"] == 2 and page["ScannedCount"] == 4 and "LastEvaluatedKey" in page


def test_select_forms(query):
    full = {"pk", "sk", "n", "even", "x"}
    assert set(query("pk = :p", Select="ALL_ATTRIBUTES")["Items"][0]) == full
    assert set(query("pk = :p", Select="SPECIFIC_ATTRIBUTES", ProjectionExpression="x")["Items"][0]) == {"x"}
    assert set(query("pk = :p", IndexName="by_n")["Items"][0]) == {"pk", "sk", "n"}
    assert set(query("pk = :p", IndexName="by_n", Select="ALL_PROJECTED_ATTRIBUTES")["Items"][0]) == {
        "pk", "sk", "n"}
    # A local index fetches the rest from the table.
    assert set(query("pk = :p", IndexName="by_n", Select="ALL_ATTRIBUTES")["Items"][0]) == full
    assert query("pk = :p", IndexName="by_n", ProjectionExpression="x")["Items"][0] == {"x": S("v" * 10)}
    assert set(query("pk = :p", IndexName="by_n_all")["Items"][0]) == full


def test_projection_of_absent_attributes_keeps_empty_items(query):
    page = query("pk = :p", ProjectionExpression="nothing_here")
    assert page["Items"] == [{}] * 20 and page["Count"] == 20


def test_start_key_need_not_exist(query):
    page = query("pk = :p", ExclusiveStartKey={"pk": S("p"), "sk": S("05x")})
    assert keys(page) == span(6, 20)
    page = query("pk = :p", ScanIndexForward=False, ExclusiveStartKey={"pk": S("p"), "sk": S("05x")})
    assert keys(page) == span(0, 6)[::-1]


REFUSED = [
    ("pk = :p and sk = :s and n = :n", {}, "Conditions can be of length 1 or 2 only"),
    ("pk = :p and n = :n", {}, "Query condition missed key schema element: sk"),
    ("sk = :s", {}, "Query condition missed key schema element: pk"),
    ("pk > :p", {}, "Query key condition not supported"),
    ("begins_with(pk, :p)", {}, "Query key condition not supported"),
    ("pk = :p or sk = :s", {}, "Invalid operator used in KeyConditionExpression: OR"),
    ("pk = :p and sk <> :s", {}, "Invalid operator used in KeyConditionExpression: <>"),
    ("pk = :p and not sk = :s", {}, "Invalid operator used in KeyConditionExpression: NOT"),
    ("pk = :p and sk in (:s)", {}, "Invalid operator used in KeyConditionExpression: IN"),
    ("pk = :p and contains(sk, :s)", {}, "Invalid operator used in KeyConditionExpression: contains"),
    ("attribute_exists(pk)", {}, "Invalid operator used in KeyConditionExpression: attribute_exists"),
    ("pk = :p and size(sk) = :n", {}, "KeyConditionExpressions cannot contain nested operations"),
    ("pk = :p and sk = :n", {}, PREFIX + "Condition parameter type does not match schema type"),
    ("pk = :b", {}, PREFIX + "Condition parameter type does not match schema type"),
    ("pk = :p and pk = :p", {},
     "Invalid KeyConditionExpression: KeyConditionExpressions must only contain one condition per key"),
    ("pk = :p and begins_with(:s, sk)", {},
     "Invalid condition in KeyConditionExpression: begins_with operator must have the key attribute as "
     "its first operand"),
    ("pk = sk", {}, "Invalid condition in KeyConditionExpression: Multiple attribute names used in one "
                    "condition"),
    (":p = :s", {}, "Invalid condition in KeyConditionExpression: No key attribute specified"),
    ("", {}, "Invalid KeyConditionExpression: The expression can not be empty;"),
    ("pk = :p and sk between :t and :s", {},
     "Invalid KeyConditionExpression: The BETWEEN operator requires upper bound to be greater than or "
     "equal to lower bound; lower bound operand: AttributeValue: {S:08}, upper bound operand: "
     "AttributeValue: {S:05}"),
    ("pk = :p", {"FilterExpression": "sk = :s"},
     "Filter Expression can only contain non-primary key attributes: Primary key attribute: sk"),
    ("pk = :p", {"IndexName": "by_n", "FilterExpression": "n = :n"},
     "Filter Expression can only contain non-primary key attributes: Primary key attribute: n"),
    ("pk = :p", {"IndexName": "absent"}, "The table does not have the specified index: absent"),
    ("pk = :p", {"Select": "ALL_PROJECTED_ATTRIBUTES"},
     PREFIX + "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName"),
    ("pk = :p", {"Select": "SPECIFIC_ATTRIBUTES"},
     PREFIX + "Must specify the AttributesToGet or ProjectionExpression when choosing to get "
              "SPECIFIC_ATTRIBUTES"),
    ("pk = :p", {"Select": "COUNT", "ProjectionExpression": "x"},
     PREFIX + "Cannot specify the ProjectionExpression when choosing to get only the Count"),
    ("pk = :p", {"Select": "ALL_ATTRIBUTES", "ProjectionExpression": "x"},
     PREFIX + "Cannot specify the ProjectionExpression when choosing to get ALL_ATTRIBUTES"),
    ("pk = :p", {"ExclusiveStartKey": {"pk": S("p")}}, "The provided starting key is invalid"),
    ("pk = :p", {"ExclusiveStartKey": {"pk": S("p"), "sk": S("05"), "n": N(1)}},
     "The provided starting key is invalid"),
    ("pk = :p", {"ExclusiveStartKey": {"pk": S("q"), "sk": S("05")}},
     "The provided starting key is outside query boundaries based on provided conditions"),
    ("pk = :p and sk > :s", {"ExclusiveStartKey": {"pk": S("p"), "sk": S("01")}},
     "The provided starting key does not match the range key predicate"),
    ("pk = :p", {"IndexName": "by_n", "ExclusiveStartKey": {"pk": S("p"), "sk": S("05")}},
     "The provided starting key is invalid"),
    ("pk = :p", {"ExclusiveStartKey": {"pk": S("p"), "sk": N(5)}},
     "The provided key element does not match the schema"),
    ("pk = :p", {"ExclusiveStartKey": {"pk": S("p"), "sk": {}}},
     "The provided starting key is invalid: Supplied AttributeValue is empty, must contain exactly one "
     "of the supported datatypes"),
    ("pk = :p", {"KeyConditions": {"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [S("p")]}}},
     "Can not use both expression and non-expression parameters in the same request: "
     "Non-expression parameters: {KeyConditions} Expression parameters: {KeyConditionExpression}"),
    (None, {}, "Either the KeyConditions or KeyConditionExpression parameter must be specified in the "
               "request."),
    ("pk.x = :p", {},
     "Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on nested attributes"),
    ("pk = :p", {"FilterExpression": "sk.x = :s"},
     "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: sk"),
    ("pk = :p", {"ProjectionExpression": "pk.x"},
     "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: Key: pk"),
]

# The service puts this prefix before some of these and not before others, and has changed it.
OPTIONAL_PREFIX = ("ALL_PROJECTED_ATTRIBUTES can", "Must specify the", "Cannot specify the")


@pytest.mark.parametrize("condition, extra, message", REFUSED)
def test_refused(api, songs, query, condition, extra, message):
    if condition is None:
        response = api.call("Query", {"TableName": songs})
    else:
        response = query(condition, raw=True, **extra)
    assert response.error_type == "ValidationException", response
    found = response.message
    if "ExclusiveStartKey" in extra:
        # The service has said this with and without the prefix.
        found = found.replace("The provided starting key is invalid: The provided key", "The provided key")
    if message.removeprefix(PREFIX).startswith(OPTIONAL_PREFIX):
        found, message = found.removeprefix(PREFIX), message.removeprefix(PREFIX)
    assert found == message


def test_select_count_with_projection_on_hash_only_table(api, invalid, hash_table):
    invalid("Query", {"TableName": hash_table, "KeyConditionExpression": "pk = :p and sk = :p",
                      "ExpressionAttributeValues": {":p": S("p")}}, "Query key condition not supported")
    invalid("Query", {"TableName": hash_table, "KeyConditionExpression": "pk = :p",
                      "IndexName": "none", "ExpressionAttributeValues": {":p": S("p")}},
            "The table does not have the specified index: none")


def test_pages_of_one_megabyte(api, tables):
    """1 MB of items a page, whatever the filter keeps; capacity is what was read."""
    table = tables.create(range_type="N")
    for i in range(60):
        api.PutItem(TableName=table, Item={"pk": S("p"), "sk": N(i), "v": S("x" * 50_000)})
    request = {"TableName": table, "KeyConditionExpression": "pk = :p",
               "ExpressionAttributeValues": {":p": S("p")}, "ReturnConsumedCapacity": "TOTAL",
               "ConsistentRead": True}
    counts, units = [], 0
    while True:
        page = api.Query(request)
        counts.append(page["Count"])
        units += page["ConsumedCapacity"]["CapacityUnits"]
        if "LastEvaluatedKey" not in page:
            break
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    assert sum(counts) == 60
    # 1 MB holds 20 items of 50,010 bytes; the one that crosses the line is in the page.
    assert counts == [21, 21, 18] or counts == [20, 20, 20], counts
    assert 60 * 50_010 / 4096 <= units <= 60 * 50_010 / 4096 + 3
    # The same boundaries under a filter that keeps nothing.
    request.pop("ExclusiveStartKey")
    request.update(FilterExpression="attribute_exists(nothing_here)")
    page = api.Query(request)
    assert page["Count"] == 0 and page["ScannedCount"] == counts[0] and "LastEvaluatedKey" in page


def test_boto3_paginator_and_conditions(client, resource, songs):
    from boto3.dynamodb.conditions import Attr, Key
    pages = client.get_paginator("query").paginate(
        TableName=songs, KeyConditionExpression="pk = :p", ExpressionAttributeValues={":p": {"S": "p"}},
        PaginationConfig={"PageSize": 3})
    assert sum(p["Count"] for p in pages) == 20
    table = resource.Table(songs)
    found = table.query(KeyConditionExpression=Key("pk").eq("p") & Key("sk").between("03", "06"),
                        FilterExpression=Attr("even").eq(True) & Attr("n").is_in([94, 96, 1]),
                        ProjectionExpression="sk")
    assert [i["sk"] for i in found["Items"]] == ["04", "06"]


@pytest.mark.parametrize("expression, values, expected", [
    ("contains(tags, :v)", {":v": S("t1")}, 5), ("size(tags) > :v", {":v": N(1)}, 5),
    ("m.deep.n >= :v", {":v": N(5)}, 5), ("attribute_type(opt, :v)", {":v": S("N")}, 3),
    ("l[1] = :v OR l[0] = :w", {":v": N(3), ":w": N(8)}, 2),
    ("NOT attribute_exists(opt) AND m.deep.n IN (:v, :w)", {":v": N(1), ":w": N(2)}, 2),
    ("#s BETWEEN :v AND :w", {":v": S("c"), ":w": S("f")}, 4),
])
def test_filters(api, module_tables, expression, values, expected, request):
    table = getattr(request.module, "_filter_table", None)
    if table is None:
        table = request.module._filter_table = module_tables.create(range_type="N")
        for i in range(10):
            item = {"pk": S("p"), "sk": N(i), "status": S("abcdefghij"[i]), "m": M(deep=M(n=N(i))),
                    "l": L(N(i), N(i + 1)), "tags": SS("t1", "t2") if i % 2 else SS("t0")}
            if i % 4 == 0:
                item["opt"] = N(1)
            api.PutItem(TableName=table, Item=item)
    call = {"TableName": table, "KeyConditionExpression": "pk = :p", "FilterExpression": expression,
            "ExpressionAttributeValues": {":p": S("p"), **values}}
    if "#s" in expression:
        call["ExpressionAttributeNames"] = {"#s": "status"}
    assert api.Query(call)["Count"] == expected
