"""The integration suite, unchanged, against one node of a cluster of three."""

import os
import subprocess
from pathlib import Path

from support.cluster import Cluster

TESTS = Path(__file__).resolve().parents[1]


def test_integration_suite_through_a_node():
    with Cluster(nodes=3, coordinators=2) as cluster:
        environment = dict(os.environ, ONGGI_ENDPOINT=cluster.nodes[1].endpoint)
        done = subprocess.run(
            ["/usr/bin/python3", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "integration",
             "--deselect", "integration/test_startup.py", "-k", "not own_server"],
            cwd=TESTS, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        print(done.stdout.strip().splitlines()[-1])
