"""`./x bench cluster`: three nodes, two coordinators, three etcd members and the client on one machine.

Durable writes and strong reads against a three-member etcd of its own in the same run, both through
HTTP JSON; then what an application sees of failovers, splits, moves and idle partitions. Prints tables
and writes docs/performance-cluster.md.
"""

import base64
import http.client
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.api import Api, ApiError  # noqa: E402
from support.cluster import Cluster  # noqa: E402

LOAD = ROOT / "build" / "release" / "tests" / "bench" / "onggi_load"
CONNECTIONS = (32, 128)
TABLES = 4  # of one partition each
KEYS = 10_000
VALUE = "x" * 100
CLOSE_IDLE_S = 20  # of the part "idle"
RESULTS = ROOT / "build" / "bench" / "cluster.json"


def load(endpoints, seconds, bodies, path="/", target="", keys=KEYS, connections=32, warmup=2.0):
    """Closed loops over all endpoints at once; the sum of rates, and the worst of the quantiles."""
    running = []
    for index, endpoint in enumerate(endpoints):
        host, port = endpoint.split("//")[-1].rsplit(":", 1)
        share = connections // len(endpoints) + (index < connections % len(endpoints))
        command = [LOAD, "--host", host, "--port", port, "--connections", share, "--duration", seconds,
                   "--warmup", warmup, "--path", path, "--keys", keys]
        if target:
            command += ["--target", f"DynamoDB_20120810.{target}"]
        for body in bodies:
            command += ["--body", body]
        running.append(subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True))
    results = []
    for process in running:
        out, err = process.communicate(timeout=seconds + warmup + 60)
        if process.returncode != 0:
            raise RuntimeError(f"load: {out}{err}")
        results.append(json.loads(out.strip().splitlines()[-1]))
    return {"rate": sum(r["requests_per_second"] for r in results),
            "p50": max(r["p50_us"] for r in results) / 1000, "p99": max(r["p99_us"] for r in results) / 1000}


def create_table(api, name, wait_s=60):
    api.CreateTable({"TableName": name, "BillingMode": "PAY_PER_REQUEST",
                     "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                     "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
    wait_active(api, name, wait_s)


def wait_active(api, name, wait_s=60):
    deadline = time.monotonic() + wait_s
    while api.DescribeTable(TableName=name)["Table"]["TableStatus"] != "ACTIVE":
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} is not ACTIVE")
        time.sleep(0.02)


def get_body(table):
    return json.dumps({"TableName": table, "Key": {"pk": {"S": "key{K}"}}, "ConsistentRead": True},
                      separators=(",", ":"))


def put_body(table):
    return json.dumps({"TableName": table, "Item": {"pk": {"S": "key{K}"}, "value": {"S": "{N}" + VALUE[:88]}}},
                      separators=(",", ":"))


# -- against etcd ----------------------------------------------------------------------------------

def etcd_bodies():
    """Keys and values as long as the items'; digits are base64 of something, whatever they are."""
    key = base64.b64encode(b"key").decode() + "{K}AAA"  # 4 + 4 digits + 3, padded below
    key += "A" * (-len(key.replace("{K}", "0000")) % 4)
    value = "{N}" + base64.b64encode(VALUE.encode()).decode()
    put = json.dumps({"key": key, "value": value}, separators=(",", ":"))
    read = json.dumps({"key": key}, separators=(",", ":"))  # linearizable is the default
    return put, read


def fill(api, etcd):
    """Every key that is read is there."""
    for number in range(TABLES):
        for start in range(0, KEYS, 25):
            requests = [{"PutRequest": {"Item": {"pk": {"S": f"key{i:04}"}, "value": {"S": VALUE}}}}
                        for i in range(start, start + 25)]
            while requests:
                answer = api.BatchWriteItem(RequestItems={f"bench{number}": requests})
                requests = answer["UnprocessedItems"].get(f"bench{number}")
    value = base64.b64encode(VALUE.encode()).decode()
    for start in range(0, KEYS, 100):
        puts = [{"requestPut": {"key": f"a2V5{i:04}AAAA", "value": value}} for i in range(start, start + 100)]
        request = urllib.request.Request(f"{etcd}/v3/kv/txn", data=json.dumps({"success": puts}).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["succeeded"]


def bench_etcd(cluster, rows, seconds, rounds):
    endpoints = [node.endpoint for node in cluster.nodes]
    api = Api(endpoints[0])
    for number in range(TABLES):
        create_table(api, f"bench{number}")
    put, read = etcd_bodies()
    puts = [put_body(f"bench{n}") for n in range(TABLES)]
    gets = [get_body(f"bench{n}") for n in range(TABLES)]
    eventual = [get.replace(',"ConsistentRead":true', "") for get in gets]
    peer = Cluster(nodes=0, coordinators=0, etcds=3)  # its own, so that it has nothing else to do
    try:
        for member in peer.etcd:
            member.start()
        for member in peer.etcd:
            peer.wait_healthy(member)
        etcds = [f"http://{member.endpoint}" for member in peer.etcd]
        fill(api, etcds[0])
        turns = {  # what: (where, bodies, path, operation)
            "onggi PutItem": (endpoints, puts, "/", "PutItem"),
            "etcd put": (etcds, [put], "/v3/kv/put", ""),
            "onggi GetItem, strong": (endpoints, gets, "/", "GetItem"),
            "etcd range, linearizable": (etcds, [read], "/v3/kv/range", ""),
            "onggi GetItem, eventually consistent": (endpoints, eventual, "/", "GetItem")}
        results = {}
        for connections in CONNECTIONS:
            for _ in range(rounds):
                for what, (where, bodies, path, target) in turns.items():
                    result = load(where, seconds, bodies, path, target, connections=connections)
                    results.setdefault((connections, what), []).append(result)
    finally:
        peer.close()
    tables = []
    for connections in CONNECTIONS:
        median = {what: {name: statistics.median(r[name] for r in results[connections, what])
                         for name in ("rate", "p50", "p99")} for what in turns}
        table = [f"| {connections} connections | requests/s | p50 ms | p99 ms |", "| --- | ---: | ---: | ---: |"]
        table += [f"| {what} | {m['rate']:,.0f} | {m['p50']:.2f} | {m['p99']:.2f} |" for what, m in median.items()]
        tables.append(table)
        for what, mine, theirs, wanted in (
                ("durable writes to etcd's", "onggi PutItem", "etcd put", 4),
                ("strong reads to etcd's", "onggi GetItem, strong", "etcd range, linearizable", 6)):
            ratio = median[mine]["rate"] / median[theirs]["rate"]
            rows.append((f"{what}, {connections} connections", f">= {wanted}x", f"{ratio:.1f}x", ratio >= wanted))
    return tables


# -- what an application sees ----------------------------------------------------------------------

class Writer(threading.Thread):
    """Puts without pause, one after the other, each within its own time; notes what happened."""

    def __init__(self, endpoints, table, key=None, pause_s=0.002):
        super().__init__(daemon=True)
        self.apis = [Api(endpoint, timeout_s=12) for endpoint in endpoints]
        self.table, self.key, self.pause_s = table, key, pause_s
        self.stopping = threading.Event()
        self.events = []  # (start, end, ok)

    def run(self):
        count = 0
        while not self.stopping.is_set():
            count += 1
            key = self.key or f"key{random.randrange(KEYS):04}"
            start = time.monotonic()
            try:
                answer = random.choice(self.apis).call("PutItem", {
                    "TableName": self.table,
                    "Item": {"pk": {"S": key}, "value": {"S": f"{count:012}{VALUE[:88]}"}}})
                ok = answer.status == 200
            except (OSError, http.client.HTTPException):
                ok = False
            self.events.append((start, time.monotonic(), ok))
            time.sleep(self.pause_s)

    def stop(self):
        self.stopping.set()
        self.join(60)
        return self

    def worst(self, since=0, until=float("inf")):
        """The longest that a write waited, for its error too: who waited in vain waited as well."""
        return max((end - start for start, end, _ in self.events if since <= start <= until), default=0)

    def p99(self, since=0, until=float("inf")):
        times = sorted(end - start for start, end, ok in self.events if ok and since <= start <= until)
        return times[int(len(times) * 0.99)] if times else 0

    def failed(self, since=0, until=float("inf")):
        return sum(1 for start, _, ok in self.events if not ok and since <= start <= until)


def partition_of(cluster, table):
    return cluster.admin("partition", "list", "--table", table)[0]


def node_of(cluster, number):
    """The Member that is node `number`, by its rpc address."""
    for node in cluster.admin("node", "list"):
        if node["id"] == number:
            return next(m for m in cluster.nodes if m.rpc == node["rpc_address"])
    raise KeyError(number)


def bench_failover(cluster, rows, count):
    """kill -9 of the primary: from the kill to the end of the next write that was accepted after it."""
    create_table(Api(cluster.nodes[0].endpoint), "failover")
    times = []
    for _ in range(count):
        primary = node_of(cluster, partition_of(cluster, "failover")["primary"])
        others = [node.endpoint for node in cluster.nodes if node is not primary]
        writers = [Writer([endpoint], "failover") for endpoint in others]
        for writer in writers:
            writer.start()
        time.sleep(0.5)
        killed = time.monotonic()
        primary.kill()
        deadline = killed + 20
        first = None
        while first is None and time.monotonic() < deadline:
            # A write that was on its way when the primary died counts when it was answered.
            ends = [end for writer in writers for start, end, ok in list(writer.events) if ok and end > killed + 0.05]
            first = min(ends, default=None)
            time.sleep(0.005)
        for writer in writers:
            writer.stop()
        times.append((first or deadline) - killed)
        primary.start()
        cluster.wait_ready(primary)
        wait_in_sync(cluster, "failover", 3)
    median, worst = statistics.median(times), max(times)
    rows.append(("kill -9 of a primary to the next write: median", "< 1.5 s", f"{median:.2f} s", median < 1.5))
    rows.append((f"the same, worst of {count}", "< 3 s", f"{worst:.2f} s", worst < 3))


def wait_in_sync(cluster, table, count, seconds=60):
    deadline = time.monotonic() + seconds
    while min(len(p["in_sync"]) for p in cluster.admin("partition", "list", "--table", table)) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{table}: not {count} in sync after {seconds} s")
        time.sleep(0.1)


def bench_backup(cluster, rows):
    """kill -9 of a backup: how long any write of the partition waits."""
    create_table(Api(cluster.nodes[0].endpoint), "backup")
    worst = failed = 0
    for _ in range(5):
        partition = partition_of(cluster, "backup")
        backup = node_of(cluster, next(n for n in partition["in_sync"] if n != partition["primary"]))
        primary = node_of(cluster, partition["primary"])
        writers = [Writer([primary.endpoint], "backup") for _ in range(8)]
        for writer in writers:
            writer.start()
        time.sleep(1)
        killed = time.monotonic()
        backup.kill()
        time.sleep(4)
        for writer in writers:
            writer.stop()
        worst = max(worst, *(writer.worst(killed - 1) for writer in writers))
        failed += sum(writer.failed(killed - 1) for writer in writers)
        backup.start()
        cluster.wait_ready(backup)
        wait_in_sync(cluster, "backup", 3)
    rows.append(("kill -9 of a backup: the longest that a write waits", "< 300 ms", f"{worst * 1000:.0f} ms",
                 worst < 0.3))
    rows.append(("the same: failed requests", "0", str(failed), failed == 0))


def bench_split(cluster, rows):
    endpoints = [node.endpoint for node in cluster.nodes]
    create_table(Api(endpoints[0]), "splitting")
    writers = [Writer(endpoints, "splitting", pause_s=0) for _ in range(8)]
    for writer in writers:
        writer.start()
    time.sleep(5)
    begin = time.monotonic()
    cluster.admin("partition", "split", partition_of(cluster, "splitting")["id"])
    while len(cluster.admin("partition", "list", "--table", "splitting")) < 2:
        if time.monotonic() > begin + 60:
            raise RuntimeError("the split did not happen")
        time.sleep(0.05)
    end = time.monotonic() + 2
    time.sleep(2)
    for writer in writers:
        writer.stop()
    failed = sum(writer.failed() for writer in writers)
    times = sorted(e - s for writer in writers for s, e, ok in writer.events if ok and begin <= s <= end)
    p99 = times[int(len(times) * 0.99)] * 1000
    rows.append(("a split under load: failed requests", "0", str(failed), failed == 0))
    rows.append(("p99 of writes during it", "< 300 ms", f"{p99:.0f} ms", p99 < 300))


def bench_move(cluster, rows, megabytes):
    """A replica moves to a node that has none of it while others write."""
    spare = cluster.add_node().start()  # before the tables: nothing is balanced for its sake later
    cluster.wait_ready(spare)
    endpoints = [node.endpoint for node in cluster.nodes]
    api = Api(endpoints[0])
    create_table(api, "moving")
    create_table(api, "foreground")
    size = 300_000
    count = megabytes * 1_000_000 // size

    def fill_part(start):
        filler = Api(endpoints[start % len(endpoints)], timeout_s=60)
        for i in range(start, count, 4):
            value = base64.b64encode(os.urandom(size * 3 // 4)).decode()  # it does not compress
            filler.PutItem(TableName="moving", Item={"pk": {"S": f"big{i:06}"}, "v": {"S": value}})

    in_threads(fill_part, 4)
    time.sleep(10)  # what flushes and compacts after that
    writers = [Writer(endpoints, "foreground", pause_s=0.005) for _ in range(4)]
    for writer in writers:
        writer.start()
    time.sleep(15)
    partition = partition_of(cluster, "moving")
    source = next(n for n in partition["in_sync"] if n != partition["primary"])
    target = next(n["id"] for n in cluster.admin("node", "list") if n["id"] not in partition["in_sync"])
    begin = time.monotonic()
    cluster.admin("partition", "move", partition["id"], "--from", source, "--to", target)
    while target not in partition_of(cluster, "moving")["in_sync"]:
        if time.monotonic() > begin + 300:
            raise RuntimeError("the move did not end")
        time.sleep(0.2)
    end = time.monotonic()
    for writer in writers:
        writer.stop()
    before = statistics.median(writer.p99(begin - 10, begin) for writer in writers)
    during = statistics.median(writer.p99(begin, end) for writer in writers)
    failed = sum(writer.failed() for writer in writers)
    rows.append((f"moving {megabytes / 1024:.1f} GB ({end - begin:.0f} s): p99 of others' writes to before", "<= 2x",
                 f"{during / before:.1f}x ({before * 1000:.1f} to {during * 1000:.1f} ms)", during <= 2 * before))
    rows.append(("the same: failed requests", "0", str(failed), failed == 0))


def in_threads(work, count):
    """work(0) to work(count - 1) at once; raises what the first of them raised."""
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(work, i) for i in range(count)]:
            future.result()


def bench_idle(cluster, rows, tables):
    """Partitions that exist and do nothing: CPU and memory of each node."""
    endpoints = [node.endpoint for node in cluster.nodes[:3]]

    def create(start):
        api = Api(endpoints[start % 3], timeout_s=60)
        for i in range(start, tables, 12):
            name = f"idle{i:05}"
            ask(api, "CreateTable", {
                "TableName": name, "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
            wait_active(api, name, 120)
            ask(api, "PutItem", {"TableName": name, "Item": {"pk": {"S": "a"}}})

    def ask(api, operation, body):
        """As an SDK would: what is throttled, or not done in time, is tried again."""
        for _ in range(300):
            answer = api.call(operation, body)
            if answer.status == 200 or answer.error_type == "ResourceInUseException":
                return
            time.sleep(0.2)
        raise ApiError(answer)

    in_threads(create, 12)
    time.sleep(CLOSE_IDLE_S + 25)  # and the work that closing them is
    before = [node.cpu_seconds() for node in cluster.nodes[:3]]
    time.sleep(20)
    used = max(node.cpu_seconds() - b for node, b in zip(cluster.nodes, before)) / 20
    memory = max(node.resident_mb() for node in cluster.nodes[:3])
    rows.append((f"{tables:,} idle partitions, closed after {CLOSE_IDLE_S} s (--close-idle): part of one core, "
                 "worst node", "< 5 %", f"{used * 100:.1f} %",
                 used < 0.05))
    rows.append(("the same: memory, worst node", "< 500 MB", f"{memory:.0f} MB", memory < 500))


PARTS = ("etcd", "failover", "backup", "split", "move", "idle")


def measure(part, cluster, arguments):
    """Runs one part on a cluster; returns its verdicts and tables."""
    rows, tables = [], []
    if part == "etcd":
        tables = bench_etcd(cluster, rows, arguments.seconds, arguments.rounds)
    elif part == "failover":
        bench_failover(cluster, rows, arguments.failovers)
    elif part == "backup":
        bench_backup(cluster, rows)
    elif part == "split":
        bench_split(cluster, rows)
    elif part == "move":
        bench_move(cluster, rows, arguments.megabytes)
    else:
        bench_idle(cluster, rows, arguments.tables)
    return {"rows": rows, "tables": tables, "commit": commit_now()}


def commit_now():
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                          text=True).stdout.strip()


def commits(results):
    """At which commit the parts were measured; at which each of them, when they are not of one."""
    parts = {}
    for part in PARTS:
        parts.setdefault(results[part].get("commit", "unknown"), []).append(part)
    if len(parts) == 1:
        return f"commit {next(iter(parts))}"
    return "commits " + "; ".join(f"{commit} ({', '.join(names)})" for commit, names in parts.items())


def document(results):
    """What the parts said last, in their order."""
    rows = [row for part in PARTS if part in results for row in results[part]["rows"]]
    lines = ["| figure | wanted | reached | |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {what} | {wanted} | {reached} | {'ok' if ok else '**missed**'} |"
              for what, wanted, reached, ok in rows]
    sections = ["\n".join(lines)]
    sections += ["\n".join(table) for part in PARTS for table in results.get(part, {"tables": []})["tables"]]
    return "\n\n".join(sections)


def main(arguments):
    os.environ.setdefault("ONGGI_BINARY", str(ROOT / "build" / "release" / "onggi"))
    parts = arguments.parts.split(",") if arguments.parts else list(PARTS)
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in parts:
        print(f"== {part}", flush=True)
        # One I/O thread each: three nodes share the cores with everything else.
        flags = ["--threads", "1"]
        if part == "idle":
            flags += ["--close-idle", f"{CLOSE_IDLE_S}s", "--memory", "256MB"]
        # Each has a cluster of its own, which nothing before it has left anything in.
        with Cluster(nodes=3, coordinators=2, node_arguments=flags) as cluster:
            measured = measure(part, cluster, arguments)
        print(document({part: measured}), flush=True)
        # One part may be measured again: the document has what each said last.
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[part] = measured
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results))
    if set(results) != set(PARTS):
        return 0
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    text = (f"# Performance of a cluster\n\nWritten by `./x bench cluster` at {commits(results)}: three nodes, two "
            "coordinators, three etcd members for them, three more to compare with, and the client, all on one "
            f"machine ({os.cpu_count()} cores, {memory:.0f} GB of memory, {platform.machine()}) and one disk. Values are of "
            "100 bytes, durability sync, three replicas; requests go to all nodes, or all members, in equal parts, so "
            "that two of three reach one that does not lead. Each node has one I/O thread. Ratios are what counts: absolute figures are this "
            f"machine's.\n\n{document(results)}\n")
    notes = ROOT / "docs" / "performance-cluster-notes.md"
    if notes.exists():
        text += "\n" + notes.read_text()
    (ROOT / "docs" / "performance-cluster.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit("run it as ./x bench cluster")
