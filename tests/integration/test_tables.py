"""CreateTable, DescribeTable, UpdateTable, DeleteTable, ListTables and what describes an account."""

import concurrent.futures
import re
import time

import pytest

from conftest import unique, wait_active
from support.api import N, S, ApiError

PREFIX = "One or more parameter values were invalid: "


def schema(*keys):
    return [{"AttributeName": name, "KeyType": kind} for name, kind in keys]


def definitions(*attributes):
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in attributes]


HASH = schema(("pk", "HASH"))
BOTH = schema(("pk", "HASH"), ("sk", "RANGE"))
INDEX = schema(("pk", "HASH"), ("a", "RANGE"))
THREE = definitions(("pk", "S"), ("sk", "S"), ("a", "N"))


def simple(name, **changes):
    request = {"TableName": name, "KeySchema": HASH, "AttributeDefinitions": definitions(("pk", "S")),
               "BillingMode": "PAY_PER_REQUEST"}
    request.update(changes)
    return {k: v for k, v in request.items() if v is not None}


def index(name="idx", keys=INDEX, **projection):
    return {"IndexName": name, "KeySchema": keys,
            "Projection": projection or {"ProjectionType": "ALL"}}


def with_index(name, *indexes, **changes):
    return simple(name, KeySchema=BOTH, AttributeDefinitions=THREE,
                  LocalSecondaryIndexes=list(indexes), **changes)


@pytest.fixture
def make(api, tables):
    """CreateTable with the raw request, deleted at the end; returns the description once ACTIVE."""

    def run(**changes):
        request = simple(unique(), **changes)
        tables.names.append(request["TableName"])
        first = api.CreateTable(request)["TableDescription"]
        wait_active(api, request["TableName"])
        return first, api.DescribeTable(TableName=request["TableName"])["Table"]

    return run


def test_on_demand_table(make):
    created, described = make()
    assert created["TableStatus"] in ("CREATING", "ACTIVE")
    assert described["TableStatus"] == "ACTIVE"
    assert described["KeySchema"] == HASH
    assert described["AttributeDefinitions"] == definitions(("pk", "S"))
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert described["ProvisionedThroughput"] == {
        "NumberOfDecreasesToday": 0, "ReadCapacityUnits": 0, "WriteCapacityUnits": 0}
    assert described["ItemCount"] == 0 and described["TableSizeBytes"] == 0
    assert described["DeletionProtectionEnabled"] is False
    assert re.fullmatch(r"arn:aws:dynamodb:[a-z0-9-]+:\d{12}:table/" + described["TableName"],
                        described["TableArn"])
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                        described["TableId"])
    assert created["TableId"] == described["TableId"]
    assert abs(described["CreationDateTime"] - time.time()) < 60
    for absent in ("LocalSecondaryIndexes", "GlobalSecondaryIndexes", "StreamSpecification",
                   "LatestStreamArn", "SSEDescription", "TableClassSummary", "RestoreSummary"):
        assert absent not in described


def test_provisioned_table(make):
    _, described = make(BillingMode=None, ProvisionedThroughput={"ReadCapacityUnits": 5,
                                                                 "WriteCapacityUnits": 7})
    throughput = described["ProvisionedThroughput"]
    assert (throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]) == (5, 7)
    assert throughput["NumberOfDecreasesToday"] == 0
    assert described.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED") == "PROVISIONED"


@pytest.mark.parametrize("hash_type", ["S", "N", "B"])
@pytest.mark.parametrize("range_type", ["S", "N", "B"])
def test_key_types(make, hash_type, range_type):
    _, described = make(KeySchema=BOTH,
                        AttributeDefinitions=definitions(("pk", hash_type), ("sk", range_type)))
    assert described["KeySchema"] == BOTH
    assert sorted(d["AttributeType"] for d in described["AttributeDefinitions"]) == sorted(
        [hash_type, range_type])


def test_local_indexes_described(make):
    _, described = make(KeySchema=BOTH, AttributeDefinitions=THREE, LocalSecondaryIndexes=[
        index("keys-only", ProjectionType="KEYS_ONLY"),
        index("include.x", ProjectionType="INCLUDE", NonKeyAttributes=["x", "y"]),
        index("all_of_it", ProjectionType="ALL")])
    found = {i["IndexName"]: i for i in described["LocalSecondaryIndexes"]}
    assert set(found) == {"keys-only", "include.x", "all_of_it"}
    assert found["keys-only"]["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert found["include.x"]["Projection"]["ProjectionType"] == "INCLUDE"
    assert sorted(found["include.x"]["Projection"]["NonKeyAttributes"]) == ["x", "y"]
    for name, entry in found.items():
        assert entry["KeySchema"] == INDEX
        assert entry["IndexArn"] == f"{described['TableArn']}/index/{name}"
        assert entry["ItemCount"] == 0 and entry["IndexSizeBytes"] == 0


def test_everything_else_described_back(make):
    _, described = make(
        DeletionProtectionEnabled=False, TableClass="STANDARD_INFREQUENT_ACCESS",
        SSESpecification={"Enabled": True, "SSEType": "KMS"},
        OnDemandThroughput={"MaxReadRequestUnits": 50, "MaxWriteRequestUnits": 60},
        WarmThroughput={"ReadUnitsPerSecond": 13000, "WriteUnitsPerSecond": 5000})
    assert described["TableClassSummary"]["TableClass"] == "STANDARD_INFREQUENT_ACCESS"
    assert described["SSEDescription"]["Status"] == "ENABLED"
    assert described["SSEDescription"]["SSEType"] == "KMS"
    assert described["SSEDescription"]["KMSMasterKeyArn"].startswith("arn:aws:kms:")
    assert described["OnDemandThroughput"] == {"MaxReadRequestUnits": 50, "MaxWriteRequestUnits": 60}
    warm = described["WarmThroughput"]
    assert (warm["ReadUnitsPerSecond"], warm["WriteUnitsPerSecond"]) == (13000, 5000)
    assert warm["Status"] == "ACTIVE"


def test_warm_throughput_default(make):
    _, described = make()
    assert described["WarmThroughput"]["ReadUnitsPerSecond"] == 12000
    assert described["WarmThroughput"]["WriteUnitsPerSecond"] == 4000


def test_deletion_protection(api, fails, make):
    _, described = make(DeletionProtectionEnabled=True)
    name = described["TableName"]
    assert described["DeletionProtectionEnabled"] is True
    response = api.call("DeleteTable", {"TableName": name})
    assert response.error_type == "ValidationException"
    assert response.message == (
        "Resource cannot be deleted as it is currently protected against deletion. "
        "Disable deletion protection first.")
    changed = api.UpdateTable(TableName=name, DeletionProtectionEnabled=False)["TableDescription"]
    assert changed["DeletionProtectionEnabled"] is False
    wait_active(api, name)
    assert api.DeleteTable(TableName=name)["TableDescription"]["TableStatus"] == "DELETING"


def test_tags_at_creation(api, make):
    _, described = make(Tags=[{"Key": "owner", "Value": "me"}, {"Key": "empty", "Value": ""}])
    got = api.ListTagsOfResource(ResourceArn=described["TableArn"])["Tags"]
    assert sorted(got, key=lambda t: t["Key"]) == [
        {"Key": "empty", "Value": ""}, {"Key": "owner", "Value": "me"}]


@pytest.mark.parametrize("value", ["1", "3"])
def test_a_replication_tag_is_a_tag(api, make, value):
    _, described = make(Tags=[{"Key": "onggi:replication", "Value": value}])
    assert api.ListTagsOfResource(ResourceArn=described["TableArn"])["Tags"] == [
        {"Key": "onggi:replication", "Value": value}]


@pytest.mark.parametrize("value", ["2", "three", "", "03", "33", "5 "])
def test_a_replication_tag_is_1_3_or_5(api, invalid, value):
    name = unique()
    invalid("CreateTable", simple(name, Tags=[{"Key": "onggi:replication", "Value": value}]),
            PREFIX + "the tag onggi:replication must be 1, 3 or 5")
    assert api.call("DescribeTable", {"TableName": name}).error_type == "ResourceNotFoundException"


def test_counts_are_live(api, make):
    _, described = make()
    name = described["TableName"]
    for i in range(10):
        api.PutItem(TableName=name, Item={"pk": S(f"item{i}"), "v": S("x" * 100)})
    table = api.DescribeTable(TableName=name)["Table"]
    assert table["ItemCount"] == 10
    assert table["TableSizeBytes"] == 10 * (2 + 5 + 1 + 100)
    api.PutItem(TableName=name, Item={"pk": S("item0")})
    api.DeleteItem(TableName=name, Key={"pk": S("item1")})
    api.DeleteItem(TableName=name, Key={"pk": S("absent")})
    table = api.DescribeTable(TableName=name)["Table"]
    assert table["ItemCount"] == 9
    assert table["TableSizeBytes"] == 8 * 108 + 7


def test_index_counts_are_live(api, make):
    _, described = make(KeySchema=BOTH, AttributeDefinitions=THREE,
                        LocalSecondaryIndexes=[index("idx", ProjectionType="KEYS_ONLY")])
    name = described["TableName"]
    for i in range(6):
        item = {"pk": S("p"), "sk": S(str(i)), "v": S("not in the index")}
        if i % 2:
            item["a"] = N(i)
        api.PutItem(TableName=name, Item=item)
    table = api.DescribeTable(TableName=name)["Table"]
    assert table["ItemCount"] == 6
    assert table["LocalSecondaryIndexes"][0]["ItemCount"] == 3
    assert table["LocalSecondaryIndexes"][0]["IndexSizeBytes"] > 0


def test_delete_then_gone(api, fails, make):
    _, described = make()
    name = described["TableName"]
    api.PutItem(TableName=name, Item={"pk": S("x")})
    gone = api.DeleteTable(TableName=name)["TableDescription"]
    assert gone["TableStatus"] == "DELETING" and gone["TableName"] == name
    deadline = time.monotonic() + 10
    while api.call("DescribeTable", {"TableName": name}).status == 200:
        assert time.monotonic() < deadline, "the table never went away"
        time.sleep(0.02)
    message = f"Requested resource not found: Table: {name} not found"
    for operation in ("DescribeTable", "DeleteTable", "DescribeTimeToLive"):
        fails(operation, {"TableName": name}, "ResourceNotFoundException", message)
    fails("UpdateTable", {"TableName": name, "BillingMode": "PAY_PER_REQUEST"},
          "ResourceNotFoundException", message)
    assert name not in all_names(api)
    # A table of the same name starts empty, with an identity of its own.
    api.CreateTable(simple(name))
    wait_active(api, name)
    again = api.DescribeTable(TableName=name)["Table"]
    assert again["TableId"] != described["TableId"] and again["ItemCount"] == 0
    assert api.Scan(TableName=name)["Count"] == 0


def all_names(api, **request):
    names = []
    while True:
        page = api.ListTables(request)
        names += page["TableNames"]
        if "LastEvaluatedTableName" not in page:
            return names
        request["ExclusiveStartTableName"] = page["LastEvaluatedTableName"]


def test_list_tables_pages_in_order(api, tables):
    prefix = unique("list")
    made = sorted(tables.create(f"{prefix}{s}") for s in ("-b", ".a", "_c", "0", "Z", "z"))
    names = all_names(api, Limit=2)
    assert names == sorted(names)
    assert [n for n in names if n.startswith(prefix)] == made
    page = api.ListTables(ExclusiveStartTableName=made[0], Limit=1)
    assert page["TableNames"] == [made[1]] and page["LastEvaluatedTableName"] == made[1]


def test_table_exists(api, fails, make):
    _, described = make()
    fails("CreateTable", simple(described["TableName"]), "ResourceInUseException",
          f"Table already exists: {described['TableName']}")


def test_names_of_the_allowed_lengths(api, tables):
    for name in ("a.b", "n" * 255, "_-.", "0" * 100):
        tables.names.append(name)
        api.CreateTable(simple(name))
        wait_active(api, name)
        assert api.DescribeTable(TableName=name)["Table"]["TableName"] == name


@pytest.mark.parametrize("changes, message", [
    ({"BillingMode": None}, PREFIX + "ReadCapacityUnits and WriteCapacityUnits must both be specified "
                                     "when BillingMode is PROVISIONED"),
    ({"BillingMode": "PROVISIONED"}, PREFIX + "ReadCapacityUnits and WriteCapacityUnits must both be "
                                              "specified when BillingMode is PROVISIONED"),
    ({"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}},
     PREFIX + "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
              "PAY_PER_REQUEST"),
    ({"KeySchema": schema(("pk", "RANGE"))},
     "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"),
    ({"KeySchema": schema(("pk", "HASH"), ("sk", "HASH")),
      "AttributeDefinitions": definitions(("pk", "S"), ("sk", "S"))},
     "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type"),
    ({"KeySchema": BOTH}, "Invalid KeySchema: Some index key attribute have no definition"),
    ({"KeySchema": BOTH, "AttributeDefinitions": definitions(("pk", "S"), ("zz", "S"))},
     PREFIX + "Some index key attributes are not defined in AttributeDefinitions. "
              "Keys: [pk, sk], AttributeDefinitions: [pk, zz]"),
    ({"KeySchema": schema(("pk", "HASH"), ("pk", "RANGE")),
      "AttributeDefinitions": definitions(("pk", "S"), ("sk", "S"))},
     "Both the Hash Key and the Range Key element in the KeySchema have the same name"),
    ({"AttributeDefinitions": definitions(("pk", "S"), ("zz", "S"))},
     PREFIX + "Number of attributes in KeySchema does not exactly match number of attributes defined "
              "in AttributeDefinitions"),
    ({"LocalSecondaryIndexes": [index()], "AttributeDefinitions": definitions(("pk", "S"), ("a", "N"))},
     PREFIX + "Table KeySchema does not have a range key, which is required when specifying a "
              "LocalSecondaryIndex"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE[:2], "LocalSecondaryIndexes": []},
     PREFIX + "List of LocalSecondaryIndexes is empty"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE, "LocalSecondaryIndexes": [index(), index()]},
     PREFIX + "Duplicate index name: idx"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE,
      "LocalSecondaryIndexes": [{"IndexName": "idx", "KeySchema": INDEX, "Projection": {}}]},
     PREFIX + "Unknown ProjectionType: null"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE,
      "LocalSecondaryIndexes": [index(ProjectionType="ALL", NonKeyAttributes=["x"])]},
     PREFIX + "ProjectionType is ALL, but NonKeyAttributes is specified"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE,
      "LocalSecondaryIndexes": [index(ProjectionType="KEYS_ONLY", NonKeyAttributes=["x"])]},
     PREFIX + "ProjectionType is KEYS_ONLY, but NonKeyAttributes is specified"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE,
      "LocalSecondaryIndexes": [index(ProjectionType="INCLUDE")]},
     PREFIX + "ProjectionType is INCLUDE, but NonKeyAttributes is not specified"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE, "LocalSecondaryIndexes": [index(keys=HASH)]},
     PREFIX + "Index KeySchema does not have a range key for index: idx"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE,
      "LocalSecondaryIndexes": [index(keys=schema(("sk", "HASH"), ("a", "RANGE")))]},
     PREFIX + "Index KeySchema does not have the same leading hash key as table KeySchema for index: "
              "idx. index hash key: sk, table hash key: pk"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE,
      "LocalSecondaryIndexes": [index(keys=schema(("pk", "HASH"), ("q", "RANGE")))]},
     PREFIX + "Some index key attributes are not defined in AttributeDefinitions. "
              "Keys: [pk, q], AttributeDefinitions: [pk, sk, a]"),
    ({"KeySchema": BOTH, "AttributeDefinitions": THREE,
      "LocalSecondaryIndexes": [index(f"idx{i}") for i in range(6)]},
     PREFIX + "Number of LocalSecondaryIndexes exceeds per-table limit of 5"),
    ({"BillingMode": None, "ProvisionedThroughput": {"ReadCapacityUnits": 1000000000001,
                                                     "WriteCapacityUnits": 1}},
     "Given value 1000000000001 for ReadCapacityUnits is out of bounds"),
])
def test_create_refused(api, changes, message):
    name = unique()
    response = api.call("CreateTable", simple(name, **changes))
    assert response.error_type == "ValidationException", response
    assert response.message == message
    assert api.call("DescribeTable", {"TableName": name}).error_type == "ResourceNotFoundException"


def test_five_local_indexes_are_allowed(make):
    _, described = make(KeySchema=BOTH, AttributeDefinitions=THREE,
                        LocalSecondaryIndexes=[index(f"idx{i}") for i in range(5)])
    assert len(described["LocalSecondaryIndexes"]) == 5


def test_update_throughput(api, invalid, make):
    _, described = make()
    name = described["TableName"]
    units = {"ReadCapacityUnits": 2, "WriteCapacityUnits": 3}
    invalid("UpdateTable", {"TableName": name, "BillingMode": "PROVISIONED"},
            PREFIX + "ProvisionedThroughput must be specified when BillingMode is PROVISIONED")
    api.UpdateTable(TableName=name, BillingMode="PROVISIONED", ProvisionedThroughput=units)
    wait_active(api, name)
    table = api.DescribeTable(TableName=name)["Table"]
    assert table["ProvisionedThroughput"]["ReadCapacityUnits"] == 2
    assert table["BillingModeSummary"]["BillingMode"] == "PROVISIONED"
    invalid("UpdateTable", {"TableName": name, "ProvisionedThroughput": units},
            "The provisioned throughput for the table will not change. The requested value equals the "
            "current value. Current ReadCapacityUnits provisioned for the table: 2. Requested "
            "ReadCapacityUnits: 2. Current WriteCapacityUnits provisioned for the table: 3. Requested "
            "WriteCapacityUnits: 3. Refer to the Amazon DynamoDB Developer Guide for current limits and "
            "how to request higher limits.")
    api.UpdateTable(TableName=name, ProvisionedThroughput={"ReadCapacityUnits": 9,
                                                           "WriteCapacityUnits": 1})
    wait_active(api, name)
    throughput = api.DescribeTable(TableName=name)["Table"]["ProvisionedThroughput"]
    assert (throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]) == (9, 1)
    assert throughput["LastIncreaseDateTime"] > 0
    api.UpdateTable(TableName=name, BillingMode="PAY_PER_REQUEST")
    wait_active(api, name)
    table = api.DescribeTable(TableName=name)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["ProvisionedThroughput"]["ReadCapacityUnits"] == 0


def test_update_class_and_limits(api, make):
    _, described = make()
    name = described["TableName"]
    for change, field, expected in [
        ({"TableClass": "STANDARD_INFREQUENT_ACCESS"}, "TableClassSummary",
         {"TableClass": "STANDARD_INFREQUENT_ACCESS"}),
        ({"OnDemandThroughput": {"MaxReadRequestUnits": 7, "MaxWriteRequestUnits": 8}},
         "OnDemandThroughput", {"MaxReadRequestUnits": 7, "MaxWriteRequestUnits": 8}),
        ({"DeletionProtectionEnabled": True}, "DeletionProtectionEnabled", True),
        ({"DeletionProtectionEnabled": False}, "DeletionProtectionEnabled", False),
        ({"WarmThroughput": {"ReadUnitsPerSecond": 20000, "WriteUnitsPerSecond": 9000}},
         "WarmThroughput", {"ReadUnitsPerSecond": 20000, "WriteUnitsPerSecond": 9000}),
    ]:
        api.UpdateTable(TableName=name, **change)
        wait_active(api, name)
        found = api.DescribeTable(TableName=name)["Table"][field]
        if isinstance(expected, dict):
            assert {k: found.get(k) for k in expected} == expected, field
        else:
            assert found == expected


def test_update_of_nothing(invalid, make):
    _, described = make()
    invalid("UpdateTable", {"TableName": described["TableName"]},
            "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, "
            "GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required")


def test_waiters_and_paginators(client):
    name = unique()
    client.create_table(**simple(name))
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 10})
    found = [n for page in client.get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 3})
             for n in page["TableNames"]]
    assert name in found
    client.delete_table(TableName=name)
    client.get_waiter("table_not_exists").wait(TableName=name,
                                               WaiterConfig={"Delay": 1, "MaxAttempts": 10})


def test_many_tables_at_once(api):
    """Concurrent creation and deletion; one winner per name."""
    names = [unique("many") for _ in range(24)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        twice = list(pool.map(lambda n: api.call("CreateTable", simple(n)).status, names * 2))
        assert sorted(twice) == [200] * 24 + [400] * 24
        for name in names:
            wait_active(api, name)
        assert all(s == 200 for s in pool.map(
            lambda n: api.call("PutItem", {"TableName": n, "Item": {"pk": S(n)}}).status, names))
        assert all(s == 200 for s in pool.map(
            lambda n: api.call("DeleteTable", {"TableName": n}).status, names))


def test_describe_limits(client):
    limits = client.describe_limits()
    assert limits["AccountMaxReadCapacityUnits"] >= limits["TableMaxReadCapacityUnits"] > 0
    assert limits["AccountMaxWriteCapacityUnits"] >= limits["TableMaxWriteCapacityUnits"] > 0


def test_describe_endpoints(client):
    endpoints = client.describe_endpoints()["Endpoints"]
    assert len(endpoints) == 1
    assert endpoints[0]["Address"] and endpoints[0]["CachePeriodInMinutes"] > 0


def test_describe_time_to_live(client, make):
    _, described = make()
    assert client.describe_time_to_live(TableName=described["TableName"])["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "DISABLED"}


def test_describe_continuous_backups(client, fails, make):
    _, described = make()
    found = client.describe_continuous_backups(
        TableName=described["TableName"])["ContinuousBackupsDescription"]
    assert found["ContinuousBackupsStatus"] == "ENABLED"
    assert found["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "DISABLED"
    fails("DescribeContinuousBackups", {"TableName": "no_such_table"}, "TableNotFoundException",
          "Table not found: no_such_table")


# Tags.

def test_tagging(api, make):
    _, described = make()
    arn = described["TableArn"]
    assert api.ListTagsOfResource(ResourceArn=arn)["Tags"] == []
    response = api.call("TagResource", {"ResourceArn": arn, "Tags": [
        {"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}, {"Key": "k" * 128, "Value": "v" * 256}]})
    assert (response.status, response.body) == (200, b"")
    api.call("TagResource", {"ResourceArn": arn, "Tags": [{"Key": "a", "Value": "2"}]})
    tags = {t["Key"]: t["Value"] for t in api.ListTagsOfResource(ResourceArn=arn)["Tags"]}
    assert tags == {"a": "2", "b": "", "k" * 128: "v" * 256}
    response = api.call("UntagResource", {"ResourceArn": arn, "TagKeys": ["a", "absent"]})
    assert (response.status, response.body) == (200, b"")
    assert "a" not in {t["Key"] for t in api.ListTagsOfResource(ResourceArn=arn)["Tags"]}


def test_tags_page(api, make):
    _, described = make()
    arn = described["TableArn"]
    wanted = {f"key{i:02d}": str(i) for i in range(50)}
    for start in range(0, 50, 25):
        api.call("TagResource", {"ResourceArn": arn, "Tags": [
            {"Key": k, "Value": v} for k, v in list(wanted.items())[start:start + 25]]})
    found, request = {}, {"ResourceArn": arn}
    while True:
        page = api.ListTagsOfResource(request)
        found.update({t["Key"]: t["Value"] for t in page["Tags"]})
        if "NextToken" not in page:
            break
        request["NextToken"] = page["NextToken"]
    assert found == wanted
    over = api.call("TagResource", {"ResourceArn": arn, "Tags": [{"Key": "one more", "Value": ""}]})
    assert over.status == 400 and over.error_type in ("ValidationException", "LimitExceededException")
    assert api.call("TagResource", {"ResourceArn": arn, "Tags": [{"Key": "key00", "Value": "new"}]}
                    ).status == 200


def test_tag_errors(api, fails, invalid, make):
    _, described = make()
    arn = described["TableArn"]
    invalid("TagResource", {"ResourceArn": arn, "Tags": []},
            "Atleast one Tag needs to be provided as Input.")
    invalid("UntagResource", {"ResourceArn": arn, "TagKeys": []},
            "Atleast one Tag Key needs to be provided as Input.")
    absent = arn.rsplit("/", 1)[0] + "/no_such_table"
    words = f"Requested resource not found: ResourcArn: {absent} not found"
    fails("ListTagsOfResource", {"ResourceArn": absent}, "ResourceNotFoundException", words)
    fails("TagResource", {"ResourceArn": absent, "Tags": [{"Key": "a", "Value": "b"}]},
          "ResourceNotFoundException", words)
    fails("UntagResource", {"ResourceArn": absent, "TagKeys": ["a"]}, "ResourceNotFoundException",
          "Requested resource not found")
    for bad in ({"Key": "k" * 129, "Value": ""}, {"Key": "k", "Value": "v" * 257}):
        assert api.call("TagResource", {"ResourceArn": arn, "Tags": [bad]}).error_type == \
            "ValidationException"
    with pytest.raises(ApiError):
        api.TagResource(ResourceArn=arn, Tags=[{"Key": "aws:reserved", "Value": "x"}])


def test_a_table_takes_items_as_soon_as_create_has_answered(api):
    """Programs written against a local emulator often do not wait for ACTIVE."""
    for number in range(20):
        name = unique("ready")
        api.CreateTable(TableName=name, KeySchema=HASH, AttributeDefinitions=definitions(("pk", "S")),
                        BillingMode="PAY_PER_REQUEST")
        api.PutItem(TableName=name, Item={"pk": S("a"), "n": N(number)})
        assert api.GetItem(TableName=name, Key={"pk": S("a")})["Item"]["n"] == N(number)
        api.DeleteTable(TableName=name)


def test_streams_calls_say_that_they_are_not_built(endpoint):
    import boto3
    from botocore.exceptions import ClientError

    streams = boto3.client("dynamodbstreams", endpoint_url=endpoint, region_name="us-east-1",
                           aws_access_key_id="dev", aws_secret_access_key="dev")
    with pytest.raises(ClientError) as refused:
        streams.list_streams()
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert "ListStreams" in refused.value.response["Error"]["Message"]
