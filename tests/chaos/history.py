"""What clients saw of a key, and whether one machine could have shown it to them.

Two kinds of keys:

*Lists*: every write appends an element that no other write appends (list_append), so the order of a
list is the order of its writes, and each read says how many of them it saw. That makes
linearizability checkable exactly, in n log n, with any number of outcomes unknown (the idea is
Elle's, Kingsbury & Alvaro, VLDB 2020, for one key).

*Registers*: puts, deletes, conditional puts and reads of unique values, checked by search (Wing &
Gong, 1993, with Lowe's memory of visited states). Kept short, since an unknown outcome may have
happened at any later time.
"""

import threading
import time
from bisect import bisect_right

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


class Operation:
    """One call: `start` and `end` are monotonic seconds; `end` is None while it is under way."""

    __slots__ = ("kind", "value", "expected", "start", "end", "outcome", "result", "client")

    def __init__(self, kind, value=None, expected=None, client=None):
        self.kind, self.value, self.expected, self.client = kind, value, expected, client
        self.start, self.end, self.outcome, self.result = None, None, UNKNOWN, None

    def __repr__(self):
        end = f"{self.end:.4f}" if self.end is not None else "..."
        return (f"<{self.kind} {self.value!r} -> {self.outcome} {self.result!r} "
                f"[{self.start:.4f}, {end}] by {self.client}>")


class History:
    """Operations by key, from many threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self.keys = {}

    def begin(self, key, operation):
        operation.start = time.monotonic()
        with self._lock:
            self.keys.setdefault(key, []).append(operation)
        return operation

    @staticmethod
    def finish(operation, outcome, result=None):
        operation.end = time.monotonic()
        operation.outcome, operation.result = outcome, result

    def count(self, outcome=None):
        return sum(1 for operations in self.keys.values() for o in operations
                   if outcome is None or o.outcome == outcome)


def check_list(key, operations, final):
    """Complaints about a list key. `final` is what it holds at the end, read when all was quiet.

    Operations: "append" of `value`, whose result may be the list after it; "read", whose result is the
    list (a tuple, empty for no item).
    """
    complaints = []
    place = {}
    for index, element in enumerate(final):
        if element in place:
            complaints.append(f"{key}: {element} was applied twice: at {place[element]} and {index}")
        place[element] = index
    appends = {o.value: o for o in operations if o.kind == "append"}
    for element in final:
        if element not in appends:
            complaints.append(f"{key}: {element} was never written")
        elif appends[element].outcome == FAILED:
            complaints.append(f"{key}: {element} is there, and its writer was told that it failed")
    # Each operation is a point in the order of writes: (low, high): it took effect when the list had
    # at least `low` and at most `high` elements before it... of a read exactly its length.
    points = []
    for operation in operations:
        if operation.kind == "read":
            if operation.outcome != OK:
                continue
            seen = operation.result
            if tuple(final[:len(seen)]) != tuple(seen):
                complaints.append(f"{key}: a read saw what is no beginning of the final list: {operation!r}; "
                                  f"final {final!r}")
                continue
            points.append((operation, 2 * len(seen)))  # between write n-1 and n
        else:
            at = place.get(operation.value)
            if at is None:
                if operation.outcome == OK:
                    complaints.append(f"{key}: an acknowledged write is lost: {operation!r}")
                continue
            if operation.outcome == OK and operation.result is not None:
                if tuple(final[:at + 1]) != tuple(operation.result):
                    complaints.append(f"{key}: a write returned another list than it made: {operation!r}")
            points.append((operation, 2 * at + 1))
    # Whoever ended before another began must not stand behind it.
    ended = sorted(((o.end, point, o) for o, point in points if o.end is not None and o.outcome == OK),
                   key=lambda entry: entry[0])
    ends = [entry[0] for entry in ended]
    highest = []  # the operation with the greatest point among the first n that ended
    for entry in ended:
        highest.append(entry if not highest or entry[1] > highest[-1][1] else highest[-1])
    for operation, point in points:
        before = bisect_right(ends, operation.start) - 1
        # An operation that ended in the very instant is not before it.
        while before >= 0 and ends[before] >= operation.start:
            before -= 1
        if before >= 0 and highest[before][1] > point and highest[before][2] is not operation:
            complaints.append(f"{key}: {operation!r} (at {point / 2}) did not see {highest[before][2]!r} "
                              f"(at {highest[before][1] / 2}), which had ended before it began")
    return complaints


MISSING = None


def check_register(key, operations, limit=200_000):
    """Complaints about a register key: empty when some order of its operations explains every answer.

    Operations: "put" of `value`; "delete"; "swap" (put of `value` if the present value is `expected`;
    outcome FAILED with result "condition" when it was not); "read" with its result. An outcome UNKNOWN
    may take effect at any time after its start, or never. Other failures have no effect.
    """
    events = []
    for operation in operations:
        if operation.kind == "read" and operation.outcome != OK:
            continue
        if operation.outcome == FAILED and operation.result != "condition":
            continue
        events.append(operation)
    count = len(events)
    start = [o.start for o in events]
    end = [o.end if o.outcome != UNKNOWN else float("inf") for o in events]
    optional = [o.outcome == UNKNOWN for o in events]
    required = 0
    for index in range(count):
        if not optional[index]:
            required |= 1 << index

    def step(operation, value):
        """The value after it, or no tuple when its answer does not fit."""
        if operation.kind == "read":
            return (value,) if operation.result == value else None
        if operation.kind == "put":
            return (operation.value,)
        if operation.kind == "delete":
            return (MISSING,)
        holds = value == operation.expected
        if operation.outcome == UNKNOWN:
            return (operation.value,) if holds else (value,)
        if operation.outcome == OK:
            return (operation.value,) if holds else None
        return None if holds else (value,)

    seen = set()
    stack = [(0, MISSING)]
    tried = 0
    while stack:
        done, value = stack.pop()
        if done & required == required:
            return []
        if (done, value) in seen:
            continue
        seen.add((done, value))
        tried += 1
        if tried > limit:
            return [f"{key}: too many orders to try ({count} operations): shorten the histories"]
        horizon = min(end[i] for i in range(count) if not done >> i & 1)
        for index in range(count):
            if done >> index & 1 or start[index] > horizon:
                continue
            after = step(events[index], value)
            if after is not None:
                stack.append((done | 1 << index, after[0]))
    listing = "\n    ".join(map(repr, sorted(events, key=lambda o: o.start)))
    return [f"{key}: no order of these explains all answers:\n    {listing}"]
