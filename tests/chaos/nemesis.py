"""What breaks the cluster: one fault at a time or several, each healed before the next round."""

import random
import subprocess
import sys
import time
from pathlib import Path


def set_clock(node, seconds):
    """Moves the wall clock of a node by so much from the machine's. In place: the node maps the file."""
    with open(node.clock_file, "r+b" if Path(node.clock_file).exists() else "wb") as file:
        file.write((seconds * 1_000_000_000).to_bytes(8, sys.byteorder, signed=True))


class Nemesis:
    """Draws faults from a seed. Each is a method: it breaks something, waits, and mends it."""

    def __init__(self, cluster, seed, table="chaos", log=print):
        self.cluster = cluster
        self.plan = random.Random(seed)  # which faults; how long and where is another's
        self.random = random.Random(seed + 1)
        self.table = table
        self.log = log
        self.done = {}

    # -- faults ------------------------------------------------------------------------------

    def kill_node(self):
        node = self.random.choice(self.cluster.nodes)
        node.kill()
        self.wait(0.2, 4)
        self.start(node)

    def kill_two_nodes(self):
        for node in self.random.sample(self.cluster.nodes, 2):
            node.kill()
            self.wait(0, 1)
        self.wait(0.5, 3)

    def kill_all_nodes(self):
        for node in self.cluster.nodes:
            node.kill()
        self.wait(0.1, 1)

    def pause_node(self):
        node = self.random.choice(self.cluster.nodes)
        node.pause()
        self.wait(0.2, 5)
        node.resume()

    def stop_node(self):
        self.restart(self.random.choice(self.cluster.nodes))

    def rolling_restart(self):
        for node in self.cluster.nodes:
            self.restart(node)

    def isolate_node(self):
        node = self.random.choice(self.cluster.nodes)
        for other in self.cluster.members:
            if other is not node:
                self.cluster.network.cut(node.name, other.name)
        self.wait(0.5, 5)

    def split_network(self):
        """Nodes, coordinators and etcd members in two parts that do not hear each other."""
        members = list(self.cluster.members)
        self.random.shuffle(members)
        at = self.random.randrange(1, len(members))
        for one in members[:at]:
            for other in members[at:]:
                self.cluster.network.cut(one.name, other.name)
        self.wait(0.5, 5)

    def one_way_cuts(self):
        for _ in range(self.random.randrange(1, 5)):
            receiver, sender = self.random.sample(self.cluster.members, 2)
            self.cluster.network.drop(receiver.name, sender.name)
        self.wait(0.5, 5)

    def cut_node_from_etcd(self):
        node = self.random.choice(self.cluster.nodes)
        for member in self.cluster.etcd:
            self.cluster.network.cut(node.name, member.name)
        self.wait(1, 6)

    def lose_packets(self):
        for member in self.random.sample(self.cluster.members, 3):
            self.cluster.network.lose(member.name, self.random.choice([0.02, 0.1, 0.3]))
        self.wait(1, 5)

    def delay_packets(self):
        for member in self.random.sample(self.cluster.members, 3):
            self.cluster.network.delay(member.name, self.random.choice([5, 50, 300]))
        self.wait(1, 5)

    def jump_clock(self):
        """The wall clock of a node jumps (clock_shim.c)."""
        node = self.random.choice(self.cluster.nodes)
        set_clock(node, self.random.choice([-1, 1]) * self.random.choice([2, 60, 3600]))
        self.wait(0.5, 3)
        set_clock(node, 0)

    def fill_disk(self):
        node = self.random.choice(self.cluster.nodes)
        filler = node.data.parent / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(b"\0" * (1 << 20))
            except OSError:
                pass
        self.wait(1, 4)
        filler.unlink()

    def kill_coordinators(self):
        for coordinator in self.cluster.coordinators:
            coordinator.kill()
        self.wait(1, 6)

    def kill_active_coordinator(self):
        self.random.choice(self.cluster.coordinators).kill()
        self.wait(0.5, 4)

    def lose_etcd_majority(self):
        for member in self.random.sample(self.cluster.etcd, len(self.cluster.etcd) // 2 + 1):
            self.random.choice([member.kill, member.pause])()
        self.wait(1, 8)

    def kill_etcd_member(self):
        self.random.choice(self.cluster.etcd).kill()
        self.wait(0.5, 4)

    # -- changes of shape, which faults then hit in the middle ---------------------------------

    def partitions(self):
        return self.cluster.admin("partition", "list", "--table", self.table)

    def split(self):
        """Anywhere: keys begin with eight bytes of hash."""
        def arguments(partition):
            low = int((partition["range_start"] + "0" * 16)[:16], 16)
            high = int((partition["range_end"] + "0" * 16)[:16], 16) if partition["range_end"] else 1 << 64
            return ["--at", f"{self.random.randrange(low + 1, high):016x}"]

        self.admin("split", arguments)

    def merge(self):
        self.admin("merge", lambda p: [])

    def move(self):
        def arguments(partition):
            nodes = [n["id"] for n in self.cluster.admin("node", "list")]
            others = [n for n in nodes if n not in partition["in_sync"]]
            return ["--from", self.random.choice(partition["in_sync"]), "--to", self.random.choice(others)]

        self.admin("move", arguments)

    def transfer(self):
        self.admin("transfer", lambda p: ["--to", self.random.choice(p["in_sync"])])

    def admin(self, verb, arguments):
        """Asks for it; refusals are fine (no such key in it, a job has it already)."""
        try:
            partition = self.random.choice(self.partitions())
            self.cluster.admin("partition", verb, partition["id"], *arguments(partition), check=False)
        except (AssertionError, KeyError, IndexError, ValueError, subprocess.TimeoutExpired) as error:
            self.log(f"    {verb}: {error}")

    SHAPES = ["split", "split", "merge", "move", "move", "transfer"]
    FAULTS = ["kill_node", "kill_node", "kill_two_nodes", "kill_all_nodes", "pause_node", "stop_node",
              "isolate_node", "split_network", "one_way_cuts", "cut_node_from_etcd", "lose_packets",
              "delay_packets", "jump_clock", "fill_disk", "kill_coordinators", "kill_active_coordinator",
              "lose_etcd_majority", "kill_etcd_member", "rolling_restart"]

    # -- running -----------------------------------------------------------------------------

    def wait(self, low, high):
        time.sleep(self.random.uniform(low, high))

    def start(self, node):
        if not node.running():
            node.start()

    def restart(self, node):
        """With SIGTERM, if an earlier fault of the round has not killed it."""
        if node.running():
            assert node.stop() == 0, f"{node.name} ended with {node.process.returncode}"
        node.start()

    def heal(self):
        self.cluster.network.heal()
        for member in self.cluster.members:
            member.resume()
            if not member.running():
                member.start()
        for member in self.cluster.nodes + self.cluster.coordinators:
            self.cluster.wait_ready(member, 60)

    def round(self):
        """One change of shape perhaps, one or two faults, healing, a breath."""
        names = []
        if self.plan.random() < 0.5:
            names.append(self.plan.choice(self.SHAPES))
        names += self.plan.sample(self.FAULTS, self.plan.choice([1, 1, 2]))
        self.log(f"  {', '.join(names)}")
        for name in names:
            getattr(self, name)()
            self.done[name] = self.done.get(name, 0) + 1
        self.heal()
        self.wait(0.5, 2)
