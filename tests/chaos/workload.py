"""Clients that write, read and remember, while things break around them."""

import http.client
import random
import threading
import time
import urllib.parse

from history import FAILED, OK, UNKNOWN, Operation
from support.api import Api

# As long as the server tries within itself, and a little more.
CALL_TIMEOUT_S = 15
APPENDS_PER_KEY = 250
REGISTER_OPERATIONS = 24
UNKNOWN_PER_REGISTER = 4


class Client(threading.Thread):
    """Calls one operation after the other, each once: retries are the server's business here."""

    def __init__(self, number, workload):
        super().__init__(daemon=True, name=f"client{number}")
        self.number = number
        self.workload = workload
        self.random = random.Random(workload.seed * 1000 + number)
        self.apis = [Api(endpoint, timeout_s=CALL_TIMEOUT_S) for endpoint in workload.endpoints]
        self.counter = 0

    def run(self):
        while not self.workload.stopping.is_set():
            self.workload.pause.wait()
            choice = self.random.random()
            if choice < 0.35:
                self.append()
            elif choice < 0.6:
                self.read_list()
            elif choice < 0.95:
                self.register()
            else:
                self.query()

    def call(self, operation, request, api=None):
        """(outcome, response or None)"""
        api = api or self.random.choice(self.apis)
        try:
            response = api.call(operation, request)
        except ConnectionRefusedError:
            time.sleep(0.02)
            return FAILED, None
        except (OSError, http.client.HTTPException):
            return UNKNOWN, None
        if response.status == 200:
            return OK, response.json
        if response.status == 400:
            return FAILED, response
        return UNKNOWN, response

    def fresh(self):
        self.counter += 1
        return f"{self.number}-{self.counter}"

    def append(self):
        key = self.workload.list_key(self.random)
        value = self.fresh()
        operation = self.workload.lists.begin(key, Operation("append", value, client=self.number))
        outcome, answer = self.call("UpdateItem", {
            "TableName": self.workload.table, "Key": self.workload.key_of(key),
            "UpdateExpression": "SET l = list_append(if_not_exists(l, :none), :one)",
            "ExpressionAttributeValues": {":none": {"L": []}, ":one": {"L": [{"S": value}]}},
            "ReturnValues": "ALL_NEW"})
        result = elements(answer["Attributes"]) if outcome == OK else None
        self.workload.lists.finish(operation, outcome, result)
        self.workload.note(outcome, operation, answer)

    def read_list(self):
        key = self.workload.list_key(self.random)
        operation = self.workload.lists.begin(key, Operation("read", client=self.number))
        outcome, answer = self.call("GetItem", {
            "TableName": self.workload.table, "Key": self.workload.key_of(key), "ConsistentRead": True})
        result = elements(answer.get("Item", {})) if outcome == OK else None
        self.workload.lists.finish(operation, outcome, result)
        self.workload.note(outcome, operation, answer)

    def query(self):
        """One strong Query over a whole item collection: a read of each of its lists."""
        collection = self.random.randrange(self.workload.collections)
        keys = self.workload.keys_of(collection)
        operations = {key: self.workload.lists.begin(key, Operation("read", client=self.number))
                      for key in keys}
        request = {"TableName": self.workload.table, "ConsistentRead": True,
                   "KeyConditionExpression": "pk = :pk",
                   "ExpressionAttributeValues": {":pk": {"S": f"list{collection}"}}}
        items = {}
        while True:
            outcome, answer = self.call("Query", request)
            if outcome != OK:
                break
            for item in answer["Items"]:
                items[(item["pk"]["S"], item["sk"]["S"])] = elements(item)
            if "LastEvaluatedKey" not in answer:
                break
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        for key, operation in operations.items():
            self.workload.lists.finish(operation, outcome, items.get(key, ()) if outcome == OK else None)
        self.workload.note(outcome, operation, answer)

    def register(self):
        key = self.workload.register_key(self.random)
        kind = self.random.choices(["put", "delete", "swap", "read"], [4, 1, 3, 6])[0]
        name = {"TableName": self.workload.table, "Key": self.workload.key_of(key)}
        operation = Operation(kind, client=self.number)
        if kind in ("put", "swap"):
            operation.value = self.fresh()
        history = self.workload.registers
        if kind == "swap":
            operation.expected = self.workload.last_seen.get(key)
        history.begin(key, operation)
        if kind == "read":
            outcome, answer = self.call("GetItem", {**name, "ConsistentRead": True})
        elif kind == "delete":
            outcome, answer = self.call("DeleteItem", name)
        else:
            request = {"TableName": self.workload.table,
                       "Item": {**self.workload.key_of(key), "v": {"S": operation.value}}}
            if kind == "swap" and operation.expected is None:
                request["ConditionExpression"] = "attribute_not_exists(pk)"
            elif kind == "swap":
                request["ConditionExpression"] = "v = :v"
                request["ExpressionAttributeValues"] = {":v": {"S": operation.expected}}
            outcome, answer = self.call("PutItem", request)
        result = None
        if outcome == FAILED and answer is not None and \
                answer.error_type == "ConditionalCheckFailedException":
            result = "condition"
        if kind == "read" and outcome == OK:
            result = answer.get("Item", {}).get("v", {}).get("S")
            self.workload.last_seen[key] = result
        history.finish(operation, outcome, result)
        self.workload.count_register(key, outcome)
        self.workload.note(outcome, operation, answer)


def elements(item):
    return tuple(e["S"] for e in item.get("l", {}).get("L", []))


class Workload:
    """`clients` threads over list and register keys of one table; keys are retired when they are long.

    A list key is (partition key, sort key); several share an item collection, so that a split may run
    through one.
    """

    def __init__(self, endpoints, table="chaos", clients=8, collections=6, seed=1):
        from history import History
        self.endpoints = endpoints
        self.table = table
        self.seed = seed
        self.collections = collections
        self.lists, self.registers = History(), History()
        self.last_seen = {}
        self.stopping = threading.Event()
        self.pause = threading.Event()
        self.pause.set()
        self._lock = threading.Lock()
        self._generation = [[0] * 4 for _ in range(collections)]
        self._register_counts = {}
        self._register_generation = [0] * 12
        self.timeline = []  # (when, latency, outcome, kind)
        self.refusals = {}
        self.clients = [Client(i, self) for i in range(clients)]

    def create_table(self, replication=None):
        api = Api(self.endpoints[0], timeout_s=30)
        request = {"TableName": self.table, "BillingMode": "PAY_PER_REQUEST",
                   "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"},
                                 {"AttributeName": "sk", "KeyType": "RANGE"}],
                   "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"},
                                            {"AttributeName": "sk", "AttributeType": "S"}]}
        deadline = time.monotonic() + 60
        while True:
            response = api.call("CreateTable", request)
            if response.status == 200 or response.error_type == "ResourceInUseException":
                break
            assert time.monotonic() < deadline, response
            time.sleep(0.2)
        # Each node hears of it by a watch of its own, a moment after it is ACTIVE on one.
        for api in [Api(endpoint, timeout_s=30) for endpoint in self.endpoints]:
            while True:
                response = api.call("DescribeTable", {"TableName": self.table})
                if response.status == 200 and response.json["Table"]["TableStatus"] == "ACTIVE":
                    break
                assert time.monotonic() < deadline, "the table did not become ACTIVE"
                time.sleep(0.1)

    # -- keys --------------------------------------------------------------------------------

    @staticmethod
    def key_of(key):
        return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}

    def list_key(self, rng):
        collection, slot = rng.randrange(self.collections), rng.randrange(4)
        with self._lock:
            key = (f"list{collection}", f"{slot}-{self._generation[collection][slot]}")
            if len(self.lists.keys.get(key, ())) > 2 * APPENDS_PER_KEY:
                self._generation[collection][slot] += 1
                key = (f"list{collection}", f"{slot}-{self._generation[collection][slot]}")
        return key

    def keys_of(self, collection):
        with self._lock:
            return [(f"list{collection}", f"{slot}-{generation}")
                    for slot, generation in enumerate(self._generation[collection])]

    def register_key(self, rng):
        slot = rng.randrange(len(self._register_generation))
        with self._lock:
            return (f"register{slot}", f"{self._register_generation[slot]}")

    def count_register(self, key, outcome):
        slot = int(key[0][8:])
        with self._lock:
            counts = self._register_counts.setdefault(key, [0, 0])
            counts[0] += 1
            counts[1] += outcome == UNKNOWN
            if (counts[0] >= REGISTER_OPERATIONS or counts[1] >= UNKNOWN_PER_REGISTER) and \
                    key[1] == f"{self._register_generation[slot]}":
                self._register_generation[slot] += 1

    def note(self, outcome, operation, answer):
        with self._lock:
            self.timeline.append((operation.start, operation.end - operation.start, outcome, operation.kind))
            if outcome != OK and answer is not None and hasattr(answer, "error_type"):
                reason = f"{answer.status} {answer.error_type}: {answer.message}"
                if answer.error_type != "ConditionalCheckFailedException":
                    # How often, and when first and last, in seconds from the start.
                    count, first, _ = self.refusals.get(reason, (0, operation.end, None))
                    self.refusals[reason] = (count + 1, first, operation.end)

    # -- running -----------------------------------------------------------------------------

    def start(self):
        self.begun = time.monotonic()
        for client in self.clients:
            client.start()

    def stop(self):
        self.stopping.set()
        self.pause.set()
        for client in self.clients:
            client.join(CALL_TIMEOUT_S * 3)
            assert not client.is_alive(), f"{client.name} hangs"

    def verdict(self, settle_s=30):
        """Reads every list at the end, strongly, and checks everything. Returns the complaints."""
        from history import check_list, check_register
        complaints = []
        apis = [Api(endpoint, timeout_s=CALL_TIMEOUT_S) for endpoint in self.endpoints]
        def final(key):
            deadline = time.monotonic() + settle_s
            while True:
                try:
                    response = random.choice(apis).call("GetItem", {
                        "TableName": self.table, "Key": self.key_of(key), "ConsistentRead": True})
                    if response.status == 200:
                        return response.json.get("Item", {})
                    reason = repr(response)
                except (OSError, http.client.HTTPException) as error:
                    reason = repr(error)
                assert time.monotonic() < deadline, f"{key} cannot be read at the end: {reason}"
                time.sleep(0.2)

        for key, operations in sorted(self.lists.keys.items()):
            complaints += check_list(key, operations, elements(final(key)))
        for key, operations in sorted(self.registers.keys.items()):
            last = self.registers.begin(key, Operation("read", client="the end"))
            self.registers.finish(last, OK, final(key).get("v", {}).get("S"))
            complaints += check_register(key, operations)
        return complaints

    def disagreements(self):
        """What replicas hold that their primaries do not, or otherwise; to be asked when all is quiet.

        A node reads from its own replicas what need not be consistent, so that scans through all of
        them are scans of all replicas.
        """
        def scan(endpoint, consistent):
            items, request = {}, {"TableName": self.table, "ConsistentRead": consistent}
            api = Api(endpoint, timeout_s=CALL_TIMEOUT_S)
            while True:
                page = api.Scan(request)
                for item in page["Items"]:
                    key = (item["pk"]["S"], item["sk"]["S"])
                    assert key not in items, f"{key} twice in one scan"
                    items[key] = item
                if "LastEvaluatedKey" not in page:
                    return items
                request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

        truth = scan(self.endpoints[0], True)
        complaints = []
        for endpoint in self.endpoints:
            for consistent in (True, False):
                seen = scan(endpoint, consistent)
                wrong = sorted(key for key in truth.keys() | seen.keys() if truth.get(key) != seen.get(key))
                complaints += [f"{endpoint}, consistent {consistent}: {key} is {seen.get(key)}, "
                               f"and should be {truth.get(key)}" for key in wrong[:3]]
        return complaints

    def summary(self):
        outcomes = {}
        for _, _, outcome, _ in self.timeline:
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        latencies = sorted(latency for _, latency, outcome, _ in self.timeline if outcome == OK)
        p99 = latencies[int(len(latencies) * 0.99)] if latencies else 0
        worst = latencies[-1] if latencies else 0
        refusals = {reason: (count, round(first - self.begun, 1), round(last - self.begun, 1))
                    for reason, (count, first, last) in self.refusals.items()}
        return (f"{len(self.timeline)} operations on {len(self.lists.keys)} lists and "
                f"{len(self.registers.keys)} registers: {outcomes}; p99 {p99 * 1000:.0f} ms, "
                f"worst {worst * 1000:.0f} ms; refusals (times, first and last s) {refusals}")

    def longest_gap(self, since, until):
        """The longest time within [since, until] in which no call ended well."""
        ends = sorted(start + latency for start, latency, outcome, _ in self.timeline
                      if outcome == OK and since <= start + latency <= until)
        points = [since, *ends, until]
        return max(b - a for a, b in zip(points, points[1:]))
