"""Damaged, newer, foreign and shared data directories: refused by name, and left as they were."""

import hashlib
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from conftest import wait_active
from support.api import Api, N, S
from support.needs import missing
from support.server import Server, StartFailure


def tree(root):
    """Path -> hash of every file."""
    found = {}
    for path in sorted(Path(root).rglob("*")):
        name = str(path.relative_to(root))
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
    return found


def create(api, name):
    api.CreateTable(TableName=name, BillingMode="PAY_PER_REQUEST",
                    KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                    AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}])
    wait_active(api, name)


COUNT = 1500


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A directory whose server was killed: its log holds what the stores do not have yet."""
    path = tmp_path_factory.mktemp("killed") / "data"
    server = Server(path)
    server.start()
    api = Api(server.endpoint)
    create(api, "first")
    create(api, "second")
    for i in range(COUNT):
        api.PutItem(TableName="first", Item={"pk": S(f"item{i}"), "n": N(i), "v": S(f"value {i} " * 20)})
    server.kill()
    server.close()
    return path


@pytest.fixture(scope="module")
def stopped(killed, tmp_path_factory):
    """The same after an orderly start, use and stop: what is used is flushed to table files."""
    path = tmp_path_factory.mktemp("stopped") / "data"
    shutil.copytree(killed, path)
    server = Server(path)
    server.start()
    assert Api(server.endpoint).GetItem(TableName="first", Key={"pk": S("item1")})["Item"]
    assert server.stop() == 0
    server.close()
    return path


@pytest.fixture
def copy(tmp_path):
    def make(source):
        target = tmp_path / "data"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target

    return make


def refusal(path, timeout_s=20):
    """Starts a server that must refuse; returns its output. The directory must not change."""
    before = tree(path)
    server = Server(path)
    try:
        with pytest.raises(StartFailure) as caught:
            server.start(timeout_s)
        assert caught.value.returncode not in (0, None), "no exit code: killed or still running"
        assert caught.value.returncode > 0, f"ended by signal {-caught.value.returncode}, not by refusal"
    finally:
        server.close()
    after = tree(path)
    changed = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    assert not changed, f"a refused directory was changed: {sorted(changed)}"
    return caught.value.output


def everything_is_there(path):
    """Starts; True when all items are right; the server must not lose or invent anything."""
    with Server(path) as server:
        api = Api(server.endpoint)
        page, count, start = None, 0, None
        while True:
            request = {"TableName": "first", "ConsistentRead": True}
            if start:
                request["ExclusiveStartKey"] = start
            page = api.Scan(request)
            for item in page["Items"]:
                n = int(item["n"]["N"])
                assert item == {"pk": S(f"item{n}"), "n": N(n), "v": S(f"value {n} " * 20)}
            count += page["Count"]
            start = page.get("LastEvaluatedKey")
            if not start:
                break
        assert server.stop() == 0
    return count == COUNT


def flip(file, at, length=8):
    with open(file, "r+b") as handle:
        handle.seek(at)
        old = handle.read(length)
        handle.seek(at)
        handle.write(bytes(b ^ 0x5A for b in old))


def used_length(file):
    """Length without the zeros of preallocation."""
    data = Path(file).read_bytes()
    return len(data.rstrip(b"\x00"))


def test_undamaged_copies_start(killed, stopped, copy):
    assert everything_is_there(copy(killed))
    assert everything_is_there(copy(stopped))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_damage_in_the_log(killed, copy, fraction):
    path = copy(killed)
    segments = [f for f in (path / "log").rglob("*") if f.is_file() and used_length(f) > 10_000]
    assert segments, sorted(tree(path))
    segment = max(segments, key=used_length)
    flip(segment, int(used_length(segment) * fraction))
    output = refusal(path)
    assert segment.name in output, output
    assert re.search(r"(?i)corrupt|damage|checksum", output), output


def test_damage_in_a_segment_header(killed, copy):
    path = copy(killed)
    segment = max((f for f in (path / "log").rglob("*") if f.is_file()), key=used_length)
    flip(segment, 4)
    assert segment.name in refusal(path)


def test_a_missing_segment(killed, copy):
    path = copy(killed)
    segment = max((f for f in (path / "log").rglob("*") if f.is_file()), key=used_length)
    segment.unlink()
    output = refusal(path)
    assert "log" in output


def test_a_torn_tail_is_cut(killed, copy):
    """A crash in the middle of a write leaves garbage after the last good record: that is no damage."""
    path = copy(killed)
    segment = max((f for f in (path / "log").rglob("*") if f.is_file()), key=used_length)
    end = used_length(segment)
    with open(segment, "r+b") as handle:
        handle.seek(end + 1)
        handle.write(os.urandom(100))
    assert everything_is_there(path)


def stores(path):
    """Every file of the metadata store and of the partitions that holds data."""
    return [f for f in Path(path).rglob("*") if f.is_file() and f.stat().st_size > 0
            and (f.relative_to(path).parts[0] != "log")
            and not f.name.startswith(("LOG", "LOCK", "OPTIONS", "IDENTITY"))]


def test_damage_anywhere_is_refused_or_harmless(stopped, copy):
    """One run of flipped bytes in every file of the stores, one file at a time.

    The server may refuse by name, or be unaffected; it must never start and lose or change data, die
    by a signal, or touch the directory that it refuses.
    """
    names = sorted(str(f.relative_to(stopped)) for f in stores(stopped))
    assert any("metadata" in n for n in names) and any("partitions" in n for n in names), names
    refused, harmless = [], []
    for name in names:
        path = copy(stopped)
        file = path / name
        flip(file, file.stat().st_size // 2, min(8, file.stat().st_size))
        before = tree(path)
        server = Server(path)
        try:
            server.start()
        except StartFailure as failure:
            assert failure.returncode and failure.returncode > 0, f"{name}: {failure}"
            assert file.name in failure.output or file.parent.name in failure.output, failure.output
            assert tree(path) == before, f"{name}: a refused directory was changed"
            refused.append(name)
            continue
        finally:
            running = server.running()
            if not running:
                server.close()
        try:
            api = Api(server.endpoint)
            answer = api.call("Scan", {"TableName": "first", "ConsistentRead": True})
            if answer.status == 500:
                assert name.endswith(".sst"), f"{name}: damage outside the tables was not refused"
                refused.append(name + " (reads answer 500)")
                continue
            assert answer.status == 200, f"{name}: {answer}"
            found, start = answer.json["Items"], answer.json.get("LastEvaluatedKey")
            while start:
                page = api.call("Scan", {"TableName": "first", "ExclusiveStartKey": start})
                if page.status == 500:
                    break
                found += page.json["Items"]
                start = page.json.get("LastEvaluatedKey")
            if start:
                assert name.endswith(".sst"), f"{name}: damage outside the tables was not refused"
                refused.append(name + " (reads answer 500)")
                continue
            assert len(found) == COUNT, f"{name}: {len(found)} of {COUNT} items after silent damage"
            for item in found:
                n = int(item["n"]["N"])
                assert item == {"pk": S(f"item{n}"), "n": N(n), "v": S(f"value {n} " * 20)}, name
            harmless.append(name)
        finally:
            server.close()
    print(f"\nrefused: {refused}\nharmless: {harmless}")
    assert any("MANIFEST" in n and "reads" not in n for n in refused), "damage in a manifest was not refused"


def harm(file, how):
    if how == "flip":
        flip(file, file.stat().st_size // 2, min(8, file.stat().st_size))
    elif how == "flip the end":
        flip(file, file.stat().st_size - 8)
    elif how == "truncate":
        os.truncate(file, file.stat().st_size - 1)
    elif how == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()


@pytest.mark.parametrize("file_name", ["MANIFEST", "CURRENT"])
@pytest.mark.parametrize("how", ["flip", "empty", "missing"])
def test_damaged_metadata(stopped, copy, file_name, how):
    path = copy(stopped)
    file = next(f for f in sorted((path / "metadata").rglob(file_name + "*")) if f.is_file())
    harm(file, how)
    assert str(file) in refusal(path)


@pytest.mark.parametrize("how", ["flip", "missing"])
def test_damaged_write_ahead_log_of_the_metadata(killed, copy, how):
    path = copy(killed)
    file = max((path / "metadata").glob("*.log"))
    assert file.stat().st_size > 100
    harm(file, how)
    assert str(path / "metadata") in refusal(path)


@pytest.mark.parametrize("name", ["metadata", "log"])
def test_a_missing_store(stopped, copy, name):
    path = copy(stopped)
    shutil.rmtree(path / name)
    assert str(path / name) in refusal(path)


@pytest.mark.parametrize("file_name, how", [
    ("store/MANIFEST-*", "flip"), ("store/MANIFEST-*", "empty"), ("store/MANIFEST-*", "missing"),
    ("store/CURRENT", "flip"), ("store/CURRENT", "empty"), ("store/CURRENT", "missing"),
    ("store/*.sst", "flip the end"), ("store/*.sst", "truncate"), ("store/*.sst", "empty"),
    ("store/*.sst", "missing"), ("REPLICA", "flip"), ("REPLICA", "empty"), ("REPLICA", "missing"),
])
def test_a_damaged_partition(stopped, copy, file_name, how):
    """Also where its log could still bring everything back: nobody knows that it can."""
    path = copy(stopped)
    victim = partition_of_first(path)
    file = next(f for f in sorted(victim.glob(file_name)) if f.is_file())
    harm(file, how)
    # What a sound start would remove stays as well.
    (path / "partitions" / f"{victim.name}.new").mkdir()
    assert str(file) in refusal(path)


def test_leftovers_of_a_killed_flush_are_no_damage(stopped, copy):
    path = copy(stopped)
    (partition_of_first(path) / "store" / "999999.sst").write_bytes(b"half a table")
    assert everything_is_there(path)


def test_damage_inside_a_table_file_is_found_when_it_is_read(stopped, copy):
    """Blocks are verified when they are read, not at the start: their table fails, and no other."""
    path = copy(stopped)
    victim = partition_of_first(path)
    file = max(victim.glob("store/*.sst"), key=lambda f: f.stat().st_size)
    flip(file, file.stat().st_size // 3)
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    with Server(path) as server:
        api = Api(server.endpoint)
        answer, start = None, None
        while answer is None or (answer.status == 200 and start):
            request = {"TableName": "first", "ConsistentRead": True}
            if start:
                request["ExclusiveStartKey"] = start
            answer = api.call("Scan", request)
            start = answer.json.get("LastEvaluatedKey")
        assert answer.status == 500 and answer.error_type == "InternalServerError", answer
        assert api.call("PutItem", {"TableName": "second", "Item": {"pk": S("a")}}).status == 200
        assert api.Scan(TableName="second")["Count"] == 1
        assert f"partitions/{victim.name}" in server.output() or file.name in server.output(), server.output()
        server.stop()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("left", [[], ["metadata"], ["metadata", "metadata/MANIFEST-000001"]])
def test_a_first_start_that_was_cut_short_is_made_good(tmp_path, left):
    path = tmp_path / "data"
    path.mkdir()
    (path / "FORMAT").write_text("onggi-data 1\n")
    (path / "LOCK").write_text("")
    for name in left:
        (path / name).write_bytes(b"") if "/" in name else (path / name).mkdir()
    with Server(path) as server:
        create(Api(server.endpoint), "mine")
        assert server.stop() == 0
    with Server(path) as server:
        assert Api(server.endpoint).Scan(TableName="mine")["Count"] == 0
        assert server.stop() == 0


def partition_of_first(path):
    """Partitions are numbered in the order of their tables' creation."""
    return min((d for d in (path / "partitions").iterdir() if d.is_dir()), key=lambda d: int(d.name))


def test_a_missing_partition_directory(stopped, copy):
    """A store that is gone is lost data, never an empty table."""
    path = copy(stopped)
    victim = partition_of_first(path)
    shutil.rmtree(victim)
    output = refusal(path)
    assert victim.name in output, output


def test_a_newer_format(stopped, copy):
    path = copy(stopped)
    (path / "FORMAT").write_text("onggi-data 999\n")
    output = refusal(path)
    assert "FORMAT" in output and "999" in output and "newer" in output


@pytest.mark.parametrize("content", ["", "nonsense\n", "onggi-data 0\n", "onggi-data -1\n"])
def test_a_damaged_format_file(stopped, copy, content):
    path = copy(stopped)
    (path / "FORMAT").write_text(content)
    assert "FORMAT" in refusal(path)


def test_a_foreign_directory(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    (path / "thesis.txt").write_text("do not touch")
    output = refusal(path)
    assert str(path) in output
    assert (path / "thesis.txt").read_text() == "do not touch" and len(list(path.iterdir())) == 1


def test_a_path_that_is_a_file(tmp_path):
    path = tmp_path / "data"
    path.write_text("a file")
    server = Server(path)
    try:
        with pytest.raises(StartFailure) as caught:
            server.start()
        assert caught.value.returncode > 0 and str(path) in caught.value.output
    finally:
        server.close()
    assert path.read_text() == "a file"


def test_two_servers_on_one_directory(tmp_path):
    path = tmp_path / "data"
    with Server(path) as first:
        api = Api(first.endpoint)
        create(api, "mine")
        second = Server(path)
        try:
            with pytest.raises(StartFailure) as caught:
                second.start()
        finally:
            second.close()
        assert caught.value.returncode > 0
        assert re.search(r"(?i)in use", caught.value.output), caught.value.output
        assert str(path) in caught.value.output and str(first.pid) in caught.value.output
        # The first did not notice.
        assert api.call("PutItem", {"TableName": "mine", "Item": {"pk": S("a")}}).status == 200
        assert first.stop() == 0
    # And the directory is free again.
    with Server(path) as third:
        assert Api(third.endpoint).Scan(TableName="mine")["Count"] == 1
        assert third.stop() == 0


def test_a_port_in_use(tmp_path):
    with Server() as first:
        second = Server(tmp_path / "data", arguments=["--aws-port", str(first.port)])
        try:
            with pytest.raises(StartFailure) as caught:
                second.start()
            assert caught.value.returncode > 0
            assert str(first.port) in caught.value.output
        finally:
            second.close()


def test_a_read_only_directory(tmp_path):
    """As root, permissions do not bind: a read-only mount does."""
    import subprocess
    mount = tmp_path / "ro"
    mount.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(mount)],
                                      capture_output=True).returncode:
        missing("root and mount")
    try:
        server = Server(mount / "data")
        try:
            with pytest.raises(StartFailure) as caught:
                server.start()
            assert caught.value.returncode > 0 and str(mount) in caught.value.output
        finally:
            server.close()
    finally:
        subprocess.run(["umount", str(mount)], check=True)
