"""Real processes in network namespaces, real clients, and everything that goes wrong.

ONGGI_CHAOS_SECONDS says for how long (90 by default, 600 in `./x test chaos`), ONGGI_CHAOS_SEED which
faults. Needs root, iproute2, iptables, etcd and libfaketime.
"""

import os
import subprocess
import time
from pathlib import Path

from nemesis import Nemesis
from support.cluster import Cluster
from workload import Workload

SECONDS = float(os.environ.get("ONGGI_CHAOS_SECONDS", "90"))
SEED = int(os.environ.get("ONGGI_CHAOS_SEED", str(int(time.time()))))
LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
# After healing the partitions must take writes again within this (virtual machines are slow).
RECOVERY_S = 15


def make_cluster(tmp_path):
    """Five nodes with a small disk and a clock of their own each."""
    disks = {}
    for number in range(1, 6):
        disk = tmp_path / f"disk{number}"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=768m", "tmpfs", disk], check=True)
        disks[f"node{number}"] = disk / "data"
    cluster = Cluster(nodes=5, coordinators=2, namespaces=True, data_directories=disks,
                      directory=tmp_path, node_arguments=["--memory", "128MB", "--disk-reserve", "64MB"],
                      coordinator_arguments=["--dead-after", "10s"])
    for node in cluster.nodes:
        node.clock_file = tmp_path / f"{node.name}.clock"
        node.clock_file.write_text("+0s\n")
        node.environment.update({"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                                 "FAKETIME_TIMESTAMP_FILE": str(node.clock_file),
                                 "FAKETIME_CACHE_DURATION": "1"})
    return cluster


def test_chaos(tmp_path):
    print(f"\nseed {SEED}: ONGGI_CHAOS_SEED={SEED} ONGGI_CHAOS_SECONDS={SECONDS:.0f} ./x test chaos")
    assert LIBFAKETIME.exists(), "libfaketime is missing"
    cluster = make_cluster(tmp_path)
    try:
        with cluster:
            workload = Workload([node.endpoint for node in cluster.nodes], seed=SEED)
            workload.create_table()
            nemesis = Nemesis(cluster, SEED)
            workload.start()
            end = time.monotonic() + SECONDS
            rounds = 0
            while time.monotonic() < end:
                nemesis.round()
                rounds += 1
                healed = time.monotonic()
                while workload.longest_gap(time.monotonic() - 1, time.monotonic()) > 0.9:
                    assert time.monotonic() - healed < RECOVERY_S, "no operation succeeds after healing"
                    time.sleep(0.2)
            workload.stop()
            print(f"  {rounds} rounds: {nemesis.done}")
            print("  " + workload.summary())
            complaints = workload.verdict()
            assert not complaints, "\n".join(complaints[:20])
            assert workload.lists.count("ok") > SECONDS, "hardly anything succeeded"
            if nemesis.without_delay:
                print("  this kernel has no netem: nothing was delayed")
    finally:
        for disk in tmp_path.glob("disk*"):
            subprocess.run(["umount", "-l", disk], check=False)
