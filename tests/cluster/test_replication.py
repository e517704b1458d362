"""How many replicas a table has: as its tag onggi:replication says, else the coordinator's --replication."""

import base64
import os
import subprocess
import threading
import time

import pytest

from support.api import Api
from support.cluster import Cluster
from support.server import binary
from test_membership import eventually, partitions

pytestmark = pytest.mark.core

TAG = "onggi:replication"
COPY_RATE_MB = 4
LOG_LIMIT_MB = 16  # the least: past it the log is cut, and a new replica cannot be given that instead of a copy


def make_cluster(*node_arguments):
    """Five nodes; only the tests move anything."""
    return Cluster(nodes=5, coordinators=1, etcds=1, zones=5, coordinator_arguments=["--balance=false"],
                   node_arguments=node_arguments)


@pytest.fixture(scope="module")
def cluster():
    with make_cluster() as running:
        yield running


@pytest.fixture
def fresh_cluster():
    """Where no other partition keeps the log from being cut."""
    with make_cluster("--copy-rate", f"{COPY_RATE_MB}MB", "--log-limit", f"{LOG_LIMIT_MB}MB") as running:
        yield running


def create(cluster, name, replicas=None):
    """A table with that tag (None: without one), ACTIVE on every node."""
    request = {"TableName": name, "BillingMode": "PAY_PER_REQUEST",
               "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
               "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]}
    if replicas is not None:
        request["Tags"] = [{"Key": TAG, "Value": str(replicas)}]
    Api(cluster.nodes[0].endpoint).CreateTable(request)
    for node in cluster.nodes:
        eventually(lambda: active(Api(node.endpoint), name), what=f"{name} on {node.name}")


def active(api, name):
    answer = api.call("DescribeTable", {"TableName": name})
    return answer.status == 200 and answer.json["Table"]["TableStatus"] == "ACTIVE"


def nodes_of(cluster, table):
    """The nodes with an in-sync replica of the table's only partition."""
    (partition,) = partitions(cluster, table)
    return partition["in_sync"]


def put(node, table, key, n=0):
    Api(node.endpoint).PutItem(TableName=table, Item={"pk": {"S": key}, "n": {"N": str(n)}})


def use(nodes, table):
    """Writes through each of the nodes, and reads all of it through each of them."""
    for number, node in enumerate(nodes):
        put(node, table, node.name, number)
    for reader in nodes:
        api = Api(reader.endpoint)
        for number, node in enumerate(nodes):
            found = api.GetItem(TableName=table, Key={"pk": {"S": node.name}}, ConsistentRead=True)
            assert found["Item"]["n"] == {"N": str(number)}, (reader.name, node.name)


@pytest.mark.parametrize("replicas", [1, 3, 5])
def test_a_tag_says_how_many(cluster, replicas):
    table = f"tagged{replicas}"
    create(cluster, table, replicas)
    held = nodes_of(cluster, table)
    assert len(held) == len(set(held)) == replicas
    assert partitions(cluster, table)[0]["replication"] == replicas
    use(cluster.nodes, table)
    assert nodes_of(cluster, table) == held


@pytest.mark.parametrize("value", ["2", "three", ""])
def test_a_wrong_tag_is_refused(cluster, value):
    for node in cluster.nodes:
        api = Api(node.endpoint)
        answer = api.call("CreateTable", {
            "TableName": "wrong", "BillingMode": "PAY_PER_REQUEST", "Tags": [{"Key": TAG, "Value": value}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
        assert (answer.status, answer.error_type) == (400, "ValidationException")
        assert answer.message == f"One or more parameter values were invalid: the tag {TAG} must be 1, 3 or 5"
        assert "wrong" not in api.ListTables()["TableNames"]


def test_the_coordinator_says_how_many_without_a_tag(cluster):
    create(cluster, "default")
    assert len(nodes_of(cluster, "default")) == 3
    coordinator = cluster.coordinators[0]
    assert coordinator.stop() == 0
    coordinator.command += ["--replication", "5"]
    coordinator.start()
    cluster.wait_ready(coordinator)
    create(cluster, "five")
    create(cluster, "tag_wins", 1)
    eventually(lambda: len(nodes_of(cluster, "five")) == 5, what="five replicas")
    assert len(nodes_of(cluster, "tag_wins")) == 1
    assert len(nodes_of(cluster, "default")) == 3, "a table that is there stays as it is"
    use(cluster.nodes, "five")


@pytest.mark.parametrize("value", ["0", "2", "7"])
def test_a_wrong_number_is_refused_by_the_coordinator(value):
    done = subprocess.run([binary(), "coordinator", "--etcd", "127.0.0.1:1", "--insecure", "--replication", value],
                          capture_output=True, text=True, timeout=20, env={"PATH": os.environ["PATH"]})
    assert done.returncode > 1
    assert "--replication: 1, 3 or 5" in done.stderr


def test_a_copy_takes_no_more_than_its_rate(fresh_cluster):
    cluster = fresh_cluster
    create(cluster, "copied", 3)
    item_bytes, items = 390_000, 60
    assert item_bytes * items > LOG_LIMIT_MB << 20
    api = Api(cluster.nodes[0].endpoint)
    for i in range(items):
        noise = base64.b64encode(os.urandom(item_bytes)).decode()  # which no store makes smaller
        api.PutItem(TableName="copied", Item={"pk": {"S": str(i)}, "v": {"B": noise}})
    (partition,) = partitions(cluster, "copied")
    everybody = {node["id"] for node in cluster.admin("node", "list")}
    leaving = next(node for node in partition["in_sync"] if node != partition["primary"])
    coming = min(everybody - set(partition["in_sync"]))
    begun = time.monotonic()
    cluster.admin("partition", "move", partition["id"], "--from", leaving, "--to", coming)
    eventually(lambda: coming in nodes_of(cluster, "copied"), what="moved")
    took_s = time.monotonic() - begun
    # Only a lower bound: how much longer it takes is the machine's business.
    least_s = item_bytes * items / (COPY_RATE_MB << 20)
    assert took_s > 0.95 * least_s, (took_s, least_s)
    assert sum(cluster.metric(node, "onggi_checkpoint_received_bytes_total") or 0
               for node in cluster.nodes) > item_bytes * items


def test_five_replicas_outlive_two_nodes(cluster):
    create(cluster, "outlives", 5)
    use(cluster.nodes, "outlives")
    numbers = {node["rpc_address"]: node["id"] for node in cluster.admin("node", "list")}
    primary = partitions(cluster, "outlives")[0]["primary"]
    victims = sorted(cluster.nodes, key=lambda node: numbers[node.rpc] != primary)[:2]
    left = [node for node in cluster.nodes if node not in victims]
    for victim in victims:
        victim.kill()
    for node in left:
        put(node, "outlives", "after", 1)
    use(left, "outlives")
    for victim in victims:
        victim.start()
    for victim in victims:
        cluster.wait_ready(victim)
    eventually(lambda: len(nodes_of(cluster, "outlives")) == 5, what="in sync again")
    use(cluster.nodes, "outlives")


def test_another_number_in_the_tag_changes_the_table(cluster):
    """From one to five, to one and to three, under writes of which none fails; then any of the three may die."""
    create(cluster, "changing", 1)
    api = Api(cluster.nodes[0].endpoint)
    arn = api.DescribeTable(TableName="changing")["Table"]["TableArn"]
    written, failed, stop = [], [], threading.Event()

    def write():
        while not stop.is_set():
            node = cluster.nodes[len(written) % len(cluster.nodes)]
            try:
                put(node, "changing", f"key{len(written)}", len(written))
            except Exception as error:  # pylint: disable=broad-except
                failed.append(error)
                return
            written.append(node.name)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for wanted in (5, 1, 3):
            api.TagResource(ResourceArn=arn, Tags=[{"Key": TAG, "Value": str(wanted)}])
            eventually(lambda: shape(cluster, "changing") == (wanted, wanted, 0), seconds=90,
                       what=lambda: f"{wanted} replicas: {partitions(cluster, 'changing')}")
            before = len(written)
            eventually(lambda: len(written) > before + 20 or not writer.is_alive(), what="writes go on")
    finally:
        stop.set()
        writer.join()
    assert not failed, failed
    assert len(written) > 100
    for number in range(len(written)):
        found = api.GetItem(TableName="changing", Key={"pk": {"S": f"key{number}"}}, ConsistentRead=True)
        assert found["Item"]["n"] == {"N": str(number)}, number
    # A write needs two of the three by now, and survives any of them.
    victim = next(n for n in cluster.nodes if numbers(cluster)[n.rpc] == partitions(cluster, "changing")[0]["primary"])
    victim.kill()
    try:
        other = next(n for n in cluster.nodes if n is not victim)
        found = Api(other.endpoint).GetItem(TableName="changing", Key={"pk": {"S": "key0"}}, ConsistentRead=True)
        assert found["Item"]["n"] == {"N": "0"}
    finally:
        victim.start()
        cluster.wait_ready(victim)


def test_a_table_of_one_replica_lets_its_node_go(fresh_cluster):
    """As docs/operating.md has it: a drain is refused; with the tag at three it is done, and then one will do again."""
    cluster = fresh_cluster
    create(cluster, "lone", 1)
    use(cluster.nodes, "lone")
    number = partitions(cluster, "lone")[0]["primary"]
    leaving = next(node for node in cluster.nodes if numbers(cluster)[node.rpc] == number)
    others = [node for node in cluster.nodes if node is not leaving]
    refused = cluster.command_line("node", "drain", number)
    assert refused.returncode != 0 and "lone" in refused.stderr, refused
    api = Api(others[0].endpoint)
    arn = api.DescribeTable(TableName="lone")["Table"]["TableArn"]
    for replicas in (3, 1):
        api.TagResource(ResourceArn=arn, Tags=[{"Key": TAG, "Value": str(replicas)}])
        eventually(lambda: shape(cluster, "lone") == (replicas, replicas, 0), seconds=60,
                   what=lambda: f"{replicas} replicas: {partitions(cluster, 'lone')}")
        if replicas == 3:
            cluster.admin("node", "drain", number)
            eventually(lambda: state(cluster, number) == "decommissioned", seconds=60, what="drained")
    assert nodes_of(cluster, "lone") != [number]
    assert leaving.stop() == 0
    cluster.admin("node", "remove", number)
    use(others, "lone")
    for node in cluster.nodes:
        assert "Item" in api.GetItem(TableName="lone", Key={"pk": {"S": node.name}}, ConsistentRead=True), node.name


def state(cluster, number):
    return next(row["state"] for row in cluster.admin("node", "list") if row["id"] == number)


def shape(cluster, table):
    (partition,) = partitions(cluster, table)
    return partition["replication"], len(partition["in_sync"]), len(partition["learners"])


def numbers(cluster):
    return {row["rpc_address"]: row["id"] for row in cluster.admin("node", "list")}


@pytest.mark.parametrize("value", ["2", "0", "", "three"])
def test_a_tag_is_not_changed_to_another_number(cluster, value):
    create(cluster, f"kept{value}", 3)
    api = Api(cluster.nodes[0].endpoint)
    arn = api.DescribeTable(TableName=f"kept{value}")["Table"]["TableArn"]
    refused = api.call("TagResource", {"ResourceArn": arn, "Tags": [{"Key": TAG, "Value": value}]})
    assert refused.status == 400 and "must be 1, 3 or 5" in refused.json["message"], refused.json
    assert api.ListTagsOfResource(ResourceArn=arn)["Tags"] == [{"Key": TAG, "Value": "3"}]
    api.TagResource(ResourceArn=arn, Tags=[{"Key": "owner", "Value": "me"}])
    api.UntagResource(ResourceArn=arn, TagKeys=[TAG])
    time.sleep(3)  # a plan is made every second
    assert shape(cluster, f"kept{value}") == (3, 3, 0)
