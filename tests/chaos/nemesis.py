"""What breaks the cluster: faults in the middle of changes, all healed before the next round."""

import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import evidence
from plan import Plan
from shapes import Shapes
from support.cluster import Member

# A restarted node is waited for so long; what keeps it from being ready may be the round's fault.
READY_S = 5


def set_clock(node, seconds):
    """Moves the wall clock of a node by so much from the machine's. In place: the node maps the file."""
    with open(node.clock_file, "r+b" if Path(node.clock_file).exists() else "wb") as file:
        file.write((seconds * 1_000_000_000).to_bytes(8, sys.byteorder, signed=True))


class Nemesis:
    """Breaks things as a plan says. Each fault is a method: it breaks something, waits, and mends it, or leaves
    that to heal().

    A round's change is under way while its faults strike: one of shape as a job of the coordinator, a restart
    in a thread of its own. That thread and the faults may have to do with the same node. So a node is started
    by start() only, killed by kill() only, and one that is told to stop while it is paused stops when the fault
    resumes it. heal() waits for the thread before it starts what is down.
    """

    def __init__(self, cluster, seed, table="chaos", log=print):
        self.cluster = cluster
        # Which faults; how long and where is another's.
        self.plan = Plan(seed, self.FAULTS, self.CHANGES, self.SHAPES)
        self.random = random.Random(seed + 1)
        self.shapes = Shapes(cluster, table)
        self.log = log
        self.done = Counter()
        self.seen = Counter()  # clocks that were seen to be off; nodes that ended well on SIGTERM, and so on
        self._starting = threading.Lock()
        self._killed = set()  # processes
        self._aside = ThreadPoolExecutor(max_workers=2)
        self._running = []  # (name, future) of the round
        self._disks_full = False
        self._over = False

    # -- faults ------------------------------------------------------------------------------

    def kill_node(self):
        node = self.any_up()
        self.kill(node)
        self.wait(0.2, 3)
        self.start(node)

    def kill_two_nodes(self):
        for node in self.random.sample(self.cluster.nodes, 2):
            self.kill(node)
            self.wait(0, 1)
        self.wait(0.5, 2.5)

    def kill_all_nodes(self):
        for node in self.cluster.nodes:
            self.kill(node)
        self.wait(0.1, 1)

    def pause_node(self):
        node = self.any_up()
        node.pause()
        self.wait(0.2, 5)
        node.resume()

    def isolate_node(self):
        node = self.random.choice(self.cluster.nodes)
        for other in self.cluster.members:
            if other is not node:
                self.cluster.network.cut(node.name, other.name)
        self.wait(0.5, 4)

    def split_network(self):
        """Nodes, coordinators and etcd members in two parts that do not hear each other."""
        members = list(self.cluster.members)
        self.random.shuffle(members)
        at = self.random.randrange(1, len(members))
        for one in members[:at]:
            for other in members[at:]:
                self.cluster.network.cut(one.name, other.name)
        self.wait(0.5, 4)

    def one_way_cuts(self):
        for _ in range(self.random.randrange(1, 5)):
            receiver, sender = self.random.sample(self.cluster.members, 2)
            self.cluster.network.drop(receiver.name, sender.name)
        self.wait(0.5, 4)

    def cut_node_from_etcd(self):
        node = self.random.choice(self.cluster.nodes)
        for member in self.cluster.etcd:
            self.cluster.network.cut(node.name, member.name)
        self.wait(1, 4)

    def lose_packets(self):
        for member in self.random.sample(self.cluster.members, 3):
            self.cluster.network.lose(member.name, self.random.choice([0.02, 0.1, 0.3]))
        self.wait(1, 4)

    def delay_packets(self):
        for member in self.random.sample(self.cluster.members, 3):
            self.cluster.network.delay(member.name, self.random.choice([5, 50, 300]))
        self.wait(1, 4)

    def jump_clock(self):
        """The wall clock of a node jumps (clock_shim.c)."""
        node = self.any_up()
        seconds = self.random.choice([-1, 1]) * self.random.choice([5, 60, 3600])
        set_clock(node, seconds)
        self.wait(0.5, 3)
        off = evidence.differs_by(node, seconds)  # unless it is down at the moment
        assert off is not False, f"the clock of {node.name} did not jump by {seconds} s"
        self.seen["clocks off"] += bool(off)
        set_clock(node, 0)

    def fill_disk(self):
        node = self.random.choice(self.cluster.nodes)
        self._disks_full = True
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
            self.kill(coordinator)
        self.wait(1, 4)

    def kill_active_coordinator(self):
        active = [c for c in self.cluster.coordinators if self.is_active(c)]
        self.kill(active[0] if active else self.random.choice(self.cluster.coordinators))
        self.seen["active coordinators killed"] += bool(active)
        self.wait(0.5, 4)

    def is_active(self, coordinator):
        try:
            return self.cluster.metric(coordinator, "onggi_coordinator_active") == 1
        except OSError:
            return False

    def lose_etcd_majority(self):
        for member in self.random.sample(self.cluster.etcd, len(self.cluster.etcd) // 2 + 1):
            self.random.choice([self.kill, Member.pause])(member)
        self.wait(1, 6)

    def kill_etcd_member(self):
        self.kill(self.random.choice(self.cluster.etcd))
        self.wait(0.5, 4)

    FAULTS = ["kill_node", "kill_two_nodes", "kill_all_nodes", "pause_node", "isolate_node", "split_network",
              "one_way_cuts", "cut_node_from_etcd", "lose_packets", "delay_packets", "jump_clock", "fill_disk",
              "kill_coordinators", "kill_active_coordinator", "lose_etcd_majority", "kill_etcd_member"]

    # -- changes, which faults then hit in the middle ------------------------------------------

    SHAPES = ["split", "merge", "move", "transfer"]
    CHANGES = [*SHAPES, "stop_node", "rolling_restart"]

    def stop_node(self, rng):
        self.restart(rng.choice(self.cluster.nodes), rng.uniform(0, 2))

    def rolling_restart(self, rng):
        for node in self.cluster.nodes:
            self.restart(node, 0)

    def restart(self, node, pause_s):
        """With SIGTERM. Whatever the round's faults do to it meanwhile, it has been started when this ends."""
        process, running = node.process, node.running()
        code = node.stop(resume=False)
        if running and process not in self._killed:
            # One that a fault had just started may not have come to handle the signal.
            # Nor one that was still waiting for its cluster.
            assert code in (0, -signal.SIGTERM) or self._disks_full or "stopped while" in node.log_tail(), \
                f"{node.name} ended with {code} on SIGTERM:\n{node.log_tail()}"
            self.seen["nodes stopped well"] += code == 0
        time.sleep(pause_s)
        self.start(node)
        deadline = time.monotonic() + READY_S
        while node.running() and not self.cluster.ready(node) and time.monotonic() < deadline:
            time.sleep(0.05)

    def begin(self, name, delay_s=0):
        """In a thread: a restart, or a change of shape that is asked for again."""
        rng = random.Random(self.random.random())

        def run():
            time.sleep(delay_s)
            if name in self.SHAPES:
                self.shapes.ask(name, rng)
            else:
                getattr(self, name)(rng)
                self.done[name] += 1

        self._running.append((name, self._aside.submit(run)))

    # -- who is up ---------------------------------------------------------------------------

    def any_up(self):
        """A node that runs, be it for a moment only; any if none does."""
        up = [node for node in self.cluster.nodes if node.running()]
        return self.random.choice(up or self.cluster.nodes)

    def kill(self, member):
        with self._starting:  # so that what is killed is what is noted
            if member.running():
                self._killed.add(member.process)
            member.kill()

    def start(self, member):
        with self._starting:
            if member.running() or self._over:
                return
            self.autopsy(member, member.process)
            member.start()

    def autopsy(self, member, process):
        """What ended it. Errors may be a fault's doing (a node does not start on a full disk); a signal of its
        own is a bug, unless the disk failed it: then it must not go on."""
        if process in self._killed or process.returncode in (0, -signal.SIGTERM):
            return
        self.log(f"    {member.name} ended with {process.returncode}")
        assert process.returncode > 0 or self._disks_full, \
            f"{member.name} died of {signal.Signals(-process.returncode).name}:\n{member.log_tail()}"

    # -- running -----------------------------------------------------------------------------

    def wait(self, low, high):
        time.sleep(self.random.uniform(low, high))

    def heal(self):
        self.cluster.network.heal()
        for member in self.cluster.members:
            member.resume()
        for member in self.cluster.etcd + self.cluster.coordinators:
            self.start(member)
        for _, future in self._running:
            future.result()
        self._running.clear()
        for node in self.cluster.nodes:
            self.start(node)
        for member in self.cluster.nodes + self.cluster.coordinators:
            self.cluster.wait_ready(member, 60)
        self._disks_full = False

    def close(self):
        """Waits for what runs in threads; nothing is started any more."""
        with self._starting:
            self._over = True
        for member in self.cluster.members:
            member.resume()
        self._aside.shutdown()

    def round(self):
        """A change, one or two faults in the middle of it, healing, a breath."""
        planned = self.plan.next()
        begun = time.monotonic()
        if planned.change in self.SHAPES:
            # Of a cluster that is whole: the coordinators may be electing still.
            self.shapes.ask(planned.change, self.random, patience_s=5)
            self.done[planned.change] += 1
            if planned.again:
                self.begin(planned.change, self.random.uniform(0.3, 1.5))
        else:
            self.begin(planned.change)
            self.wait(0, 0.5)
        for name in planned.faults:
            getattr(self, name)()
            self.done[name] += 1
        broken = time.monotonic()
        self.heal()
        self.shapes.look()
        self.log(f"  {planned!r}: {broken - begun:.1f} s, healed in {time.monotonic() - broken:.1f} s")
        self.wait(0.3, 1)

    def missing(self):
        """What a run is for and has not had yet: faults and changes of each kind, restarts that ended well, and of
        each change of shape one that was accepted, and one that came about (of transfers, which change nothing
        that lasts, the first is enough)."""
        accepted, came_about = self.shapes.count(), self.shapes.count("done")
        missing = [name for name in self.FAULTS + self.CHANGES if not self.done[name]]
        missing += [f"{verb} accepted" for verb in self.SHAPES if not accepted[verb]]
        missing += [f"{verb} done" for verb in ("split", "merge", "move") if not came_about[verb]]
        if self.seen["nodes stopped well"] < len(self.cluster.nodes):
            missing.append("as many nodes stopped well as there are")
        return missing
