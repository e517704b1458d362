"""The scripts of deploy/ without what they start: certificates are renewed in time, and `./x cluster` asks a
node that lives (of a `docker` that answers as it is told)."""

import datetime
import os
import re
import shutil
import subprocess

import pytest

from support import prometheus
from support.certificates import SCRIPT

CLUSTER = prometheus.DEPLOY / "cluster"


def certificates(directory, *names, code=0):
    """Runs deploy/certificates; what it said."""
    done = subprocess.run([SCRIPT, directory, *names], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def days_left(certificate):
    end = openssl("x509", "-in", certificate, "-noout", "-enddate").strip().split("=")[1]
    moment = datetime.datetime.strptime(end, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=datetime.timezone.utc)
    return (moment - datetime.datetime.now(datetime.timezone.utc)).days


def reissue(directory, name, days):
    """Puts a certificate of the same key in the place of one; `ca`: the authority's own."""
    folder = directory / name
    if name == "ca":
        openssl("x509", "-in", folder / "ca.crt", "-signkey", folder / "ca.key", "-days", days, "-out",
                folder / "ca.new")
        os.replace(folder / "ca.new", folder / "ca.crt")
        return
    request = directory / "request.csr"
    openssl("x509", "-x509toreq", "-in", folder / "tls.crt", "-signkey", folder / "tls.key", "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", directory / "ca" / "ca.crt", "-CAkey",
            directory / "ca" / "ca.key", "-days", days, "-out", folder / "tls.crt")


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("days", [1, 29, -1])
def test_a_certificate_that_ends_soon_is_renewed_and_no_other(tmp_path, days):
    certificates(tmp_path, "n1", "n2")
    reissue(tmp_path, "n1", days)
    before = contents(tmp_path)
    assert re.fullmatch("certificates: renewing n1, which ends on .*\n", certificates(tmp_path, "n1", "n2"))
    after = contents(tmp_path)
    changed = {str(path) for path in after if after[path] != before.get(path)}
    assert changed >= {"n1/tls.crt", "n1/tls.key"} and not {c for c in changed if c.startswith("n2/")}
    assert before.keys() >= after.keys()  # nothing is left over
    assert days_left(tmp_path / "n1" / "tls.crt") > 800
    openssl("verify", "-CAfile", tmp_path / "n2" / "ca.crt", "-verify_hostname", "n1", tmp_path / "n1" / "tls.crt")
    assert openssl("x509", "-in", tmp_path / "n1" / "tls.crt", "-noout", "-pubkey") == \
        openssl("pkey", "-in", tmp_path / "n1" / "tls.key", "-pubout")
    assert os.stat(tmp_path / "n1" / "tls.key").st_mode & 0o777 == 0o644


def test_what_is_good_is_left_alone(tmp_path):
    certificates(tmp_path, "n1")
    reissue(tmp_path, "n1", 31)
    before = contents(tmp_path)
    assert certificates(tmp_path, "n1") == ""
    assert contents(tmp_path) == before


def test_an_authority_that_ends_is_kept_and_complained_of(tmp_path):
    certificates(tmp_path, "n1")
    reissue(tmp_path, "ca", 20)
    before = contents(tmp_path)
    said = certificates(tmp_path, "n1")
    assert f"the authority {tmp_path}/ca/ca.crt ends on " in said and f"remove {tmp_path}" in said
    assert contents(tmp_path) == before
    reissue(tmp_path, "ca", -1)
    assert "For a new one: stop the cluster" in certificates(tmp_path, "n1", code=1)


FAKE_DOCKER = r"""#!/usr/bin/env bash
# `docker` and `docker-compose` of containers whose states are in the files $STATES/SERVICE.
case " $* " in
  *" ps -q "*) [ ! -f "$STATES/${!#}" ] || echo "id-${!#}" ;;
  *" ps "*) echo CONTAINERS ;;
  " inspect "*) service=${!#} && cat "$STATES/${service#id-}" ;;
  " exec "*)
    while [ "$1" != onggi ]; do last=$1 && shift; done
    echo "asked $last: $*"
    ;;
esac
"""


@pytest.fixture
def status(tmp_path):
    """`./x cluster status` over containers in these states; (exit code, output, complaints)."""
    programs, states = tmp_path / "programs", tmp_path / "states"
    programs.mkdir()
    states.mkdir()
    for name in ("docker", "docker-compose"):
        (programs / name).write_text(FAKE_DOCKER)
        (programs / name).chmod(0o755)

    def run(**services):
        for name, state in services.items():
            (states / name).write_text(state + "\n")
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "STATES": str(states)}
        done = subprocess.run([CLUSTER, "status"], capture_output=True, text=True, env=environment, timeout=30)
        shutil.rmtree(states)
        states.mkdir()
        return done.returncode, done.stdout, done.stderr

    return run


def test_status_asks_the_first_node_that_lives(status):
    for services, asked in [
            ({"node1": "running healthy", "node2": "running healthy"}, "node1"),
            ({"node1": "exited unhealthy", "node2": "running healthy", "node3": "running healthy"}, "node2"),
            ({"node1": "paused healthy", "node3": "running healthy"}, "node3"),
            ({"node1": "running starting", "node2": "running unhealthy", "node3": "running healthy"}, "node3"),
            ({"node1": "exited", "node2": "running starting", "node3": "running unhealthy"}, "node2"),
            ({"node3": "running "}, "node3")]:
        assert status(**services) == (0, f"CONTAINERS\nasked id-{asked}: onggi status\n", ""), services


def test_status_says_when_no_node_lives(status):
    for services in ({}, {"node1": "exited unhealthy", "node2": "paused healthy", "node3": "restarting "}):
        code, out, complaint = status(**services)
        assert (code, out) == (1, "CONTAINERS\n")
        assert complaint == "cluster: none of node1 node2 node3 runs: ./x cluster start node1, or up\n"
