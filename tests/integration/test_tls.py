"""The AWS endpoint over TLS: real clients, sockets by hand, certificates that change, and wrong options."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import warnings
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import pytest

from conftest import Tables
from support import wire
from support.api import Api, N, S
from support.certificates import Authority, aws_tls, cluster_tls, replace
from support.needs import missing
from support.server import Server, StartFailure, binary, sanitized

HERE = Path(__file__).resolve().parent
AWS = os.environ.get("ONGGI_AWS_CLI") or shutil.which("aws", path="/usr/bin") or shutil.which("aws")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def secure(authority):
    """A server with TLS."""
    with Server(arguments=aws_tls(authority.issue("server"))) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="module")
def api(secure, authority):
    return Api(secure.endpoint, tls=authority.context())


@pytest.fixture(scope="module")
def table(api):
    made = Tables(api)
    yield made.create(range_type="N")
    made.drop_all()


def connect(server, context, timeout_s=10, name="localhost"):
    return context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s),
                               server_hostname=name)


def client(endpoint, verify):
    return boto3.client("dynamodb", endpoint_url=endpoint, region_name="us-east-1", verify=verify,
                        aws_access_key_id="dev", aws_secret_access_key="dev",
                        config=botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=5))


def metric(server, name, **labels):
    """The value of one series of the AWS endpoint."""
    wanted = {"endpoint": "aws", **labels}
    status, _, body = wire.exchange(server.admin, b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n", "GET")
    assert status == 200
    for line in body.decode().splitlines():
        if line.startswith(name + "{") and all(f'{k}="{v}"' in line for k, v in wanted.items()):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no {name} {labels}")


def eventually(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- clients ---------------------------------------------------------------------------------------


def test_boto3(secure, authority, table):
    assert secure.endpoint.startswith("https://")
    dynamo = client(secure.endpoint, authority.ca)
    dynamo.put_item(TableName=table, Item={"pk": S("boto3"), "sk": N(1), "text": S("caf\u00e9")})
    got = dynamo.get_item(TableName=table, Key={"pk": S("boto3"), "sk": N(1)}, ConsistentRead=True)
    assert got["Item"]["text"] == S("caf\u00e9")


def test_boto3_refuses_another_authority(secure, stranger):
    with pytest.raises(botocore.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        client(secure.endpoint, stranger.ca).list_tables()
    eventually(lambda: metric(secure, "onggi_http_tls_handshake_failures_total", reason="error") > 0)


def test_boto3_is_told_to_speak_https(secure):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client(secure.endpoint.replace("https", "http"), True).list_tables()
    assert str(error.value) == (
        "An error occurred (ValidationException) when calling the ListTables operation: "
        "Client sent an HTTP request to an HTTPS server: the endpoint begins with https://.")


def test_the_command_line(secure, authority, tmp_path):
    if not AWS:
        missing("the AWS CLI")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environment.update(AWS_ACCESS_KEY_ID="dev", AWS_SECRET_ACCESS_KEY="dev", AWS_CONFIG_FILE=str(tmp_path / "none"),
                       AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"), AWS_MAX_ATTEMPTS="1")

    def run(**extra):
        return subprocess.run([AWS, "dynamodb", "list-tables", "--region", "us-east-1", "--endpoint-url",
                               secure.endpoint], env={**environment, **extra}, capture_output=True, text=True,
                              timeout=60)

    done = run(AWS_CA_BUNDLE=authority.ca)
    assert done.returncode == 0 and "TableNames" in json.loads(done.stdout), done.stderr
    done = run()
    assert done.returncode != 0 and "SSL validation failed" in done.stderr


def test_javascript_sdk_v3(secure, authority):
    """The whole suite of the SDK, over TLS."""
    if not shutil.which("node") or not shutil.which("npm"):
        missing("node and npm")
    installed = subprocess.run(["sh", str(HERE / "js" / "install.sh")], capture_output=True, text=True, timeout=300)
    assert installed.returncode == 0, installed.stderr[-2000:]
    folder = installed.stdout.strip().splitlines()[-1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(["node", "--test", folder], cwd=folder, capture_output=True, text=True, timeout=120,
                          env={**environment, "ONGGI_ENDPOINT": secure.endpoint, "NODE_EXTRA_CA_CERTS": authority.ca})
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


# -- sockets ---------------------------------------------------------------------------------------


def test_what_is_agreed_on(secure, authority):
    context = authority.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with connect(secure, context) as connection:
        assert connection.version() == "TLSv1.3"
        assert connection.selected_alpn_protocol() == "http/1.1"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connect(secure, context) as connection:
        assert connection.version() == "TLSv1.2"
        assert connection.cipher()[0].startswith("ECDHE-ECDSA-") and "GCM" in connection.cipher()[0]


def test_tls_1_1_is_refused(secure):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        connect(secure, context)


def test_a_name_that_the_certificate_has_not(secure, authority):
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        connect(secure, authority.context(), name="elsewhere.example")


def test_plain_http_is_answered_400_and_closed(secure):
    with wire.connect(secure) as connection:
        reader = wire.Reader(connection)
        connection.sendall(wire.request("ListTables", {}) * 3)
        status, headers, body = reader.response()
        assert (status, headers["connection"]) == (400, "close")
        assert b"HTTP request to an HTTPS server" in body
        assert reader.closed(5) and not reader.buffer
    assert metric(secure, "onggi_http_tls_handshake_failures_total", reason="plain_http") >= 1


def test_tls_to_a_plain_port_is_closed(secure, authority):
    """The other way round, at the admin port: an error at once, nothing that hangs."""
    host, port = secure.admin.split("//")[1].rsplit(":", 1)
    with pytest.raises(ssl.SSLError), socket.create_connection((host, int(port)), timeout=5) as plain:
        authority.context().wrap_socket(plain, server_hostname="localhost")


def test_many_pipelined_requests(secure, authority, table, api):
    api.PutItem(TableName=table, Item={"pk": S("pipe"), "sk": N(0), "v": S("x" * 1000)})
    get = wire.request("GetItem", {"TableName": table, "Key": {"pk": S("pipe"), "sk": N(0)}, "ConsistentRead": True})
    put = [wire.request("PutItem", {"TableName": table, "Item": {"pk": S("pipe"), "sk": N(i)}})
           for i in range(1, 101)]
    with connect(secure, authority.context(), 30) as connection:
        reader = wire.Reader(connection)
        for _ in range(3):
            connection.sendall(b"".join(get + p for p in put))
            for _ in put:
                status, _, body = reader.response()
                assert status == 200 and json.loads(body)["Item"]["v"] == S("x" * 1000)
                assert reader.response()[0] == 200
    assert api.Query(TableName=table, KeyConditionExpression="pk = :p", Select="COUNT",
                     ExpressionAttributeValues={":p": S("pipe")})["Count"] == 101


def test_big_bodies(table, api):
    """9 MB of requests in one, and pages of a megabyte back."""
    text = "".join(chr(ord("a") + (i * 7 + i // 26) % 26) for i in range(360_000))
    items = [{"pk": S("big"), "sk": N(i), "v": S(text[i:] + text[:i])} for i in range(25)]
    answer = api.BatchWriteItem(RequestItems={table: [{"PutRequest": {"Item": item}} for item in items]})
    assert not answer["UnprocessedItems"]
    seen, start = [], {}
    while True:
        page = api.Query(TableName=table, KeyConditionExpression="pk = :p", ConsistentRead=True,
                         ExpressionAttributeValues={":p": S("big")}, **start)
        seen += page["Items"]
        if "LastEvaluatedKey" not in page:
            break
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert seen == items


def test_slow_clients_are_cut_off(authority):
    """Silent ones, half a handshake, half a request behind one: each has its time."""
    arguments = [*aws_tls(authority.issue("slow")), "--header-timeout", "1s", "--idle-timeout", "4s"]
    with Server(arguments=arguments) as server:
        secure_api = Api(server.endpoint, tls=authority.context())
        assert secure_api.call("ListTables", {}).status == 200
        silent = [wire.connect(server) for _ in range(50)]
        halves = [wire.connect(server) for _ in range(50)]
        for connection in halves:  # the beginning of a ClientHello
            connection.sendall(bytes.fromhex("1603010200010001fc0303"))
        requests = [connect(server, authority.context()) for _ in range(10)]
        for connection in requests:
            connection.sendall(wire.request("ListTables", {})[:50])
        start = time.monotonic()
        for _ in range(20):
            assert secure_api.call("ListTables", {}).status == 200
        assert time.monotonic() - start < 5
        for connection in silent + halves:
            assert wire.Reader(connection).closed(max(0.1, start + 6 - time.monotonic()))
        for connection in requests:
            reader = wire.Reader(connection)
            assert reader.response()[0] == 408 and reader.closed(2)
        assert metric(server, "onggi_http_tls_handshake_failures_total", reason="timeout") == 100
        assert metric(server, "onggi_http_tls_handshakes_total") == 11
        assert server.stop() == 0


def test_idle_connections_cost_some_kilobytes(authority):
    def used(server):
        connection = connect(server, authority.context())
        connection.sendall(wire.request("ListTables", "{" + " " * 50_000 + "}"))
        assert wire.Reader(connection).response()[0] == 200
        return connection

    with Server(arguments=aws_tls(authority.issue("server"))) as server:
        held = [used(server) for _ in range(50)]
        before = server.resident_kib()
        held += [used(server) for _ in range(400)]
        each = (server.resident_kib() - before) / 400
        print(f"\n[figure] an idle TLS connection: {each:.1f} KiB")
        # Record buffers that are kept would be two of 17 KB each. A sanitizer's own memory is ten times that: there
        # it is left to tests/unit/tls/stream_test.cc, which counts them.
        assert each < 40 or sanitized(), "record buffers are kept"
        for connection in held:
            connection.close()
        assert server.stop() == 0


# -- certificates ----------------------------------------------------------------------------------


def test_an_expired_certificate_is_replaced_without_a_restart(authority, tmp_path):
    shown = tmp_path / "shown"
    shutil.copytree(authority.issue_expired("expired"), shown)
    with Server(arguments=aws_tls(shown)) as server:
        assert "the certificate has expired" in server.stderr()
        assert metric(server, "onggi_http_tls_certificate_expiry_seconds") < time.time()
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
            connect(server, authority.context())
        pid = server.pid
        replace(shown, authority.issue("renewed"))

        def accepted():
            try:
                connect(server, authority.context()).close()
                return True
            except ssl.SSLCertVerificationError:
                return False

        eventually(accepted)
        assert metric(server, "onggi_http_tls_certificate_expiry_seconds") > time.time() + 24 * 3600
        before = connect(server, authority.context())
        # What is no certificate changes nothing, and is said once.
        (shown / "tls.crt").write_text("nonsense")
        eventually(lambda: f"no PEM certificate in {shown / 'tls.crt'}" in server.stderr())
        time.sleep(2.5)
        assert server.stderr().count("no PEM certificate in") == 1
        assert accepted()
        # Who came with the old certificate stays.
        before.sendall(wire.request("ListTables", {}))
        assert wire.Reader(before).response()[0] == 200
        before.close()
        assert server.pid == pid and server.stop() == 0


# -- options ---------------------------------------------------------------------------------------


def refused(arguments, environment=None):
    """(exit code, what it said) of a start that must fail, and leave no data directory."""
    server = Server(arguments=arguments, environment=environment)
    try:
        with pytest.raises(StartFailure) as caught:
            server.start()
        assert not os.path.exists(server.data_dir)
        return caught.value.returncode, caught.value.output.strip()
    finally:
        server.close()


def test_one_of_the_two_is_not_enough(authority):
    certificate, key = aws_tls(authority.issue("server"))[1::2]
    for arguments in (["--aws-tls-cert", certificate], ["--aws-tls-key", key]):
        code, said = refused(arguments)
        assert (code, said) == (2, "onggi: --aws-tls-cert and --aws-tls-key go together")
    code, said = refused([], {"ONGGI_AWS_TLS_CERT": certificate})
    assert (code, said) == (2, "onggi: --aws-tls-cert and --aws-tls-key go together")


def test_files_that_cannot_be_used_are_named(authority, stranger, tmp_path):
    certificate, key = aws_tls(authority.issue("server"))[1::2]
    other = str(stranger.issue("server") / "tls.key")
    absent = str(tmp_path / "absent")
    (tmp_path / "empty").touch()
    empty = str(tmp_path / "empty")
    locked = str(tmp_path / "locked")
    subprocess.run(["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", key, "-out", locked], check=True,
                   capture_output=True)
    for files, words in [((absent, key), f"cannot read {absent}: No such file or directory"),
                         ((certificate, absent), f"cannot read {absent}: No such file or directory"),
                         ((str(tmp_path), key), f"cannot read {tmp_path}: Is a directory"),
                         ((empty, key), f"cannot read {empty}: empty"),
                         ((key, key), f"no PEM certificate in {key}"),
                         ((certificate, certificate), f"no PEM private key without a password in {certificate}"),
                         ((certificate, locked), f"no PEM private key without a password in {locked}"),
                         ((certificate, other), f"{other} is not the key of {certificate}")]:
        code, said = refused(["--aws-tls-cert", files[0], "--aws-tls-key", files[1]])
        assert (code, said) == (1, f"onggi: TLS: {words}")


def test_the_file_and_the_environment_have_them_too(authority, tmp_path):
    certificate, key = aws_tls(authority.issue("server"))[1::2]
    config = tmp_path / "onggi.yaml"
    config.write_text(f"aws-tls-cert: {certificate}\n")
    with Server(arguments=["--config", str(config)], environment={"ONGGI_AWS_TLS_KEY": key}) as server:
        assert Api(server.endpoint, tls=authority.context()).call("ListTables", {}).status == 200
        assert server.stop() == 0


def node(tmp_path, *arguments):
    """A node that starts with nothing but these; what it says at its end, which must come at once.

    Its data directory cannot be made: a start that gets so far has passed the checks of its options.
    """
    (tmp_path / "file").touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ONGGI_")}
    done = subprocess.run([binary(), "node", "--etcd", "127.0.0.1:1", "--data-dir", tmp_path / "file",
                           "--aws-port", "0", "--grpc-port", "0", "--admin-port", "0", *arguments],
                          capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode in (1, 2)
    return done.stderr.strip().splitlines()[-1]


def test_a_node_does_not_serve_plain_http_unless_told(authority, tmp_path):
    folder = authority.issue("server")
    member = [*cluster_tls(folder), "--credentials", "KEY:SECRET"]
    past = f"{tmp_path / 'file'}: create directory: Not a directory"
    assert node(tmp_path, *member) == (
        "onggi: without --aws-tls-cert and --aws-tls-key anyone on the way reads what applications ask: add "
        "--aws-plain-http if something in front of the AWS endpoint has TLS, or --insecure")
    assert past in node(tmp_path, *member, "--aws-plain-http")
    assert past in node(tmp_path, *member, "--insecure")
    assert past in node(tmp_path, *member, *aws_tls(folder))
    assert past in node(tmp_path, "--insecure", *aws_tls(folder))
    # It covers the AWS endpoint and nothing else.
    assert "without --credentials" in node(tmp_path, *cluster_tls(folder), "--aws-plain-http")
    assert "anyone could join" in node(tmp_path, "--aws-plain-http", "--credentials", "KEY:SECRET")
    assert node(tmp_path, *member, "--aws-plain-http", *aws_tls(folder)) == (
        "onggi: --aws-plain-http contradicts --aws-tls-cert and --aws-tls-key")
    assert "absent: No such file" in node(tmp_path, *member, "--aws-tls-cert", "absent", "--aws-tls-key", "absent")


def test_dev_has_no_flag_for_what_it_does_anyway():
    code, said = refused(["--aws-plain-http"])
    assert code not in (0, None) and "--aws-plain-http" in said
