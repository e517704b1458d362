"""Partitions are cut in two and made one again while they are used."""

import http.client
import threading
import time

import pytest
from support.api import Api
from support.cluster import Cluster

SETTLE_S = 60


@pytest.fixture
def make_cluster():
    """Starts clusters of three nodes and two coordinators; ends them."""
    running = []

    def make(*coordinator_arguments):
        cluster = Cluster(nodes=3, coordinators=2, etcds=1,
                          coordinator_arguments=["--merge=false", "--balance=false", *coordinator_arguments])
        running.append(cluster)
        return cluster.__enter__()

    yield make
    for cluster in running:
        cluster.close()


def create(cluster, name="items"):
    """A table with a sort key: {pk S, sk N}."""
    api = Api(cluster.nodes[0].endpoint)
    api.CreateTable({"TableName": name, "BillingMode": "PAY_PER_REQUEST",
                     "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"},
                                   {"AttributeName": "sk", "KeyType": "RANGE"}],
                     "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"},
                                              {"AttributeName": "sk", "AttributeType": "N"}]})
    for node in cluster.nodes:
        eventually(lambda: active(Api(node.endpoint), name), what="the table")
    return api


def active(api, table):
    answer = api.call("DescribeTable", {"TableName": table})
    return answer.status == 200 and answer.json["Table"]["TableStatus"] == "ACTIVE"


def eventually(condition, seconds=SETTLE_S, what=""):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.1)


def partitions(cluster, table="items"):
    """Of a table, in order of their keys; asked again while no coordinator is active."""
    answers = []

    def asked():
        answers.append(cluster.admin("partition", "list", "--table", table, check=False))
        return answers[-1] is not None

    eventually(asked, what="an active coordinator")
    return answers[-1]


def whole(cluster, count):
    """Has the table that many partitions, each led and on three nodes?"""
    here = partitions(cluster)
    return len(here) == count and all(
        p["available"] and len(p["in_sync"]) == 3 and p["job"] == 0 for p in here)


def number(partition):
    return partition["id"]


class Load:
    """Threads that write counters and read them back through all nodes, without a retry of their own.

    Every item's `n` is written by one thread, one higher each time; `acknowledged` is what was
    answered. `failures` has every answer but 200, and, unless nodes are killed (`deaths`), every
    connection that was lost.
    """

    def __init__(self, cluster, threads=6, items=40, collection=None, table="items", deaths=False):
        self.cluster = cluster
        self.table = table
        self.items = items
        self.collection = collection
        self.deaths = deaths
        self.acknowledged = {}
        self.tried = {}
        self.failures = []
        self.slowest = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    def key(self, thread, i):
        if self.collection is not None:
            return {"pk": {"S": self.collection}, "sk": {"N": str(thread * 1000 + i)}}
        return {"pk": {"S": f"t{thread}-{i}"}, "sk": {"N": "1"}}

    def _run(self, thread):
        nodes = self.cluster.nodes
        apis = [Api(node.endpoint, timeout_s=15) for node in nodes]
        round = 0
        while not self._stop.is_set():
            round += 1
            for i in range(self.items):
                if self._stop.is_set():
                    return
                which = (thread + i + round) % len(nodes)
                if not nodes[which].running():
                    which = next(n for n in range(len(nodes)) if nodes[n].running())
                key = self.key(thread, i)
                name = (thread, i)
                self.tried[name] = round
                began = time.monotonic()
                try:
                    answer = apis[which].call("PutItem", {
                        "TableName": self.table, "Item": {**key, "n": {"N": str(round)}, "pad": {"S": "x" * 100}}})
                except (OSError, http.client.HTTPException) as error:
                    if not self.deaths:
                        self.failures.append((name, round, repr(error)))
                    continue
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status != 200:
                    self.failures.append((name, round, repr(answer)))
                    continue
                self.acknowledged[name] = round
                if i % 4 == 0:
                    read = self._read(apis[which], key)
                    if read is not None and read < round:
                        self.failures.append((name, round, f"read {read} after it"))

    def _read(self, api, key):
        try:
            answer = api.call("GetItem", {"TableName": self.table, "Key": key, "ConsistentRead": True})
        except (OSError, http.client.HTTPException):
            return None
        if answer.status != 200:
            self.failures.append((key, "read", repr(answer)))
            return None
        return int(answer.json.get("Item", {"n": {"N": "0"}})["n"]["N"])

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self):
        """Nothing failed, and what was acknowledged is there, through any node."""
        assert not self.failures, self.failures[:5]
        assert self.acknowledged
        for node in self.cluster.nodes:
            if not node.running():
                continue
            api = Api(node.endpoint)
            for (thread, i), round in self.acknowledged.items():
                value = self._read(api, self.key(thread, i))
                assert round <= value <= self.tried[(thread, i)], (thread, i, round, value)


def split(cluster, partition, at=None):
    """Asks for it; `at` is hexadecimal ("80": the middle of what the hashes of keys begin with)."""
    arguments = ["partition", "split", partition]
    if at is not None:
        arguments += ["--at", at]
    return cluster.admin(*arguments)


def scan_all(api, start=None):
    items = []
    while True:
        page = api.Scan({"TableName": "items", "Limit": 7, "ConsistentRead": True,
                         **({"ExclusiveStartKey": start} if start else {})})
        items += page["Items"]
        start = page.get("LastEvaluatedKey")
        if start is None:
            return items


def test_split_and_merge_under_load(make_cluster):
    cluster = make_cluster()
    api = create(cluster)
    with Load(cluster) as load:
        time.sleep(1)
        parent = partitions(cluster)[0]
        split(cluster, number(parent), at="80")
        eventually(lambda: whole(cluster, 2), what="a split")
        left, right = partitions(cluster)
        time.sleep(1)
        cluster.admin("partition", "merge", number(left))
        eventually(lambda: whole(cluster, 1), what="a merge")
        assert number(partitions(cluster)[0]) == number(left) == number(parent)
        time.sleep(1)
    load.check()
    found = {(item["pk"]["S"], item["sk"]["N"]) for item in scan_all(api)}
    assert len(found) == len(load.tried)


def split_anywhere(cluster, partition):
    """Where it halves load or bytes, once its primary has said where that is."""
    def asked():
        return cluster.command_line("partition", "split", partition).returncode == 0

    eventually(asked, what="a key to split at")


def test_pages_go_on_across_a_split(make_cluster):
    cluster = make_cluster()
    api = create(cluster)
    pad = {"S": "x" * 4000}
    for i in range(60):
        api.PutItem(TableName="items", Item={"pk": {"S": f"p{i}"}, "sk": {"N": "1"}})
        api.PutItem(TableName="items", Item={"pk": {"S": "one"}, "sk": {"N": str(i)}, "pad": pad})
    # A page is read before, the rest after. The cuts go through the key space, and through one collection.
    first = api.Scan(TableName="items", Limit=10, ConsistentRead=True)
    up = {"TableName": "items", "KeyConditionExpression": "pk = :p", "ConsistentRead": True, "Limit": 7,
          "ExpressionAttributeValues": {":p": {"S": "one"}}}
    down = {**up, "ScanIndexForward": False}
    pages = [api.Query(up), api.Query(down)]
    split_anywhere(cluster, number(partitions(cluster)[0]))
    eventually(lambda: whole(cluster, 2), what="a split of a collection")
    assert len(partitions(cluster)[0]["range_end"]) > 16, "the cut is inside the collection"
    split(cluster, number(partitions(cluster)[0]), at="01")
    eventually(lambda: whole(cluster, 3), what="another split")
    items = first["Items"] + scan_all(api, start=first["LastEvaluatedKey"])
    assert len(items) == 120 and len({(i["pk"]["S"], i["sk"]["N"]) for i in items}) == 120
    for request, page, order in ((up, pages[0], 1), (down, pages[1], -1)):
        found = page["Items"]
        while "LastEvaluatedKey" in page:
            page = api.Query({**request, "ExclusiveStartKey": page["LastEvaluatedKey"]})
            found = found + page["Items"]
        assert [int(i["sk"]["N"]) for i in found] == list(range(60))[::order]


def test_what_grows_is_split(make_cluster):
    cluster = make_cluster("--split-size", "4MB", "--split-after", "2s")
    api = create(cluster)
    pad = {"S": "x" * 20_000}
    count = 300
    for i in range(count):
        api.PutItem(TableName="items", Item={"pk": {"S": f"p{i}"}, "sk": {"N": "1"}, "pad": pad})
    eventually(lambda: len(partitions(cluster)) >= 2, what="a split by size")
    eventually(lambda: all(p["bytes"] < 4_500_000 for p in partitions(cluster)), what="halves")
    time.sleep(6)
    assert len(partitions(cluster)) <= 4, "what was split is split again"
    assert len(scan_all(api)) == count


def test_cold_neighbours_are_merged(make_cluster):
    cluster = make_cluster("--split-after", "1s", "--merge=true", "--merge-after", "4s", "--balance=true")
    api = create(cluster)
    for i in range(50):
        api.PutItem(TableName="items", Item={"pk": {"S": f"p{i}"}, "sk": {"N": "1"}})
    split(cluster, number(partitions(cluster)[0]), at="80")
    eventually(lambda: len(partitions(cluster)) == 2, what="a split")
    # On different nodes, the right one's primary is moved to the left one's first.
    left, right = partitions(cluster)
    other = next(n for n in left["in_sync"] if n != left["primary"])
    cluster.command_line("partition", "transfer", number(right), "--to", other)
    eventually(lambda: whole(cluster, 1), what="a merge")
    assert len(scan_all(api)) == 50


def test_load_splits_at_its_median_and_a_hot_key_is_named(make_cluster):
    cluster = make_cluster("--split-write-units", "60", "--split-after", "3s")
    api = create(cluster)
    # One collection: its sort keys divide it.
    with Load(cluster, threads=4, items=100, collection="c") as load:
        eventually(lambda: len(partitions(cluster)) >= 2, what="a split by load")
    load.check()
    assert any(len(p["range_end"]) > 16 for p in partitions(cluster)), "inside the collection"
    # One item: no split would help, and it is named.
    stop = threading.Event()

    def hammer(endpoint):
        mine = Api(endpoint)
        while not stop.is_set():
            mine.PutItem(TableName="items", Item={"pk": {"S": "celebrity"}, "sk": {"N": "7"}})

    threads = [threading.Thread(target=hammer, args=(n.endpoint,)) for n in cluster.nodes for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        def named():
            hot = cluster.admin("partition", "hot")
            return any(p["single_hot_key"] and "celebrity" in p["hot_keys"][0]["text"] for p in hot)

        eventually(named, what=lambda: cluster.admin("partition", "hot"))
        assert "celebrity" in cluster.command_line("partition", "hot").stdout
        active = [c for c in cluster.coordinators if cluster.metric(c, "onggi_cluster_hot_key_partitions")]
        assert active, "the metric"
        ranges = [(p["range_start"], p["range_end"]) for p in cluster.admin("partition", "hot")
                  if p["single_hot_key"]]
        time.sleep(5)
        assert ranges[0] in [(p["range_start"], p["range_end"]) for p in partitions(cluster)], "not split"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    api.GetItem(TableName="items", Key={"pk": {"S": "celebrity"}, "sk": {"N": "7"}})


@pytest.mark.parametrize("victim", ["primary", "backup", "coordinator"])
def test_a_death_in_the_middle(make_cluster, victim):
    cluster = make_cluster("--dead-after", "60s")
    create(cluster)
    with Load(cluster, threads=4, items=20, deaths=victim != "coordinator") as load:
        for round, moment in enumerate((0.02, 0.1)):
            for kind in ("split", "merge"):
                here = partitions(cluster)
                if kind == "split":
                    split(cluster, number(here[0]), at="80")
                else:
                    cluster.admin("partition", "merge", number(here[0]))
                time.sleep(moment)
                if victim == "coordinator":
                    member = next(c for c in cluster.coordinators
                                  if cluster.metric(c, "onggi_coordinator_active"))
                else:
                    member = next(n for n in cluster.nodes if (node_number(cluster, n) == here[0]["primary"])
                                  == (victim == "primary"))
                member.kill()
                expected = 2 if kind == "split" else 1
                time.sleep(1)
                member.start()
                cluster.wait_ready(member)
                # (A replica of the child that was made and not named is removed before another is.)
                eventually(lambda: whole(cluster, expected), 90, what=lambda: (kind, round, partitions(cluster), cluster.command_line("status").stdout,
                                                                      [m.log_tail(1500) for m in cluster.nodes + cluster.coordinators]))
    # A process that died took connections with it; everything else was answered.
    load.check()


def node_number(cluster, member):
    return next(n["id"] for n in cluster.admin("node", "list") if member.rpc in str(n.values()))
