"""A cluster of real processes for the tests: etcd, coordinators and nodes.

On loopback every member has ports of its own. With `namespaces` each one has a network namespace of its
own on a bridge (needs root and iproute2), so that its links can be cut. Everything ends with close(),
by process id; namespaces and the bridge go with it.
"""

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from support.server import binary

START_TIMEOUT_S = float(os.environ.get("ONGGI_START_TIMEOUT_S", "30"))


def free_ports(count):
    """Ports that nobody listens on and that no other test run was given, from below those that connections get.

    A member may be down for a while and must find its port again, so a port is claimed for as long as
    this process lives, by a lock on a file that is named after it.
    """
    claims = Path(tempfile.gettempdir()) / "onggi-test-ports"
    claims.mkdir(exist_ok=True)
    ports = []
    while len(ports) < count:
        port = random.randrange(12_000, 32_000)
        if port in _claimed:
            continue
        claim = (claims / str(port)).open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claimed[port] = claim
        ports.append(port)
    return ports


_claimed = {}


def run(*command, check=True):
    return subprocess.run([str(c) for c in command], check=check, capture_output=True, text=True)


class Network:
    """Network namespaces on a bridge, 10.<b>.<c>.0/24, and the cuts between them."""

    def __init__(self):
        self.tag = f"og{os.getpid() % 100000}"
        self.subnet = f"10.{200 + os.getpid() % 50}.{(os.getpid() // 50) % 250}"
        self.members = {}
        self._slow = {}  # name -> (process, interface) of a link that is delayed by slow_link.c
        self._program = None
        run("ip", "link", "add", self.tag, "type", "bridge")
        run("ip", "addr", "add", f"{self.subnet}.1/24", "dev", self.tag)
        run("ip", "link", "set", self.tag, "up")

    def add(self, name):
        """Makes the namespace of `name`; returns its address."""
        number = len(self.members) + 10
        space = f"{self.tag}-{number}"
        address = f"{self.subnet}.{number}"
        outer, inner = f"{self.tag}v{number}", "eth0"
        run("ip", "netns", "add", space)
        self.members[name] = (space, address)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space)
        run("ip", "link", "set", outer, "master", self.tag, "up")
        run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", inner)
        run("ip", "-n", space, "link", "set", inner, "up")
        run("ip", "-n", space, "link", "set", "lo", "up")
        return address

    def prefix(self, name):
        return ["ip", "netns", "exec", self.members[name][0]]

    def drop(self, receiver, sender):
        """What `sender` sends no longer arrives at `receiver`; the other way stays."""
        self._rule("-A", receiver, sender)

    def cut(self, one, other):
        self.drop(one, other)
        self.drop(other, one)

    def lose(self, receiver, share):
        """Drops that share (0 to 1) of everything that arrives: with netem, at the bridge's end of its link, or
        with iptables where the kernel has no netem (those of small virtual machines often have not)."""
        if run("tc", "qdisc", "replace", "dev", self._outer(receiver), "root", "netem", "loss",
               f"{share * 100:g}%", check=False).returncode == 0:
            return
        run(*self.prefix(receiver), "iptables", "-A", "INPUT", "-i", "eth0", "-m", "statistic",
            "--mode", "random", "--probability", str(share), "-j", "DROP")

    def lost(self, receiver):
        """How many packets lose() has dropped since."""
        said = run("tc", "-s", "qdisc", "show", "dev", self._outer(receiver), "root").stdout
        count = int(said.split("dropped ")[1].split(",")[0]) if "netem" in said else 0
        for line in run(*self.prefix(receiver), "iptables", "-L", "INPUT", "-v", "-n", "-x").stdout.splitlines():
            if " statistic " in line:
                count += int(line.split()[0])
        return count

    def delay(self, name, milliseconds):
        """Delays what `name` sends: with netem, or with slow_link.c where the kernel has none."""
        if run(*self.prefix(name), "tc", "qdisc", "replace", "dev", "eth0", "root", "netem", "delay",
               f"{milliseconds}ms", check=False).returncode == 0:
            return
        if name in self._slow:
            return
        if self._program is None:
            self._program = Path(tempfile.mkdtemp(prefix="onggi-slow-link-")) / "slow_link"
            run("clang-16", "-O1", "-o", self._program, Path(__file__).with_name("slow_link.c"))
        outer = self._outer(name)
        near, far = f"{outer}n"[:15], f"{outer}f"[:15]
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        run("ip", "link", "set", near, "up")
        run("ip", "link", "set", far, "master", self.tag, "up")
        run("ip", "link", "set", outer, "nomaster")
        process = subprocess.Popen([str(self._program), outer, near, str(milliseconds)], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
        self._slow[name] = (process, near)
        said = process.stdout.readline()
        assert said == "ready\n", said

    def _undelay(self, name):
        process, near = self._slow.pop(name)
        process.terminate()
        process.wait()
        process.stdout.close()
        run("ip", "link", "del", near, check=False)
        run("ip", "link", "set", self._outer(name), "master", self.tag)

    def _outer(self, name):
        return f"{self.tag}v{self.members[name][0].rsplit('-', 1)[1]}"

    def heal(self):
        """Ends every cut, loss and delay."""
        for name in list(self._slow):
            self._undelay(name)
        for name in self.members:
            run("tc", "qdisc", "del", "dev", self._outer(name), "root", check=False)
            run(*self.prefix(name), "iptables", "-F", "INPUT", check=False)
            run(*self.prefix(name), "tc", "qdisc", "del", "dev", "eth0", "root", check=False)

    def _rule(self, action, receiver, sender):
        run(*self.prefix(receiver), "iptables", action, "INPUT", "-s", self.members[sender][1], "-j", "DROP")

    def close(self):
        for name in list(self._slow):
            self._undelay(name)
        if self._program is not None:
            shutil.rmtree(self._program.parent, ignore_errors=True)
        for space, _ in self.members.values():
            run("ip", "netns", "del", space, check=False)
        run("ip", "link", "del", self.tag, check=False)


class Member:
    """One process of the cluster, restartable with the same command.

    One thread may stop and start it while another kills, pauses and resumes it; start() is one's at a time.
    """

    def __init__(self, cluster, name, command, environment=None):
        self.cluster = cluster
        self.name = name
        self.command = [str(c) for c in command]
        self.environment = environment or {}
        self.process = None
        self.paused = False
        self.log_path = cluster.directory / f"{name}.log"

    def start(self):
        assert not self.running(), self.name
        prefix = self.cluster.network.prefix(self.name) if self.cluster.network else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ONGGI_", "ETCD"))}
        environment.update(self.environment)
        self.paused = False  # before there is a process that another thread may pause
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(prefix + self.command, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=environment)
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9."""
        process = self.process
        if process is not None:
            process.kill()
            process.wait()

    def stop(self, timeout_s=30, resume=True):
        """SIGTERM; returns the exit code. Without `resume` a paused one takes it when somebody resumes it."""
        process = self.process
        if process is None:
            return None
        if resume:
            self.resume()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            stacks = self.stacks()
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name} did not stop on SIGTERM:\n{stacks}\n{self.log_tail()}")
        return process.returncode

    def stacks(self):
        """Where its threads stand, if this machine has gdb."""
        if shutil.which("gdb") is None:
            return "(no stacks without gdb)"
        command = ["gdb", "-p", str(self.process.pid), "-batch", "-nx", "-ex", "thread apply all backtrace 30"]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        except subprocess.TimeoutExpired:
            return "(gdb took longer than a minute)"

    def pause(self):
        """SIGSTOP."""
        if self.running():
            self.process.send_signal(signal.SIGSTOP)
            self.paused = True

    def resume(self):
        if self.running() and self.paused:
            self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def log_tail(self, size=6000):
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[-size:].decode("utf-8", "replace")

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


class Cluster:
    """`etcds` etcd members, `coordinators` and `nodes`, node i in zone chr(a + i % zones).

    Members run with --insecure, unless told otherwise: then the arguments have all that they ask for.
    With a `guard` (support.etcd.GuardedEtcd) etcd lets in only whom that one knows, members among them.

    Attributes: etcd, coordinators, nodes (lists of Member; nodes also have .endpoint, .admin, .rpc).
    """

    def __init__(self, nodes=3, coordinators=2, etcds=3, zones=3, namespaces=False, node_arguments=(),
                 coordinator_arguments=(), directory=None, data_directories=None, insecure=True, guard=None):
        self._made = directory is None
        self.directory = Path(directory or tempfile.mkdtemp(prefix="onggi-cluster-"))
        self.network = Network() if namespaces else None
        self.etcd, self.coordinators, self.nodes = [], [], []
        self.node_arguments = list(node_arguments)
        self.coordinator_arguments = list(coordinator_arguments)
        self.zones = zones
        self.data_directories = data_directories or {}
        self.insecure = ["--insecure"] if insecure else []
        self.guard = guard
        self._add_etcd(etcds)
        for _ in range(coordinators):
            self.add_coordinator()
        for _ in range(nodes):
            self.add_node()

    # -- members -----------------------------------------------------------------------------

    def _place(self, name, count):
        """An address for `name` and `count` ports on it."""
        if self.network:
            return self.network.add(name), [7000 + i for i in range(count)]
        return "127.0.0.1", free_ports(count)

    def _add_etcd(self, count):
        places = [(f"etcd{i + 1}", *self._place(f"etcd{i + 1}", 2)) for i in range(count)]
        initial = ",".join(f"{name}=http://{host}:{ports[1]}" for name, host, ports in places)
        scheme, arguments = ("https", self.guard.member_arguments()) if self.guard else ("http", [])
        for name, host, ports in places:
            client, peer = f"{scheme}://{host}:{ports[0]}", f"http://{host}:{ports[1]}"
            member = Member(self, name, [
                "etcd", "--name", name, "--data-dir", self.directory / name,
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", initial, "--initial-cluster-token", self.directory.name,
                "--log-level", "warn", *arguments])
            member.endpoint = f"{host}:{ports[0]}"
            member.health = f"{client}/health"
            self.etcd.append(member)
        self.etcd_endpoints = ",".join(member.endpoint for member in self.etcd)
        self._etcd_arguments = ["--etcd", self.etcd_endpoints, *(self.guard.client_arguments() if self.guard else [])]

    def add_coordinator(self, arguments=()):
        name = f"coordinator{len(self.coordinators) + 1}"
        host, ports = self._place(name, 2)
        member = Member(self, name, [
            binary(), "coordinator", *self._etcd_arguments, "--bind", host, *self.insecure,
            "--grpc-port", ports[0], "--admin-port", ports[1], *self.coordinator_arguments, *arguments])
        member.admin = f"http://{host}:{ports[1]}"
        member.rpc = f"{host}:{ports[0]}"
        self.coordinators.append(member)
        return member

    def add_node(self, arguments=(), zone=None):
        number = len(self.nodes) + 1
        name = f"node{number}"
        host, ports = self._place(name, 4)
        zone = zone or chr(ord("a") + (number - 1) % self.zones)
        data = self.data_directories.get(name, self.directory / name)
        member = Member(self, name, [
            binary(), "node", *self._etcd_arguments, "--bind", host, *self.insecure, "--zone", zone,
            "--data-dir", data, "--aws-port", ports[0], "--grpc-port", ports[1],
            "--admin-port", ports[2], "--peer-port", ports[3], *self.node_arguments, *arguments])
        member.data = Path(data)
        scheme = "https" if "--aws-tls-cert" in member.command else "http"
        member.endpoint = f"{scheme}://{host}:{ports[0]}"
        member.rpc = f"{host}:{ports[1]}"
        member.admin = f"http://{host}:{ports[2]}"
        self.nodes.append(member)
        return member

    @property
    def members(self):
        return self.etcd + self.coordinators + self.nodes

    # -- lifecycle ---------------------------------------------------------------------------

    def start(self):
        for member in self.etcd:
            member.start()
        for member in self.etcd:
            self.wait_healthy(member)
        if self.guard:
            self.guard.close_gate(self.etcd_endpoints)
        for member in self.coordinators + self.nodes:
            member.start()
        for member in self.coordinators + self.nodes:
            self.wait_ready(member)
        return self

    def ready(self, member):
        return self._http(member.admin + "/readyz") == 200

    def wait_healthy(self, member):
        """Waits for an etcd member that serves and knows a leader."""
        context = self.guard.context() if self.guard else None
        self.wait(lambda: self._http(member.health, context) == 200, member)

    def wait_ready(self, member, timeout_s=START_TIMEOUT_S):
        self.wait(lambda: self.ready(member), member, timeout_s)

    def wait(self, condition, member, timeout_s=START_TIMEOUT_S):
        deadline = time.monotonic() + timeout_s
        while not condition():
            if not member.running():
                raise AssertionError(f"{member.name} ended with {member.process.returncode}:\n{member.log_tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{member.name} was not ready in {timeout_s} s: {self.says(member)}\n"
                                     f"{member.stacks()}\n{member.log_tail()}")
            time.sleep(0.05)

    def stacks(self):
        """Where the threads of all nodes stand."""
        return "\n".join(f"---- {node.name}: {self.says(node)}\n{node.stacks()}" for node in self.nodes if node.running())

    @staticmethod
    def says(member):
        """What a node or coordinator answers to /readyz, and the space on its disk."""
        if not hasattr(member, "admin"):
            return ""
        try:
            with urllib.request.urlopen(member.admin + "/readyz", timeout=2) as answer:
                said = f"{answer.status} {answer.read().decode()}"
        except urllib.error.HTTPError as error:
            said = f"{error.code} {error.read().decode()}"
        except OSError as error:
            said = str(error)
        data = getattr(member, "data", None)
        if data is not None and data.exists():
            said += f"; {shutil.disk_usage(data)}"
        return said

    @staticmethod
    def _http(url, context=None):
        try:
            with urllib.request.urlopen(url, timeout=2, context=context) as answer:
                return answer.status
        except OSError:
            return None

    def close(self):
        for member in reversed(self.members):
            member.resume()
            member.kill()
        if self.network:
            self.network.close()
        if self._made:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind, *_):
        if kind is not None and issubclass(kind, Exception):
            for member in self.members:
                state = "running" if member.running() else f"ended {member.process and member.process.returncode}"
                print(f"---- {member.name}: {state}\n{member.log_tail(2500)}")
        self.close()

    # -- asking it ---------------------------------------------------------------------------

    def admin(self, *arguments, check=True):
        """Runs an administration command (`onggi ARGUMENTS --output json`); returns what it prints."""
        done = self.command_line(*arguments, "--output", "json")
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, arguments))}: {done.returncode}: {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def command_line(self, *arguments, nodes=None):
        """Runs `onggi ARGUMENTS` with these nodes (all) as endpoints; returns the CompletedProcess."""
        command = [binary(), *map(str, arguments), "--endpoint", ",".join(n.rpc for n in nodes or self.nodes)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ONGGI_")}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    def metric(self, member, name):
        """The sum of a metric's series on a member; None if it has none."""
        total = None
        with urllib.request.urlopen(member.admin + "/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith((name + "{", name + " ")):
                    total = (total or 0.0) + float(line.rsplit(" ", 1)[1])
        return total
