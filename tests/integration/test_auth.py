"""SigV4 against a server with configured keys: header and presigned forms, skew, what is refused."""

import datetime
import hashlib

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import boto3
import pytest

from conftest import unique, wait_active
from support.api import Api, S
from support.server import Server

KEY, SECRET = "AKIAONGGITESTKEY0001", "a/Secret+Key=with40characters00000000000"
OTHER, OTHER_SECRET = "AKIAONGGITESTKEY0002", "another"


@pytest.fixture(scope="module")
def secured():
    with Server(arguments=["--credentials", f"{KEY}:{SECRET}", "--credentials",
                           f"{OTHER}:{OTHER_SECRET}"]) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture
def at(monkeypatch):
    """Makes botocore sign as if it were another time, by minutes from now."""

    def shift(minutes):
        class Shifted(datetime.datetime):
            @classmethod
            def utcnow(cls):
                return datetime.datetime.utcnow() + datetime.timedelta(minutes=minutes)

            @classmethod
            def now(cls, tz=None):
                return datetime.datetime.now(tz) + datetime.timedelta(minutes=minutes)

        class Module:
            datetime = Shifted

            def __getattr__(self, name):
                return getattr(datetime, name)

        monkeypatch.setattr(botocore.auth, "datetime", Module())

    return shift


def sign(server, operation="ListTables", body=b"{}", access=KEY, secret=SECRET, region="us-east-1",
         service="dynamodb", presigned=False, token=None, expires=60, headers=None):
    request = botocore.awsrequest.AWSRequest(method="POST", url=server.endpoint + "/", data=body, headers={
        "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        **(headers or {})})
    credentials = botocore.credentials.Credentials(access, secret, token)
    if presigned:
        # botocore folds a body into the query before it signs; the service signs the body as it is.
        request.data = b""
        signer = botocore.auth.SigV4QueryAuth(credentials, service, region, expires=expires)
        signer.payload = lambda _: hashlib.sha256(body).hexdigest()
        signer.add_auth(request)
        request.data = body
    else:
        botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
    return request.prepare()


def send(server, prepared, body=None, **changes):
    headers = {k: v for k, v in {**dict(prepared.headers.items()), **changes}.items() if v is not None}
    headers = {k: v.decode() if isinstance(v, bytes) else v for k, v in headers.items()}
    headers.pop("Content-Length", None)
    path = prepared.url[len(server.endpoint):]
    return Api(server.endpoint).call("", prepared.body if body is None else body, path=path, headers=headers)


def refused(response, kind, *fragments):
    assert response.status in (400, 403) and response.error_type == kind, response
    for fragment in fragments:
        assert fragment in response.message, response.message


WRONG = ("The request signature we calculated does not match the signature you provided. Check your AWS "
         "Secret Access Key and signing method. Consult the service documentation for details.")


def test_sdk_with_the_right_keys(secured):
    for access, secret in ((KEY, SECRET), (OTHER, OTHER_SECRET)):
        client = boto3.client("dynamodb", endpoint_url=secured.endpoint, region_name="eu-west-1",
                              aws_access_key_id=access, aws_secret_access_key=secret)
        name = unique()
        client.create_table(TableName=name, BillingMode="PAY_PER_REQUEST",
                            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}])
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        client.put_item(TableName=name, Item={"pk": {"S": "\u00fc"}, "v": {"S": "x" * 10_000}})
        assert client.get_item(TableName=name, Key={"pk": {"S": "\u00fc"}})["Item"]


def test_wrong_secret(secured):
    client = boto3.client("dynamodb", endpoint_url=secured.endpoint, region_name="us-east-1",
                          aws_access_key_id=KEY, aws_secret_access_key="wrong",
                          config=botocore.config.Config(retries={"max_attempts": 0}))
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        client.list_tables()
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    assert caught.value.response["Error"]["Message"].startswith(WRONG)


def test_unknown_key(secured):
    refused(send(secured, sign(secured, access="AKIAUNKNOWN", secret=SECRET)), "UnrecognizedClientException")
    assert send(secured, sign(secured, access="AKIAUNKNOWN")).message == \
        "The security token included in the request is invalid."


def test_body_is_covered(secured):
    prepared = sign(secured, "ListTables", b'{"Limit":1}')
    assert send(secured, prepared).status == 200
    refused(send(secured, prepared, body=b'{"Limit":2}'), "InvalidSignatureException", WRONG)


def test_headers_are_covered(secured):
    prepared = sign(secured, "ListTables")
    refused(send(secured, prepared, **{"X-Amz-Target": "DynamoDB_20120810.DescribeLimits"}),
            "InvalidSignatureException", WRONG)


def test_clock_skew(secured, at):
    at(-14)
    assert send(secured, sign(secured)).status == 200
    at(14)
    assert send(secured, sign(secured)).status == 200
    at(-16)
    refused(send(secured, sign(secured)), "InvalidSignatureException", "Signature expired: ",
            "is now earlier than", "- 15 min.)")
    at(16)
    refused(send(secured, sign(secured)), "InvalidSignatureException", "Signature not yet current: ",
            "is still later than", "+ 15 min.)")


def test_presigned(secured, at):
    assert send(secured, sign(secured, presigned=True)).status == 200
    refused(send(secured, sign(secured, presigned=True, secret="wrong")), "InvalidSignatureException", WRONG)
    at(-10)
    refused(send(secured, sign(secured, presigned=True, expires=60)), "InvalidSignatureException",
            "Signature expired")
    assert send(secured, sign(secured, presigned=True, expires=3600)).status == 200


def test_wrong_service(secured):
    refused(send(secured, sign(secured, service="s3")), "InvalidSignatureException",
            "Credential should be scoped to correct service: 'dynamodb'.")


def test_no_signature(secured):
    prepared = sign(secured)
    refused(send(secured, prepared, Authorization=None), "MissingAuthenticationTokenException")
    assert send(secured, prepared, Authorization=None).message == "Request is missing Authentication Token"
    refused(send(secured, prepared, Authorization="Basic abc"), "MissingAuthenticationTokenException")


@pytest.mark.parametrize("header, fragments", [
    ("AWS4-HMAC-SHA256 Signature=b", ["Authorization header requires 'Credential' parameter.",
                                      "Authorization header requires 'SignedHeaders' parameter."]),
    ("AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/dynamodb/aws4_request, SignedHeaders=host",
     ["Authorization header requires 'Signature' parameter."]),
    ("AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=b", ["Credential must have exactly 5"]),
])
def test_incomplete_signatures(secured, header, fragments):
    response = send(secured, sign(secured), Authorization=header)
    refused(response, "IncompleteSignatureException", *fragments)


def test_both_forms_at_once(secured):
    prepared = sign(secured, presigned=True)
    response = send(secured, prepared, Authorization=sign(secured).headers["Authorization"])
    refused(response, "InvalidSignatureException",
            "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")


def test_without_keys_every_caller_is_one_account(endpoint, hash_table):
    for access, region in (("AKIAONE", "us-east-1"), ("AKIATWO", "eu-central-1"), ("x", "ap-south-1")):
        other = Api(endpoint, access_key=access, region=region)
        assert other.DescribeTable(TableName=hash_table)["Table"]["TableName"] == hash_table


def test_isolated_accounts():
    with Server(arguments=["--isolate-accounts"]) as server:
        first, second = Api(server.endpoint, "AKIAONE"), Api(server.endpoint, "AKIATWO")
        elsewhere = Api(server.endpoint, "AKIAONE", region="eu-west-1")
        request = {"TableName": "shared_name", "BillingMode": "PAY_PER_REQUEST",
                   "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                   "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}]}
        first.CreateTable(request)
        assert first.ListTables()["TableNames"] == ["shared_name"]
        assert second.ListTables()["TableNames"] == [] and elsewhere.ListTables()["TableNames"] == []
        second.CreateTable(request)
        wait_active(first, "shared_name")
        wait_active(second, "shared_name")
        first.PutItem(TableName="shared_name", Item={"pk": S("mine")})
        assert second.Scan(TableName="shared_name")["Count"] == 0
        assert first.Scan(TableName="shared_name")["Count"] == 1
        assert server.stop() == 0
