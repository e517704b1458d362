"""Changes of a table's shape, as an operator asks for them: what was accepted, and what came of it."""

import json
import subprocess
import threading
import time
from collections import Counter

# What `onggi status` calls the jobs of the commands.
JOBS = {"split": "split", "merge": "merge", "move": "move_replica", "transfer": "transfer_primary"}


class Refused(Exception):
    """The command said no, or nobody answered it."""


class Shapes:
    """Asks with `onggi partition ...`. From any thread; `rng` is the caller's."""

    def __init__(self, cluster, table):
        self.cluster = cluster
        self.table = table
        self._lock = threading.Lock()
        self.asked = Counter()
        self.accepted = {}  # job -> verb
        self.states = {}    # job -> what it was when last looked at
        self.refusals = Counter()
        self.errors = Counter()  # of those that failed

    # -- asking ------------------------------------------------------------------------------

    def ask(self, verb, rng, patience_s=0):
        """Asks for it, on a partition that can take it; refusals (a job has it already, no coordinator is
        active) are counted, and it is tried again within that time. True if it was accepted."""
        deadline = time.monotonic() + patience_s
        with self._lock:
            self.asked[verb] += 1
        while True:
            try:
                job = self._run("partition", verb, *getattr(self, verb)(rng))
            except (Refused, subprocess.TimeoutExpired) as refusal:
                with self._lock:
                    self.refusals[f"{verb}: {refusal}"] += 1
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.3)
                continue
            with self._lock:
                self.accepted[job["job"]] = verb
                self.states.setdefault(job["job"], job["state"])
            return True

    def split(self, rng):
        """Anywhere: keys begin with eight bytes of hash."""
        wide = [(p, *hashes(p)) for p in self._free()]
        partition, low, high = pick([w for w in wide if w[2] - w[1] > 1], rng)
        return [partition["id"], "--at", f"{rng.randrange(low + 1, high):016x}"]

    def merge(self, rng):
        """One that has a right neighbour, neither of them busy."""
        everything = sorted(self._partitions(), key=lambda p: p["range_start"])
        pairs = [left for left, right in zip(everything, everything[1:]) if not left["job"] and not right["job"]]
        return [pick(pairs, rng)["id"]]

    def move(self, rng):
        """From any of its nodes, the primary's too, to one that lives and has none of it."""
        partition = pick(self._free(), rng)
        has = set(partition["in_sync"]) | set(partition["learners"])
        others = [n["id"] for n in self._run("node", "list") if n["alive"] and n["id"] not in has]
        return [partition["id"], "--from", pick(partition["in_sync"], rng), "--to", pick(others, rng)]

    def transfer(self, rng):
        partition = pick([p for p in self._free() if len(p["in_sync"]) > 1], rng)
        return [partition["id"], "--to", pick([n for n in partition["in_sync"] if n != partition["primary"]], rng)]

    def _partitions(self):
        return self._run("partition", "list", "--table", self.table)

    def _free(self):
        return [p for p in self._partitions() if not p["job"]]

    def _run(self, *arguments):
        done = self.cluster.command_line(*arguments, "--timeout", "3s", "--output", "json")
        if done.returncode != 0:
            raise Refused(done.stderr.strip().split("\n")[0])
        return json.loads(done.stdout)

    # -- what came of it -----------------------------------------------------------------------

    def look(self):
        """Notes how the accepted jobs stand: the cluster remembers only the last of those that have ended."""
        try:
            jobs = self._run("status")["jobs"]
        except (Refused, subprocess.TimeoutExpired):
            return
        with self._lock:
            for job in jobs:
                if job["id"] not in self.accepted:
                    continue
                if job["state"] == "failed" != self.states[job["id"]]:
                    self.errors[f"{self.accepted[job['id']]}: {job['error']}"] += 1
                self.states[job["id"]] = job["state"]

    def wait_ended(self, seconds):
        """Until every accepted job has ended, well or not."""
        deadline = time.monotonic() + seconds
        while True:
            self.look()
            running = [job for job in self.accepted if self.states[job] not in ("done", "failed")]
            if not running:
                return
            assert time.monotonic() < deadline, f"jobs do not end: {self._run('status')['jobs']}"
            time.sleep(0.2)

    def count(self, state=None):
        """Accepted jobs by verb: all, or those that are in that state."""
        with self._lock:
            return Counter(verb for job, verb in self.accepted.items() if state in (None, self.states[job]))

    def prepare(self, partitions, rng, seconds=60):
        """Splits until there are so many, so that a merge has something to merge from the beginning."""
        deadline = time.monotonic() + seconds
        while len(self._partitions()) < partitions:
            assert time.monotonic() < deadline, f"no {partitions} partitions: {dict(self.refusals)}"
            self.ask("split", rng, 1)
            self.wait_ended(seconds)
        self.asked.clear()
        self.accepted.clear()
        self.states.clear()
        self.refusals.clear()
        self.errors.clear()

    def summary(self):
        lines = []
        for verb in JOBS:
            lines.append(f"{verb}: asked {self.asked[verb]}, accepted {self.count()[verb]}, "
                         f"done {self.count('done')[verb]}, failed {self.count('failed')[verb]}")
        lines += [f"{count} times failed: {what}" for what, count in self.errors.most_common()]
        lines += [f"{count} times refused: {what}" for what, count in self.refusals.most_common()]
        return "\n  ".join(lines)


def hashes(partition):
    """Its range, as numbers of 64 bits: from, and up to but not with."""
    low = int((partition["range_start"] + "0" * 16)[:16], 16)
    high = int((partition["range_end"] + "0" * 16)[:16], 16) if partition["range_end"] else 1 << 64
    return low, high


def pick(choices, rng):
    if not choices:
        raise Refused("nothing there that could take it")
    return rng.choice(choices)
