"""etcd as it is meant to run: TLS, certificates of its clients, and users with passwords."""

import subprocess

from support.certificates import Authority


def flags(folder, ca, certificate, key):
    """The three files of a certificate's folder behind flags of these names."""
    return [ca, str(folder / "ca.crt"), certificate, str(folder / "tls.crt"), key, str(folder / "tls.key")]


class GuardedEtcd:
    """What Cluster(guard=...) needs to have an etcd that lets in only whom it knows, and to be let in.

    Clients must show a certificate of the authority in `directory`, and then be `user`, who may read
    and write what begins with onggi/ and nothing else.
    """

    user, password = "onggi", "a password"
    name = "etcd.test"  # in the members' certificate

    def __init__(self, directory):
        self.authority = Authority(directory)
        self.server = self.authority.issue(self.name)
        # Not of the user's name: etcd takes the name in a certificate for the user where a token is missing.
        self.client = self.authority.issue("client")

    def member_arguments(self):
        """Flags of an etcd member."""
        return [*flags(self.server, "--trusted-ca-file", "--cert-file", "--key-file"), "--client-cert-auth"]

    def client_arguments(self):
        """Flags of a node or coordinator."""
        return [*flags(self.client, "--etcd-ca", "--etcd-cert", "--etcd-key"), "--etcd-server-name", self.name,
                "--etcd-user", self.user, "--etcd-password", self.password]

    def context(self):
        """For HTTP requests to the members."""
        context = self.authority.context()
        context.load_cert_chain(self.client / "tls.crt", self.client / "tls.key")
        return context

    def control(self, endpoints, *command):
        """Runs etcdctl with the certificate, and with nobody's password but what `command` has."""
        return subprocess.run(["etcdctl", f"--endpoints={endpoints}", "--command-timeout=10s",
                               *flags(self.client, "--cacert", "--cert", "--key"), *command],
                              capture_output=True, text=True)

    def close_gate(self, endpoints):
        """Makes the users; from then on nobody else may do anything. Once, of a new etcd."""
        for command in [("user", "add", "root:root's"), ("user", "grant-role", "root", "root"),
                        ("user", "add", f"{self.user}:{self.password}"), ("role", "add", self.user),
                        ("role", "grant-permission", self.user, "--prefix=true", "readwrite", "onggi/"),
                        ("user", "grant-role", self.user, self.user), ("auth", "enable")]:
            done = self.control(endpoints, *command)
            assert done.returncode == 0, f"etcdctl {command}: {done.stderr}"
