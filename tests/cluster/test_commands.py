"""Every option of the administration commands that changes or chooses something, and what people are shown,
on one cluster of four nodes: in the order of the file, the node that is removed comes last."""

import re

import pytest

from support.api import Api
from support.cluster import Cluster
from test_membership import create, eventually, partitions, put_all, refusal

pytestmark = pytest.mark.core

NUMBER = r"\d+(\.\d+)?"
SIZE = r"\d+(\.\d)? (B|KB|MB|GB|TB)"


@pytest.fixture(scope="module")
def cluster():
    # Without balance nothing moves but what is told to.
    with Cluster(nodes=4, coordinators=1, etcds=1, coordinator_arguments=["--balance=false"]) as running:
        api = Api(running.nodes[0].endpoint)
        for name in ("first", "second", "third"):
            create(api, name)
            put_all(api, 20, name)
        eventually(lambda: all(p["available"] and len(p["in_sync"]) == 3 for p in everything(running)),
                   what="all partitions are led")
        yield running


def everything(cluster):
    return cluster.admin("partition", "list")


def nodes(cluster):
    return {n["id"]: n for n in cluster.admin("node", "list")}


def text(cluster, *arguments):
    """What a command that succeeds prints for people."""
    done = cluster.command_line(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(cluster, *arguments):
    """Column heads and rows of a table for people."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text(cluster, *arguments).splitlines()]
    return lines[0], lines[1:]


def refused(cluster, *arguments):
    """The reason of a refusal."""
    done = cluster.command_line(*arguments)
    assert done.returncode == 1 and done.stderr.startswith("onggi: ") and not done.stdout, done
    return done.stderr.removeprefix("onggi: ").strip()


def expect(row, *patterns):
    assert len(row) == len(patterns), row
    for cell, pattern in zip(row, patterns):
        assert re.fullmatch(str(pattern), cell), (cell, pattern, row)


# -- Tables for people: heads, and a row in full.


def test_nodes_are_shown_to_people(cluster):
    # Once each has reported its disk.
    eventually(lambda: all(n["free_bytes"] and n["report_age_ms"] >= 0 for n in nodes(cluster).values()))
    heads, rows = table(cluster, "node", "list")
    assert heads == ["NODE", "ZONE", "STATE", "ALIVE", "ADDRESS", "REPLICAS", "PRIMARIES", "USED", "FREE",
                     "READ/S", "WRITE/S", "CPU", "REPORTED"]
    known = nodes(cluster)
    assert [int(row[0]) for row in rows] == sorted(known)
    for row in rows:
        node = known[int(row[0])]
        expect(row, node["id"], node["zone"], "active", "yes", re.escape(node["rpc_address"]), node["replicas"],
               node["primaries"], SIZE, SIZE + r"( \(low\))?", NUMBER, NUMBER, f"{NUMBER} of {NUMBER}|-", r"\d+ s ago")


def test_partitions_are_shown_to_people(cluster):
    known = eventually_counted(cluster, "second", 20)
    heads, rows = table(cluster, "partition", "list", "--table", "second")
    assert heads == ["PARTITION", "TABLE", "FROM", "TO", "EPOCH", "PRIMARY", "NODES", "STATE", "SIZE", "ITEMS",
                     "READ/S", "WRITE/S", "JOB"]
    assert len(rows) == 1
    expect(rows[0], known["id"], "second", "-", "-", known["epoch"], known["primary"],
           ",".join(map(str, known["in_sync"])), "ok", SIZE, 20, NUMBER, NUMBER, "-")


def eventually_counted(cluster, name, items):
    """A table's only partition, once its items are in the reports."""
    eventually(lambda: [p for p in partitions(cluster, name) if p["items"] == items and p["job"] == 0],
               what="its items are reported")
    return partitions(cluster, name)[0]


def test_hot_partitions_are_shown_to_people(cluster):
    api = Api(cluster.nodes[0].endpoint)

    def hot():
        for _ in range(20):
            api.PutItem(TableName="third", Item={"pk": {"S": "k0"}, "n": {"N": "0"}})
        heads, rows = table(cluster, "partition", "hot", "--table", "third")
        assert heads == ["PARTITION", "TABLE", "PRIMARY", "READ/S", "WRITE/S", "HOT KEY", "SHARE"]
        return rows

    eventually(lambda: hot() and hot()[0][5] != "-", what="its load and key are reported")
    known = partitions(cluster, "third")[0]
    expect(hot()[0], known["id"], "third", known["primary"], NUMBER, NUMBER, ".*k0.*", r"\d+%")


def test_tables_are_shown_to_people(cluster):
    heads, rows = table(cluster, "table", "list")
    assert heads == ["TABLE", "STATUS", "KEY", "ITEMS", "SIZE"]
    assert [row[0] for row in rows] == ["first", "second", "third"]
    expect(rows[0], "first", "ACTIVE", r"pk \(S\)", r"\d+", SIZE)
    lines = dict(re.split(r"\s{2,}", line) for line in text(cluster, "table", "describe", "first").splitlines())
    assert list(lines) == ["table", "status", "key", "items", "size", "billing", "protected", "arn"]
    assert (lines["table"], lines["status"], lines["key"]) == ("first", "ACTIVE", "pk (S)")


def test_the_status_is_shown_to_people(cluster):
    known = cluster.admin("status")
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in text(cluster, "status").splitlines()
                 if line and not line.startswith(("warning", "busy table")))
    assert lines["cluster"] == known["cluster_id"] and lines["coordinator"] == known["active_coordinator"]
    assert lines["nodes"] == "4 of 4 alive" and lines["tables"] == "3"
    assert lines["partitions"] == "3 (0 without a primary, 0 with too few replicas)"


# -- Options that choose.


def test_partitions_of_one_node_are_listed(cluster):
    found = everything(cluster)
    for number in nodes(cluster):
        there = [p["id"] for p in found if number in p["in_sync"] + p["learners"]]
        assert [p["id"] for p in cluster.admin("partition", "list", "--node", number)] == there
        both = [p["id"] for p in found if p["id"] in there and p["table"] == "first"]
        assert [p["id"] for p in cluster.admin("partition", "list", "--node", number, "--table", "first")] == both
    assert cluster.admin("partition", "list", "--node", 99) == []


def test_a_limit_cuts_the_list(cluster):
    found = [p["id"] for p in everything(cluster)]
    assert len(found) == 3
    for limit in (1, 2, 3, 4):
        assert [p["id"] for p in cluster.admin("partition", "list", "--limit", limit)] == found[:limit]


# -- Options that change something.


def test_a_replica_moves_to_the_best_node_when_none_is_named(cluster):
    before = partitions(cluster, "first")[0]
    free = set(nodes(cluster)) - set(before["in_sync"])
    assert len(free) == 1
    leaving = next(n for n in before["in_sync"] if n != before["primary"])
    job = cluster.admin("partition", "move", before["id"], "--from", leaving)
    assert job["kind"] == "move-replica" and job["partition"] == before["id"]
    eventually(lambda: set(partitions(cluster, "first")[0]["in_sync"]) == set(before["in_sync"]) - {leaving} | free,
               what="it has moved")
    assert refused(cluster, "partition", "move", before["id"], "--from", leaving) == \
        f"node {leaving} has no replica of it"


def test_a_drain_is_forced_and_cancelled(cluster):
    api = Api(cluster.nodes[0].endpoint)
    api.CreateTable({"TableName": "lonely", "BillingMode": "PAY_PER_REQUEST",
                     "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                     "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                     "Tags": [{"Key": "onggi:replication", "Value": "1"}]})
    eventually(lambda: api.DescribeTable(TableName="lonely")["Table"]["TableStatus"] == "ACTIVE")
    node = partitions(cluster, "lonely")[0]["in_sync"][0]
    why = "table lonely has one replica only, which cannot be moved"
    assert refused(cluster, "node", "drain", node) == why
    assert nodes(cluster)[node]["state"] == "active"

    there = nodes(cluster)[node]["replicas"]
    assert text(cluster, "node", "drain", node, "--force") == \
        f"node {node} is draining, {there} replicas are still on it\n"
    # Whatever else is on it goes, as in any drain.
    eventually(lambda: nodes(cluster)[node]["replicas"] == 1, what="the others have left")
    assert cluster.admin("node", "drain", node) == {"node": node, "state": "draining", "replicas": 1}

    assert cluster.command_line("node", "drain", node, "--force", "--cancel").returncode > 100
    assert text(cluster, "node", "drain", node, "--cancel") == f"node {node} is active again\n"
    assert nodes(cluster)[node]["state"] == "active"
    assert cluster.admin("node", "drain", node, "--cancel") == {}  # again: as it was
    api.DeleteTable(TableName="lonely")
    eventually(lambda: len(everything(cluster)) == 3, what="the table is gone")


def test_a_dead_node_is_removed_by_force(cluster):
    victim = cluster.nodes[3]
    number = next(n for n, record in nodes(cluster).items() if record["rpc_address"] == victim.rpc)
    assert refused(cluster, "node", "remove", number) == f"drain node {number} first"
    assert refused(cluster, "node", "remove", number, "--force") == f"node {number} is alive: drain it"
    victim.kill()
    eventually(lambda: not nodes(cluster)[number]["alive"], what="its lease has ended")
    assert refused(cluster, "node", "remove", number) == f"drain node {number} first"
    assert text(cluster, "node", "remove", number, "--force") == f"node {number} is removed\n"
    assert number not in nodes(cluster)
    # Without the five minutes of --dead-after.
    eventually(lambda: all(len(p["in_sync"]) == 3 and number not in p["in_sync"] for p in everything(cluster)),
               what="its replicas are replaced")
    assert f"the cluster has no node {number}" in refusal(victim)
    assert refused(cluster, "node", "remove", number, "--force") == f"there is no node {number}"
