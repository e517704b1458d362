"""The checkers themselves: they accept what one machine could do, and nothing else."""

from history import FAILED, OK, UNKNOWN, Operation, check_list, check_register


def op(kind, start, end, value=None, outcome=OK, result=None, expected=None):
    made = Operation(kind, value, expected)
    made.start, made.end, made.outcome, made.result = start, end, outcome, result
    return made


def test_lists_that_are_right():
    assert not check_list("k", [], ())
    assert not check_list("k", [
        op("append", 0, 1, "a"), op("append", 0.5, 2, "b"), op("read", 2, 3, result=("a", "b")),
        op("read", 0, 3, result=()), op("append", 3, None, "c", outcome=UNKNOWN)], ("a", "b"))
    assert not check_list("k", [op("append", 0, 1, "a", outcome=UNKNOWN)], ("a",))
    assert not check_list("k", [op("append", 0, 1, "a", outcome=FAILED)], ())
    assert not check_list("k", [op("append", 0, 5, "a"), op("read", 1, 2, result=("a",)),
                                op("read", 1, 3, result=())], ("a",))


def test_lists_that_are_wrong():
    a = op("append", 0, 1, "a")
    assert check_list("k", [a], ())  # lost
    assert check_list("k", [a], ("a", "a"))  # twice
    assert check_list("k", [a], ("a", "x"))  # phantom
    assert check_list("k", [op("append", 0, 1, "a", outcome=FAILED)], ("a",))
    assert check_list("k", [a, op("read", 2, 3, result=())], ("a",))  # stale read
    assert check_list("k", [a, op("read", 0, 1, result=("b",)), op("append", 0, 1, "b")], ("a", "b"))  # no prefix
    # In the list in another order than in time.
    assert check_list("k", [a, op("append", 2, 3, "b")], ("b", "a"))
    # One read saw it, a later one did not.
    assert check_list("k", [op("append", 0, 9, "a"), op("read", 1, 2, result=("a",)),
                            op("read", 3, 4, result=())], ("a",))
    # Unknown, never seen, and then seen by nobody's leave before it began.
    assert check_list("k", [op("read", 0, 1, result=("a",)),
                            op("append", 2, None, "a", outcome=UNKNOWN)], ("a",))
    assert check_list("k", [op("append", 0, 1, "a", result=("b", "a"))], ("a",))


def test_registers_that_are_right():
    assert not check_register("k", [op("put", 0, 1, "a"), op("read", 2, 3, result="a")])
    assert not check_register("k", [op("read", 0, 1, result=None), op("delete", 0, 1)])
    assert not check_register("k", [op("put", 0, 2, "a"), op("put", 1, 3, "b"), op("read", 4, 5, result="a")])
    # An unknown put that takes effect late.
    assert not check_register("k", [op("put", 0, 1, "a", outcome=UNKNOWN), op("put", 2, 3, "b"),
                                    op("read", 4, 5, result="b"), op("read", 6, 7, result="a")])
    assert not check_register("k", [op("put", 0, 1, "a"), op("swap", 2, 3, "b", expected="a"),
                                    op("swap", 4, 5, "c", expected="a", outcome=FAILED, result="condition"),
                                    op("read", 6, 7, result="b")])


def test_registers_that_are_wrong():
    assert check_register("k", [op("put", 0, 1, "a"), op("read", 2, 3, result=None)])
    assert check_register("k", [op("put", 0, 1, "a"), op("put", 2, 3, "b"), op("read", 4, 5, result="a")])
    assert check_register("k", [op("put", 0, 2, "a"), op("put", 1, 3, "b"), op("read", 4, 5, result="a"),
                                op("read", 6, 7, result="b")])
    assert check_register("k", [op("put", 0, 1, "a"), op("swap", 2, 3, "b", expected="x"),
                                op("read", 4, 5, result="b")])
    assert check_register("k", [op("put", 0, 1, "a"), op("delete", 2, 3), op("read", 4, 5, result="a")])
    # Two winners of one swap.
    assert check_register("k", [op("put", 0, 1, "a"), op("swap", 2, 5, "b", expected="a"),
                                op("swap", 2, 5, "c", expected="a")])
