"""Who may join: versions that meet, certificates of the cluster's own authority."""

import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from conftest import make_client
from support.api import Api
from support.cluster import Cluster
from test_membership import check_all, create, eventually, partitions, put_all, refusal

CERTIFICATES = Path(__file__).resolve().parents[2] / "deploy" / "certificates"


def speaking(oldest, newest):
    return ["--oldest-wire-version", oldest, "--newest-wire-version", newest]


def change_versions(node, oldest, newest):
    for flag, value in zip(["--oldest-wire-version", "--newest-wire-version"], [oldest, newest]):
        if flag not in node.command:
            node.command += [flag, "0"]
        node.command[node.command.index(flag) + 1] = str(value)


@pytest.mark.core
def test_a_rolling_upgrade_between_adjacent_versions(tmp_path):
    """Members of version 1 become members of 1 and 2 one after the other, under load; then 2 is in force."""
    with Cluster(nodes=3, coordinators=1, etcds=1, node_arguments=speaking(1, 1),
                 coordinator_arguments=speaking(1, 1)) as cluster:
        create(Api(cluster.nodes[0].endpoint))
        put_all(Api(cluster.nodes[0].endpoint), 30)
        stop, leaving, failures, done = threading.Event(), set(), [], [0]

        clients = {n.name: make_client(n.endpoint, retries={"mode": "legacy", "max_attempts": 10},
                                       connect_timeout=2) for n in cluster.nodes}

        def work():
            while not stop.is_set():
                name = [n.name for n in cluster.nodes if n.name not in leaving][done[0] % 2]
                try:
                    clients[name].put_item(TableName="items", Item={"pk": {"S": f"w{done[0] % 50}"}})
                    done[0] += 1
                except Exception as error:  # noqa: BLE001: every kind counts
                    failures.append(repr(error))

        worker = threading.Thread(target=work)
        worker.start()
        # Older than what any member speaks, or newer: neither may join half-way.
        for oldest, newest, words in [(2, 3, "the cluster speaks version 1, this program 2 to 3"),
                                      (3, 3, "the cluster speaks version 1, this program 3")]:
            stranger = cluster.add_node(speaking(oldest, newest))
            assert words in refusal(stranger)
            cluster.nodes.remove(stranger)
        for node in cluster.nodes:
            leaving.add(node.name)
            time.sleep(0.5)
            assert node.stop() == 0, node.log_tail()
            change_versions(node, 1, 2)
            node.start()
            cluster.wait_ready(node)
            leaving.discard(node.name)
            check_all(cluster, 30)  # both versions side by side, each asking the other
            eventually(lambda: all(len(p["in_sync"]) == 3 for p in partitions(cluster)), what="in sync again")
        stop.set()
        worker.join()
        assert not failures, failures[:3]
        assert done[0] > 50

        # A coordinator does not put in force what it does not know itself: it would be the next to be refused.
        coordinator = cluster.coordinators[0]
        time.sleep(3)
        assert cluster.admin("status")["wire_version"] == 1
        assert coordinator.stop() == 0, coordinator.log_tail()
        change_versions(coordinator, 1, 2)
        coordinator.start()
        cluster.wait_ready(coordinator)

        # Everybody knows 2: a program that does not may join no more, one that knows only 2 may. Asked of
        # the cluster, not tried out: an old program that gets in keeps version 1 in force.
        eventually(lambda: (cluster.admin("status", check=False) or {}).get("wire_version") == 2,
                   what="version 2 in force")
        for oldest, newest, words in [(1, 1, "1"), (3, 4, "3 to 4")]:
            stranger = cluster.add_coordinator(speaking(oldest, newest))
            assert f"the cluster refuses this coordinator: the cluster speaks version 2, this program {words}" in \
                refusal(stranger)
            cluster.coordinators.remove(stranger)
        old = cluster.add_node(speaking(1, 1))
        assert "the cluster speaks version 2, this program 1" in refusal(old)
        cluster.nodes.remove(old)
        new = cluster.add_node(speaking(2, 3)).start()
        cluster.wait_ready(new)
        check_all(cluster, 30)


def ready(member):
    """Status and text of /readyz."""
    try:
        with urllib.request.urlopen(member.admin + "/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.core
def test_a_coordinator_without_etcd_is_alive_and_not_ready():
    """So that whoever watches it is told, and nobody restarts it: it goes on by itself."""
    with Cluster(nodes=0, coordinators=2, etcds=1) as cluster:
        assert [ready(c)[0] for c in cluster.coordinators] == [200, 200]
        cluster.etcd[0].pause()
        for coordinator in cluster.coordinators:
            eventually(lambda c=coordinator: ready(c)[0] == 503, what="it says that it is not ready")
            assert "the metadata store (etcd) has not answered for" in ready(coordinator)[1]
            with urllib.request.urlopen(coordinator.admin + "/healthz", timeout=5) as answer:
                assert answer.status == 200
        cluster.etcd[0].resume()
        for coordinator in cluster.coordinators:
            eventually(lambda c=coordinator: ready(c)[0] == 200, what="it is ready again")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two authorities, each with one certificate: {"own": directory, "other": directory}."""
    made = {}
    for authority in ("own", "other"):
        directory = tmp_path_factory.mktemp(authority)
        subprocess.run([CERTIFICATES, directory, "member"], check=True, capture_output=True)
        made[authority] = directory / "member"
    return made


def tls(directory):
    return ["--tls-ca", directory / "ca.crt", "--tls-cert", directory / "tls.crt", "--tls-key",
            directory / "tls.key"]


@pytest.mark.core
def test_who_does_not_speak_the_clusters_tls_is_refused(certificates):
    """Such a node does not even register: it would seem alive, and be given replicas."""
    own, other = tls(certificates["own"]), tls(certificates["other"])
    with Cluster(nodes=3, coordinators=1, etcds=1, node_arguments=own, coordinator_arguments=own) as cluster:
        def admin(*arguments):
            return cluster.admin(*arguments, *own)

        def stranger(arguments):
            member = cluster.add_node()
            cluster.nodes.remove(member)
            at = member.command.index("--tls-ca")
            member.command[at:at + len(own)] = [str(a) for a in arguments]
            return refusal(member)

        assert "the cluster refuses this node: TLS with node" in stranger(other)
        # Of the right authorities as it sees them, and not as they do.
        half = ["--tls-ca", certificates["own"] / "ca.crt", *other[2:]]
        assert "it does not accept this node's certificate" in stranger(half)
        assert "speaks TLS: --tls-ca, --tls-cert and --tls-key are missing here" in stranger([])
        assert len(admin("node", "list")) == 3
        create(Api(cluster.nodes[0].endpoint))
        put_all(Api(cluster.nodes[0].endpoint), 10)
        check_all(cluster, 10)
        assert all(len(p["in_sync"]) == 3 for p in admin("partition", "list", "--table", "items"))
        friend = cluster.add_node().start()
        cluster.wait_ready(friend)
        assert len(admin("node", "list")) == 4
