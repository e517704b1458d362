"""Prometheus, what is asked of it by deploy/'s dashboards and rules, and a way to ask it."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


class Expression:
    """One PromQL expression and where it stands."""

    def __init__(self, place, text, alert=False):
        self.place = place
        self.text = text
        self.alert = alert

    def __repr__(self):
        return f"{self.place}: {self.text}"


def rules(paths=RULES):
    """Every rule's expression."""
    found = []
    for path in paths:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                name = rule.get("alert") or rule["record"]
                found.append(Expression(f"{path.name} {name}", rule["expr"], alert="alert" in rule))
    return found


def panels(board):
    """The panels of a dashboard, those inside collapsed rows too."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def dashboards(paths=DASHBOARDS, interval="15s"):
    """Every panel's and variable's expression, with Grafana's variables replaced: `interval` for that of
    rates, everything for the rest."""
    found = []
    for path in paths:
        board = json.loads(path.read_text())
        for panel in panels(board):
            for target in panel.get("targets", []):
                place = f"{path.name} '{panel['title']}' {target['refId']}"
                found.append(Expression(place, replace(target["expr"], interval)))
        for variable in board["templating"]["list"]:
            query = variable["query"]["query"] if isinstance(variable["query"], dict) else variable["query"]
            values_of = re.fullmatch(r"label_values\((.*),\s*(\w+)\)", query)
            assert values_of, f"{path.name}: cannot read the query of ${variable['name']}: {query}"
            found.append(Expression(f"{path.name} ${variable['name']}",
                                    f"count by ({values_of[2]}) ({values_of[1]})"))
    return found


def replace(text, interval):
    text = text.replace("$__rate_interval", interval)
    return re.sub(r"\$\{?\w+\}?", ".*", text)


def selectors(text):
    """The series that an expression reads: 'name' or 'name{labels}', without ranges."""
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    found = set()
    place = 0
    pattern = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]|([a-zA-Z_:][a-zA-Z0-9_:]*)(\s*\()?(\{(?:[^}"]|"(?:[^"\\]|\\.)*")*\})?'
                         r'|[0-9][0-9a-zA-Z.]*')
    while match := pattern.search(text, place):
        place = match.end()
        name, call, labels = match.group(1, 2, 3)
        if name is None or call or name in ("and", "or", "unless", "bool", "offset"):
            continue
        found.add(name + (labels or ""))
    return found


def unanswered(server, expressions):
    """Those of [(place, text)] without a single number, with what was answered."""
    missing = []
    for place, text in expressions:
        values = [value for _, value in server.query(text)]
        if not any(value == value for value in values):  # not NaN
            missing.append((place, text, values))
    return missing


def expect_answers(server, expressions, seconds):
    """Every one of [(place, text)] has a number at some moment within `seconds`."""
    missing = list(expressions)

    def answered():
        nonlocal missing
        missing = [(place, text) for place, text, _ in unanswered(server, missing)]
        return not missing

    server.wait(answered, seconds,
                lambda: "no data:\n" + "\n".join(f"{place}: {text}" for place, text in missing))


class Prometheus:
    """Asks a server; with `start`, one of our own."""

    def __init__(self, url):
        self.url = url
        self.process = None

    @classmethod
    def start(cls, directory, config, port):
        """Debian's prometheus over a configuration (a dictionary), its data in `directory`."""
        path = directory / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        server = cls(f"http://127.0.0.1:{port}")
        with (directory / "prometheus.log").open("wb") as log:
            server.process = subprocess.Popen(
                ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={directory / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"], stdout=log, stderr=log)
        try:
            server.wait(lambda: server.ready(), 30, "Prometheus is not ready")
        except BaseException:
            server.close()
            raise
        return server

    def close(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ready(self):
        try:
            with urllib.request.urlopen(self.url + "/-/ready", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def get(self, path, **parameters):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            body = json.load(error)
        if body["status"] != "success":
            raise AssertionError(f"{path} {parameters}: {body['error']}")
        return body["data"]

    def query(self, expression):
        """[(labels, value)] at this moment."""
        return [(series["metric"], float(series["value"][1]))
                for series in self.get("query", query=expression)["result"]]

    def targets(self):
        """(job, instance, health, last error) of all."""
        return [(target["labels"]["job"], target["labels"]["instance"], target["health"], target["lastError"])
                for target in self.get("targets", state="active")["activeTargets"]]

    @staticmethod
    def wait(condition, seconds, complaint):
        """Until `condition` is true; `complaint` may be a function."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(complaint() if callable(complaint) else complaint)
            time.sleep(0.2)
