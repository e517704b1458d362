"""The integration suite through each node of a cluster of three."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.cluster import Cluster

TESTS = Path(__file__).resolve().parents[1]

# What is about one process that the test itself starts, with flags of its own or with `onggi dev`'s answers,
# and says nothing of a cluster.
NOT_OF_A_CLUSTER = [
    "integration/test_startup.py",  # how fast, and with which flags, `onggi dev` starts
    "integration/test_grpc.py::test_the_command_line_shows_one_node",
    "integration/test_grpc.py::test_the_command_line_says_what_is_wrong",
    "integration/test_grpc.py::test_the_command_line_sends_credentials",
    "integration/test_grpc.py::test_the_map_stream_ends_with_the_server",
    "integration/test_client.py::test_a_counter_counts_every_write_once_through_restarts",
]


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=3, coordinators=2) as running:
        yield running


@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.core), 2, 3])
def test_integration_suite_through_a_node(cluster, number):
    node = cluster.nodes[number - 1]
    environment = dict(os.environ, ONGGI_ENDPOINT=node.endpoint, ONGGI_GRPC_ENDPOINT=node.rpc,
                       ONGGI_ADMIN_ENDPOINT=node.admin)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "integration",
         *(f"--deselect={name}" for name in NOT_OF_A_CLUSTER)],
        cwd=TESTS, env=environment, capture_output=True, text=True, timeout=900)
    print(done.stdout[-1500:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
