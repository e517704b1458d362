"""Real processes in network namespaces, real clients, and everything that goes wrong.

ONGGI_CHAOS_SECONDS says for how long (90 by default, 600 in `./x test chaos`), ONGGI_CHAOS_SEED which
faults. Needs root, iproute2, iptables and etcd.
"""

import os
import subprocess
import time
from pathlib import Path

import evidence
import nemesis
from nemesis import Nemesis
from support.cluster import Cluster
from workload import Workload

SECONDS = float(os.environ.get("ONGGI_CHAOS_SECONDS", "90"))
SEED = int(os.environ.get("ONGGI_CHAOS_SEED", str(int(time.time()))))
# After healing the partitions must take writes again within this (virtual machines are slow).
RECOVERY_S = 15
# When nothing breaks any more, every partition must have its replicas, and every job its end, within this.
REPAIR_S = 60
# A run of the ninety seconds of `./x test` or more has every kind of fault and of change. Where the machine is
# so slow that they do not fit, it goes on until they were, for so many times as long at most.
WHOLE_RUN_S = 90
LONGEST = 4
# Before the first fault, so that there is something to merge.
PARTITIONS = 6


def make_cluster(tmp_path):
    """Five nodes with a small disk and a clock of their own each."""
    shim = tmp_path / "clock_shim.so"
    subprocess.run(["clang-16", "-O1", "-shared", "-fPIC", "-o", shim, Path(__file__).with_name("clock_shim.c")],
                   check=True)
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
        nemesis.set_clock(node, 0)
        node.environment.update({"LD_PRELOAD": str(shim), "CLOCK_SHIM_FILE": str(node.clock_file)})
    return cluster


def wait_whole(cluster, table):
    """Until every partition has all its replicas in sync; returns the seconds that took, and how many there are."""
    begun = time.monotonic()
    while True:
        partitions = cluster.admin("partition", "list", "--table", table)
        broken = [p for p in partitions if not p["available"] or len(p["in_sync"]) < p["replication"]]
        if partitions and not broken:
            time.sleep(1)  # the last writes reach the backups; what was just written is read at primaries
            return time.monotonic() - begun, len(partitions)
        assert time.monotonic() - begun < REPAIR_S, f"not repaired: {broken}"
        time.sleep(0.2)


def goes_on(seconds, breaker):
    if seconds < SECONDS:
        return True
    return SECONDS >= WHOLE_RUN_S and bool(breaker.missing()) and seconds < LONGEST * SECONDS


def test_chaos(tmp_path):
    print(f"\nseed {SEED}: ONGGI_CHAOS_SEED={SEED} ONGGI_CHAOS_SECONDS={SECONDS:.0f} ./x test chaos")
    cluster = make_cluster(tmp_path)
    try:
        with cluster:
            workload = Workload([node.endpoint for node in cluster.nodes], seed=SEED)
            workload.create_table()
            breaker = Nemesis(cluster, SEED)
            print("  " + evidence.check(cluster, nemesis.set_clock))
            breaker.shapes.prepare(PARTITIONS, breaker.random)
            workload.start()
            begun = time.monotonic()
            try:
                while goes_on(time.monotonic() - begun, breaker):
                    breaker.round()
                    healed = time.monotonic()
                    while workload.longest_gap(time.monotonic() - 1, time.monotonic()) > 0.9:
                        assert time.monotonic() - healed < RECOVERY_S, \
                            "no operation succeeds after healing\n" + cluster.stacks()
                        time.sleep(0.2)
            finally:
                breaker.close()
            workload.stop()
            breaker.shapes.wait_ended(REPAIR_S)
            print(f"  {breaker.plan.dealt} rounds in {time.monotonic() - begun:.0f} s: {dict(breaker.done)}; "
                  f"seen: {dict(breaker.seen)}\n  {breaker.shapes.summary()}")
            print("  " + workload.summary())
            complaints = workload.verdict()
            assert not complaints, "\n".join(complaints[:20])
            assert workload.lists.count("ok") > SECONDS, "hardly anything succeeded"
            seconds, partitions = wait_whole(cluster, workload.table)
            print(f"  {partitions} partitions, whole again after {seconds:.1f} s")
            complaints = workload.disagreements()
            assert not complaints, "\n".join(complaints)
            if SECONDS >= WHOLE_RUN_S:
                assert not breaker.missing(), f"never came about: {breaker.missing()}"
    finally:
        for disk in tmp_path.glob("disk*"):
            subprocess.run(["umount", "-l", disk], check=False)
