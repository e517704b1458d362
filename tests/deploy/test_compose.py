"""The containers of deploy/docker-compose.yml, started by `./x cluster`: served through every node, and
killed one after the other under load.

Needs a Docker daemon and fails without one. ONGGI_DEPLOY_BUILD=1 builds the program in the container, as
a user does (ten minutes of two cores); otherwise ONGGI_BINARY is put into the image. The cluster has a
project name of its own, but the usual ports: a `./x cluster` that runs must be stopped first.
"""

import collections
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import pytest

from support import prometheus
from support.server import binary

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "onggi-test"
NODES = ["node1", "node2", "node3"]
KEY_PAIR = ("tester", "tester-secret")
AUTHORITY = ROOT / "deploy" / "tls" / "node1" / "ca.crt"  # made by the first start
# Longest time without any accepted write while something is dead, through the nodes that live.
LONGEST_GAP_S = 10 * float(os.environ.get("ONGGI_TIMING_SLACK", "1"))


def docker(*arguments, check=True):
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def environment():
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ONGGI_", "COMPOSE_"))}
    return {**clean, "COMPOSE_PROJECT_NAME": PROJECT, "ONGGI_CREDENTIALS": ":".join(KEY_PAIR)}


def x_cluster(*arguments, timeout_s=300):
    """`./x cluster ...`; what it printed."""
    done = subprocess.run([ROOT / "x", "cluster", *arguments], capture_output=True, text=True,
                          env=environment(), timeout=timeout_s)
    assert done.returncode == 0, f"./x cluster {' '.join(arguments)}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def container(service):
    found = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}",
                   "--filter", f"label=com.docker.compose.service={service}").split()
    assert len(found) == 1, (service, found)
    return found[0]


def inspect(service):
    return json.loads(docker("inspect", container(service)))[0]


def health(service):
    return inspect(service)["State"].get("Health", {}).get("Status")


def eventually(condition, seconds, complaint):
    prometheus.Prometheus.wait(condition, seconds, complaint)


def client(number, **config):
    """An AWS client of node `number`, with the SDK's default retries."""
    settings = {"connect_timeout": 2, "read_timeout": 20, **config}
    return boto3.client("dynamodb", endpoint_url=f"https://127.0.0.1:800{number}", region_name="us-east-1",
                        verify=str(AUTHORITY), aws_access_key_id=KEY_PAIR[0], aws_secret_access_key=KEY_PAIR[1],
                        config=botocore.config.Config(**settings))


@pytest.fixture(scope="module")
def stack():
    building = os.environ.get("ONGGI_DEPLOY_BUILD") == "1"
    program = [] if building else ["--program", str(binary())]
    x_cluster("down", "--volumes")
    try:
        printed = x_cluster("up", *program, timeout_s=3600 if building else 900)
        yield printed
    finally:
        x_cluster("down", "--volumes")


@pytest.fixture(scope="module")
def metrics(stack):
    return prometheus.Prometheus("http://127.0.0.1:9090")


@pytest.fixture(scope="module")
def table(stack):
    dynamo = client(1)
    dynamo.create_table(TableName="items", BillingMode="PAY_PER_REQUEST",
                        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}])
    for number in (1, 2, 3):
        client(number).get_waiter("table_exists").wait(TableName="items", WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return "items"


class Writers:
    """Threads that put new items through one node each, and go to the next when theirs does not answer."""

    def __init__(self, count=3):
        self.stopping = threading.Event()
        self.deadline = time.monotonic() + 600
        self.acknowledged = []  # keys; list.append is atomic
        self.times = []
        self.refused = []
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        # One try per call: whoever is behind several addresses goes on to the next.
        clients = [client(i, retries={"total_max_attempts": 1}) for i in (1, 2, 3)]
        turn = number
        written = 0
        while not self.stopping.is_set() and time.monotonic() < self.deadline:
            key = f"{number}.{written}"
            try:
                clients[turn % 3].put_item(TableName="items", Item={"pk": {"S": key}, "n": {"N": str(written)}})
            except botocore.exceptions.BotoCoreError:
                turn += 1  # not there, or gone while it worked: the same item again, elsewhere
                time.sleep(0.05)
                continue
            except botocore.exceptions.ClientError as error:
                self.refused.append(re.sub(r"[0-9]+", "N", str(error)))
                time.sleep(0.05)
                continue
            self.acknowledged.append(key)
            self.times.append(time.monotonic())
            written += 1
            time.sleep(0.005)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def longest_gap(self, since):
        """Seconds between two acknowledged writes at most, from `since` until now."""
        moments = sorted(t for t in list(self.times) if t >= since)
        edges = [since, *moments, time.monotonic()]
        return max(after - before for before, after in zip(edges, edges[1:]))


def read_all(number):
    """Every key, strongly consistent, through one node."""
    pages = client(number).get_paginator("scan").paginate(TableName="items", ConsistentRead=True,
                                                          ProjectionExpression="pk")
    return {item["pk"]["S"] for page in pages for item in page["Items"]}


@pytest.fixture(scope="module")
def writers(table):
    running = Writers()
    time.sleep(2)
    yield running
    running.stop()


# In the order of the file: the killings come last, and the reckoning after them.


def test_up_prints_the_endpoints_and_a_command_that_works(stack):
    for address in ("https://127.0.0.1:8001", "https://127.0.0.1:8002", "https://127.0.0.1:8003",
                    "http://127.0.0.1:9090", str(AUTHORITY)):
        assert address in stack
    command = next(line for line in stack.splitlines() if line.startswith("try")).removeprefix("try").strip()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "TableNames" in json.loads(done.stdout)


def test_up_again_changes_nothing(stack):
    before = {service: container(service) for service in NODES}
    program = [] if os.environ.get("ONGGI_DEPLOY_BUILD") == "1" else ["--program", str(binary())]
    x_cluster("up", *program)
    assert {service: container(service) for service in NODES} == before


def test_status_and_logs(stack):
    status = x_cluster("status")
    assert "3 of 3 alive" in status
    assert x_cluster("logs", "node1")


@pytest.mark.parametrize("service", [*NODES, "coordinator1", "coordinator2", "etcd1", "etcd2", "etcd3", "prometheus"])
def test_containers_are_healthy_and_do_not_run_as_root(stack, service):
    assert health(service) == "healthy"
    owners = {line.split()[1] for line in docker("top", container(service), "-eo", "pid,uid").splitlines()[1:]}
    assert owners and "0" not in owners, owners


def test_an_sdk_reads_and_writes_through_every_node(table):
    for number in (1, 2, 3):
        client(number).put_item(TableName=table, Item={"pk": {"S": f"through{number}"}, "n": {"N": "1"}})
    for number in (1, 2, 3):
        for other in (1, 2, 3):
            item = client(number).get_item(TableName=table, Key={"pk": {"S": f"through{other}"}}, ConsistentRead=True)
            assert item["Item"]["n"] == {"N": "1"}


def test_wrong_credentials_are_refused(table):
    stranger = boto3.client("dynamodb", endpoint_url="https://127.0.0.1:8001", region_name="us-east-1",
                            verify=str(AUTHORITY), aws_access_key_id="somebody", aws_secret_access_key="else")
    with pytest.raises(botocore.exceptions.ClientError) as error:
        stranger.list_tables()
    assert error.value.response["Error"]["Code"] == "UnrecognizedClientException"


def test_prometheus_has_every_target_up_and_every_rule_healthy(metrics, table):
    eventually(lambda: len(metrics.targets()) == 9 and all(t[2] == "up" for t in metrics.targets()), 60,
               lambda: repr(metrics.targets()))
    expected = len(prometheus.rules())

    def loaded():
        return [rule["health"] for group in metrics.get("rules")["groups"] for rule in group["rules"]]

    eventually(lambda: loaded() == ["ok"] * expected, 60, lambda: repr(loaded()))


def onggi(*arguments, check=True):
    """An administration command in a node's container."""
    return docker("exec", "-e", "ONGGI_ACCESS_KEY=" + KEY_PAIR[0], "-e", "ONGGI_SECRET_KEY=" + KEY_PAIR[1],
                  container("node1"), "onggi", *arguments, check=check)


def test_a_partition_is_split_under_load(writers, metrics):
    partition = str(json.loads(onggi("partition", "list", "--table", "items", "--output", "json"))[0]["id"])
    # Once the reported load has a median key.
    eventually(lambda: onggi("partition", "split", partition, check=False), 60, "it cannot be split")
    eventually(lambda: len(json.loads(onggi("partition", "list", "--table", "items", "--output", "json"))) == 2, 60,
               "it is not split")


def test_every_dashboard_expression_returns_data(writers, metrics):
    """But of hot keys, which this load has not: tests/monitoring makes one."""
    stop = time.monotonic() + 25
    while time.monotonic() < stop:  # what the writers do not do
        for number in (1, 2, 3):
            client(number).get_item(TableName="items", Key={"pk": {"S": "0.1"}}, ConsistentRead=True)
        with pytest.raises(botocore.exceptions.ClientError):
            client(1).get_item(TableName="nothing", Key={"pk": {"S": "0.1"}})
        onggi("table", "list")
        time.sleep(0.5)
    expressions = [(e.place, e.text) for e in prometheus.dashboards(interval="1m") if "hot_key_load" not in e.text]
    prometheus.expect_answers(metrics, expressions, 60)


def test_a_killed_node_costs_no_acknowledged_write(writers):
    for service in NODES:
        since = time.monotonic()
        x_cluster("kill", service)
        time.sleep(8)
        gap = writers.longest_gap(since)
        assert "of 3 alive" in x_cluster("status")  # asked of a node that lives
        x_cluster("start", service)
        eventually(lambda: health(service) == "healthy", 90, f"{service} does not come back")
        print(f"[figure] {service} killed: {gap:.2f} s without a write")
        assert gap < LONGEST_GAP_S, service
        # Until the other replicas have it in sync again, the next one may not go.
        eventually(lambda: "(0 without a primary, 0 with too few replicas)" in x_cluster("status"), 120,
                   "replicas are not in sync again")


def active(metrics):
    return [labels["instance"].split(":")[0] for labels, _ in metrics.query("onggi_coordinator_active == 1")]


def test_a_killed_coordinator_is_replaced(writers, metrics):
    eventually(lambda: len(active(metrics)) == 1, 60, "no coordinator is active")
    old = active(metrics)[0]
    since = time.monotonic()
    docker("kill", container(old))
    eventually(lambda: active(metrics) not in ([], [old]), 60, "no other coordinator takes over")
    dynamo = client(1)
    dynamo.create_table(TableName="after", BillingMode="PAY_PER_REQUEST",
                        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}])
    dynamo.get_waiter("table_exists").wait(TableName="after", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert writers.longest_gap(since) < LONGEST_GAP_S
    docker("start", container(old))
    eventually(lambda: health(old) == "healthy", 60, f"{old} does not come back")


def test_a_killed_etcd_member_is_not_noticed(writers):
    since = time.monotonic()
    docker("kill", container("etcd1"))
    time.sleep(5)
    dynamo = client(2)
    dynamo.delete_table(TableName="after")
    dynamo.get_waiter("table_not_exists").wait(TableName="after", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert writers.longest_gap(since) < LONGEST_GAP_S
    docker("start", container("etcd1"))
    eventually(lambda: health("etcd1") == "healthy", 60, "etcd1 does not come back")


def test_every_acknowledged_write_is_there_through_every_node(writers):
    writers.stop()
    assert len(writers.acknowledged) > 500
    for number in (1, 2, 3):
        lost = set(writers.acknowledged) - read_all(number)
        assert not lost, f"{len(lost)} of {len(writers.acknowledged)} lost, read through node{number}: {sorted(lost)[:5]}"
    print(f"[figure] {len(writers.acknowledged)} writes acknowledged, {len(writers.refused)} refused, none lost; "
          f"refusals: {collections.Counter(writers.refused).most_common(3)}")


def test_down_keeps_the_data_and_a_new_start_finds_it(writers):
    writers.stop()
    x_cluster("down")
    assert not docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}")
    program = [] if os.environ.get("ONGGI_DEPLOY_BUILD") == "1" else ["--program", str(binary())]
    x_cluster("up", *program, timeout_s=600)
    eventually(lambda: set(writers.acknowledged) <= read_all(1), 60, "writes are missing after a new start")
