"""etcd with TLS, certificates asked of clients, and users: who is let in, who is not and is told why."""

import re

import pytest

from support.api import Api
from support.certificates import Authority
from support.cluster import Cluster
from support.etcd import GuardedEtcd
from test_membership import check_all, create, eventually, put_all, refusal

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(nodes=3, coordinators=2, etcds=3, guard=GuardedEtcd(tmp_path_factory.mktemp("etcd"))) as running:
        yield running


def test_etcd_is_guarded(cluster):
    """Else the other tests would say nothing."""
    guard, every = cluster.guard, ("get", "--prefix", "--keys-only", "onggi/")
    assert cluster._http(cluster.etcd[0].health, guard.authority.context()) is None, "let in without a certificate"
    nobody = guard.control(cluster.etcd_endpoints, *every)
    assert nobody.returncode != 0 and "onggi/cluster" not in nobody.stdout
    user = f"--user={guard.user}:{guard.password}"
    assert "onggi/cluster" in guard.control(cluster.etcd_endpoints, *every, user).stdout
    other = guard.control(cluster.etcd_endpoints, "put", "other", "value", user)
    assert "permission denied" in other.stderr


def test_any_etcd_member_may_be_lost(cluster):
    """Each one in turn: those that come back know no token that was given before."""
    for number, member in enumerate(cluster.etcd):
        member.kill()
        table = f"without_{member.name}"
        create(Api(cluster.nodes[number].endpoint), table)  # what needs etcd
        for node in cluster.nodes:
            eventually(lambda: Api(node.endpoint).call("DescribeTable", {"TableName": table}).status == 200)
        put_all(Api(cluster.nodes[number].endpoint), 10, table)
        check_all(cluster, 10, table)
        member.start()
        cluster.wait_healthy(member)
    status = cluster.admin("status")
    assert [node["alive"] for node in status["nodes"]] == [True] * 3


def change(member, flag, value):
    """With that value of a flag, without it (None), or with a flag that is not there yet."""
    if flag in member.command:
        at = member.command.index(flag)
        member.command[at:at + 2] = []
    if value is not None:
        member.command += [flag, str(value)]


def stranger(cluster, changes):
    """A node that is like the others but for these flags; no member of cluster.nodes."""
    node = cluster.add_node()
    cluster.nodes.remove(node)
    node.log_path.unlink(missing_ok=True)  # of the stranger before, who had the same number
    for flag, value in changes.items():
        change(node, flag, value)
    return node


@pytest.mark.parametrize("changes, words", [
    ({"--etcd-password": "another"}, "etcdserver: authentication failed, invalid user ID or password"),
    ({"--etcd-user": "nobody"}, "etcdserver: authentication failed, invalid user ID or password"),
    ({"--etcd-prefix": "other/"}, "etcdserver: permission denied"),
], ids=["password", "user", "prefix"])
def test_who_is_known_and_refused_ends_with_the_reason(cluster, changes, words):
    node = stranger(cluster, changes)
    try:
        assert words in refusal(node)
    finally:
        node.kill()


@pytest.mark.parametrize("flag, words", [
    ("--etcd-ca", "certificate verify failed"),
    ("--etcd-cert", "alert (bad certificate|certificate required)"),  # one or the other by etcd's version of Go
    ("--etcd-server-name", "Hostname Verification Check failed"),
], ids=["ca", "certificate", "server_name"])
def test_who_does_not_know_etcd_waits_and_says_why(cluster, tmp_path, flag, words):
    """As anybody who cannot reach it: it may be etcd's certificate that is about to be replaced."""
    changes = {flag: "elsewhere.test"}
    if flag == "--etcd-ca":
        changes[flag] = Authority(tmp_path).ca
    elif flag == "--etcd-cert":
        changes = {flag: None, "--etcd-key": None}
    node = stranger(cluster, changes).start()
    try:
        eventually(lambda: re.search(words, node.log_tail(100_000)), 20, what=lambda: node.log_tail())
        eventually(lambda: "waiting for etcd" in node.log_tail(100_000), 20, what=lambda: node.log_tail())
        assert node.running() and "joined" not in node.log_tail(100_000)
    finally:
        node.kill()
