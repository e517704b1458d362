"""Nodes join, leave, come back, and are refused with the reason."""

import shutil
import time

import pytest
from support.api import Api
from support.cluster import Cluster

REFUSED_IN_S = 20
SEGMENT_HEADER_BYTES = 4096  # of the log: docs/formats.md
NODE_LEASE_S = 10  # how long a dead node still seems alive: kNodeLease of replication/metadata/membership.h


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
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
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


def whole(cluster, nodes):
    """Does a coordinator see so many nodes alive, and all replicas in their places?"""
    status = cluster.admin("status", check=False)
    return (status is not None and [(node["state"], node["alive"]) for node in status["nodes"]] ==
            [("active", True)] * nodes and status["leaderless"] == status["under_replicated"] == 0)


def member_of(cluster, number):
    """The member whose node has that number: they are given in the order of joining, which is not that of the list."""
    address = next(n["rpc_address"] for n in cluster.admin("node", "list") if n["id"] == number)
    return next(node for node in cluster.nodes if node.rpc == address)


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
    # Reads and writes without etcd, for longer than the nodes' registrations live.
    for member in cluster.etcd:
        member.kill()
    gone_until = time.monotonic() + 1.2 * NODE_LEASE_S
    rounds = 0
    while time.monotonic() < gone_until:
        rounds += 1
        for number, node in enumerate(cluster.nodes):
            Api(node.endpoint).PutItem(TableName="items", Item={"pk": {"S": f"w{number}"}, "n": {"N": str(rounds)}})
        for node in cluster.nodes:
            for number in range(3):
                item = Api(node.endpoint).GetItem(TableName="items", Key={"pk": {"S": f"w{number}"}},
                                                  ConsistentRead=True)["Item"]
                assert item["n"]["N"] == str(rounds)
        time.sleep(0.05)
    check_all(cluster, 20)
    # They come back, and everything is as it was.
    for member in cluster.etcd + cluster.coordinators:
        member.start()
    eventually(lambda: whole(cluster, 3), what=lambda: cluster.command_line("status").stdout)
    create(api, "after")
    put_all(Api(cluster.nodes[1].endpoint), 20, "after")
    check_all(cluster, 20, "after")
    primary = partitions(cluster)[0]["primary"]
    victim = member_of(cluster, primary)
    victim.kill()
    others = [node for node in cluster.nodes if node is not victim]
    for node in others:
        put_all(Api(node.endpoint), 20)
    check_all(cluster, 20)
    eventually(lambda: partitions(cluster)[0]["primary"] not in (0, primary), what="a failover")


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
    time.sleep(1.1 * NODE_LEASE_S)  # until then it might still live
    victim.start()
    cluster.wait_ready(victim)
    nodes = {n["id"]: n for n in cluster.admin("node", "list")}
    assert len([n for n in nodes.values() if n["rpc_address"] == victim.rpc and n["alive"]]) == 1
    new = max(n for n, record in nodes.items() if record["rpc_address"] == victim.rpc)
    eventually(lambda: all(new in p["in_sync"] and len(p["in_sync"]) == 3 for p in partitions(cluster)),
               what="it has copies of everything")
    check_all(cluster, 30)


def damage_log(node):
    """Changes bytes in the middle of what a stopped node's log has."""
    used, segment = max((len(segment.read_bytes().rstrip(b"\0")), segment)
                        for segment in (node.data / "log").glob("log-*"))
    assert used > SEGMENT_HEADER_BYTES + 1000, "nothing to damage"
    with segment.open("r+b") as file:
        file.seek((SEGMENT_HEADER_BYTES + used) // 2)
        old = file.read(8)  # as many are never all padding
        file.seek(-8, 1)
        file.write(bytes(byte ^ 0x5A for byte in old))
    return segment.name


@pytest.mark.core
def test_a_node_whose_log_is_damaged_starts_anew(cluster):
    """As docs/operating.md advises: its directory goes, the node comes back as a new one and takes copies."""
    create(Api(cluster.nodes[0].endpoint))
    put_all(Api(cluster.nodes[0].endpoint), 30)
    victim, others = cluster.nodes[2], cluster.nodes[:2]
    before = {n["id"] for n in cluster.admin("node", "list")}
    assert victim.stop() == 0
    segment = damage_log(victim)
    said = refusal(victim)
    assert f"{segment}: damaged at offset" in said and "with durable entries behind it" in said
    put_all(Api(others[0].endpoint), 60)  # half of it is new to the damaged one
    check_all(cluster, 60)
    shutil.rmtree(victim.data)
    victim.start()
    cluster.wait_ready(victim)
    (new,) = {n["id"] for n in cluster.admin("node", "list")} - before
    assert member_of(cluster, new) is victim
    eventually(lambda: all(new in p["in_sync"] and len(p["in_sync"]) == 3 and p["job"] == 0
                           for p in partitions(cluster)), what="it has copies of everything")
    # It answers from its own copy.
    (partition,) = partitions(cluster)
    cluster.admin("partition", "transfer", partition["id"], "--to", new)
    eventually(lambda: partitions(cluster)[0]["primary"] == new, what="it leads")
    check_all(cluster, 60)


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
