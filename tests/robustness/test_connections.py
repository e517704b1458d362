"""Ten thousand idle clients, slow ones, rude ones: the rest are served as if they were not there."""

import concurrent.futures
import os
import resource
import socket
import statistics
import struct
import threading
import time

import pytest

from conftest import wait_active
from support import wire
from support.api import Api, N, S
from support.server import Server

IDLE = int(os.environ.get("ONGGI_IDLE_CONNECTIONS", "10000"))


@pytest.fixture(scope="module", autouse=True)
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def table(api, name="items", **extra):
    api.CreateTable(TableName=name, BillingMode="PAY_PER_REQUEST", **{
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}], **extra})
    wait_active(api, name)
    return name


def latencies(api, count=300):
    taken = []
    for i in range(count):
        start = time.monotonic()
        api.PutItem(TableName="items", Item={"pk": S(str(i)), "n": N(i)})
        api.GetItem(TableName="items", Key={"pk": S(str(i))}, ConsistentRead=True)
        taken.append((time.monotonic() - start) * 1000)
    return taken


@pytest.mark.slow
def test_ten_thousand_idle_connections():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = min(IDLE, hard - 500)
    with Server() as server:
        api = Api(server.endpoint)
        table(api)
        latencies(api, 100)
        alone = latencies(api)
        before_kib = server.resident_kib()
        idle = []
        try:
            for i in range(wanted):
                connection = wire.connect(server)
                if i % 10 == 0:     # some have spoken before they fell silent
                    connection.sendall(wire.request("ListTables", {}))
                    assert wire.Reader(connection).response()[0] == 200
                idle.append(connection)
            among = latencies(api)
            grown = (server.resident_kib() - before_kib) / 1024
            print(f"\n[figure] {wanted} idle connections: +{grown:.0f} MB, put+get median "
                  f"{statistics.median(alone):.2f} ms alone, {statistics.median(among):.2f} ms among them")
            assert statistics.median(among) < max(5 * statistics.median(alone), 20)
            assert grown < wanted * 16 / 1024 + 50, "an idle connection takes more than 16 KB"
            # The silent ones are still there.
            for connection in idle[:: max(1, wanted // 50)]:
                connection.sendall(wire.request("ListTables", {}))
                assert wire.Reader(connection).response()[0] == 200
        finally:
            for connection in idle:
                connection.close()
        deadline = time.monotonic() + 10
        while server.open_files() > 300 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert server.open_files() <= 300, "connections of clients that left are still open"
        assert server.stop() == 0


def test_past_the_connection_limit():
    """One too many is refused or waits; those within the limit are served."""
    with Server(arguments=["--max-connections", "50"]) as server:
        held = [wire.connect(server) for _ in range(50)]
        for connection in held[:5]:
            connection.sendall(wire.request("ListTables", {}))
            assert wire.Reader(connection).response()[0] == 200
        over = [wire.connect(server, timeout_s=2) for _ in range(20)]
        for connection in held[5:10]:
            connection.sendall(wire.request("ListTables", {}))
            assert wire.Reader(connection).response()[0] == 200
        for connection in held + over:
            connection.close()
        deadline = time.monotonic() + 5
        while True:
            try:
                assert Api(server.endpoint, timeout_s=2).call("ListTables", {}).status == 200
                break
            except OSError:
                assert time.monotonic() < deadline, "no room although everyone left"
        assert server.stop() == 0


def drip(connection, data, seconds):
    """Sends a byte at a time over the given time; returns when done or refused."""
    pause = seconds / max(1, len(data))
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(pause)


def test_slow_loris():
    """Headers and bodies that never end are cut off in time; a patient server is a full server."""
    with Server(arguments=["--header-timeout", "1s", "--body-timeout", "1s", "--idle-timeout", "3s"]) as server:
        api = Api(server.endpoint)
        heads = [wire.connect(server) for _ in range(100)]
        bodies = [wire.connect(server) for _ in range(100)]
        silent = [wire.connect(server) for _ in range(20)]
        request = wire.request("ListTables", "{" + " " * 4000 + "}")
        cut = request.index(b"\r\n\r\n") + 4
        for connection in bodies:
            connection.sendall(request[:cut + 10])

        def slow(connection, data):
            threading.Thread(target=drip, args=(connection, data, 30), daemon=True).start()

        for connection in heads:
            slow(connection, request[:cut - 2])
        for connection in bodies:
            slow(connection, request[cut + 10:cut + 200])
        start = time.monotonic()
        taken = []
        for _ in range(50):
            begin = time.monotonic()
            assert api.call("ListTables", {}).status == 200
            taken.append((time.monotonic() - begin) * 1000)
        assert statistics.median(taken) < 50
        for kind, connections, bound in (("headers", heads, 6), ("bodies", bodies, 6), ("silent", silent, 9)):
            for connection in connections:
                assert wire.Reader(connection).closed(max(0.1, start + bound - time.monotonic())), \
                    f"a client with slow {kind} is still connected after {bound} s"
        # A connection between requests may rest for the idle time, not for the header time.
        connection = wire.connect(server)
        reader = wire.Reader(connection)
        connection.sendall(wire.request("ListTables", {}))
        assert reader.response()[0] == 200
        time.sleep(1.6)
        connection.sendall(wire.request("ListTables", {}))
        assert reader.response()[0] == 200
        assert server.stop() == 0


def fill(api, name="big"):
    table(api, name, KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"},
                                {"AttributeName": "sk", "KeyType": "RANGE"}],
          AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"},
                                {"AttributeName": "sk", "AttributeType": "N"}])
    for i in range(12):
        api.PutItem(TableName=name, Item={"pk": S("p"), "sk": N(i), "v": S("x" * 100_000)})
    return wire.request("Query", {"TableName": name, "KeyConditionExpression": "pk = :p",
                                  "ExpressionAttributeValues": {":p": S("p")}})


def test_clients_that_vanish_in_the_middle_of_an_answer():
    with Server() as server:
        api = Api(server.endpoint)
        request = fill(api)
        assert api.call("ListTables", {}).status == 200
        files = server.open_files()
        for i in range(300):
            connection = wire.connect(server)
            connection.sendall(request * (1 + i % 3))
            if i % 2:
                connection.recv(1000)
            # Reset rather than an orderly close.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        deadline = time.monotonic() + 5
        while server.open_files() > files + 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.open_files() <= files + 5
        assert api.call("ListTables", {}).status == 200
        assert server.stop() == 0


def test_clients_that_do_not_read():
    """Their answers stay within bounds and they are cut off; memory does not grow with them."""
    with Server(arguments=["--write-timeout", "2s"]) as server:
        api = Api(server.endpoint)
        request = fill(api)
        api.call("ListTables", {})
        before = server.resident_kib()
        rude = []
        for _ in range(40):
            connection = wire.connect(server)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request * 50)    # 60 MB of answers each, if the server let them
            rude.append(connection)
        time.sleep(1)
        grown = (server.resident_kib() - before) / 1024
        print(f"\n[figure] 40 clients that do not read 2.4 GB of answers: +{grown:.0f} MB")
        assert grown < 40 * 6 + 60
        assert api.call("ListTables", {}).status == 200
        deadline = time.monotonic() + 10
        while server.open_files() > 60 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert server.open_files() <= 60, "clients that do not read are still connected"
        for connection in rude:
            connection.close()
        assert server.stop() == 0


def test_sigterm_drains():
    """Requests under way are answered; what was acknowledged is there; new connections are refused."""
    server = Server()
    try:
        server.start()
        api = Api(server.endpoint)
        table(api)
        outcomes = []
        stop = threading.Event()

        def write(worker):
            mine = Api(server.endpoint, timeout_s=10)
            number = 0
            while not stop.is_set():
                key = f"{worker}-{number}"
                number += 1
                try:
                    status = mine.call("PutItem", {"TableName": "items", "Item": {"pk": S(key)}}).status
                except OSError:
                    return
                except Exception:  # noqa: BLE001 - a closed connection between requests
                    return
                outcomes.append((key, status))

        threads = [threading.Thread(target=write, args=(w,)) for w in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        begin = time.monotonic()
        assert server.stop() == 0
        print(f"\n[figure] SIGTERM under load: down after {(time.monotonic() - begin) * 1000:.0f} ms, "
              f"{len(outcomes)} writes answered")
        stop.set()
        for thread in threads:
            thread.join(10)
        assert all(status in (200, 500, 503) for _, status in outcomes)
        acknowledged = [k for k, status in outcomes if status == 200]
        server.start()
        api = Api(server.endpoint)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda k: "Item" in api.GetItem(
                TableName="items", Key={"pk": S(k)}, ConsistentRead=True), acknowledged))
        assert all(found) and len(found) > 50
        assert server.stop() == 0
    finally:
        server.close()


def test_idle_connections_do_not_hold_up_a_stop():
    with Server() as server:
        held = [wire.connect(server) for _ in range(100)]
        half = wire.connect(server)
        half.sendall(wire.request("ListTables", "{" + " " * 100)[:-50])
        begin = time.monotonic()
        assert server.stop(15) == 0
        took = time.monotonic() - begin
        print(f"\n[figure] stop with 101 idle connections: {took * 1000:.0f} ms")
        assert took < 10
        for connection in held + [half]:
            connection.close()
