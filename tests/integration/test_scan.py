"""Scan: pages, parallel segments, filters, indexes, Select and refusals; and pages under writes."""

import concurrent.futures
import threading

import pytest

from support.api import N, S, SS

PREFIX = "One or more parameter values were invalid: "


@pytest.fixture(scope="module")
def filled(api, module_tables):
    """300 items over 100 partition keys; index idx (KEYS_ONLY) holds the 150 with attribute a."""
    table = module_tables.create(range_type="N", local={
        "idx": ("a", "N", {"ProjectionType": "KEYS_ONLY"})})
    for h in range(100):
        requests = []
        for r in range(3):
            item = {"pk": S(f"h{h}"), "sk": N(r), "x": S("v"), "group": N(h % 10)}
            if (h + r) % 2:
                item["a"] = N(h)
            requests.append({"PutRequest": {"Item": item}})
        assert api.BatchWriteItem(RequestItems={table: requests})["UnprocessedItems"] == {}
    return table


def everything(api, **request):
    found, pages = [], 0
    while True:
        page = api.Scan(request)
        assert page["Count"] == len(page.get("Items", [])) or request.get("Select") == "COUNT"
        found += page.get("Items", [])
        pages += 1
        if "LastEvaluatedKey" not in page:
            return found, pages
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def identities(items):
    return sorted((i["pk"]["S"], int(i["sk"]["N"])) for i in items)


ALL = sorted((f"h{h}", r) for h in range(100) for r in range(3))


@pytest.mark.parametrize("limit", [None, 1, 7, 100, 299, 300, 1000])
def test_pages(api, filled, limit):
    if limit == 1:
        limit = 2   # one at a time is covered by Query; 300 round trips teach nothing more
    extra = {"Limit": limit} if limit else {}
    items, pages = everything(api, TableName=filled, **extra)
    assert identities(items) == ALL
    if limit:
        assert pages == 300 // limit + 1


def test_order_is_stable_and_collections_are_sorted(api, filled):
    first = [i["pk"]["S"] for i in everything(api, TableName=filled)[0]]
    again = [i["pk"]["S"] for i in everything(api, TableName=filled, Limit=17)[0]]
    assert first == again
    items = everything(api, TableName=filled)[0]
    for a, b in zip(items, items[1:]):
        if a["pk"] == b["pk"]:
            assert int(a["sk"]["N"]) < int(b["sk"]["N"])
    assert len({k for k, _ in identities(items)}) == sum(
        1 for i, h in enumerate(first) if i == 0 or h != first[i - 1]), "a collection is in two places"


@pytest.mark.parametrize("segments", [1, 2, 3, 8, 100, 1000])
def test_segments_cover_everything_once(api, filled, segments):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda s: everything(api, TableName=filled, Segment=s, Limit=50,
                                                   TotalSegments=segments)[0], range(segments)))
    assert identities([i for part in parts for i in part]) == ALL
    if segments in (2, 3, 8):
        assert all(parts), "a segment of a well spread table is empty"


def test_filter_and_counts(api, filled):
    found, scanned = 0, 0
    request = {"TableName": filled, "FilterExpression": "#g = :g", "Limit": 64,
               "ExpressionAttributeNames": {"#g": "group"}, "ExpressionAttributeValues": {":g": N(3)}}
    while True:
        page = api.Scan(request)
        found += page["Count"]
        scanned += page["ScannedCount"]
        if "LastEvaluatedKey" not in page:
            break
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    assert (found, scanned) == (30, 300)


def test_filters_may_name_keys(api, filled):
    page = api.Scan(TableName=filled, FilterExpression="sk = :two",
                    ExpressionAttributeValues={":two": N(2)})
    assert page["Count"] == 100


def test_index(api, filled):
    items, _ = everything(api, TableName=filled, IndexName="idx", Limit=40)
    assert len(items) == 150 and all(set(i) == {"pk", "sk", "a"} for i in items)
    items, _ = everything(api, TableName=filled, IndexName="idx", Select="ALL_ATTRIBUTES")
    assert len(items) == 150 and all("x" in i for i in items)
    page = api.Scan(TableName=filled, IndexName="idx", Limit=1)
    assert set(page["LastEvaluatedKey"]) == {"pk", "sk", "a"}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda s: everything(api, TableName=filled, IndexName="idx", Segment=s,
                                                   TotalSegments=4)[0], range(4)))
    assert sum(map(len, parts)) == 150


def test_select(api, filled):
    page = api.Scan(TableName=filled, Select="COUNT")
    assert page["Count"] == 300 and "Items" not in page
    page = api.Scan(TableName=filled, ProjectionExpression="x", Limit=5)
    assert page["Items"] == [{"x": S("v")}] * 5
    page = api.Scan(TableName=filled, AttributesToGet=["x", "absent"], Limit=5)
    assert page["Items"] == [{"x": S("v")}] * 5


@pytest.mark.parametrize("extra, message", [
    ({"Segment": 1}, "The TotalSegments parameter is required but was not present in the request when "
                     "Segment parameter is present"),
    ({"TotalSegments": 2}, "The Segment parameter is required but was not present in the request when "
                           "parameter TotalSegments is present"),
    ({"TotalSegments": 2, "Segment": 2},
     "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
     "Segment: 2 is not less than TotalSegments: 2"),
    ({"ExclusiveStartKey": {"pk": S("p")}},
     "The provided starting key is invalid: The provided key element does not match the schema"),
    ({"ExclusiveStartKey": {"pk": S("p"), "sk": S("x")}},
     "The provided starting key is invalid: The provided key element does not match the schema"),
    ({"IndexName": "absent"}, "The table does not have the specified index: absent"),
    ({"IndexName": "idx", "ExclusiveStartKey": {"pk": S("p"), "sk": N(1)}},
     "The provided starting key is invalid"),
    ({"AttributesToGet": ["x", "x"]}, PREFIX + "Duplicate value in attribute name: x"),
    ({"ProjectionExpression": "x, x"},
     "Invalid ProjectionExpression: Two document paths overlap with each other; must remove or rewrite "
     "one of these paths; path one: [x], path two: [x]"),
    ({"ProjectionExpression": "x.a, x[0]"},
     "Invalid ProjectionExpression: Two document paths conflict with each other; must remove or rewrite "
     "one of these paths; path one: [x, a], path two: [x, [0]]"),
    ({"ProjectionExpression": ""}, "Invalid ProjectionExpression: The expression can not be empty;"),
    ({"ProjectionExpression": "x y"},
     'Invalid ProjectionExpression: Syntax error; token: "y", near: "x y"'),
    ({"ProjectionExpression": "x", "AttributesToGet": ["x"]},
     "Can not use both expression and non-expression parameters in the same request: "
     "Non-expression parameters: {AttributesToGet} Expression parameters: {ProjectionExpression}"),
    ({"ExpressionAttributeValues": {":v": N(1)}},
     "ExpressionAttributeValues can only be specified when using expressions: FilterExpression is null"),
])
def test_refused(invalid, filled, extra, message):
    invalid("Scan", {"TableName": filled, **extra}, message)


def test_segment_of_another_scan(api, filled):
    """A start key outside the segment is refused rather than silently skipping items."""
    last = {}
    for segment in range(2):
        page = api.Scan(TableName=filled, Segment=segment, TotalSegments=2, Limit=1)
        last[segment] = page["LastEvaluatedKey"]
    response = api.call("Scan", {"TableName": filled, "Segment": 0, "TotalSegments": 2,
                                 "ExclusiveStartKey": last[1]})
    assert response.status == 400
    assert response.message == (
        "The provided starting key is invalid: Invalid ExclusiveStartKey. Please use ExclusiveStartKey "
        "with correct Segment. TotalSegments: 2 Segment: 0")


def test_pages_of_one_megabyte(api, tables):
    table = tables.create()
    for i in range(0, 60, 20):
        api.BatchWriteItem(RequestItems={table: [
            {"PutRequest": {"Item": {"pk": S(f"{j:03d}"), "v": S("x" * 50_000)}}}
            for j in range(i, i + 20)]})
    items, pages = everything(api, TableName=table)
    assert len(items) == 60 and pages == 3


@pytest.mark.parametrize("operation", ["Scan", "Query"])
def test_every_lasting_item_is_found_under_concurrent_writes(api, tables, operation):
    """Items that exist throughout a paged read are seen exactly once, however others come and go."""
    table = tables.create(range_type="N")
    lasting = range(0, 2000, 2)
    for start in range(0, 1000, 25):
        api.BatchWriteItem(RequestItems={table: [
            {"PutRequest": {"Item": {"pk": S("p"), "sk": N(lasting[j]), "v": N(0)}}}
            for j in range(start, start + 25)]})
    stop = threading.Event()
    failures = []

    def churn(seed):
        import random
        dice = random.Random(seed)
        while not stop.is_set():
            passing = dice.randrange(1, 2000, 2)
            try:
                api.PutItem(TableName=table, Item={"pk": S("p"), "sk": N(passing), "v": S("passing")})
                api.UpdateItem(TableName=table, Key={"pk": S("p"), "sk": N(dice.choice(lasting))},
                               UpdateExpression="ADD v :one", ExpressionAttributeValues={":one": N(1)})
                api.DeleteItem(TableName=table, Key={"pk": S("p"), "sk": N(passing)})
            except Exception as problem:  # noqa: BLE001 - reported by the test thread
                failures.append(problem)
                return

    writers = [threading.Thread(target=churn, args=(s,)) for s in range(4)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(3):
            request = {"TableName": table, "Limit": 37}
            if operation == "Query":
                request.update(KeyConditionExpression="pk = :p",
                               ExpressionAttributeValues={":p": S("p")})
            seen = []
            while True:
                page = getattr(api, operation)(request)
                seen += [int(i["sk"]["N"]) for i in page["Items"]]
                if "LastEvaluatedKey" not in page:
                    break
                request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
            assert seen == sorted(set(seen)), "an item was returned twice or out of order"
            assert set(lasting) <= set(seen), "an item that was there throughout was missed"
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failures, failures[0]
