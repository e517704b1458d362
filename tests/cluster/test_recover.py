"""All in-sync replicas of a partition are gone: an operator goes on from one that had fallen behind."""

import shutil

import pytest
from support.api import Api
from support.cluster import Cluster
from test_membership import create, eventually, partitions, put_all

SETTLE_S = 90


@pytest.fixture
def cluster():
    with Cluster(nodes=3, coordinators=1, etcds=1,
                 coordinator_arguments=["--dead-after", "3s", "--balance=false"]) as running:
        yield running


def number(cluster, member):
    return max(n["id"] for n in cluster.admin("node", "list") if n["rpc_address"] == member.rpc)


def only(cluster):
    found = partitions(cluster)
    assert len(found) == 1
    return found[0]


def value(member, key):
    """What a strong read through the node says; None: no such item."""
    answer = Api(member.endpoint).GetItem(TableName="items", Key={"pk": {"S": key}}, ConsistentRead=True)
    return answer["Item"]["n"]["N"] if "Item" in answer else None


def is_as_of_the_stop(member):
    return [value(member, f"k{i}") for i in range(22)] == [str(i) for i in range(20)] + [None, None]


@pytest.mark.core
def test_a_partition_goes_on_from_a_learner_when_nothing_else_is_left(cluster):
    lost, late, behind = cluster.nodes
    create(Api(lost.endpoint))
    put_all(Api(lost.endpoint), 20)
    eventually(lambda: len(only(cluster)["in_sync"]) == 3, what="whole")
    node = number(cluster, behind)
    partition = only(cluster)["id"]

    def recover(*more, at=node):
        return cluster.command_line("partition", "recover", partition, "--node", at, *more)

    refused = recover("--accept-data-loss")
    assert refused.returncode == 1 and "lives and has a replica in sync" in refused.stderr, refused

    behind.kill()
    eventually(lambda: only(cluster)["learners"] == [node], what="left behind")
    for i in range(22):
        Api(late.endpoint).PutItem(TableName="items", Item={"pk": {"S": f"k{i}"}, "n": {"N": f"100{i}"}})
    lost.kill()
    late.kill()
    shutil.rmtree(lost.data)
    behind.start()
    cluster.wait_ready(behind)

    # A lease may still be there for a while, and what nobody has said yet is not known.
    answers = []

    def explained():
        answers.append(recover())
        return answers[-1].returncode == 2
    eventually(explained, SETTLE_S, what="the leases of the others have ended")
    assert all("lives and has a replica in sync" in a.stderr or "ask again" in a.stderr or "does not answer" in a.stderr
               for a in answers[:-1] if a.returncode == 1), answers
    assert answers[-1].returncode == 2, answers[-1]
    assert "would lose, for good" in answers[-1].stderr and "--accept-data-loss" in answers[-1].stderr
    before = only(cluster)
    assert before["learners"] == [node] and not before["available"]
    refusal = Api(behind.endpoint).call("GetItem", {"TableName": "items", "Key": {"pk": {"S": "k0"}},
                                                    "ConsistentRead": True})
    assert refusal.status == 500, refusal.text

    done = cluster.admin("partition", "recover", partition, "--node", node, "--accept-data-loss")
    assert done["node"] == node and done["epoch"] == before["epoch"] + 1
    assert done["log_index"] >= 20 and 0 < done["log_epoch"] < before["epoch"], done

    # Below its minimum it opens by itself, takes copies, and serves then.
    spare = cluster.add_node().start()
    cluster.wait_ready(spare)
    eventually(lambda: sorted(only(cluster)["in_sync"]) == sorted([node, number(cluster, spare)]), SETTLE_S,
               what="a copy")
    eventually(lambda: only(cluster)["available"], what="it serves")
    assert is_as_of_the_stop(behind) and is_as_of_the_stop(spare)

    # What a replica that was in sync has is not taken when it comes back; its node gets a copy.
    late.start()
    cluster.wait_ready(late)
    eventually(lambda: number(cluster, late) in only(cluster)["in_sync"] and only(cluster)["job"] == 0, SETTLE_S,
               what="a third copy")
    cluster.admin("partition", "transfer", partition, "--to", number(cluster, late))
    eventually(lambda: only(cluster)["primary"] == number(cluster, late), what="the transfer")
    assert is_as_of_the_stop(late)
    put_all(Api(late.endpoint), 22)
    for member in (behind, late, spare):
        assert [value(member, f"k{i}") for i in range(22)] == [str(i) for i in range(22)]
