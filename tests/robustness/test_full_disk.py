"""A disk that fills up: writes are refused in as many words, reads go on, space brings writes back."""

import os
import subprocess
import threading
import time

import pytest

from conftest import wait_active
from support.api import Api, N, S
from support.needs import missing
from support.server import Server

SIZE_MB = 400


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A file system of its own with SIZE_MB."""
    if os.geteuid():
        missing("root")
    mount = tmp_path / "disk"
    mount.mkdir()
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(mount)]
    else:
        image = tmp_path / "disk.img"
        with open(image, "wb") as handle:
            handle.truncate(SIZE_MB * 1024 * 1024)
        if subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], capture_output=True).returncode:
            missing("mkfs.ext4")
        command = ["mount", "-o", "loop", str(image), str(mount)]
    if subprocess.run(command, capture_output=True).returncode:
        missing(f"leave to mount {request.param}")
    yield mount
    for _ in range(50):
        if subprocess.run(["umount", str(mount)], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", str(mount)], check=True)


def free_bytes(path):
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def fill(path, leave):
    """Takes all but `leave` bytes of the file system, in one file that is returned."""
    filler = path / "filler"
    chunk = b"\xAA" * (1 << 20)
    with open(filler, "ab", buffering=0) as handle:
        while free_bytes(path) > leave + len(chunk):
            handle.write(chunk)
        rest = free_bytes(path) - leave
        try:
            while rest > 0:
                handle.write(chunk[:min(rest, 65536)])
                if leave == 0 and free_bytes(path) == 0:
                    break
                rest = free_bytes(path) - leave
        except OSError:
            if leave:
                raise
    return filler


def create(api):
    api.CreateTable(TableName="items", BillingMode="PAY_PER_REQUEST",
                    KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                    AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}])
    wait_active(api, "items")


@pytest.mark.parametrize("leave_mb", [8, 0])
def test_full_disk(disk, leave_mb):
    with Server(disk / "data", arguments=["--disk-reserve", "32MB", "--log-limit", "64MB",
                                          "--memory", "64MB"]) as server:
        api = Api(server.endpoint, timeout_s=30)
        create(api)
        acknowledged = {}

        def put(number, size=2000):
            key = f"key{number}"
            response = api.call("PutItem", {"TableName": "items", "Item": {
                "pk": S(key), "n": N(number), "v": S("x" * size)}})
            if response.status == 200:
                acknowledged[key] = number
            return response

        for i in range(500):
            assert put(i).status == 200
        filler = fill(disk, leave_mb << 20)

        # Refused within a moment, as the service reports its own faults; the process lives.
        deadline = time.monotonic() + 10
        number = 500
        while True:
            response = put(number)
            number += 1
            if response.status != 200:
                break
            assert time.monotonic() < deadline, "writes go on although the disk is full"
            time.sleep(0.01)
        assert response.status == 500 and response.error_type == "InternalServerError", response
        assert response.message
        print(f"\nrefusal: {response.message}; free: {free_bytes(disk) >> 20} MB")
        for operation, request in [
            ("UpdateItem", {"TableName": "items", "Key": {"pk": S("key1")}, "UpdateExpression": "SET z = :z",
                            "ExpressionAttributeValues": {":z": N(1)}}),
            ("PutItem", {"TableName": "items", "Item": {"pk": S("new")}}),
        ]:
            assert api.call(operation, request).error_type == "InternalServerError"
        batch = api.call("BatchWriteItem", {"RequestItems": {"items": [{"PutRequest": {"Item": {"pk": S("b")}}}]}})
        # The service answers a batch of which nothing went through with an error, or hands it back.
        assert batch.status == 500 or batch.json["UnprocessedItems"], batch

        # Reads go on for as long as it takes.
        end = time.monotonic() + 2
        while time.monotonic() < end:
            for key in list(acknowledged)[:: max(1, len(acknowledged) // 50)]:
                assert api.GetItem(TableName="items", Key={"pk": S(key)}, ConsistentRead=True)["Item"]["n"] == \
                    N(acknowledged[key])
            assert api.call("ListTables", {}).status == 200
        assert server.running()

        # Space comes back: so do writes, without a restart.
        filler.unlink()
        deadline = time.monotonic() + 15
        while put(number).status != 200:
            number += 1
            assert time.monotonic() < deadline, "no writes although there is space again"
            time.sleep(0.05)
        for i in range(number + 1, number + 300):
            assert put(i).status == 200
        check(api, acknowledged)
        assert server.stop() == 0
        server.start()
        check(Api(server.endpoint), acknowledged)
        assert server.stop() == 0


def check(api, acknowledged):
    for key, number in acknowledged.items():
        item = api.GetItem(TableName="items", Key={"pk": S(key)}, ConsistentRead=True).get("Item")
        assert item and item["n"] == N(number), f"{key} was acknowledged and is gone"


def test_filled_by_its_own_writes(disk):
    """Writers that fill the disk themselves run into the reserve, not into a failed write."""
    with Server(disk / "data", arguments=["--disk-reserve", "32MB", "--log-limit", "64MB",
                                          "--memory", "64MB"]) as server:
        api = Api(server.endpoint, timeout_s=60)
        create(api)
        refused = threading.Event()
        acknowledged = []

        def write(worker):
            number = 0
            while not refused.is_set():
                key = f"{worker}-{number}"
                number += 1
                response = api.call("PutItem", {"TableName": "items", "Item": {
                    "pk": S(key), "v": {"B": noise(worker * 1_000_000 + number)}}})
                if response.status == 200:
                    acknowledged.append(key)
                else:
                    assert response.error_type == "InternalServerError", response
                    refused.set()

        threads = [threading.Thread(target=write, args=(w,)) for w in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert refused.is_set(), f"{len(acknowledged)} writes of 100 KB went into {SIZE_MB} MB"
        assert server.running(), f"exit code {server.process.returncode}\n{server.output()}"
        sample = acknowledged[:: max(1, len(acknowledged) // 200)]
        for key in sample:
            assert "Item" in api.GetItem(TableName="items", Key={"pk": S(key)}, ConsistentRead=True)
        print(f"\n[figure] {len(acknowledged) * 100 // 1024} MB taken in of {SIZE_MB} MB; "
              f"{free_bytes(disk) >> 20} MB left free")
        code = server.stop()
        assert code == 0, f"exit code {code}\n{server.output()}"
        server.start()
        api = Api(server.endpoint)
        for key in sample:
            assert "Item" in api.GetItem(TableName="items", Key={"pk": S(key)}, ConsistentRead=True)
        assert server.stop() == 0


def noise(seed):
    """100 KB that do not compress."""
    import base64
    import random
    return base64.b64encode(random.Random(seed).randbytes(100_000)).decode()
