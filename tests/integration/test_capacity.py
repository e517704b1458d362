"""ConsumedCapacity: units of every operation, with the INDEXES breakdown, as the service counts."""

import pytest

from support.api import N, S

SIZES = [(100, 1, 1), (1000, 1, 1), (1030, 2, 1), (4000, 4, 1), (4100, 5, 2), (9000, 9, 3)]


def value(size, key):
    """An attribute that makes the item {pk, v} exactly `size` bytes."""
    return S("x" * (size - 2 - len(key) - 1))


@pytest.mark.parametrize("size, writes, reads", SIZES)
def test_units_by_size(api, hash_table, key, size, writes, reads):
    item = {"pk": S(key), "v": value(size, key)}

    def units(answer):
        assert answer["ConsumedCapacity"]["TableName"] == hash_table
        assert set(answer["ConsumedCapacity"]) == {"TableName", "CapacityUnits"}
        return answer["ConsumedCapacity"]["CapacityUnits"]

    common = {"TableName": hash_table, "ReturnConsumedCapacity": "TOTAL"}
    assert units(api.PutItem(Item=item, **common)) == writes
    assert units(api.GetItem(Key={"pk": S(key)}, ConsistentRead=True, **common)) == reads
    assert units(api.GetItem(Key={"pk": S(key)}, **common)) == reads / 2
    # The larger of before and after.
    assert units(api.PutItem(Item={"pk": S(key)}, **common)) == writes
    assert units(api.PutItem(Item=item, **common)) == writes
    assert units(api.UpdateItem(Key={"pk": S(key)}, UpdateExpression="REMOVE v", **common)) == writes
    api.PutItem(TableName=hash_table, Item=item)
    assert units(api.DeleteItem(Key={"pk": S(key)}, **common)) == writes
    assert units(api.DeleteItem(Key={"pk": S(key)}, **common)) == 1
    assert units(api.GetItem(Key={"pk": S(key)}, **common)) == 0.5
    query = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": S(key)}}
    # Nothing found: observed as the smallest read; emulators say nothing was read.
    assert units(api.Query(**query, **common)) in (0, 0.5)


def test_not_returned_unless_asked(api, hash_table, key):
    for extra in ({}, {"ReturnConsumedCapacity": "NONE"}):
        assert api.PutItem(TableName=hash_table, Item={"pk": S(key)}, **extra) == {}


def test_indexes_form_on_a_table_without_indexes(api, hash_table, key):
    answer = api.PutItem(TableName=hash_table, Item={"pk": S(key)}, ReturnConsumedCapacity="INDEXES")
    assert answer["ConsumedCapacity"] == {"TableName": hash_table, "CapacityUnits": 1,
                                          "Table": {"CapacityUnits": 1}}


@pytest.fixture(scope="module")
def indexed(module_tables):
    return module_tables.create(range_type="S", local={
        "idx": ("a", "N", {"ProjectionType": "KEYS_ONLY"}),
        "wide": ("b", "N", {"ProjectionType": "ALL"})})


def test_index_writes(api, indexed, key):
    name = {"pk": S(key), "sk": S("1")}

    def units(operation, **request):
        answer = getattr(api, operation)(TableName=indexed, ReturnConsumedCapacity="INDEXES", **request)
        used = answer["ConsumedCapacity"]
        local = {n: c["CapacityUnits"] for n, c in used.get("LocalSecondaryIndexes", {}).items()}
        assert used["CapacityUnits"] == used["Table"]["CapacityUnits"] + sum(local.values())
        return used["Table"]["CapacityUnits"], local

    assert units("PutItem", Item={**name, "x": N(1)}) == (1, {})
    assert units("PutItem", Item={**name, "a": N(1)}) == (1, {"idx": 1})
    # A changed index key costs a delete and an insert.
    assert units("PutItem", Item={**name, "a": N(2)}) == (1, {"idx": 2})
    assert units("PutItem", Item={**name, "a": N(2), "b": N(1), "v": S("x" * 2500)}) == (3, {"wide": 3})
    assert units("UpdateItem", Key=name, UpdateExpression="SET z = :z",
                 ExpressionAttributeValues={":z": N(1)}) == (3, {"wide": 3})
    assert units("UpdateItem", Key=name, UpdateExpression="REMOVE a") == (3, {"idx": 1, "wide": 3})
    assert units("DeleteItem", Key=name) == (3, {"wide": 3})
    assert units("DeleteItem", Key=name) == (1, {})


def test_index_reads(api, indexed, key):
    for i in range(10):
        api.PutItem(TableName=indexed, Item={"pk": S(key), "sk": S(str(i)), "a": N(i), "v": S("x" * 990)})
    base = {"TableName": indexed, "KeyConditionExpression": "pk = :p", "ConsistentRead": True,
            "ExpressionAttributeValues": {":p": S(key)}, "ReturnConsumedCapacity": "INDEXES"}
    used = api.Query(**base)["ConsumedCapacity"]
    assert used["CapacityUnits"] == 3 and used["Table"]["CapacityUnits"] == 3
    assert "LocalSecondaryIndexes" not in used
    used = api.Query(**base, IndexName="idx")["ConsumedCapacity"]
    assert used["LocalSecondaryIndexes"]["idx"]["CapacityUnits"] == 1
    assert used["Table"]["CapacityUnits"] == 0 and used["CapacityUnits"] == 1
    # Attributes beyond the projection: one read of the table for each item.
    used = api.Query(**base, IndexName="idx", Select="ALL_ATTRIBUTES")["ConsumedCapacity"]
    assert used["LocalSecondaryIndexes"]["idx"]["CapacityUnits"] == 1
    assert used["Table"]["CapacityUnits"] == 10 and used["CapacityUnits"] == 11


def test_pages_are_summed_before_rounding(api, range_table, key):
    for i in range(20):
        api.PutItem(TableName=range_table, Item={"pk": S(key), "sk": S(f"{i:02d}"), "v": S("x" * 100)})
    base = {"TableName": range_table, "KeyConditionExpression": "pk = :p",
            "ExpressionAttributeValues": {":p": S(key)}, "ReturnConsumedCapacity": "TOTAL"}
    assert api.Query(**base, ConsistentRead=True)["ConsumedCapacity"]["CapacityUnits"] == 1
    assert api.Query(**base)["ConsumedCapacity"]["CapacityUnits"] == 0.5
    # A projection or a filter saves nothing.
    assert api.Query(**base, ProjectionExpression="sk", ConsistentRead=True)[
        "ConsumedCapacity"]["CapacityUnits"] == 1


def test_failed_conditions_do_not_return_capacity(api, hash_table, key):
    response = api.call("PutItem", {"TableName": hash_table, "Item": {"pk": S(key)},
                                    "ConditionExpression": "attribute_exists(pk)",
                                    "ReturnConsumedCapacity": "TOTAL"})
    assert response.error_type == "ConditionalCheckFailedException"
    assert "ConsumedCapacity" not in response.json
