"""That the tools which break things do: a test of faults that do not happen passes always."""

import email.utils
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request

SLACK = float(os.environ.get("ONGGI_TIMING_SLACK", "1"))


def calendar_offset(node):
    """By how many seconds a node's calendar is before this machine's, from the date of an answer (whole
    seconds); None if it gives no answer."""
    try:
        with urllib.request.urlopen(node.admin + "/readyz", timeout=2) as answer:
            date = answer.headers["Date"]
    except urllib.error.HTTPError as answer:  # not ready, which is an answer too
        date = answer.headers["Date"]
    except OSError:
        return None
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()


def differs_by(node, seconds):
    """Whether a node's calendar is off by that much; None if it gives no answer."""
    asked = time.monotonic()
    offset = calendar_offset(node)
    if offset is None:
        return None
    # The date has no fractions, and was that of some time during the call.
    return abs(offset - seconds) <= 1.1 + (time.monotonic() - asked)


def round_trip(node):
    """Seconds that a connection to a node takes: one packet there and one back."""
    parts = urllib.parse.urlsplit(node.admin)
    begun = time.monotonic()
    socket.create_connection((parts.hostname, parts.port), timeout=10).close()
    return time.monotonic() - begun


def check_clock(node, set_clock):
    for seconds in (3600, -3600, 0):
        set_clock(node, seconds)
        assert differs_by(node, seconds), f"{node.name} is {calendar_offset(node)} s off, and not {seconds}"


def check_delay(network, node):
    network.delay(node.name, 300)
    slow = min(round_trip(node) for _ in range(2))
    network.heal()
    fast = min(round_trip(node) for _ in range(5))
    assert slow >= 0.3, f"a round trip with 300 ms of delay takes {slow:.3f} s"
    assert fast < 0.1 * SLACK, f"a round trip without delay takes {fast:.3f} s"
    return slow, fast


def check_loss(network, node):
    host = urllib.parse.urlsplit(node.admin).hostname
    network.lose(node.name, 0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(60):
            sender.sendto(b"nobody listens", (host, 9))
    time.sleep(0.1)
    lost = network.lost(node.name)
    network.heal()
    assert lost > 0, "of sixty packets none is lost, with a loss of one half"
    return lost


def check(cluster, set_clock):
    """On a cluster that is whole, once before the faults begin. Returns what was seen."""
    node = cluster.nodes[0]
    check_clock(node, set_clock)
    slow, fast = check_delay(cluster.network, node)
    lost = check_loss(cluster.network, node)
    return (f"clocks jump; a round trip takes {fast * 1000:.2f} ms, and {slow * 1000:.0f} ms with 300 ms of delay; "
            f"{lost} packets lost")
