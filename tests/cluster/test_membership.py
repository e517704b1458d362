"""Nodes join, leave, come back, and are refused with the reason."""

import shutil
import time

import pytest
from support.api import Api
from support.cluster import Cluster

REFUSED_IN_S = 20


@pytest.fixture
def cluster():
    with Cluster(nodes=3, coordinators=2, coordinator_arguments=["--dead-after", "3s"]) as running:
        yield running


def create(api, name="items"):
    api.CreateTable({"TableName": name, "BillingMode": "PAY_PER_REQUEST",
                     "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                     "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
    eventually(lambda: api.DescribeTable(TableName=name)["Table"]["TableStatus"] == "ACTIVE")


def eventually(condition, seconds=40, what=""):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def put_all(api, count, table="items"):
    for i in range(count):
        api.PutItem(TableName=table, Item={"pk": {"S": f"k{i}"}, "n": {"N": str(i)}})


def check_all(cluster, count, table="items"):
    for node in cluster.nodes:
        if not node.running():
            continue
        api = Api(node.endpoint)
        for i in range(count):
            item = api.GetItem(TableName=table, Key={"pk": {"S": f"k{i}"}}, ConsistentRead=True)["Item"]
            assert item["n"]["N"] == str(i)


def refusal(member):
    """What a start that is refused says; it must end by itself."""
    member.start()
    deadline = time.monotonic() + REFUSED_IN_S
    while member.running():
        assert time.monotonic() < deadline, f"{member.name} was not refused:\n{member.log_tail()}"
        time.sleep(0.05)
    assert member.process.returncode == 1
    return member.log_tail().strip().splitlines()[-1]


def partitions(cluster, table="items"):
    return cluster.admin("partition", "list", "--table", table)


def test_any_node_serves_and_survives_any_other(cluster):
    create(Api(cluster.nodes[0].endpoint))
    put_all(Api(cluster.nodes[1].endpoint), 50)
    check_all(cluster, 50)
    for node in cluster.nodes:
        node.kill()
        others = [n for n in cluster.nodes if n is not node]
        for other in others:
            Api(other.endpoint).PutItem(TableName="items", Item={"pk": {"S": "k0"}, "n": {"N": "0"}})
        check_all(cluster, 50)
        node.start()
        cluster.wait_ready(node)
        eventually(lambda: all(len(p["in_sync"]) == 3 for p in partitions(cluster)), what="in sync again")


@pytest.mark.core
def test_all_nodes_killed_at_once_lose_nothing(cluster):
    create(Api(cluster.nodes[0].endpoint))
    put_all(Api(cluster.nodes[0].endpoint), 100)
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        node.start()
    for node in cluster.nodes:
        cluster.wait_ready(node)
    check_all(cluster, 100)


@pytest.mark.core
def test_the_data_path_goes_on_without_coordinators_and_etcd(cluster):
    api = Api(cluster.nodes[0].endpoint)
    create(api)
    put_all(api, 20)
    for coordinator in cluster.coordinators:
        coordinator.kill()
    # Failover without a coordinator.
    victim = cluster.nodes[2]
    victim.kill()
    put_all(Api(cluster.nodes[0].endpoint), 20)
    check_all(cluster, 20)
    victim.start()
    cluster.wait_ready(victim)
    time.sleep(2)
    # Reads and writes without etcd.
    for member in cluster.etcd:
        member.kill()
    time.sleep(1)
    put_all(Api(cluster.nodes[1].endpoint), 20)
    check_all(cluster, 20)
    for member in cluster.etcd + cluster.coordinators:
        member.start()


def test_a_dead_node_is_replaced(cluster):
    create(Api(cluster.nodes[0].endpoint))
    put_all(Api(cluster.nodes[0].endpoint), 30)
    spare = cluster.add_node(zone="b").start()
    cluster.wait_ready(spare)
    cluster.nodes[1].kill()  # the other one of zone b
    # Node numbers are given in the order of joining, which is not that of the list.
    numbers = {n["rpc_address"]: n["id"] for n in cluster.admin("node", "list")}
    eventually(lambda: all(numbers[spare.rpc] in p["in_sync"] and len(p["in_sync"]) == 3
                           for p in partitions(cluster)), what="the spare has taken its place")
    check_all(cluster, 30)


@pytest.mark.core
def test_a_wiped_disk_joins_as_a_new_node(cluster):
    create(Api(cluster.nodes[0].endpoint))
    put_all(Api(cluster.nodes[0].endpoint), 30)
    victim = cluster.nodes[0]
    victim.kill()
    shutil.rmtree(victim.data)
    time.sleep(11)  # its lease: until then it might still live
    victim.start()
    cluster.wait_ready(victim)
    nodes = {n["id"]: n for n in cluster.admin("node", "list")}
    assert len([n for n in nodes.values() if n["rpc_address"] == victim.rpc and n["alive"]]) == 1
    new = max(n for n, record in nodes.items() if record["rpc_address"] == victim.rpc)
    eventually(lambda: all(new in p["in_sync"] and len(p["in_sync"]) == 3 for p in partitions(cluster)),
               what="it has copies of everything")
    check_all(cluster, 30)


@pytest.mark.core
def test_a_drained_node_is_empty_and_may_go(cluster):
    create(Api(cluster.nodes[0].endpoint))
    put_all(Api(cluster.nodes[0].endpoint), 30)
    spare = cluster.add_node(zone="a").start()
    cluster.wait_ready(spare)
    leaving = cluster.nodes[0]
    number = next(n["id"] for n in cluster.admin("node", "list") if n["rpc_address"] == leaving.rpc)
    cluster.admin("node", "drain", number)
    eventually(lambda: next(n for n in cluster.admin("node", "list") if n["id"] == number)["state"] ==
               "decommissioned", what="drained")
    assert leaving.stop() == 0
    check_all(cluster, 30)
    cluster.admin("node", "remove", number)
    assert number not in [n["id"] for n in cluster.admin("node", "list")]
    assert f"the cluster has no node {number}" in refusal(leaving)


@pytest.mark.core
def test_a_directory_of_another_cluster_is_refused(cluster):
    node = cluster.add_node(["--cluster-id", "00000000-0000-4000-8000-000000000000"])
    assert "not of 00000000-0000-4000-8000-000000000000" in refusal(node)


def test_a_copy_of_a_directory_is_refused(cluster):
    copy = cluster.add_node()
    shutil.copytree(cluster.nodes[0].data, copy.data)
    assert f"is alive at {cluster.nodes[0].rpc}: this is a copy of its data directory" in refusal(copy)


@pytest.mark.core
def test_an_old_directory_is_refused(cluster):
    node = cluster.nodes[2]
    assert node.stop() == 0
    old = cluster.directory / "old"
    shutil.copytree(node.data, old)
    node.start()
    cluster.wait_ready(node)
    assert node.stop() == 0
    shutil.rmtree(node.data)
    old.rename(node.data)
    assert "has run since this data directory was copied" in refusal(node)


def test_a_directory_of_onggi_dev_is_refused(cluster):
    from support.server import Server
    node = cluster.add_node()
    server = Server(data_dir=node.data)
    server.start()
    Api(server.endpoint).CreateTable({
        "TableName": "dev", "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
    assert server.stop() == 0
    assert "onggi dev" in refusal(node)


@pytest.mark.core
def test_a_rolling_restart_fails_no_request(cluster):
    import threading
    from conftest import make_client
    create(Api(cluster.nodes[0].endpoint))
    stop = threading.Event()
    failures, done = [], [0]

    def work(number, clients):
        count = 0
        while not stop.is_set():
            count += 1
            # The nodes behind a balancer that leaves out those that do not answer /readyz.
            ready = [c for c, node in zip(clients, cluster.nodes) if node.name not in leaving]
            try:
                ready[count % len(ready)].put_item(TableName="items", Item={"pk": {"S": f"{number}-{count % 50}"}})
                done[0] += 1
            except Exception as error:
                failures.append(repr(error))

    leaving = set()
    # As an application would: the SDK's default retries, a client for each node behind them. (Made
    # here: boto3 makes one at a time.)
    made = [[make_client(node.endpoint, retries={"mode": "legacy", "max_attempts": 10}, connect_timeout=2)
             for node in cluster.nodes] for _ in range(4)]
    threads = [threading.Thread(target=work, args=(i, clients)) for i, clients in enumerate(made)]
    for thread in threads:
        thread.start()
    for node in cluster.nodes:
        leaving.add(node.name)
        time.sleep(0.5)
        assert node.stop() == 0, node.log_tail()
        node.start()
        cluster.wait_ready(node)
        leaving.discard(node.name)
        eventually(lambda: all(len(p["in_sync"]) == 3 for p in partitions(cluster)), what="in sync again")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert done[0] > 100
