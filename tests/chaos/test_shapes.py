"""How changes of shape are asked for and counted, against a cluster that only says what it is told to."""

import json
import random
from types import SimpleNamespace

from shapes import Shapes


class Said:
    """A cluster of three partitions on nodes 1 to 3 of four; refuses what is not asked of an idle partition."""

    def __init__(self, busy=()):
        self.busy = busy
        self.asked = []
        self.jobs = []
        self.active = True

    def partitions(self):
        bounds = ["", "4" + "0" * 15, "8" + "0" * 15, ""]
        return [{"id": i + 1, "range_start": bounds[i], "range_end": bounds[i + 1], "in_sync": [1, 2, 3],
                 "learners": [], "primary": 1, "job": int(i + 1 in self.busy)} for i in range(3)]

    def command_line(self, *arguments):
        if not self.active:
            return SimpleNamespace(returncode=1, stdout="", stderr="onggi: no coordinator is active\n  (nodes)")
        if arguments[:2] == ("partition", "list"):
            said = self.partitions()
        elif arguments[0] == "node":
            said = [{"id": i, "alive": i != 5} for i in range(1, 6)]
        elif arguments[0] == "status":
            said = {"jobs": self.jobs}
        else:
            self.asked.append(arguments[1:-4])
            self.jobs.append({"id": len(self.jobs) + 1, "state": "running", "error": ""})
            said = {"job": len(self.jobs), "state": "running"}
        return SimpleNamespace(returncode=0, stdout=json.dumps(said), stderr="")


def test_what_is_asked_for_can_be_done():
    cluster = Said(busy=(3,))
    shapes = Shapes(cluster, "t")
    rng = random.Random(1)
    for _ in range(20):
        for verb in ("split", "merge", "move", "transfer"):
            assert shapes.ask(verb, rng)
    for verb, partition, *rest in cluster.asked:
        assert partition in (1, 2)
        if verb == "split":
            assert (0 if partition == 1 else 1 << 62) < int(rest[1], 16) < (1 << 62 if partition == 1 else 1 << 63)
        elif verb == "merge":
            assert partition == 1 and not rest  # the neighbour of 2 is busy
        elif verb == "move":
            assert rest[0] == "--from" and rest[1] in (1, 2, 3) and rest[2:] == ["--to", 4]
        else:
            assert rest[0] == "--to" and rest[1] in (2, 3)


def test_only_what_was_accepted_counts_and_only_what_was_done_came_about():
    cluster = Said()
    shapes = Shapes(cluster, "t")
    rng = random.Random(1)
    cluster.active = False
    assert not shapes.ask("split", rng)
    assert not shapes.ask("split", rng, patience_s=0.4)
    assert shapes.asked["split"] == 2 and shapes.count()["split"] == 0
    assert list(shapes.refusals) == ["split: onggi: no coordinator is active"]
    cluster.active = True
    for verb in ("split", "merge", "merge"):
        assert shapes.ask(verb, rng)
    assert shapes.count() == {"split": 1, "merge": 2} and not shapes.count("done")
    for job, state in zip(cluster.jobs, ("done", "failed", "done")):
        job["state"] = state
    cluster.jobs[1]["error"] = "it cannot be"
    shapes.look()
    shapes.look()
    assert shapes.count("done") == {"split": 1, "merge": 1} and shapes.count("failed") == {"merge": 1}
    assert shapes.errors == {"merge: it cannot be": 1}
    cluster.jobs.clear()  # forgotten there, and not here
    shapes.wait_ended(0)


def test_nothing_that_fits_is_a_refusal():
    shapes = Shapes(Said(busy=(1, 2, 3)), "t")
    for verb in ("split", "merge", "move", "transfer"):
        assert not shapes.ask(verb, random.Random(1))
    assert sum(shapes.refusals.values()) == 4
