"""BatchGetItem and BatchWriteItem: contents, limits, pages of 16 MB, capacity and refusals."""

import pytest

from conftest import unique
from support.api import B, M, N, S

DUPLICATES = "Provided list of item keys contains duplicates"
SCHEMA = "The provided key element does not match the schema"


def put(item):
    return {"PutRequest": {"Item": item}}


def delete(key):
    return {"DeleteRequest": {"Key": key}}


def test_write_and_read_across_tables(client, hash_table, range_table, key):
    answer = client.batch_write_item(RequestItems={
        hash_table: [put({"pk": {"S": f"{key}{i}"}, "n": {"N": str(i)}}) for i in range(10)],
        range_table: [put({"pk": {"S": key}, "sk": {"S": str(i)}}) for i in range(15)]})
    assert answer["UnprocessedItems"] == {}
    got = client.batch_get_item(RequestItems={
        hash_table: {"Keys": [{"pk": {"S": f"{key}{i}"}} for i in range(12)], "ConsistentRead": True},
        range_table: {"Keys": [{"pk": {"S": key}, "sk": {"S": str(i)}} for i in range(15)],
                      "ProjectionExpression": "#s", "ExpressionAttributeNames": {"#s": "sk"}}})
    assert got["UnprocessedKeys"] == {}
    assert sorted(i["n"]["N"] for i in got["Responses"][hash_table]) == sorted(map(str, range(10)))
    assert sorted(i["sk"]["S"] for i in got["Responses"][range_table]) == sorted(map(str, range(15)))
    assert all(set(i) == {"sk"} for i in got["Responses"][range_table])


def test_deletes_and_puts_together(api, hash_table, key):
    api.PutItem(TableName=hash_table, Item={"pk": S(key + "old")})
    api.BatchWriteItem(RequestItems={hash_table: [
        delete({"pk": S(key + "old")}), delete({"pk": S(key + "absent")}), put({"pk": S(key + "new")})]})
    got = api.BatchGetItem(RequestItems={hash_table: {"Keys": [
        {"pk": S(key + s)} for s in ("old", "absent", "new")]}})
    assert got["Responses"][hash_table] == [{"pk": S(key + "new")}]


def test_absent_items_leave_an_empty_list(api, hash_table, key):
    got = api.BatchGetItem(RequestItems={hash_table: {"Keys": [{"pk": S(key)}]}})
    assert got == {"Responses": {hash_table: []}, "UnprocessedKeys": {}}


def test_full_batches(api, hash_table, key):
    for start in range(0, 100, 25):
        api.BatchWriteItem(RequestItems={hash_table: [
            put({"pk": S(f"{key}{i}")}) for i in range(start, start + 25)]})
    got = api.BatchGetItem(RequestItems={hash_table: {"Keys": [{"pk": S(f"{key}{i}")} for i in range(100)]}})
    assert len(got["Responses"][hash_table]) == 100


def test_responses_of_sixteen_megabytes(api, tables):
    """What does not fit comes back unprocessed, with the request's own parameters."""
    table = tables.create()
    for start in range(0, 60, 15):
        api.BatchWriteItem(RequestItems={table: [
            put({"pk": S(f"{i:03d}"), "v": S("x" * 380_000)}) for i in range(start, start + 15)]})
    wanted = {f"{i:03d}" for i in range(60)}
    request = {table: {"Keys": [{"pk": S(k)} for k in sorted(wanted)], "ConsistentRead": True,
                       "ProjectionExpression": "pk, #v", "ExpressionAttributeNames": {"#v": "v"}}}
    found, rounds = set(), 0
    while request:
        answer = api.call("BatchGetItem", {"RequestItems": request})
        assert answer.status == 200 and len(answer.body) < 17 * 1024 * 1024
        page = {i["pk"]["S"] for i in answer.json["Responses"][table]}
        assert not page & found
        found |= page
        rounds += 1
        request = answer.json["UnprocessedKeys"]
        if request:
            assert request[table]["ConsistentRead"] is True
            assert request[table]["ProjectionExpression"] == "pk, #v"
            assert request[table]["ExpressionAttributeNames"] == {"#v": "v"}
    assert found == wanted and rounds == 2


def test_equal_keys_in_different_writings(invalid, tables):
    table = tables.create(hash_type="N")
    invalid("BatchGetItem", {"RequestItems": {table: {"Keys": [{"pk": N("1")}, {"pk": N("1.0")}]}}},
            DUPLICATES)
    invalid("BatchWriteItem", {"RequestItems": {table: [put({"pk": N("1")}), delete({"pk": N("1e0")})]}},
            DUPLICATES)


def test_refused_writes(api, invalid, fails, range_table, hash_table, key):
    good = {"pk": S(key), "sk": S("1")}
    invalid("BatchWriteItem", {"RequestItems": {range_table: [put(good), delete(good)]}}, DUPLICATES)
    invalid("BatchWriteItem", {"RequestItems": {range_table: [put({"pk": S(key)})]}}, SCHEMA)
    invalid("BatchWriteItem", {"RequestItems": {range_table: [put({"pk": S(key), "sk": N(1)})]}}, SCHEMA)
    invalid("BatchWriteItem", {"RequestItems": {range_table: [delete({"pk": S(key)})]}}, SCHEMA)
    invalid("BatchWriteItem", {"RequestItems": {range_table: [delete({**good, "x": N(1)})]}}, SCHEMA)
    both = {"PutRequest": {"Item": good}, "DeleteRequest": {"Key": good}}
    for request in (both, {}):
        invalid("BatchWriteItem", {"RequestItems": {range_table: [request]}},
                "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the "
                "supported datatypes")
    fails("BatchWriteItem", {"RequestItems": {"no_such_table": [put(good)], range_table: [put(good)]}},
          "ResourceNotFoundException", "Requested resource not found")
    big = {"pk": S(key), "sk": S("1"), "v": S("x" * (400 * 1024))}
    invalid("BatchWriteItem", {"RequestItems": {range_table: [put(big)]}},
            "Item size has exceeded the maximum allowed size")
    assert api.GetItem(TableName=range_table, Key=good) == {}, "a refused batch wrote something"


def test_refused_reads(invalid, fails, range_table, key):
    good = {"pk": S(key), "sk": S("1")}
    invalid("BatchGetItem", {"RequestItems": {range_table: {"Keys": [good, good]}}}, DUPLICATES)
    invalid("BatchGetItem", {"RequestItems": {range_table: {"Keys": [{"pk": S(key)}]}}}, SCHEMA)
    fails("BatchGetItem", {"RequestItems": {"no_such_table": {"Keys": [good]}}},
          "ResourceNotFoundException", "Requested resource not found")
    invalid("BatchGetItem", {"RequestItems": {range_table: {
        "Keys": [good], "AttributesToGet": ["a"], "ProjectionExpression": "a"}}},
        "Can not use both expression and non-expression parameters in the same request: "
        "Non-expression parameters: {AttributesToGet} Expression parameters: {ProjectionExpression}")
    invalid("BatchGetItem", {"RequestItems": {range_table: {
        "Keys": [good], "AttributesToGet": ["a", "a"]}}},
        "One or more parameter values were invalid: Duplicate value in attribute name: a")


def test_sizes_out_of_range(api, hash_table):
    """The message repeats the request; its head and its constraint are what matters."""
    over = "failed to satisfy constraint: "
    for operation, items, constraint in [
        ("BatchWriteItem", {}, "Member must have length greater than or equal to 1"),
        ("BatchWriteItem", {hash_table: []}, "Map value must satisfy constraint: [Member must have length "
         "less than or equal to 25, Member must have length greater than or equal to 1]"),
        ("BatchWriteItem", {hash_table: [put({"pk": S(str(i))}) for i in range(26)]},
         "Map value must satisfy constraint: [Member must have length less than or equal to 25, Member "
         "must have length greater than or equal to 1]"),
        ("BatchGetItem", {}, "Member must have length greater than or equal to 1"),
        ("BatchGetItem", {hash_table: {"Keys": []}}, "Member must have length greater than or equal to 1"),
        ("BatchGetItem", {hash_table: {"Keys": [{"pk": S(str(i))} for i in range(101)]}},
         "Member must have length less than or equal to 100"),
    ]:
        response = api.call(operation, {"RequestItems": items})
        assert response.error_type == "ValidationException", response
        assert response.message.startswith("1 validation error detected: Value '"), response.message
        assert response.message.endswith(over + constraint), response.message
        assert "requestItems" in response.message


def test_too_many_over_several_tables(api, invalid, hash_table, range_table):
    invalid("BatchWriteItem", {"RequestItems": {
        hash_table: [put({"pk": S(str(i))}) for i in range(20)],
        range_table: [put({"pk": S(str(i)), "sk": S("1")}) for i in range(20)]}},
        "Too many items requested for the BatchWriteItem call")
    invalid("BatchGetItem", {"RequestItems": {
        hash_table: {"Keys": [{"pk": S(str(i))} for i in range(60)]},
        range_table: {"Keys": [{"pk": S(str(i)), "sk": S("1")} for i in range(60)]}}},
        "Too many items requested for the BatchGetItem call")


def test_capacity(api, hash_table, range_table, key):
    answer = api.BatchWriteItem(ReturnConsumedCapacity="TOTAL", RequestItems={
        hash_table: [put({"pk": S(key + str(i)), "v": S("x" * 1500)}) for i in range(3)],
        range_table: [put({"pk": S(key), "sk": S("1")})]})
    units = {c["TableName"]: c["CapacityUnits"] for c in answer["ConsumedCapacity"]}
    assert units == {hash_table: 6, range_table: 1}
    answer = api.BatchGetItem(ReturnConsumedCapacity="INDEXES", RequestItems={
        hash_table: {"Keys": [{"pk": S(key + str(i))} for i in range(4)]},
        range_table: {"Keys": [{"pk": S(key), "sk": S("1")}], "ConsistentRead": True}})
    entries = {c["TableName"]: c for c in answer["ConsumedCapacity"]}
    # An absent item costs as much as the smallest one.
    assert entries[hash_table]["CapacityUnits"] == 2
    assert entries[hash_table]["Table"] == {"CapacityUnits": 2}
    assert entries[range_table]["CapacityUnits"] == 1


def test_boto3_batch_writer(resource, hash_table, key):
    table = resource.Table(hash_table)
    with table.batch_writer(overwrite_by_pkeys=["pk"]) as writer:
        for i in range(120):
            writer.put_item(Item={"pk": f"{key}-{i % 100}", "round": i})
    found = resource.batch_get_item(RequestItems={hash_table: {"Keys": [
        {"pk": f"{key}-{i}"} for i in range(100)]}})["Responses"][hash_table]
    assert len(found) == 100 and sum(int(i["round"]) >= 100 for i in found) == 20
