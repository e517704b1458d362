"""Three nodes as one database: what is asked of any node is answered as by a single one."""

import threading
import time

import pytest

from conftest import Tables, make_client
from support.api import Api
from support.cluster import Cluster

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=3, coordinators=1, etcds=1) as running:
        yield running


@pytest.fixture(scope="module")
def apis(cluster):
    return [Api(node.endpoint) for node in cluster.nodes]


@pytest.fixture
def table(apis):
    made = Tables(apis[0])
    name = made.create(range_type="N")
    wait_everywhere(apis, name)
    yield name
    made.drop_all()


def wait_everywhere(apis, name, seconds=10):
    """A table is there on every node a moment after it is ACTIVE on one."""
    deadline = time.monotonic() + seconds
    for api in apis:
        while api.call("DescribeTable", {"TableName": name}).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def item(pk, sk, **more):
    return {"pk": {"S": pk}, "sk": {"N": str(sk)}, **more}


def forwarded(cluster):
    return [cluster.metric(node, "onggi_routing_forwarded_total") or 0 for node in cluster.nodes]


def test_what_one_node_wrote_every_node_reads(cluster, apis, table):
    before = forwarded(cluster)
    for i in range(30):
        apis[i % 3].PutItem(TableName=table, Item=item(f"p{i}", 1, n={"N": str(i)}))
    for i in range(30):
        for api in apis:
            found = api.GetItem(TableName=table, Key=item(f"p{i}", 1), ConsistentRead=True)
            assert found["Item"]["n"] == {"N": str(i)}
    after = forwarded(cluster)
    assert sum(after) > sum(before)


def test_batches_and_scans_are_the_same_everywhere(apis, table):
    puts = [{"PutRequest": {"Item": item(f"b{i % 7}", i)}} for i in range(25)]
    assert apis[1].BatchWriteItem(RequestItems={table: puts})["UnprocessedItems"] == {}
    scans = [api.Scan(TableName=table, ConsistentRead=True) for api in apis]
    assert all(scan["Count"] == 25 for scan in scans)
    assert scans[0]["Items"] == scans[1]["Items"] == scans[2]["Items"]
    keys = {table: {"Keys": [item(f"b{i % 7}", i) for i in range(25)], "ConsistentRead": True}}
    for api in apis:
        assert len(api.BatchGetItem(RequestItems=keys)["Responses"][table]) == 25
        page = api.Query(TableName=table, ConsistentRead=True, ScanIndexForward=False, Limit=2,
                         KeyConditionExpression="pk = :p", ExpressionAttributeValues={":p": {"S": "b3"}})
        assert [row["sk"]["N"] for row in page["Items"]] == ["24", "17"]
        assert api.DescribeTable(TableName=table)["Table"]["ItemCount"] == 25


def test_counters_count_every_increment_once(apis, table):
    """Writers through all nodes at one item: each increment is there, and none twice."""
    def add(api, count, done):
        for _ in range(count):
            api.UpdateItem(TableName=table, Key=item("c", 1), UpdateExpression="ADD n :one",
                           ExpressionAttributeValues={":one": {"N": "1"}})
            done.append(1)

    done = []
    threads = [threading.Thread(target=add, args=(api, 50, done)) for api in apis for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = apis[2].GetItem(TableName=table, Key=item("c", 1), ConsistentRead=True)["Item"]
    assert int(found["n"]["N"]) == len(done) == 300


def test_a_killed_node_costs_a_pause_and_no_error(cluster, apis):
    """With the SDK's default retries writers through the others see no failure, whoever dies."""
    name = Tables(apis[0]).create()
    wait_everywhere(apis, name)
    for victim in cluster.nodes:
        others = [node for node in cluster.nodes if node is not victim]
        clients = [make_client(node.endpoint, retries={"mode": "standard"}) for node in others]
        errors, longest, written = [], [0.0], [0]
        stop = threading.Event()

        def write(client, number):
            count = 0
            while not stop.is_set():
                begun = time.monotonic()
                try:
                    client.put_item(TableName=name, Item={"pk": {"S": f"{number}-{count % 50}"},
                                                          "n": {"N": str(count)}})
                    client.get_item(TableName=name, Key={"pk": {"S": f"{number}-{count % 50}"}},
                                    ConsistentRead=True)
                except Exception as error:  # noqa: BLE001: every kind counts
                    errors.append(repr(error))
                longest[0] = max(longest[0], time.monotonic() - begun)
                written[0] += 1
                count += 1

        threads = [threading.Thread(target=write, args=(client, i)) for i, client in enumerate(clients)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        victim.kill()
        time.sleep(4)
        stop.set()
        for thread in threads:
            thread.join()
        victim.start()
        cluster.wait_ready(victim)
        assert not errors, errors[:3]
        assert longest[0] < 10 and written[0] > 10
