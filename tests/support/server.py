"""Starts, watches and stops one onggi process for the tests.

The binary comes from ONGGI_BINARY (default build/release/onggi, then build/debug/onggi). Every test
talks to the ports that the process prints, so that any number of servers can run at once.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = float(os.environ.get("ONGGI_START_TIMEOUT_S", "20"))
STOP_TIMEOUT_S = float(os.environ.get("ONGGI_STOP_TIMEOUT_S", "20"))

_LISTENING = re.compile(r"(?i)^\W*(\w[\w ./-]*?)\W*\s.*?(https?)://([\d.]+|\[[\da-f:]+\]|localhost):(\d+)")


def binary() -> str:
    """Path of the server under test."""
    chosen = os.environ.get("ONGGI_BINARY")
    if chosen:
        return chosen
    for build in ("release", "debug"):
        candidate = REPOSITORY / "build" / build / "onggi"
        if candidate.exists():
            return str(candidate)
    return str(REPOSITORY / "build" / "release" / "onggi")


def sanitized() -> bool:
    """Whether the server under test was built with a sanitizer. Most of its memory is that one's then."""
    cache = Path(binary()).parent / "CMakeCache.txt"
    return cache.exists() and re.search(r"^ONGGI_SANITIZE:\w+=.", cache.read_text(), re.MULTILINE) is not None


class StartFailure(Exception):
    """The process ended, or said nothing, before it listened. Carries its output and exit code."""

    def __init__(self, message, returncode=None, output=""):
        super().__init__(f"{message}; exit code {returncode}; output:\n{output}")
        self.returncode = returncode
        self.output = output


class Server:
    """One `onggi dev` process over one data directory.

    start() returns once the DynamoDB address is printed; stop() sends SIGTERM and returns the exit
    code; kill() is kill -9. The data directory is removed by close() only if this object made it.
    """

    def __init__(self, data_dir=None, arguments=(), environment=None, role="dev"):
        self._owned_dir = None
        if data_dir is None:
            self._owned_dir = tempfile.mkdtemp(prefix="onggi-test-")
            data_dir = os.path.join(self._owned_dir, "data")
        self.data_dir = str(data_dir)
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.role = role
        self.process = None
        self.lines = []
        self.addresses = {}
        self.started_in_s = None
        self.spawned_at = None
        self._stderr = None
        self._changed = threading.Condition()

    # -- lifecycle ---------------------------------------------------------------------------

    def start(self, timeout_s=None):
        timeout_s = timeout_s or START_TIMEOUT_S
        command = [binary(), self.role, "--data-dir", self.data_dir]
        for port in ("--aws-port", "--admin-port", "--grpc-port", "--gateway-port"):
            if port not in self.arguments:
                command += [port, "0"]
        command += self.arguments
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ONGGI_"))}
        environment.update(self.environment)
        self.lines, self.addresses = [], {}
        self._stderr = tempfile.TemporaryFile()
        self.spawned_at = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._stderr,
                                        stdin=subprocess.DEVNULL, env=environment)
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        deadline = self.spawned_at + timeout_s
        with self._changed:
            while "dynamodb" not in self.addresses:
                if self.process.poll() is not None:
                    self._changed.wait(0.2)
                    if "dynamodb" in self.addresses:
                        break
                    raise StartFailure("the server ended before it listened",
                                       self.process.returncode, self.output())
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    output = self.output()
                    self.kill()
                    raise StartFailure("no DynamoDB address was printed in time", None, output)
                self._changed.wait(min(remaining, 0.05))
        self.started_in_s = time.monotonic() - self.spawned_at
        return self

    def _read(self, process):
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            with self._changed:
                self.lines.append(line)
                match = _LISTENING.match(line)
                if match:
                    name = match.group(1).strip().lower().split()[0]
                    address = f"{match.group(2)}://{match.group(3)}:{match.group(4)}"
                    self.addresses.setdefault(name, address)
                elif "dynamodb" in line.lower():
                    found = re.search(r"https?://[\d.]+:\d+", line)
                    if found:
                        self.addresses.setdefault("dynamodb", found.group(0))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def stop(self, timeout_s=None):
        """SIGTERM; returns the exit code. A server that does not drain in time is a failure."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s or STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the server did not stop on SIGTERM; output:\n" + self.output())

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.kill()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None
        if self._owned_dir:
            shutil.rmtree(self._owned_dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        # A broken connection alone does not tell a dead server from one that hung up.
        if kind is not None and issubclass(kind, Exception):
            print(self.state())
        self.close()

    # -- looking at it -----------------------------------------------------------------------

    @property
    def pid(self):
        return self.process.pid

    @property
    def endpoint(self):
        return self.addresses["dynamodb"]

    @property
    def port(self):
        return int(self.endpoint.rsplit(":", 1)[1])

    @property
    def admin(self):
        """Address of /metrics and /healthz."""
        for name, address in self.addresses.items():
            if name in ("admin", "metrics", "console"):
                return address
        raise AssertionError(f"no admin address among {self.addresses}")

    @property
    def grpc(self):
        """host:port of the gRPC services."""
        with self._changed:
            for _ in range(100):
                for line in self.lines:
                    if line.startswith("grpc "):
                        return line.split()[1]
                self._changed.wait(0.1)
        raise AssertionError(f"no gRPC address among {self.lines}")

    def running(self):
        return self.process is not None and self.process.poll() is None

    def resident_kib(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stderr(self):
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    def state(self):
        """Whether the process lives or how it ended, and its output: for the report of a failure."""
        try:
            code = self.process.wait(1)  # a process that is about to die takes a moment
            ended = f"the server ended with {signal.Signals(-code).name if code < 0 else code}"
        except subprocess.TimeoutExpired:
            ended = "the server runs"
        return f"{ended}; output:\n{self.output()}"

    def output(self):
        return "\n".join(self.lines) + "\n" + self.stderr()[-8000:]
