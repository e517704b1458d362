"""`./x bench [api|grpc|start|large|all|cluster]`: Onggi against its peers and the floor, all in one run.

Every row compares servers that ran minutes apart on the same machine: the servers take turns for
ROUNDS rounds and a server's figure is its median. Prints tables and writes docs/performance.md.
"""

import argparse
import base64
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.server import Server  # noqa: E402

RELEASE = ROOT / "build" / "release"
LOAD = RELEASE / "tests" / "bench" / "onggi_load"
FLOOR = RELEASE / "tests" / "bench" / "onggi_floor"
NPM = ROOT / "build" / "npm-bench"
PEERS = {"amplify-dynamodb-simulator": "2.9.30", "dynalite": "4.0.0"}

CONNECTIONS = 32
KEYS = 10_000
COLLECTIONS = 500
VALUE = "x" * 100
AUTHORIZATION = ("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/dynamodb/"
                 "aws4_request, SignedHeaders=host;x-amz-date, Signature=" + "0" * 64)
HEADERS = {"Content-Type": "application/x-amz-json-1.0", "Authorization": AUTHORIZATION,
           "X-Amz-Date": "20260101T000000Z"}

BODIES = {
    "GetItem": {"TableName": "bench", "Key": {"pk": {"S": "key{K}"}}},
    "PutItem": {"TableName": "bench", # {N} never repeats: a put of what is there already would have nothing to log.
                "Item": {"pk": {"S": "key{K}"}, "value": {"S": "{N}" + VALUE[:88]}}},
    "UpdateItem": {"TableName": "bench", "Key": {"pk": {"S": "key{K}"}},
                   "UpdateExpression": "ADD hits :one",
                   "ExpressionAttributeValues": {":one": {"N": "1"}}},
    "Query": {"TableName": "bench_q", "KeyConditionExpression": "pk = :p",
              "ExpressionAttributeValues": {":p": {"S": "c{K}"}}, "Limit": 20},
}
KEY_RANGE = {"Query": COLLECTIONS}
TARGET_RATIO = {"GetItem": 6, "PutItem": 7, "UpdateItem": 9, "Query": 4}


def call(port, operation, body, timeout=120):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/", data=json.dumps(body).encode(),
        headers={**HEADERS, "X-Amz-Target": f"DynamoDB_20120810.{operation}"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.loads(answer.read())


def wait_for_port(port, process, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A peer started by command, stopped by its own process id."""

    def __init__(self, command, port):
        self.port = port
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_for_port(port, self.process)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Onggi:
    def __init__(self, arguments=()):
        self.server = Server(arguments=arguments)
        os.environ.setdefault("ONGGI_BINARY", str(RELEASE / "onggi"))
        self.server.start()
        self.port = int(self.server.endpoint.rsplit(":", 1)[1])

    def close(self):
        self.server.stop()
        self.server.close()


def install_peers():
    wanted = [f"{name}@{version}" for name, version in PEERS.items()]
    if all((NPM / "node_modules" / name).is_dir() for name in PEERS):
        return
    NPM.mkdir(parents=True, exist_ok=True)
    (NPM / "package.json").write_text('{"private": true}\n')
    subprocess.run(["npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund",
                    *wanted], cwd=NPM, check=True)


def start_dynamodb_local():
    emulator = NPM / "node_modules" / "amplify-dynamodb-simulator" / "emulator"
    port = free_port()
    return Process(["java", f"-Djava.library.path={emulator / 'DynamoDBLocal_lib'}", "-jar",
                    emulator / "DynamoDBLocal.jar", "-inMemory", "-sharedDb", "-port", port], port)


def start_dynalite():
    port = free_port()
    return Process(["node", NPM / "node_modules" / "dynalite" / "cli.js", "--port", port,
                    "--createTableMs", "0"], port)


def prepare(port):
    """The tables and items of the benchmark."""
    for name, sort in (("bench", False), ("bench_q", True)):
        schema = [{"AttributeName": "pk", "KeyType": "HASH"}]
        attributes = [{"AttributeName": "pk", "AttributeType": "S"}]
        if sort:
            schema.append({"AttributeName": "sk", "KeyType": "RANGE"})
            attributes.append({"AttributeName": "sk", "AttributeType": "S"})
        call(port, "CreateTable", {"TableName": name, "KeySchema": schema,
                                   "AttributeDefinitions": attributes,
                                   "BillingMode": "PAY_PER_REQUEST"})
        for _ in range(200):
            if call(port, "DescribeTable", {"TableName": name})["Table"]["TableStatus"] == "ACTIVE":
                break
            time.sleep(0.05)
    digits = len(str(KEYS - 1))
    items = [("bench", {"pk": {"S": f"key{i:0{digits}}"}, "value": {"S": VALUE}}) for i in range(KEYS)]
    digits = len(str(COLLECTIONS - 1))
    items += [("bench_q", {"pk": {"S": f"c{i:0{digits}}"}, "sk": {"S": f"{j:04}"}, "value": {"S": VALUE}})
              for i in range(COLLECTIONS) for j in range(20)]
    for start in range(0, len(items), 25):
        requests = {}
        for table, item in items[start:start + 25]:
            requests.setdefault(table, []).append({"PutRequest": {"Item": item}})
        call(port, "BatchWriteItem", {"RequestItems": requests})


def load(port, operation, seconds, body=None, connections=CONNECTIONS, warmup=1.0):
    body = json.dumps(body or BODIES[operation], separators=(",", ":"))
    arguments = [LOAD, "--port", port, "--connections", connections, "--duration", seconds,
                 "--warmup", warmup, "--target", f"DynamoDB_20120810.{operation}", "--body", body,
                 "--keys", KEY_RANGE.get(operation, KEYS)]
    for name, value in HEADERS.items():
        arguments += ["--header", f"{name}: {value}"]
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True,
                            timeout=seconds + warmup + 60)
    if result.returncode != 0:
        raise RuntimeError(f"{operation}: {result.stdout}{result.stderr}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def rate(result):
    return result["requests_per_second"]


def bench_api(seconds, rounds, with_peers):
    """{server: {operation: [results]}}"""
    servers = {"onggi": Onggi()}
    floor_file = tempfile.NamedTemporaryFile(prefix="onggi-floor-", dir=ROOT / "build")
    try:
        if with_peers:
            install_peers()
            servers["DynamoDB Local"] = start_dynamodb_local()
            servers["dynalite"] = start_dynalite()
        for server in list(servers.values()):
            prepare(server.port)
        port = free_port()
        servers["floor"] = Process([FLOOR, "--port", port, "--answer-bytes", "170"], port)
        port = free_port()
        servers["durable floor"] = Process(
            [FLOOR, "--port", port, "--answer-bytes", "2", "--durable", floor_file.name], port)
        results = {name: {} for name in servers}
        for operation in BODIES:
            for round_number in range(rounds):
                for name, server in servers.items():
                    if name == "floor" and operation not in ("GetItem",):
                        continue
                    if name == "durable floor" and operation not in ("PutItem",):
                        continue
                    # A JIT compiler needs it: what a developer runs for an hour is warm.
                    jit = name in ("DynamoDB Local", "dynalite") and round_number == 0
                    warmup = 8.0 if jit else 1.0
                    result = load(server.port, operation, seconds, warmup=warmup)
                    results[name].setdefault(operation, []).append(result)
                    print(f"  {operation:<11} {name:<15} {rate(result):>9.0f}/s  "
                          f"p50 {result['p50_us']:.0f}  p99 {result['p99_us']:.0f} us", flush=True)
        return results
    finally:
        floor_file.close()
        for server in servers.values():
            server.close()


def median(results, key):
    return statistics.median(result[key] for result in results)


def api_tables(results):
    lines = ["| operation | server | requests/s | p50 ms | p99 ms | Onggi is |",
             "| --- | --- | ---: | ---: | ---: | ---: |"]
    for operation in BODIES:
        own = median(results["onggi"][operation], "requests_per_second")
        for name, rows in results.items():
            if operation not in rows:
                continue
            theirs = median(rows[operation], "requests_per_second")
            ratio = "" if name == "onggi" else f"{own / theirs:.2f}x"
            lines.append(f"| {operation} | {name} | {theirs:,.0f} | "
                         f"{median(rows[operation], 'p50_us') / 1000:.2f} | "
                         f"{median(rows[operation], 'p99_us') / 1000:.2f} | {ratio} |")
    return lines


def verdicts(results):
    """Every figure the project set itself: (what, wanted, reached, ok)."""
    rows = []
    for operation, wanted in TARGET_RATIO.items():
        if "DynamoDB Local" not in results:
            continue
        ratio = (median(results["onggi"][operation], "requests_per_second") /
                 median(results["DynamoDB Local"][operation], "requests_per_second"))
        rows.append((f"{operation} to DynamoDB Local in memory", f"{wanted}x", f"{ratio:.1f}x", ratio >= wanted))
    of_floor = (median(results["onggi"]["GetItem"], "requests_per_second") /
                median(results["floor"]["GetItem"], "requests_per_second"))
    rows.append(("GetItem to the fixed-answer floor", "0.5x", f"{of_floor:.2f}x", of_floor >= 0.5))
    p99 = median(results["onggi"]["PutItem"], "p99_us") / 1000
    rows.append(("p99 of PutItem, durable", "3 ms", f"{p99:.2f} ms", p99 < 3))
    return rows


def resident_mb(pid, peak=False):
    """Resident memory now, or the most that it ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM" if peak else "VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def bench_start(rows):
    times = []
    for _ in range(5):
        server = Onggi()
        times.append(server.server.started_in_s * 1000)
        create = []
        for i in range(20):
            start = time.monotonic()
            call(server.port, "CreateTable", {
                "TableName": f"table{i}", "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
            create.append((time.monotonic() - start) * 1000)
        server.close()
    rows.append(("start to listening, empty directory", "150 ms", f"{max(times):.0f} ms", max(times) < 150))
    rows.append(("CreateTable, worst of 20", "20 ms", f"{max(create):.1f} ms", max(create) < 20))

    server = Onggi()
    time.sleep(2)
    idle = resident_mb(server.server.process.pid)
    rows.append(("memory when idle", "60 MB", f"{idle:.0f} MB", idle < 60))
    for i in range(500):
        call(server.port, "CreateTable", {
            "TableName": f"table{i:03}", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
    for i in range(500):
        call(server.port, "PutItem", {"TableName": f"table{i:03}", "Item": {"pk": {"S": "a"}}})
    used = resident_mb(server.server.process.pid)
    rows.append(("memory with 500 tables in use", "-", f"{used:.0f} MB", True))
    server.server.kill()
    start = time.monotonic()
    server.server.start()
    server.port = int(server.server.endpoint.rsplit(":", 1)[1])
    call(server.port, "GetItem", {"TableName": "table250", "Key": {"pk": {"S": "a"}}})
    took = (time.monotonic() - start) * 1000
    rows.append(("kill -9 to first answer, 500 tables", "1000 ms", f"{took:.0f} ms", took < 1000))
    server.close()


def bench_large(rows, gigabytes, memory_mb):
    """Loads a table through the API, watching memory, then scans it."""
    server = Onggi(["--memory", f"{memory_mb}MB"])
    pid = server.server.process.pid
    try:
        call(server.port, "CreateTable", {
            "TableName": "large", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]})
        time.sleep(0.2)
        item_bytes = 1_000
        wanted = int(gigabytes * 1e9 / (25 * item_bytes))
        sent = 0
        started = time.monotonic()
        while sent < wanted:
            # Half of each item does not compress, as real data: new random bytes for every round.
            body = {"RequestItems": {"large": [
                {"PutRequest": {"Item": {"pk": {"S": "k{N}-%02d" % i},
                                         "v": {"B": base64.b64encode(os.urandom(500)).decode()},
                                         "w": {"S": "abcdefghij" * 47}}}} for i in range(25)]}}
            arguments = [LOAD, "--port", server.port, "--connections", "8", "--duration", "3600",
                         "--warmup", "0", "--requests", min(4000, wanted - sent), "--target",
                         "DynamoDB_20120810.BatchWriteItem", "--body-file", write_body(body, sent)]
            for name, value in HEADERS.items():
                arguments += ["--header", f"{name}: {value}"]
            subprocess.run([str(a) for a in arguments], check=True, capture_output=True, timeout=900)
            sent += min(4000, wanted - sent)
        load_seconds = time.monotonic() - started
        count = 0
        token = None
        while True:
            request = {"TableName": "large"}
            if token:
                request["ExclusiveStartKey"] = token
            page = call_raw(server.port, "Scan", request)
            count += page[0]["Count"]
            token = page[0].get("LastEvaluatedKey")
            if not token:
                break
        seconds = page_seconds.pop("total")
        peak = resident_mb(pid, peak=True)
        total_bytes = count * item_bytes
        rows.append((f"load of {total_bytes / 1e9:.1f} GB", "-", f"{total_bytes / 1e6 / load_seconds:.0f} MB/s", True))
        rows.append((f"memory, --memory {memory_mb}MB, {total_bytes / 1e9:.1f} GB loaded and scanned",
                     f"{memory_mb + 100} MB", f"{peak:.0f} MB", peak < memory_mb + 100))
        speed = total_bytes / 1e6 / seconds
        rows.append(("Scan of it, item bytes, time in the server", "100 MB/s", f"{speed:.0f} MB/s", speed >= 100))
    finally:
        server.close()


page_seconds = {"total": 0.0}
BODY_FILE = Path(tempfile.gettempdir()) / f"onggi-bench-body-{os.getpid()}"


def write_body(body, start):
    """The load generator's {N} starts anew in every process: the round's number keeps keys apart."""
    text = json.dumps(body, separators=(",", ":")).replace("k{N}", f"k{start}.{{N}}")
    BODY_FILE.write_text(text)
    return BODY_FILE


def call_raw(port, operation, body):
    """(answer, bytes), the wait for the answer added to page_seconds: this client's own parsing is not
    the server's time."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/", data=json.dumps(body).encode(),
        headers={**HEADERS, "X-Amz-Target": f"DynamoDB_20120810.{operation}"})
    start = time.monotonic()
    with urllib.request.urlopen(request, timeout=120) as answer:
        raw = answer.read()
    page_seconds["total"] = page_seconds.get("total", 0.0) + time.monotonic() - start
    return json.loads(raw), len(raw)


def verdict_table(rows):
    lines = ["| figure | wanted | reached | |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {what} | {wanted} | {reached} | {'ok' if ok else '**missed**'} |"
              for what, wanted, reached, ok in rows]
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="?", default="all", choices=["api", "grpc", "start", "large", "all", "cluster"])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--memory-mb", type=int, default=1024)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--parts", default="", help="of cluster: a comma-separated choice of its parts")
    parser.add_argument("--failovers", type=int, default=50, help="of cluster: kills of a primary")
    parser.add_argument("--megabytes", type=int, default=1024, help="of cluster: the replica that moves")
    parser.add_argument("--tables", type=int, default=3000, help="of cluster: idle partitions")
    options = parser.parse_args()
    os.environ.setdefault("ONGGI_BINARY", str(RELEASE / "onggi"))
    if options.name == "cluster":
        import cluster
        return cluster.main(options)
    sections, rows = [], []
    if options.name in ("api", "all"):
        results = bench_api(options.seconds, options.rounds, not options.no_peers)
        sections.append(api_tables(results))
        rows += verdicts(results)
    if options.name in ("grpc", "all"):
        from grpc_bench import bench_grpc
        sections.append(bench_grpc(options.seconds, options.rounds))
    if options.name in ("start", "all"):
        bench_start(rows)
    if options.name in ("large", "all"):
        bench_large(rows, options.gigabytes, options.memory_mb)
    sections.insert(0, verdict_table(rows))
    text = "\n\n".join("\n".join(section) for section in sections)
    print("\n" + text)
    if options.name == "all" and not options.no_peers:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                                text=True).stdout.strip()
        header = (f"# Performance\n\nWritten by `./x bench` at commit {commit}: {CONNECTIONS} connections, "
                  f"100-byte values, durability sync, client and server on the same machine "
                  f"({os.cpu_count()} cores, {platform.machine()}); the servers took turns and each figure "
                  f"is the median of {options.rounds} rounds of {options.seconds:g} s. Ratios are what "
                  "counts: absolute figures are this machine's.\n\n")
        notes = ROOT / "docs" / "performance-notes.md"
        tail = "\n\n" + notes.read_text() if notes.exists() else "\n"
        (ROOT / "docs" / "performance.md").write_text(header + text + tail)
    BODY_FILE.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
