"""kill -9 under concurrent writers, many times: nothing acknowledged is lost, nothing is half there.

Writers of four kinds run against one server whose process is killed at random moments and started
again over the same directory:

- puts: items with a rising version and a checksum over their content;
- counters: ADD on shared items; the count must lie between the acknowledged increments and those
  plus the increments whose outcome the crash left unknown;
- batches: 25 items a call, each carrying the call's number: every acknowledged call is complete;
- indexed: items of a table with three local indexes that are put, moved and deleted: index and
  table must agree, and both with what was acknowledged.

After every kill the time from starting the process to its first answer is taken; the worst is
printed and must stay under a second. ONGGI_CRASH_ROUNDS (100) and ONGGI_CRASH_SEED replay a run.
"""

import hashlib
import os
import random
import threading
import time

import pytest

from conftest import wait_active
from support.api import Api, N, S
from support.server import Server

ROUNDS = int(os.environ.get("ONGGI_CRASH_ROUNDS", "100"))
SEED = int(os.environ.get("ONGGI_CRASH_SEED", str(random.SystemRandom().randrange(1 << 30))))
BOUND_S = 1.0 * float(os.environ.get("ONGGI_TIMING_SLACK", "1"))
WRITERS = 16
ITEMS_PER_WRITER = 12


def checksum(text):
    return hashlib.md5(text.encode()).hexdigest()


class Unknown(Exception):
    """The connection broke: the write may or may not have happened."""


class Writer(threading.Thread):
    """Writes until told to stop; remembers per key what was acknowledged and what is unknown.

    Owns its keys, so that what it knows is exact. Survives restarts: `world.endpoint` names the
    current process.
    """

    def __init__(self, world, number):
        super().__init__(daemon=True)
        self.world = world
        self.number = number
        self.dice = random.Random(SEED * 1000 + number)
        self.api = None
        self.api_endpoint = None
        self.acknowledged = 0
        self.unknown = 0
        self.refused = []

    def call(self, operation, request):
        """True when acknowledged; Unknown when the connection broke."""
        endpoint = self.world.endpoint
        if endpoint is None:
            raise Unknown
        if endpoint != self.api_endpoint:
            self.api, self.api_endpoint = Api(endpoint, timeout_s=10), endpoint
        try:
            response = self.api.call(operation, request)
        except Exception as problem:  # noqa: BLE001 - any broken connection is an unknown outcome
            raise Unknown from problem
        if response.status == 200:
            self.acknowledged += 1
            return response
        self.refused.append(response)
        raise Unknown

    def run(self):
        while not self.world.finished.is_set():
            self.world.running.wait(0.05)
            if not self.world.running.is_set():
                continue
            try:
                self.step()
            except Unknown:
                self.unknown += 1
                time.sleep(0.002)

    def step(self):
        raise NotImplementedError

    def verify(self, api):
        raise NotImplementedError


class PutWriter(Writer):
    """One version after the other on its own keys; a key holds the last acknowledged version or a
    later one whose outcome is unknown."""

    def __init__(self, world, number):
        super().__init__(world, number)
        self.sure = {}
        self.tried = {}

    def step(self):
        key = f"put-{self.number}-{self.dice.randrange(ITEMS_PER_WRITER)}"
        version = self.tried.get(key, 0) + 1
        self.tried[key] = version
        text = f"{key}:{version}:" + "x" * self.dice.randrange(10, 3000)
        self.call("PutItem", {"TableName": "plain", "Item": {
            "pk": S(key), "version": N(version), "text": S(text), "sum": S(checksum(text))}})
        self.sure[key] = version

    def verify(self, api):
        for key, tried in self.tried.items():
            item = api.GetItem(TableName="plain", Key={"pk": S(key)}, ConsistentRead=True).get("Item")
            sure = self.sure.get(key, 0)
            if item is None:
                assert sure == 0, f"{key}: acknowledged version {sure} is gone"
                continue
            version = int(item["version"]["N"])
            assert sure <= version <= tried, f"{key}: version {version}, acknowledged {sure}, tried {tried}"
            assert item["sum"]["S"] == checksum(item["text"]["S"]), f"{key}: half an item"
            assert item["text"]["S"].startswith(f"{key}:{version}:"), f"{key}: parts of two versions"


class CounterWriter(Writer):
    """ADD on counters that all counter writers share; their sums are checked together."""

    def __init__(self, world, number):
        super().__init__(world, number)
        self.sure = {}
        self.maybe = {}

    def step(self):
        key = f"counter-{self.dice.randrange(4)}"
        self.maybe[key] = self.maybe.get(key, 0) + 1
        self.call("UpdateItem", {"TableName": "plain", "Key": {"pk": S(key)},
                                 "UpdateExpression": "ADD hits :one", "ReturnValues": "UPDATED_NEW",
                                 "ExpressionAttributeValues": {":one": N(1)}})
        self.maybe[key] -= 1
        self.sure[key] = self.sure.get(key, 0) + 1

    def verify(self, api):
        pass


class BatchWriter(Writer):
    """25 items a call over a fixed set of keys, each with the call's number."""

    def __init__(self, world, number):
        super().__init__(world, number)
        self.calls = 0
        self.sure = 0

    def step(self):
        self.calls += 1
        filler = "y" * self.dice.randrange(10, 400)
        response = self.call("BatchWriteItem", {"RequestItems": {"ranged": [
            {"PutRequest": {"Item": {"pk": S(f"batch-{self.number}"), "sk": N(i), "call": N(self.calls),
                                     "filler": S(filler)}}} for i in range(25)]}})
        if not response.json["UnprocessedItems"]:
            self.sure = self.calls

    def verify(self, api):
        page = api.Query(TableName="ranged", KeyConditionExpression="pk = :p", ConsistentRead=True,
                         ExpressionAttributeValues={":p": S(f"batch-{self.number}")})
        numbers = [int(i["call"]["N"]) for i in page["Items"]]
        if self.sure:
            assert len(numbers) == 25, f"batch-{self.number}: {len(numbers)} of 25 items"
        assert all(self.sure <= n <= self.calls for n in numbers), (
            f"batch-{self.number}: {sorted(set(numbers))}, acknowledged {self.sure}, tried {self.calls}")


class IndexedWriter(Writer):
    """Puts, moves and deletes its own items of the indexed table."""

    def __init__(self, world, number):
        super().__init__(world, number)
        self.possible = {}     # key -> every state it may be in: None or (a, b)

    def step(self):
        sk = self.dice.randrange(ITEMS_PER_WRITER)
        key = {"pk": S(f"indexed-{self.number}"), "sk": N(sk)}
        before = self.possible.setdefault(sk, {None})
        choice = self.dice.randrange(10)
        if choice < 2:
            wanted = None
            request = ("DeleteItem", {"TableName": "indexed", "Key": key})
        elif choice < 6:
            wanted = (self.dice.randrange(50), f"b{self.dice.randrange(50)}")
            request = ("PutItem", {"TableName": "indexed", "Item": {
                **key, "a": N(wanted[0]), "b": S(wanted[1]), "text": S("z" * self.dice.randrange(500))}})
        else:
            wanted = (self.dice.randrange(50), f"b{self.dice.randrange(50)}")
            request = ("UpdateItem", {"TableName": "indexed", "Key": key, "UpdateExpression": "SET a = :a, b = :b",
                                      "ExpressionAttributeValues": {":a": N(wanted[0]), ":b": S(wanted[1])}})
        self.possible[sk] = before | {wanted}
        self.call(*request)
        self.possible[sk] = {wanted}

    def verify(self, api):
        def read(index):
            request = {"TableName": "indexed", "KeyConditionExpression": "pk = :p", "ConsistentRead": True,
                       "ExpressionAttributeValues": {":p": S(f"indexed-{self.number}")}}
            if index:
                request["IndexName"] = index
            return {int(i["sk"]["N"]): i for i in api.Query(request)["Items"]}

        table = read(None)
        for sk, states in self.possible.items():
            item = table.get(sk)
            state = (int(item["a"]["N"]), item["b"]["S"]) if item else None
            assert state in states, f"indexed-{self.number}/{sk}: {state}, possible {states}"
        assert read("all_a") == table, "an ALL index differs from its table"
        for index, attribute in (("keys_b", "b"), ("keys_a", "a")):
            assert {sk: i[attribute] for sk, i in read(index).items()} == {
                sk: i[attribute] for sk, i in table.items()}, f"{index} differs from its table"


class World:
    """What the writers see: where the server is, and whether it is up."""

    def __init__(self):
        self.endpoint = None
        self.running = threading.Event()
        self.finished = threading.Event()


def create_tables(api):
    def definitions(**types):
        return [{"AttributeName": n, "AttributeType": t} for n, t in types.items()]

    pk, sk = {"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}
    api.CreateTable(TableName="plain", BillingMode="PAY_PER_REQUEST", KeySchema=[pk],
                    AttributeDefinitions=definitions(pk="S"))
    api.CreateTable(TableName="ranged", BillingMode="PAY_PER_REQUEST", KeySchema=[pk, sk],
                    AttributeDefinitions=definitions(pk="S", sk="N"))
    api.CreateTable(
        TableName="indexed", BillingMode="PAY_PER_REQUEST", KeySchema=[pk, sk],
        AttributeDefinitions=definitions(pk="S", sk="N", a="N", b="S"),
        LocalSecondaryIndexes=[
            {"IndexName": name, "Projection": {"ProjectionType": kind},
             "KeySchema": [pk, {"AttributeName": attribute, "KeyType": "RANGE"}]}
            for name, attribute, kind in (("all_a", "a", "ALL"), ("keys_a", "a", "KEYS_ONLY"),
                                          ("keys_b", "b", "KEYS_ONLY"))])
    for name in ("plain", "ranged", "indexed"):
        wait_active(api, name)


def verify(writers, api):
    for writer in writers:
        writer.verify(api)
        strange = [r for r in writer.refused if r.status != 500 and r.status != 503]
        assert not strange, f"a write was refused: {strange[0]}"
    counters = [w for w in writers if isinstance(w, CounterWriter)]
    for key in {k for w in counters for k in w.maybe}:
        sure = sum(w.sure.get(key, 0) for w in counters)
        maybe = sum(w.maybe.get(key, 0) for w in counters)
        item = api.GetItem(TableName="plain", Key={"pk": S(key)}, ConsistentRead=True).get("Item")
        hits = int(item["hits"]["N"]) if item else 0
        assert sure <= hits <= sure + maybe, f"{key}: {hits} hits, {sure} acknowledged, {maybe} unknown"


@pytest.mark.slow
def test_kill_9_loses_nothing():
    print(f"\nseed {SEED}; replay: ONGGI_CRASH_SEED={SEED} ONGGI_CRASH_ROUNDS={ROUNDS} "
          "python3 -m pytest -s tests/crash")
    dice = random.Random(SEED)
    server = Server()
    world = World()
    kinds = [PutWriter, CounterWriter, BatchWriter, IndexedWriter]
    writers = [kinds[i % len(kinds)](world, i) for i in range(WRITERS)]
    starts = []
    began = time.monotonic()
    try:
        server.start()
        create_tables(Api(server.endpoint))
        world.endpoint = server.endpoint
        world.running.set()
        for writer in writers:
            writer.start()
        for round_number in range(ROUNDS):
            time.sleep(dice.uniform(0.05, 0.6))
            assert server.running(), "the server died by itself:\n" + server.output()
            server.kill()
            world.running.clear()
            world.endpoint = None
            server.start()
            api = Api(server.endpoint)
            # The first answer about data: an item that was being written when the process died.
            api.GetItem(TableName="plain", Key={"pk": S("counter-0")}, ConsistentRead=True)
            starts.append(time.monotonic() - server.spawned_at)
            # Writers are quiet here: let those in the middle of a broken call notice.
            time.sleep(0.03)
            verify(writers, api)
            world.endpoint = server.endpoint
            world.running.set()
        world.finished.set()
        for writer in writers:
            writer.join(15)
        verify(writers, Api(server.endpoint))
        assert server.stop() == 0
        server.start()
        verify(writers, Api(server.endpoint))
        assert server.stop() == 0
    finally:
        world.finished.set()
        server.close()
    acknowledged = sum(w.acknowledged for w in writers)
    unknown = sum(w.unknown for w in writers)
    print(f"[figure] {ROUNDS} kills in {time.monotonic() - began:.0f} s; {acknowledged} writes acknowledged, "
          f"{unknown} unknown; back after {max(starts) * 1000:.0f} ms at worst, "
          f"{sorted(starts)[len(starts) // 2] * 1000:.0f} ms in the middle")
    assert acknowledged > ROUNDS * 20, "the writers wrote too little to prove anything"
    assert max(starts) < BOUND_S, f"back only after {max(starts):.2f} s"


@pytest.mark.slow
def test_kill_9_while_tables_come_and_go():
    """A table that was acknowledged is there; one whose deletion was acknowledged is not."""
    dice = random.Random(SEED + 1)
    rounds = max(3, ROUNDS // 10)
    server = Server()
    there, gone, maybe = set(), set(), set()
    try:
        for round_number in range(rounds):
            server.start()
            api = Api(server.endpoint, timeout_s=10)
            if round_number:
                names, request = set(), {}
                while True:
                    page = api.ListTables(request)
                    names |= set(page["TableNames"])
                    if "LastEvaluatedTableName" not in page:
                        break
                    request["ExclusiveStartTableName"] = page["LastEvaluatedTableName"]
                assert there <= names, f"lost: {there - names}"
                assert not (gone & names), f"came back: {gone & names}"
                for name in sorted(there):
                    assert api.Scan(TableName=name)["Count"] == 1
                    # A table of unknown state must be whole or absent.
                for name in sorted(maybe & names):
                    assert api.call("PutItem", {"TableName": name, "Item": {"pk": S("x")}}).status in (200, 400)
                maybe.clear()
            timer = threading.Timer(dice.uniform(0.02, 0.5), server.kill)
            timer.start()
            number = 0
            try:
                while True:
                    name = f"round{round_number}-{number}"
                    number += 1
                    maybe.add(name)
                    request = {"TableName": name, "BillingMode": "PAY_PER_REQUEST",
                               "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                               "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]}
                    assert api.call("CreateTable", request).status == 200
                    wait_active(api, name)
                    assert api.call("PutItem", {"TableName": name, "Item": {"pk": S("x")}}).status == 200
                    maybe.discard(name)
                    there.add(name)
                    if number % 3 == 0:
                        victim = dice.choice(sorted(there))
                        there.discard(victim)
                        maybe.add(victim)
                        assert api.call("DeleteTable", {"TableName": victim}).status == 200
                        while api.call("DescribeTable", {"TableName": victim}).status == 200:
                            pass
                        maybe.discard(victim)
                        gone.add(victim)
            except OSError:
                pass
            except Exception as problem:  # noqa: BLE001 - a torn answer is an unknown outcome as well
                if isinstance(problem, AssertionError):
                    raise
            timer.join()
        print(f"\n[figure] {rounds} kills; {len(there)} tables kept, {len(gone)} deleted for good")
    finally:
        server.close()
