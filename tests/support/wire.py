"""HTTP by hand over a socket, for behaviour that clients hide."""

import json
import socket
import time


def connect(server_or_endpoint, timeout_s=10):
    endpoint = getattr(server_or_endpoint, "endpoint", server_or_endpoint)
    host, port = endpoint.split("//", 1)[1].rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def request(operation, body, headers=None, method="POST", path="/", version="HTTP/1.1"):
    """Bytes of one request; Content-Length is set unless `headers` names it (None leaves one out)."""
    if isinstance(body, dict):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    fields = {
        "Host": "localhost", "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"DynamoDB_20120810.{operation}" if operation else None,
        "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20300101/us-east-1/dynamodb/"
                         "aws4_request, SignedHeaders=host, Signature=" + "0" * 64,
        "Content-Length": str(len(body))}
    fields.update(headers or {})
    head = f"{method} {path} {version}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return head.encode() + b"\r\n" + body


class Reader:
    """Reads answers from a socket: (status, headers in lower case, body). None at end of stream."""

    def __init__(self, connection):
        self.connection = connection
        self.buffer = b""

    def _fill(self):
        data = self.connection.recv(65536)
        self.buffer += data
        return bool(data)

    def response(self, method="POST"):
        while b"\r\n\r\n" not in self.buffer:
            if not self._fill():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers[name.strip().lower()] = value.strip()
        if status in (100, 204, 304) or method == "HEAD":
            return status, headers, b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return status, headers, self._chunks()
        length = headers.get("content-length")
        if length is None:
            while self._fill():
                pass
            body, self.buffer = self.buffer, b""
            return status, headers, body
        while len(self.buffer) < int(length):
            if not self._fill():
                raise AssertionError("the answer ended early")
        body, self.buffer = self.buffer[:int(length)], self.buffer[int(length):]
        return status, headers, body

    def _chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                assert self._fill(), "the answer ended early"
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            size = int(line.split(b";")[0], 16)
            while len(self.buffer) < size + 2:
                assert self._fill(), "the answer ended early"
            body += self.buffer[:size]
            self.buffer = self.buffer[size + 2:]
            if size == 0:
                return body

    def closed(self, within_s):
        """Whether the peer closes (or resets) within the time, whatever it still sends."""
        deadline = time.monotonic() + within_s
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self.connection.settimeout(remaining)
            try:
                if not self.connection.recv(65536):
                    return True
            except (ConnectionError, OSError) as problem:
                if isinstance(problem, (socket.timeout, TimeoutError)):
                    return False
                return True


def exchange(server_or_endpoint, data, method="POST"):
    """One request, one answer, on a connection of its own."""
    with connect(server_or_endpoint) as connection:
        connection.sendall(data)
        return Reader(connection).response(method)
