"""The plan of faults: nothing is left out, a seed is its plan, and a run that lacks something is seen to."""

from types import SimpleNamespace

import test_chaos
from nemesis import Nemesis
from plan import Plan


def rounds_of(seed, count):
    plan = Plan(seed, Nemesis.FAULTS, Nemesis.CHANGES, Nemesis.SHAPES)
    return plan, [plan.next() for _ in range(count)]


def test_a_cycle_has_every_fault_once_and_every_change():
    for seed in range(200):
        plan, rounds = rounds_of(seed, 1)
        assert not plan.complete()
        while not plan.complete():
            rounds.append(plan.next())
        assert sorted(fault for r in rounds for fault in r.faults) == sorted(Nemesis.FAULTS)
        assert {r.change for r in rounds} == set(Nemesis.CHANGES)
        # So many rounds fit into the ninety seconds of every run, with room to spare.
        assert len(rounds) <= 11 and all(len(r.faults) <= 2 for r in rounds)


def test_every_fault_strikes_in_the_middle_of_every_change():
    for seed in range(20):
        plan, rounds = rounds_of(seed, 1)
        rounds += [plan.next() for _ in range(len(Nemesis.CHANGES) * plan.cycle_length - 1)]
        seen = {(r.change, fault) for r in rounds for fault in r.faults}
        assert len(seen) == len(Nemesis.CHANGES) * len(Nemesis.FAULTS)
        assert {r.again for r in rounds if r.change in Nemesis.SHAPES} == {True, False}
        assert not any(r.again for r in rounds if r.change not in Nemesis.SHAPES)


def test_a_seed_is_its_plan():
    assert repr(rounds_of(7, 50)[1]) == repr(rounds_of(7, 50)[1])
    assert repr(rounds_of(7, 50)[1]) != repr(rounds_of(8, 50)[1])


def test_a_run_that_lacks_something_says_what():
    breaker = Nemesis(SimpleNamespace(nodes=range(5)), 1)
    assert set(Nemesis.FAULTS + Nemesis.CHANGES) < set(breaker.missing())
    for name in Nemesis.FAULTS + Nemesis.CHANGES:
        breaker.done[name] += 1
    breaker.seen["nodes stopped well"] = 5
    for job, verb in enumerate(("split", "move", "transfer")):
        breaker.shapes.accepted[job], breaker.shapes.states[job] = verb, "done"
    assert breaker.missing() == ["merge accepted", "merge done"]
    breaker.shapes.accepted[3], breaker.shapes.states[3] = "merge", "failed"
    assert breaker.missing() == ["merge done"]
    breaker.shapes.states[3] = "done"
    assert not breaker.missing()
    breaker.seen["nodes stopped well"] = 4
    assert breaker.missing()


def test_a_run_goes_on_until_nothing_is_missing(monkeypatch):
    lacking, whole = SimpleNamespace(missing=lambda: ["merge"]), SimpleNamespace(missing=lambda: [])
    monkeypatch.setattr(test_chaos, "SECONDS", 90)
    assert test_chaos.goes_on(89, whole) and not test_chaos.goes_on(91, whole)
    assert test_chaos.goes_on(91, lacking) and not test_chaos.goes_on(91 * test_chaos.LONGEST, lacking)
    monkeypatch.setattr(test_chaos, "SECONDS", 30)  # somebody's choice: it need not have everything
    assert not test_chaos.goes_on(31, lacking)
