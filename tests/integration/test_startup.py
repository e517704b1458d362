"""How fast a developer gets an answer, how little an idle server takes. Figures are printed (-s, -rA).

ONGGI_TIMING_SLACK multiplies every bound on machines that do other work at the same time.
"""

import os
import statistics
import time

import pytest

from conftest import unique, wait_active
from support.api import Api, N, S
from support.server import Server

SLACK = float(os.environ.get("ONGGI_TIMING_SLACK", "1"))


def report(name, value, bound, unit):
    print(f"\n[figure] {name}: {value:.1f} {unit} (bound {bound} {unit})")
    assert value <= bound * SLACK, f"{name}: {value:.1f} {unit}, bound {bound} {unit}"


def first_answer_ms(server):
    """From starting the process to the first answer of the API."""
    server.start()
    api = Api(server.endpoint)
    assert api.call("ListTables", {}).status == 200
    return (time.monotonic() - server.spawned_at) * 1000


def schema(name):
    return {"TableName": name, "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]}


def test_first_answer_on_an_empty_directory():
    times = []
    for _ in range(5):
        server = Server()
        try:
            times.append(first_answer_ms(server))
            assert server.stop() == 0
        finally:
            server.close()
    report("first answer, empty directory (median of 5)", statistics.median(times), 150, "ms")


def test_create_table_latency(own_server, api):
    """The call itself, and the time until the table takes its first write."""
    calls, usable = [], []
    for _ in range(20):
        name = unique("quick")
        start = time.monotonic()
        api.CreateTable(schema(name))
        calls.append((time.monotonic() - start) * 1000)
        while api.call("PutItem", {"TableName": name, "Item": {"pk": S("a")}}).status != 200:
            assert time.monotonic() < start + 10
        usable.append((time.monotonic() - start) * 1000)
        wait_active(api, name)
        api.DeleteTable(TableName=name)
    print(f"\n[figure] CreateTable until its first write: median {statistics.median(usable):.1f} ms, "
          f"worst {max(usable):.1f} ms")
    report("CreateTable (median of 20)", statistics.median(calls), 20, "ms")
    report("CreateTable until its first write (median of 20)", statistics.median(usable), 20, "ms")


def test_first_answer_with_500_tables():
    server = Server()
    try:
        server.start()
        api = Api(server.endpoint)
        start = time.monotonic()
        for i in range(500):
            api.CreateTable(schema(f"table{i:03d}"))
        for i in range(500):
            wait_active(api, f"table{i:03d}", 30)
        print(f"\n[figure] 500 tables created in {time.monotonic() - start:.1f} s")
        for i in range(0, 500, 5):
            api.PutItem(TableName=f"table{i:03d}", Item={"pk": S("a"), "n": N(i)})
        assert server.stop() == 0
        took = first_answer_ms(server)
        api = Api(server.endpoint)
        # The first answer must be an answer about data, too.
        assert api.GetItem(TableName="table495", Key={"pk": S("a")}, ConsistentRead=True)[
            "Item"]["n"] == N(495)
        whole = (time.monotonic() - server.spawned_at) * 1000
        report("first answer, 500 tables", took, 1000, "ms")
        report("first item read, 500 tables", whole, 1000, "ms")
        names, request = [], {}
        while True:
            page = api.ListTables(request)
            names += page["TableNames"]
            if "LastEvaluatedTableName" not in page:
                break
            request["ExclusiveStartTableName"] = page["LastEvaluatedTableName"]
        assert names == [f"table{i:03d}" for i in range(500)]
        assert server.stop() == 0
    finally:
        server.close()


def test_idle_memory():
    with Server() as server:
        api = Api(server.endpoint)
        api.CreateTable(schema("one"))
        wait_active(api, "one")
        for i in range(200):
            api.PutItem(TableName="one", Item={"pk": S(str(i))})
        time.sleep(1)
        report("resident memory when idle, one small table", server.resident_kib() / 1024, 60, "MB")
        assert server.stop() == 0


def test_idle_processor():
    """An idle server sleeps: less than 2 % of a core over two seconds."""
    with Server() as server:
        assert Api(server.endpoint).call("ListTables", {}).status == 200
        time.sleep(0.5)

        def ticks():
            fields = open(f"/proc/{server.pid}/stat").read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])

        before = ticks()
        time.sleep(2)
        share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / 2 * 100
        report("processor when idle", share, 2, "% of a core")


def test_restart_keeps_everything():
    with Server() as server:
        api = Api(server.endpoint)
        api.CreateTable({**schema("kept"), "DeletionProtectionEnabled": True,
                         "Tags": [{"Key": "a", "Value": "b"}]})
        wait_active(api, "kept")
        for i in range(300):
            api.PutItem(TableName="kept", Item={"pk": S(str(i)), "n": N(i)})
        before = api.DescribeTable(TableName="kept")["Table"]
        for _ in range(3):
            assert server.stop() == 0
            server.start()
            api = Api(server.endpoint)
            after = api.DescribeTable(TableName="kept")["Table"]
            assert after == before
            assert api.ListTagsOfResource(ResourceArn=after["TableArn"])["Tags"] == [
                {"Key": "a", "Value": "b"}]
            assert api.Scan(TableName="kept", Select="COUNT")["Count"] == 300
        assert server.stop() == 0


def test_two_signals_do_no_harm():
    import signal
    with Server() as server:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
        if server.running():
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_sigint_is_a_clean_stop_too():
    import signal
    with Server() as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["--aws-port", "abc"], ["--memory", "lots"]])
def test_bad_flags(arguments):
    from support.server import StartFailure
    server = Server(arguments=arguments)
    try:
        with pytest.raises(StartFailure) as caught:
            server.start()
        assert caught.value.returncode not in (0, None)
        assert arguments[0].lstrip("-") in caught.value.output
    finally:
        server.close()


def test_help_and_version():
    import subprocess
    from support.server import binary
    for arguments in (["--help"], ["dev", "--help"], ["--version"]):
        done = subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=10)
        assert done.returncode == 0 and done.stdout.strip()


def test_what_dev_prints(tmp_path):
    """Where it listens, where data is, and a command to try."""
    with Server(tmp_path / "here") as server:
        text = "\n".join(server.lines)
        deadline = time.monotonic() + 2
        while "aws dynamodb" not in text and time.monotonic() < deadline:
            time.sleep(0.02)
            text = "\n".join(server.lines)
        assert str(tmp_path / "here") in text
        assert "aws dynamodb" in text and f"--endpoint-url {server.endpoint}" in text
        assert server.admin.startswith("http://127.0.0.1:")
        assert server.endpoint.startswith("http://127.0.0.1:"), "dev listens on the loopback only"


def test_logs_name_the_request():
    """Structured lines with the request id that the client was given."""
    import json
    with Server(arguments=["--log-format", "json", "--log-level", "debug"]) as server:
        response = Api(server.endpoint).call("GetItem", {"TableName": "no_such_table", "Key": {"pk": S("a")}})
        request_id = response.headers["x-amzn-requestid"]
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.stderr().splitlines() if line.startswith("{")]
        assert lines, server.stderr()
        assert any(request_id in json.dumps(line) for line in lines), "the request is not in the log"


def test_options_from_the_environment_and_a_file(tmp_path):
    file = tmp_path / "onggi.yaml"
    file.write_text("region: eu-north-1\naccount-id: \"123456789012\"\n")
    with Server(arguments=["--config", str(file)], environment={"ONGGI_REGION": "ap-southeast-2"}) as server:
        arn = Api(server.endpoint).CreateTable(schema("named"))["TableDescription"]["TableArn"]
        # The environment goes before the file.
        assert arn == "arn:aws:dynamodb:ap-southeast-2:123456789012:table/named"
        assert server.stop() == 0
