"""Local secondary indexes: what each projection holds, how entries follow the item, metrics."""

import pytest

from support.api import L, M, N, NS, S, SS, ApiError

PREFIX = "One or more parameter values were invalid: "


@pytest.fixture(scope="module")
def indexed(module_tables):
    return module_tables.create(range_type="S", local={
        "keys": ("a", "N", {"ProjectionType": "KEYS_ONLY"}),
        "some": ("a", "N", {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["x", "y"]}),
        "all": ("a", "N", {"ProjectionType": "ALL"}),
        "other": ("b", "S", {"ProjectionType": "KEYS_ONLY"})})


@pytest.fixture
def entries(api, indexed, key):
    def read(index, **extra):
        page = api.Query(TableName=indexed, IndexName=index, KeyConditionExpression="pk = :p",
                         ExpressionAttributeValues={":p": S(key)}, ConsistentRead=True, **extra)
        return page["Items"]

    return read


def test_projections(api, indexed, entries, key):
    item = {"pk": S(key), "sk": S("1"), "a": N(5), "x": M(q=N(1)), "y": SS("s"), "z": S("hidden")}
    api.PutItem(TableName=indexed, Item=item)
    assert entries("keys") == [{k: item[k] for k in ("pk", "sk", "a")}]
    assert entries("some") == [{k: item[k] for k in ("pk", "sk", "a", "x", "y")}]
    assert entries("all") == [item]
    assert entries("other") == [], "an item without the index key is not in the index"


def test_entries_follow_the_item(api, indexed, entries, key):
    name = {"pk": S(key), "sk": S("1")}
    api.PutItem(TableName=indexed, Item={**name, "a": N(1), "x": S("one")})
    api.UpdateItem(TableName=indexed, Key=name, UpdateExpression="SET a = :a, b = :b",
                   ExpressionAttributeValues={":a": N(2), ":b": S("b")})
    assert entries("some") == [{**name, "a": N(2), "x": S("one")}]
    assert entries("other") == [{**name, "b": S("b")}]
    api.UpdateItem(TableName=indexed, Key=name, UpdateExpression="SET x = :x",
                   ExpressionAttributeValues={":x": S("two")})
    assert entries("some") == [{**name, "a": N(2), "x": S("two")}]
    api.UpdateItem(TableName=indexed, Key=name, UpdateExpression="REMOVE a")
    assert entries("some") == [] and entries("all") == []
    assert entries("other") == [{**name, "b": S("b")}]
    api.PutItem(TableName=indexed, Item={**name, "a": N(3)})
    assert entries("keys") == [{**name, "a": N(3)}] and entries("other") == []
    api.DeleteItem(TableName=indexed, Key=name)
    assert entries("keys") == [] and entries("all") == []


def test_equal_index_keys(api, indexed, entries, key):
    """Their order is the service's own, but one order: backwards it is reversed, pages keep it."""
    for sk in ("c", "a", "b"):
        api.PutItem(TableName=indexed, Item={"pk": S(key), "sk": S(sk), "a": N(7)})
    api.PutItem(TableName=indexed, Item={"pk": S(key), "sk": S("z"), "a": N("7.0")})
    order = [i["sk"]["S"] for i in entries("keys")]
    assert sorted(order) == ["a", "b", "c", "z"]
    assert [i["sk"]["S"] for i in entries("keys", ScanIndexForward=False)] == order[::-1]
    found, start = [], None
    while True:
        request = {"TableName": indexed, "IndexName": "keys", "KeyConditionExpression": "pk = :p AND a = :a",
                   "ExpressionAttributeValues": {":p": S(key), ":a": N(7)}, "Limit": 1}
        if start:
            request["ExclusiveStartKey"] = start
        page = api.Query(request)
        found += [i["sk"]["S"] for i in page["Items"]]
        start = page.get("LastEvaluatedKey")
        if not start:
            break
    assert found == order


def test_wrong_types_for_index_keys(api, invalid, indexed, key):
    name = {"pk": S(key), "sk": S("1")}
    # Three indexes share attribute a: the service names one of them.
    response = api.call("PutItem", {"TableName": indexed, "Item": {**name, "a": S("x")}})
    assert response.error_type == "ValidationException"
    assert response.message.startswith(
        PREFIX + "Type mismatch for Index Key a Expected: N Actual: S IndexName: ")
    invalid("PutItem", {"TableName": indexed, "Item": {**name, "b": L()}},
            PREFIX + "Type mismatch for Index Key b Expected: S Actual: L IndexName: other")
    api.PutItem(TableName=indexed, Item={**name, "a": N(1)})
    invalid("UpdateItem", {"TableName": indexed, "Key": name, "UpdateExpression": "SET b = :b",
                           "ExpressionAttributeValues": {":b": N(1)}},
            PREFIX + "Type mismatch for Index Key b Expected: S Actual: N IndexName: other")
    invalid("UpdateItem", {"TableName": indexed, "Key": name,
                           "UpdateExpression": "SET b = if_not_exists(nothing_here, a)"},
            "The update expression attempted to update the secondary index key to unsupported type")
    invalid("UpdateItem", {"TableName": indexed, "Key": name, "UpdateExpression": "SET b.c = :b",
                           "ExpressionAttributeValues": {":b": N(1)}},
            "Key attributes must be scalars; list random access '[]' and map lookup '.' are not allowed: "
            "IndexKey: b")
    words = (PREFIX + "Type mismatch for Index Key b Expected: S Actual: N IndexName: other")
    invalid("BatchWriteItem", {"RequestItems": {indexed: [
        {"PutRequest": {"Item": {**name, "b": N(1)}}}]}}, words)


def test_empty_index_keys_are_refused(api, invalid, indexed, key):
    invalid("PutItem", {"TableName": indexed, "Item": {"pk": S(key), "sk": S("1"), "b": S("")}},
            "One or more parameter values are not valid. A value specified for a secondary index key is "
            "not supported. The AttributeValue for a key attribute cannot contain an empty string value. "
            "IndexName: other, IndexKey: b")


def test_index_key_size(api, indexed, key):
    assert api.call("PutItem", {"TableName": indexed, "Item": {
        "pk": S(key), "sk": S("1"), "b": S("x" * 1024)}}).status == 200
    response = api.call("PutItem", {"TableName": indexed, "Item": {
        "pk": S(key), "sk": S("1"), "b": S("x" * 1025)}})
    assert response.error_type == "ValidationException", response


def test_collection_metrics(api, indexed, key):
    name = {"pk": S(key), "sk": S("1")}
    for operation, extra in [
        ("PutItem", {"Item": {**name, "a": N(1)}}),
        ("UpdateItem", {"Key": name, "UpdateExpression": "SET z = :z",
                        "ExpressionAttributeValues": {":z": N(1)}}),
        ("DeleteItem", {"Key": name}),
    ]:
        answer = getattr(api, operation)(
            TableName=indexed, ReturnItemCollectionMetrics="SIZE", **extra)
        metrics = answer["ItemCollectionMetrics"]
        assert metrics["ItemCollectionKey"] == {"pk": S(key)}
        low, high = metrics["SizeEstimateRangeGB"]
        assert 0 <= low <= high <= 10 and high == low + 1
    answer = api.PutItem(TableName=indexed, Item=name)
    assert "ItemCollectionMetrics" not in answer
    batch = api.BatchWriteItem(RequestItems={indexed: [{"PutRequest": {"Item": name}}]},
                               ReturnItemCollectionMetrics="SIZE")
    assert batch["ItemCollectionMetrics"][indexed][0]["ItemCollectionKey"] == {"pk": S(key)}


def test_no_collection_metrics_without_an_index(api, range_table, key):
    answer = api.PutItem(TableName=range_table, Item={"pk": S(key), "sk": S("1")},
                         ReturnItemCollectionMetrics="SIZE")
    assert "ItemCollectionMetrics" not in answer


def test_attributes_beyond_the_projection_need_the_table(api, indexed, key):
    for i in range(3):
        api.PutItem(TableName=indexed, Item={"pk": S(key), "sk": S(str(i)), "a": N(i), "z": N(i)})
    base = {"TableName": indexed, "IndexName": "some", "KeyConditionExpression": "pk = :p",
            "ExpressionAttributeValues": {":p": S(key)}}
    assert [i["z"] for i in api.Query(**base, Select="ALL_ATTRIBUTES")["Items"]] == [N(0), N(1), N(2)]
    assert api.Query(**base, ProjectionExpression="z")["Items"] == [{"z": N(i)} for i in range(3)]
    # A filter sees what the request can see.
    page = api.Query(TableName=indexed, IndexName="some", KeyConditionExpression="pk = :p",
                     FilterExpression="x = :x", ExpressionAttributeValues={":p": S(key), ":x": N(9)})
    assert page["Count"] == 0 and page["ScannedCount"] == 3


def test_indexes_stay_consistent_under_concurrency(api, indexed, key):
    """Index and table agree after many writers fought over the same items."""
    import concurrent.futures
    import random

    def work(seed):
        dice = random.Random(seed)
        for _ in range(60):
            name = {"pk": S(key), "sk": S(str(dice.randrange(10)))}
            choice = dice.randrange(4)
            if choice == 0:
                api.DeleteItem(TableName=indexed, Key=name)
            elif choice == 1:
                api.PutItem(TableName=indexed, Item={**name, "a": N(dice.randrange(5)), "x": N(seed)})
            elif choice == 2:
                api.UpdateItem(TableName=indexed, Key=name, UpdateExpression="SET a = :a ADD hits :one",
                               ExpressionAttributeValues={":a": N(dice.randrange(5)), ":one": N(1)})
            else:
                api.UpdateItem(TableName=indexed, Key=name, UpdateExpression="REMOVE a")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    table = api.Query(TableName=indexed, KeyConditionExpression="pk = :p", ConsistentRead=True,
                      ExpressionAttributeValues={":p": S(key)})["Items"]
    order = [i for i in table if "a" in i]
    index = api.Query(TableName=indexed, IndexName="all", KeyConditionExpression="pk = :p",
                      ConsistentRead=True, ExpressionAttributeValues={":p": S(key)})["Items"]
    assert [i["a"] for i in index] == sorted((i["a"] for i in index), key=lambda a: int(a["N"]))
    assert sorted(index, key=lambda i: i["sk"]["S"]) == order


def test_item_collections_have_a_limit():
    """10 GB on the service; an option makes it small enough to reach here."""
    from conftest import wait_active
    from support.api import Api
    from support.server import Server

    with Server(arguments=["--item-collection-limit", "2MB"]) as server:
        api = Api(server.endpoint)
        keys = [{"AttributeName": "pk", "KeyType": "HASH"}]
        api.CreateTable(
            TableName="bounded", BillingMode="PAY_PER_REQUEST",
            KeySchema=keys + [{"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": t}
                                  for n, t in (("pk", "S"), ("sk", "N"), ("a", "N"))],
            LocalSecondaryIndexes=[{"IndexName": "idx", "Projection": {"ProjectionType": "KEYS_ONLY"},
                                    "KeySchema": keys + [{"AttributeName": "a", "KeyType": "RANGE"}]}])
        api.CreateTable(TableName="unbounded", BillingMode="PAY_PER_REQUEST", KeySchema=keys,
                        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}])
        wait_active(api, "bounded")
        wait_active(api, "unbounded")
        stored = 0
        for i in range(40):
            response = api.call("PutItem", {"TableName": "bounded", "Item": {
                "pk": S("full"), "sk": N(i), "a": N(i), "v": S("x" * 100_000)}})
            if response.status != 200:
                break
            stored += 1
        assert response.error_type == "ItemCollectionSizeLimitExceededException", response
        assert response.status == 400 and "ollection size" in response.message
        assert 15 <= stored <= 24
        # Reading, deleting and shrinking go on; other collections and tables are not concerned.
        assert api.Query(TableName="bounded", KeyConditionExpression="pk = :p",
                         ExpressionAttributeValues={":p": S("full")})["Count"] > 0
        assert api.call("PutItem", {"TableName": "bounded", "Item": {"pk": S("other"), "sk": N(1)}}).status == 200
        assert api.call("PutItem", {"TableName": "unbounded", "Item": {
            "pk": S("x"), "v": S("x" * 390_000)}}).status == 200
        for i in range(3):
            api.DeleteItem(TableName="bounded", Key={"pk": S("full"), "sk": N(i)})
        assert api.call("PutItem", {"TableName": "bounded", "Item": {
            "pk": S("full"), "sk": N(99), "v": S("x" * 100_000)}}).status == 200
        assert server.stop() == 0
