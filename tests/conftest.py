"""Fixtures shared by every Python test: one server per session, real clients in front of it.

ONGGI_ENDPOINT points the suite at something that already runs (a node of a cluster, or another
implementation of the API, for checking the tests themselves), ONGGI_GRPC_ENDPOINT and
ONGGI_ADMIN_ENDPOINT at its other ports; otherwise a server is started on free ports over an empty
directory, and must stop cleanly on SIGTERM at the end.
"""

import os
import uuid

import boto3
import botocore.config
import pytest

from support.api import Api
from support.server import Server


class Elsewhere:
    """A server that others started: its addresses."""

    def __init__(self):
        self.endpoint = os.environ["ONGGI_ENDPOINT"]
        self.grpc = os.environ["ONGGI_GRPC_ENDPOINT"]
        self.admin = os.environ["ONGGI_ADMIN_ENDPOINT"]


@pytest.fixture(scope="session")
def server():
    """The session's own server; what runs elsewhere, by its addresses, or None where only one is known."""
    if os.environ.get("ONGGI_ENDPOINT"):
        yield Elsewhere() if os.environ.get("ONGGI_GRPC_ENDPOINT") else None
        return
    running = Server()
    running.start()
    try:
        yield running
        assert running.running(), "the server died during the tests:\n" + running.output()
        code = running.stop()
        assert code == 0, f"exit code {code} after SIGTERM:\n{running.output()}"
    finally:
        running.close()


@pytest.fixture(scope="session")
def endpoint(server):
    return server.endpoint if server else os.environ["ONGGI_ENDPOINT"]


@pytest.fixture
def own_server(server):
    """The session's server, for tests that look at the process; skipped with ONGGI_ENDPOINT."""
    if not isinstance(server, Server):
        pytest.skip("needs a server that this session started")
    return server


def make_client(endpoint, kind="client", verify=None, **config):
    """A boto3 client or resource that neither validates parameters nor retries.

    `verify`: file of the authorities that are trusted, with https.
    """
    settings = {"parameter_validation": False, "retries": {"max_attempts": 0},
                "read_timeout": 60, "connect_timeout": 5, "max_pool_connections": 64}
    settings.update(config)
    factory = boto3.client if kind == "client" else boto3.resource
    return factory("dynamodb", endpoint_url=endpoint, region_name="us-east-1", verify=verify,
                   aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="example",
                   config=botocore.config.Config(**settings))


@pytest.fixture(scope="session")
def client(endpoint):
    return make_client(endpoint)


@pytest.fixture(scope="session")
def resource(endpoint):
    return make_client(endpoint, "resource")


@pytest.fixture(scope="session")
def api(endpoint):
    return Api(endpoint)


def unique(prefix="t"):
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


class Tables:
    """Creates tables in a few usual shapes and deletes them when the test (or module) ends."""

    def __init__(self, api):
        self.api = api
        self.names = []

    def create(self, name=None, hash_type="S", range_type=None, local=None, attributes=None, **extra):
        """Table with partition key `pk` and, if range_type, sort key `sk`.

        `local` maps an index name to (sort attribute, type, projection dictionary).
        """
        name = name or unique()
        definitions = {"pk": hash_type}
        schema = [{"AttributeName": "pk", "KeyType": "HASH"}]
        if range_type:
            definitions["sk"] = range_type
            schema.append({"AttributeName": "sk", "KeyType": "RANGE"})
        request = {"TableName": name, "KeySchema": schema, "BillingMode": "PAY_PER_REQUEST"}
        if local:
            indexes = []
            for index, (attribute, kind, projection) in local.items():
                definitions[attribute] = kind
                indexes.append({"IndexName": index, "Projection": projection, "KeySchema": [
                    {"AttributeName": "pk", "KeyType": "HASH"},
                    {"AttributeName": attribute, "KeyType": "RANGE"}]})
            request["LocalSecondaryIndexes"] = indexes
        request["AttributeDefinitions"] = [
            {"AttributeName": a, "AttributeType": t} for a, t in definitions.items()]
        request.update(extra)
        if "ProvisionedThroughput" in extra:
            request.pop("BillingMode") if "BillingMode" not in extra else None
        self.api.CreateTable(request)
        self.names.append(name)
        wait_active(self.api, name)
        return name

    def drop_all(self):
        for name in self.names:
            self.api.call("DeleteTable", {"TableName": name})
        self.names.clear()


def wait_active(api, name, seconds=10):
    import time
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if api.DescribeTable(TableName=name)["Table"]["TableStatus"] == "ACTIVE":
            return
        time.sleep(0.02)
    raise AssertionError(f"table {name} did not become ACTIVE")


@pytest.fixture
def tables(api):
    made = Tables(api)
    yield made
    made.drop_all()


@pytest.fixture(scope="module")
def module_tables(api):
    made = Tables(api)
    yield made
    made.drop_all()


@pytest.fixture(scope="module")
def hash_table(module_tables):
    """Shared by a module: tests use keys of their own."""
    return module_tables.create()


@pytest.fixture(scope="module")
def range_table(module_tables):
    return module_tables.create(range_type="S")


@pytest.fixture(scope="module")
def number_range_table(module_tables):
    return module_tables.create(range_type="N")


@pytest.fixture
def key():
    """A partition key value that no other test uses."""
    return unique("k")


@pytest.fixture
def fails(api):
    """Asserts that a call fails with exactly this type and message.

    `message` may be a list: then every part must be there, in any order (several constraint
    violations at once), and nothing else but the leading count.
    """

    def check(operation, request, kind, message, status=400):
        response = api.call(operation, request)
        assert response.status == status, f"{operation} answered {response!r}"
        assert response.error_type == kind, f"{response.error_type}: {response.message}"
        if isinstance(message, list):
            count = len(message)
            prefix = f"{count} validation error{'s' if count > 1 else ''} detected: "
            assert response.message.startswith(prefix), response.message
            # Constraint texts contain no "; " of their own except between one another.
            assert sorted(response.message[len(prefix):].split("; ")) == sorted(message)
        else:
            assert response.message == message
        return response

    return check


@pytest.fixture
def invalid(fails):
    """fails() for the commonest type."""

    def check(operation, request, message):
        return fails(operation, request, "ValidationException", message)

    return check
