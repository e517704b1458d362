"""Certificates for the tests: deploy/certificates makes them, as for a cluster on one machine."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "certificates"


class Authority:
    """An authority in `directory`, and what it issues: for localhost, 127.0.0.1 and a name."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.issue("first")

    def issue(self, name):
        """The folder with tls.crt, tls.key and ca.crt of a certificate for `name`."""
        subprocess.run([SCRIPT, self.directory, name], check=True, capture_output=True)
        return self.directory / name

    def issue_expired(self, name):
        """The same, but its days are over."""
        folder = self.issue(name)
        request = self.directory / "expired.csr"
        subprocess.run(["openssl", "x509", "-x509toreq", "-in", folder / "tls.crt", "-signkey", folder / "tls.key",
                        "-copy_extensions", "copyall", "-out", request], check=True, capture_output=True)
        subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", self.directory / "ca" / "ca.crt", "-CAkey",
                        self.directory / "ca" / "ca.key", "-days", "-1", "-copy_extensions", "copyall", "-out",
                        folder / "tls.crt"], check=True, capture_output=True)
        return folder

    @property
    def ca(self):
        return str(self.directory / "first" / "ca.crt")

    def context(self):
        """A client's, that trusts this authority and no other."""
        return ssl.create_default_context(cafile=self.ca)


def replace(folder, source):
    """Puts the certificate and key of `source` in the place of those in `folder`, each at once."""
    for name in ("tls.key", "tls.crt"):
        shutil.copy(Path(source) / name, Path(folder) / (name + ".new"))
        os.replace(Path(folder) / (name + ".new"), Path(folder) / name)


def aws_tls(folder):
    """Flags of a server whose AWS endpoint shows that certificate."""
    return ["--aws-tls-cert", str(Path(folder) / "tls.crt"), "--aws-tls-key", str(Path(folder) / "tls.key")]


def cluster_tls(folder):
    """Flags of a member of a cluster that proves itself with that certificate."""
    return ["--tls-ca", str(Path(folder) / "ca.crt"), "--tls-cert", str(Path(folder) / "tls.crt"),
            "--tls-key", str(Path(folder) / "tls.key")]
