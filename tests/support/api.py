"""A thin client of the DynamoDB wire protocol, without an SDK's own validation in the way."""

import base64
import datetime
import http.client
import json
import threading
import urllib.parse
import zlib


class Response:
    """Status, headers (lower case) and body of one answer; `json` is the parsed body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body) if self.body else None

    @property
    def error_type(self):
        """The short name of the error, for instance ValidationException."""
        body = self.json or {}
        return (body.get("__type") or "").split("#")[-1]

    @property
    def message(self):
        body = self.json or {}
        return body.get("message", body.get("Message"))

    def __repr__(self):
        return f"<{self.status} {self.body[:2000]!r}>"


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(self, response):
        super().__init__(f"{response.status} {response.error_type}: {response.message}")
        self.response = response
        self.code = response.error_type
        self.message = response.message
        self.json = response.json


class Api:
    """Calls operations by name with plain dictionaries: api.PutItem(TableName=..., Item=...).

    One kept-alive connection per thread; with https, over the ssl.SSLContext `tls`. A 200 answer returns its dictionary; anything else raises
    ApiError. call() returns the raw Response instead. Nothing is retried.
    """

    def __init__(self, endpoint, access_key="AKIAIOSFODNN7EXAMPLE", region="us-east-1", timeout_s=60, tls=None):
        parts = urllib.parse.urlsplit(endpoint)
        self.endpoint = endpoint
        self.host = parts.hostname
        self.port = parts.port
        self.timeout_s = timeout_s
        self.tls = tls
        assert (tls is not None) == (parts.scheme == "https"), endpoint
        self._authorization = (
            "AWS4-HMAC-SHA256 Credential={}/{}/{}/dynamodb/aws4_request, "
            "SignedHeaders=host;x-amz-date;x-amz-target, Signature={}").format(
                access_key, datetime.datetime.utcnow().strftime("%Y%m%d"), region, "0" * 64)
        self._local = threading.local()

    def connection(self):
        connection = getattr(self._local, "connection", None)
        if connection is None:
            if self.tls is None:
                connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout_s)
            else:
                connection = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout_s,
                                                         context=self.tls)
            self._local.connection = connection
        return connection

    def disconnect(self):
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def headers(self, operation, **extra):
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810." + operation,
            "X-Amz-Date": datetime.datetime.utcnow().strftime("%Y%m%dT%H%M%SZ"),
            "Authorization": self._authorization,
        }
        for name, value in extra.items():
            name = name.replace("_", "-")
            if value is None:
                headers.pop(name, None)
            else:
                headers[name] = value
        return headers

    def call(self, operation, body, method="POST", path="/", headers=None):
        """Sends one request. `body` is a dictionary, a string or bytes. Returns Response."""
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        connection = self.connection()
        try:
            connection.request(method, path, body=body,
                               headers=headers if headers is not None else self.headers(operation))
            answer = connection.getresponse()
            data = answer.read()
        except Exception:
            self.disconnect()
            raise
        lower = {name.lower(): value for name, value in answer.getheaders()}
        if lower.get("x-amz-crc32") and not lower.get("content-encoding"):
            assert int(lower["x-amz-crc32"]) == zlib.crc32(data), "X-Amz-Crc32 does not match the body"
        if answer.will_close:
            self.disconnect()
        return Response(answer.status, lower, data)

    def __getattr__(self, operation):
        if not operation[0].isupper():
            raise AttributeError(operation)

        def invoke(*bodies, **parameters):
            body = bodies[0] if bodies else parameters
            response = self.call(operation, body)
            if response.status != 200:
                raise ApiError(response)
            return response.json

        return invoke


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def S(value):
    return {"S": value}


def N(value):
    return {"N": str(value)}


def B(value: bytes):
    return {"B": b64(value)}


def M(**members):
    return {"M": members}


def L(*elements):
    return {"L": list(elements)}


def SS(*elements):
    return {"SS": list(elements)}


def NS(*elements):
    return {"NS": [str(e) for e in elements]}
