"""Which replica answers a read that may be a little old, and what one that does not answer costs."""

import statistics
import time

import pytest

from support.api import Api
from support.cluster import Cluster
from test_membership import eventually, partitions
from test_replication import create, put

pytestmark = pytest.mark.core

SERVED = "onggi_routing_served_total"
READS = 300


@pytest.fixture(scope="module")
def cluster():
    """Nodes 1 and 4 share a zone: one of them has no replica."""
    with Cluster(nodes=4, coordinators=1, etcds=1, coordinator_arguments=["--balance=false"]) as running:
        yield running


@pytest.fixture(scope="module")
def places(cluster):
    """The node without a replica, the one beside it that has one, and the others."""
    create(cluster, "items")
    eventually(lambda: len(partitions(cluster, "items")[0]["in_sync"]) == 3, what="three replicas")
    # Whom the command line calls by number: in the order in which they registered.
    zones = {}
    for row in cluster.admin("node", "list"):
        zones[row["id"]] = row
    in_sync = partitions(cluster, "items")[0]["in_sync"]
    by_address = {node.rpc: node for node in cluster.nodes}
    holders = {number: by_address[zones[number]["rpc_address"]] for number in in_sync}
    (outside,) = [node for node in cluster.nodes if node not in holders.values()]
    zone = next(row["zone"] for row in zones.values() if by_address[row["rpc_address"]] is outside)
    (near,) = [node for number, node in holders.items() if zones[number]["zone"] == zone]
    far = [node for node in holders.values() if node is not near]
    for i in range(10):
        put(far[0], "items", f"key{i}", i)
    return outside, near, far


def read(node, key="key0"):
    return Api(node.endpoint).GetItem(TableName="items", Key={"pk": {"S": key}}).get("Item")


def test_a_replica_in_the_same_zone_is_asked(cluster, places):
    outside, near, far = places
    eventually(lambda: read(outside, "key9"), what="the last write on every replica")
    before = {node.name: cluster.metric(node, SERVED) or 0 for node in (near, *far)}
    for i in range(READS):
        assert read(outside, f"key{i % 10}")["n"] == {"N": str(i % 10)}
    served = {node.name: (cluster.metric(node, SERVED) or 0) - before[node.name] for node in (near, *far)}
    # All but those that waited too long for it.
    assert served[near.name] >= 0.95 * READS, served
    assert sum(served[node.name] for node in far) <= 0.05 * READS, served


def test_one_that_does_not_answer_is_waited_for_a_moment_only(cluster, places):
    """300 ms; that it is silent shows after two seconds."""
    outside, near, _ = places
    took = []
    for _ in range(3):
        eventually(lambda: reads_go_to(cluster, outside, near), what="reads at the near replica")
        near.pause()
        try:
            begun = time.monotonic()
            assert read(outside)["n"] == {"N": "0"}
            took.append(time.monotonic() - begun)
        finally:
            near.resume()
    assert statistics.median(took) > 0.25, took
    assert min(took) < 1.5, took


def reads_go_to(cluster, outside, near):
    before = cluster.metric(near, SERVED) or 0
    for _ in range(5):
        read(outside)
    return (cluster.metric(near, SERVED) or 0) - before >= 5
