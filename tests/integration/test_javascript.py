"""Runs the JavaScript SDK v3 suite (js/) with node --test against this session's server."""

import os
import shutil
import subprocess
from pathlib import Path

from support.needs import missing

HERE = Path(__file__).resolve().parent / "js"


def test_javascript_sdk_v3(endpoint):
    if not shutil.which("node") or not shutil.which("npm"):
        missing("node and npm")
    installed = subprocess.run(["sh", str(HERE / "install.sh")], capture_output=True, text=True, timeout=300)
    assert installed.returncode == 0, installed.stderr[-2000:]
    folder = installed.stdout.strip().splitlines()[-1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(["node", "--test", folder], cwd=folder, capture_output=True, text=True, timeout=120,
                          env={**environment, "ONGGI_ENDPOINT": endpoint})
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
