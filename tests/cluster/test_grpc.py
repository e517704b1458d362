"""gRPC, the C++ client and the command line against a cluster."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from conftest import unique
from support.api import Api
from support.cluster import Cluster
from support.grpc_api import GrpcApi, module
from support.needs import missing
from support.server import binary

pytestmark = pytest.mark.core


def program():
    path = Path(binary()).parent / "tests" / "unit" / "client" / "onggi_client_check"
    if not path.exists():
        missing(str(path))
    return str(path)


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=3, coordinators=2, etcds=1) as running:
        yield running


def eventually(condition, seconds=40, what=""):
    deadline = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def create(cluster, name):
    api = Api(cluster.nodes[0].endpoint)
    api.CreateTable({"TableName": name, "BillingMode": "PAY_PER_REQUEST",
                     "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                     "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
    for node in cluster.nodes:
        eventually(lambda n=node: Api(n.endpoint).call("DescribeTable", {"TableName": name}).status == 200)
    eventually(lambda: api.DescribeTable(TableName=name)["Table"]["TableStatus"] == "ACTIVE")
    # Until it has led once, a partition has the epoch 0.
    Api(cluster.nodes[0].endpoint).PutItem(TableName=name, Item={"pk": {"S": "first"}})


def partitions(cluster, name):
    return cluster.admin("partition", "list", "--table", name)


def forwarded(cluster):
    return sum(cluster.metric(node, "onggi_routing_forwarded_total") or 0 for node in cluster.nodes)


def test_every_kind_of_call_through_every_node(cluster):
    for first in range(3):
        addresses = [cluster.nodes[(first + i) % 3].rpc for i in range(3)]
        done = subprocess.run([program(), "scenario", *addresses], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and done.stdout == "ok\n", done.stdout + done.stderr


def test_the_map_is_the_same_on_every_node(cluster):
    name = unique()
    create(cluster, name)
    maps = []
    for node in cluster.nodes:
        rpc = GrpcApi(node.rpc)
        stub, cluster_pb2 = module("cluster_pb2_grpc").ClusterStub(rpc.channel), module("cluster_pb2")
        got = eventually(lambda: [t for t in stub.GetMap(cluster_pb2.GetMapRequest(table_names=[name])).tables
                                  if t.partitions and t.partitions[0].primary_node])
        nodes = stub.GetMap(cluster_pb2.GetMapRequest()).nodes
        assert {n.grpc_address for n in nodes} == {n.rpc for n in cluster.nodes}
        maps.append(got[0])
        rpc.close()
    assert maps[0].id == maps[1].id == maps[2].id
    assert len(maps[0].partitions[0].nodes) == 3


def test_the_client_goes_straight_to_primaries(cluster):
    name = unique()
    create(cluster, name)
    time.sleep(1)
    before = forwarded(cluster)
    done = subprocess.run([program(), "count", cluster.nodes[0].rpc, name, "2"], capture_output=True, text=True,
                          timeout=60)
    acknowledged, refused, unknown = map(int, done.stdout.split())
    assert acknowledged > 10 and (refused, unknown) == (0, 0)
    # Before the map arrived, some may have gone to the first endpoint.
    assert forwarded(cluster) - before < max(8, acknowledged / 10)


def test_a_counter_counts_every_write_once_through_failovers(cluster):
    name = unique()
    create(cluster, name)
    counting = subprocess.Popen([program(), "count", ",".join(n.rpc for n in cluster.nodes), name, "12"],
                                stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        time.sleep(2)
        leader = partitions(cluster, name)[0]["primary"]
        addresses = {n["id"]: n["rpc_address"] for n in cluster.admin("node", "list")}
        node = next(n for n in cluster.nodes if n.rpc == addresses[leader])
        node.kill()
        time.sleep(2)
        node.start()
        cluster.wait_ready(node)
    acknowledged, refused, unknown = map(int, counting.communicate(timeout=120)[0].split())
    assert acknowledged > 20 and refused == 0, (acknowledged, refused, unknown)
    counted = int(Api(cluster.nodes[0].endpoint).GetItem(
        TableName=name, Key={"pk": {"S": "counter"}}, ConsistentRead=True)["Item"]["n"]["N"])
    assert acknowledged <= counted <= acknowledged + unknown


def test_the_command_line_shows_the_cluster(cluster):
    name = unique()
    create(cluster, name)
    status = cluster.admin("status")
    assert len(status["nodes"]) == 3 and all(n["alive"] for n in status["nodes"])
    assert status["cluster_id"] and status["active_coordinator"]
    nodes = cluster.admin("node", "list")
    assert sorted(n["zone"] for n in nodes) == ["a", "b", "c"]
    shown = eventually(lambda: [p for p in partitions(cluster, name) if p["available"]])
    assert shown[0]["replication"] == 3 and len(shown[0]["in_sync"]) == 3
    assert isinstance(cluster.admin("partition", "hot"), list)
    text = cluster.command_line("node", "list", nodes=cluster.nodes[:1])
    assert text.returncode == 0 and len(text.stdout.splitlines()) == 4, text.stderr


def test_the_command_line_moves_the_primary_and_splits(cluster):
    name = unique()
    create(cluster, name)
    api = Api(cluster.nodes[0].endpoint)
    for start in range(0, 100, 25):
        api.BatchWriteItem(RequestItems={name: [{"PutRequest": {"Item": {"pk": {"S": f"k{i}"}, "n": {"N": str(i)}}}}
                                                for i in range(start, start + 25)]})
    only = eventually(lambda: [p for p in partitions(cluster, name) if p["available"]])[0]
    other = next(n for n in only["in_sync"] if n != only["primary"])
    job = cluster.admin("partition", "transfer", only["id"], "--to", other)
    assert job["kind"] == "transfer-primary"
    eventually(lambda: partitions(cluster, name)[0]["primary"] == other, what="the transfer")
    cluster.admin("partition", "split", only["id"], "--at", "80" + "00" * 7)
    eventually(lambda: len(partitions(cluster, name)) == 2, what="the split")
    for i in range(100):
        got = Api(cluster.nodes[i % 3].endpoint).GetItem(
            TableName=name, Key={"pk": {"S": f"k{i}"}}, ConsistentRead=True)
        assert got["Item"]["n"]["N"] == str(i)


def test_the_command_line_is_refused_with_the_reason(cluster):
    for arguments, words in [(["node", "remove", "1"], ""), (["partition", "split", "999999"], "no partition"),
                             (["partition", "recover", "999999", "--node", "1"], "no partition"),
                             (["partition", "recover", cluster.admin("partition", "list")[0]["id"], "--node", "1",
                               "--accept-data-loss"], "lives and has a replica in sync"),
                             (["node", "drain", "77"], "")]:
        done = cluster.command_line(*arguments, nodes=cluster.nodes[1:2])
        assert done.returncode == 1 and done.stderr.startswith("onggi: ") and words in done.stderr, done


def test_the_command_line_leaves_a_node_that_is_stopped(cluster):
    """Its kernel takes the connection, and nobody answers. (Those that answer no call: session_test.)"""
    stopped, other = cluster.nodes[:2]
    stopped.pause()
    try:
        begun = time.monotonic()
        done = cluster.command_line("node", "list", "--timeout", "30s", nodes=[stopped, other])
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - begun < 15
    finally:
        stopped.resume()
    cluster.wait_ready(stopped)


def test_the_command_line_without_a_coordinator(cluster):
    for coordinator in cluster.coordinators:
        coordinator.pause()
    try:
        # The data path, and what nodes know by themselves, goes on.
        name = cluster.admin("table", "list")[0]["name"]
        assert Api(cluster.nodes[2].endpoint).Scan(TableName=name, Limit=1)["ScannedCount"] >= 0
        done = cluster.command_line("status", "--timeout", "3s", nodes=cluster.nodes[:1])
        assert done.returncode == 3, done
    finally:
        for coordinator in cluster.coordinators:
            coordinator.resume()
    eventually(lambda: json.dumps(cluster.admin("status", check=False) or None) != "null", what="a coordinator")
