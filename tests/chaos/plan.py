"""Which faults strike together with what, from a seed alone."""

import random


class Round:
    """`change`: what the cluster is in the middle of; `again`: it is asked for once more while the faults strike."""

    def __init__(self, change, faults, again):
        self.change, self.faults, self.again = change, faults, again

    def __repr__(self):
        return ", ".join([self.change + (" (twice)" if self.again else ""), *self.faults])


class Plan:
    """Deals faults and changes as cards are dealt, so that short runs leave none of them out.

    In each cycle every fault occurs once and every change at least once, in some order; after as many
    cycles as there are changes, every fault has struck in the middle of every change.
    """

    def __init__(self, seed, faults, changes, repeatable):
        self.random = random.Random(seed)
        self.faults, self.changes = list(faults), list(changes)
        self.repeatable = repeatable  # changes that may be asked for again: in half of their rounds
        self.dealt = 0  # rounds
        self.cycle_length = None  # rounds of a cycle, once one is drawn
        self._cycle = 0
        self._rounds = []

    def next(self):
        if not self._rounds:
            self._rounds = self._draw()
            self.cycle_length = self.cycle_length or len(self._rounds)
        self.dealt += 1
        return self._rounds.pop()

    def complete(self):
        """Every fault and every change was dealt."""
        return self.cycle_length is not None and self.dealt >= self.cycle_length

    def _draw(self):
        turn = self._cycle % len(self.changes)
        if turn == 0:
            self.random.shuffle(self.faults)
            self.random.shuffle(self.changes)
        self._cycle += 1
        rounds = []
        for place, change in enumerate(self.changes):
            mine = [fault for at, fault in enumerate(self.faults) if (at + turn) % len(self.changes) == place]
            self.random.shuffle(mine)
            while mine:
                again = self.random.random() < 0.5 and change in self.repeatable
                rounds.append(Round(change, [mine.pop() for _ in range(min(2, len(mine)))], again))
        self.random.shuffle(rounds)
        return rounds
