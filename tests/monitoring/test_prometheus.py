"""Debian's Prometheus over a cluster of real processes: everything that deploy/'s dashboards, recording
rules and alerts ask has an answer. No containers: tests/deploy has those."""

import json
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml

from conftest import wait_active
from support import prometheus
from support.api import Api
from support.cluster import Cluster, free_ports
from support.grpc_api import GrpcApi

# For rates and rules to have what they need; seconds do on a quiet machine.
RULES_HEALTHY_S = 60
EXPRESSIONS_S = 60


class Load:
    """A bounded load from a few threads until stop(): every operation of a dashboard, errors too."""

    def __init__(self, cluster):
        self.endpoints = [node.endpoint for node in cluster.nodes]
        self.stopping = threading.Event()
        self.deadline = time.monotonic() + 300
        self.failures = []
        self.threads = [threading.Thread(target=self._mixed, args=(i,)) for i in range(2)]
        self.threads.append(threading.Thread(target=self._one_key))
        self.threads.append(threading.Thread(target=self._grpc, args=(cluster.nodes[1].rpc,)))
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _each(self, work, pause_s):
        number = 0
        while not self.stopping.wait(pause_s) and time.monotonic() < self.deadline:
            number += 1
            response = work(number)
            if response.status >= 500:
                self.failures.append(repr(response))

    def _mixed(self, seed):
        apis = [Api(endpoint) for endpoint in self.endpoints]

        def work(number):
            api = apis[number % len(apis)]
            key = {"pk": {"S": f"{seed}.{number % 500}"}}
            value = {**key, "text": {"S": "x" * 400}}
            kind = number % 6
            if kind == 0:
                return api.call("GetItem", {"TableName": "load", "Key": key, "ConsistentRead": True})
            if kind == 1:
                return api.call("UpdateItem", {"TableName": "load", "Key": key,
                                               "UpdateExpression": "ADD n :one",
                                               "ExpressionAttributeValues": {":one": {"N": "1"}}})
            if kind == 2:
                return api.call("Query", {"TableName": "load", "KeyConditionExpression": "pk = :pk",
                                          "ExpressionAttributeValues": {":pk": key["pk"]}})
            if kind == 3:
                return api.call("PutItem", {"TableName": "load", "Item": value,
                                            "ConditionExpression": "attribute_exists(nothing)"})
            return api.call("PutItem", {"TableName": "load", "Item": value})

        self._each(work, 0.01)

    def _one_key(self):
        api = Api(self.endpoints[0])
        self._each(lambda number: api.call("PutItem", {
            "TableName": "hot", "Item": {"pk": {"S": "the one"}, "n": {"N": str(number)}}}), 0.01)

    def _grpc(self, address):
        api = GrpcApi(address)
        self._each(lambda number: api.call("GetItem", {
            "TableName": "load", "Key": {"pk": {"S": f"0.{number % 500}"}}}), 0.1)
        api.close()


def create(api, name):
    api.CreateTable(TableName=name, BillingMode="PAY_PER_REQUEST",
                    AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                    KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}])
    wait_active(api, name, 30)


@pytest.fixture(scope="module")
def cluster():
    """Four nodes, so that replicas can move; the limit of writes is low, so that one key is hot."""
    with Cluster(nodes=4, coordinators=2, etcds=1, coordinator_arguments=["--split-write-units", "20"]) as running:
        yield running


@pytest.fixture(scope="module")
def server(cluster, tmp_path_factory):
    """Prometheus with the rules of deploy/, and its jobs at this cluster's addresses."""
    config = yaml.safe_load((prometheus.DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(path) for path in prometheus.RULES]
    port = free_ports(1)[0]
    targets = {"onggi-node": [node.admin for node in cluster.nodes],
               "onggi-coordinator": [coordinator.admin for coordinator in cluster.coordinators],
               "etcd": [member.endpoint for member in cluster.etcd],
               "prometheus": [f"127.0.0.1:{port}"]}
    for job in config["scrape_configs"]:
        addresses = [address.removeprefix("http://") for address in targets.pop(job["job_name"])]
        job["static_configs"] = [{"targets": addresses}]
    assert not targets, targets
    running = prometheus.Prometheus.start(tmp_path_factory.mktemp("prometheus"), config, port)
    yield running
    running.close()


@pytest.fixture(scope="module")
def busy(cluster, server):
    """Load, and one split and one move done under it. Until the module ends."""
    api = Api(cluster.nodes[0].endpoint)
    create(api, "load")
    create(api, "hot")
    load = Load(cluster)
    try:
        partition = cluster.admin("partition", "list", "--table", "load")[0]
        # Once the reported load has a median key.
        server.wait(lambda: cluster.admin("partition", "split", partition["id"], check=False) is not None,
                    60, "the partition cannot be split")
        done(server, "split")
        nodes = {node["id"] for node in cluster.admin("node", "list")}
        partition = cluster.admin("partition", "list", "--table", "load")[0]
        spare = nodes - set(partition["in_sync"])
        cluster.admin("partition", "move", partition["id"], "--from", partition["in_sync"][-1],
                      "--to", spare.pop())
        done(server, "move_replica")
        yield load
    finally:
        load.stop()


def done(server, kind):
    query = f'sum(onggi_coordinator_jobs_total{{kind="{kind}",outcome="done"}}) > 0'
    server.wait(lambda: server.query(query), 60, lambda: f"no {kind} was done: " + repr(
        server.query("onggi_cluster_jobs > 0") + server.query("onggi_coordinator_step_failures_total > 0")))


def test_every_target_is_up(server, busy):
    server.wait(lambda: all(target[2] == "up" for target in server.targets()), 30,
                lambda: f"{server.targets()}")
    assert {target[0] for target in server.targets()} == {"onggi-node", "onggi-coordinator", "etcd", "prometheus"}


def test_every_dashboard_expression_returns_data(server, busy):
    expressions = prometheus.dashboards()
    assert len(expressions) > 100
    prometheus.expect_answers(server, [(e.place, e.text) for e in expressions], EXPRESSIONS_S)


def test_every_recording_rule_returns_data(server, busy):
    expressions = [e for e in prometheus.rules() if not e.alert]
    assert len(expressions) > 5
    prometheus.expect_answers(server, [(e.place, e.text) for e in expressions], EXPRESSIONS_S)


def test_every_metric_of_an_alert_returns_data(server, busy):
    """Alerts are silent in a healthy cluster; what they watch is not."""
    wanted = []
    for expression in prometheus.rules():
        if expression.alert:
            server.query(expression.text)
            read = prometheus.selectors(expression.text)
            assert read, expression
            wanted += [(expression.place, selector) for selector in sorted(read)]
    prometheus.expect_answers(server, wanted, EXPRESSIONS_S)


def test_rules_are_healthy_and_nothing_critical_fires(server, busy):
    def unhealthy():
        return [(rule["name"], rule["health"], rule.get("lastError"))
                for group in server.get("rules")["groups"] for rule in group["rules"] if rule["health"] != "ok"]

    server.wait(lambda: not unhealthy(), RULES_HEALTHY_S, lambda: repr(unhealthy()))
    firing = [alert for alert in server.get("alerts")["alerts"]
              if alert["state"] == "firing" and alert["labels"]["severity"] == "critical"]
    assert not firing, firing


def test_the_load_met_no_server_error(busy):
    assert not busy.failures, busy.failures[:5]


def test_a_node_that_is_gone_raises_its_alert(server, busy, cluster):
    busy.stop()
    cluster.nodes[3].kill()
    server.wait(lambda: [alert for alert in server.get("alerts")["alerts"]
                         if alert["labels"]["alertname"] == "OnggiTargetDown"], 30, "no alert is pending")
    cluster.nodes[3].start()
    cluster.wait_ready(cluster.nodes[3])


# -- without a cluster ----------------------------------------------------------------------------


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)


def test_promtool_accepts_rules_and_configuration():
    for arguments in (("check", "rules", *prometheus.RULES),
                      ("check", "config", prometheus.DEPLOY / "prometheus" / "prometheus.yml")):
        result = promtool(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr


ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")


def test_alerts_fire_when_they_should():
    result = promtool("test", "rules", ALERTS_TEST)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_case_that_fires_it_and_one_that_does_not():
    alerts = {rule["alert"] for path in prometheus.RULES for group in yaml.safe_load(path.read_text())["groups"]
              for rule in group["rules"] if "alert" in rule}
    cases = [case for test in yaml.safe_load(ALERTS_TEST.read_text())["tests"] for case in test["alert_rule_test"]]
    assert alerts == {case["alertname"] for case in cases if case.get("exp_alerts")}
    assert alerts == {case["alertname"] for case in cases if not case.get("exp_alerts")}


def test_an_unknown_metric_is_seen(server):
    assert prometheus.unanswered(server, [("here", "onggi_nothing_total")])
    assert not prometheus.unanswered(server, [("here", "vector(1)")])


def test_alerts_say_how_severe_they_are_and_what_is_the_matter():
    for path in prometheus.RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule
                    assert rule["annotations"]["summary"], rule


def test_dashboards_have_their_own_ids_and_the_provisioned_data_source():
    source = yaml.safe_load((prometheus.DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    uid = source["datasources"][0]["uid"]
    titles = set()
    for path in prometheus.DASHBOARDS:
        board = json.loads(path.read_text())
        assert board["uid"] == path.stem
        titles.add(board["title"])
        ids = [panel["id"] for panel in prometheus.panels(board)]
        assert len(ids) == len(set(ids))
        for panel in prometheus.panels(board):
            assert panel["type"] == "row" or panel["datasource"]["uid"] == uid
            for target in panel.get("targets", []):
                assert target["datasource"]["uid"] == uid
        names = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$(\w+)", json.dumps([p.get("targets") for p in prometheus.panels(board)])))
        assert used - {"__rate_interval"} <= names, path
    assert len(titles) == 5


def test_selectors_are_found():
    assert prometheus.selectors('histogram_quantile(0.99, sum by (le, op) (rate(a_bucket{x="}y"}[1m]))) > 3 * b and on(c) d') == {
        'a_bucket{x="}y"}', "b", "d"}
    assert prometheus.selectors('(max(a:b:c1m) or vector(0)) < 1') == {"a:b:c1m"}
