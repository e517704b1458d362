"""The C++ client library (client/) against real servers; the program is client_check.cc."""

import socket
import subprocess
from pathlib import Path

import pytest

from conftest import unique
from support.api import Api
from support.needs import missing
from support.server import Server, binary


def program():
    """onggi_client_check of the tree that the server under test is of."""
    path = Path(binary()).parent / "tests" / "unit" / "client" / "onggi_client_check"
    if not path.exists():
        missing(str(path))
    return str(path)


def test_every_kind_of_call(server):
    if server is None:
        pytest.skip("needs a server that this session started")
    done = subprocess.run([program(), "scenario", server.grpc], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == "ok\n", done.stdout + done.stderr


def test_an_endpoint_that_is_gone_does_no_harm(server):
    if server is None:
        pytest.skip("needs a server that this session started")
    done = subprocess.run([program(), "scenario", "127.0.0.1:1", server.grpc], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0 and done.stdout == "ok\n", done.stdout + done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_counter_counts_every_write_once_through_restarts(tmp_path, end):
    aws, grpc = free_port(), free_port()
    server = Server(data_dir=tmp_path / "data", arguments=["--aws-port", str(aws), "--grpc-port", str(grpc)])
    server.start()
    try:
        name = unique()
        api = Api(server.endpoint)
        api.CreateTable(TableName=name, BillingMode="PAY_PER_REQUEST",
                        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}])
        counting = subprocess.Popen([program(), "count", f"127.0.0.1:{grpc}", name, "5"],
                                    stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            try:
                counting.wait(timeout=1.2)
            except subprocess.TimeoutExpired:
                pass
            getattr(server, end)()
            server.start()
        acknowledged, refused, unknown = map(int, counting.communicate(timeout=120)[0].split())
        assert acknowledged > 20 and refused == 0
        counted = int(Api(server.endpoint).GetItem(
            TableName=name, Key={"pk": {"S": "counter"}}, ConsistentRead=True)["Item"]["n"]["N"])
        assert acknowledged <= counted <= acknowledged + unknown
    finally:
        server.close()
