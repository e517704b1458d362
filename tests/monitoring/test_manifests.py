"""deploy/'s Kubernetes manifest and docker-compose.yml say nothing that the programs do not know: names,
ports, labels and flags meet. No container is started: tests/deploy does that with the second."""

import itertools
import re
import subprocess

import pytest
import yaml

from support import prometheus
from support.server import binary

MANIFEST = prometheus.DEPLOY / "kubernetes" / "onggi.yaml"
COMPOSE = prometheus.DEPLOY / "docker-compose.yml"
ROLES = ("node", "coordinator")


@pytest.fixture(scope="module")
def objects():
    return [document for document in yaml.safe_load_all(MANIFEST.read_text()) if document]


@pytest.fixture(scope="module")
def sets(objects):
    return [o for o in objects if o["kind"] == "StatefulSet"]


@pytest.fixture(scope="module")
def services(objects):
    return {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "Service"}


def pod(workload):
    return workload["spec"]["template"]["spec"]


def main_container(workload):
    containers = pod(workload)["containers"]
    assert len(containers) == 1
    return containers[0]


def labels(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def matches(selector, given):
    return all(given.get(key) == value for key, value in selector.items())


def flags_of(*command):
    done = subprocess.run([*map(str, command), "--help"], capture_output=True, text=True)
    return set(re.findall(r"--[a-z][a-z0-9-]*", done.stdout + done.stderr))


def variables():
    """The environment variables of all commands: each passes over the others'."""
    known = set().union(*(flags_of(binary(), command) for command in (*ROLES, "status")))
    return {"ONGGI_" + flag[2:].upper().replace("-", "_") for flag in known}


GUIDES = ("docs/operating.md", "docs/grpc.md", "README.md")


def test_commands_of_the_guides_are_the_programs():
    """Each `onggi ...` that they tell people to type: its words are commands, its flags theirs."""
    commands = set()
    for guide in GUIDES:
        text = (prometheus.DEPLOY.parent / guide).read_text()
        for line in re.findall(r"^    onggi ([a-z].*)$", text, re.MULTILINE) + re.findall(r"`onggi ([a-z][^`]*)`", text):
            words = line.split("#")[0].split()
            if "|" in words:
                continue  # the summary of all
            names = list(itertools.takewhile(re.compile("[a-z]+$").match, words))
            flags = [w.split("=")[0] for w in words if w.startswith("--")]
            commands.add((tuple(names), tuple(flags)))
    assert len(commands) > 10
    for names, flags in sorted(commands):
        done = subprocess.run([str(binary()), *names, "--help"], capture_output=True, text=True)
        # The usage names the command that was found: a word that is none is passed over.
        assert f"\nUsage: onggi {' '.join(names)} [OPTIONS]" in done.stdout, (names, done.stdout, done.stderr)
        assert set(flags) <= set(re.findall(r"--[a-z][a-z0-9-]*", done.stdout)), (names, flags)


def check_arguments(arguments, program):
    """`arguments` as given to a container whose entry point is `program`."""
    if program == "etcd":
        known, rest = flags_of("etcd"), arguments
    else:
        assert arguments[0] in ROLES, arguments
        known, rest = flags_of(binary(), arguments[0]), arguments[1:]
    names = [argument.split("=")[0] for argument in rest]
    assert len(known) > 10 and names
    assert not set(names) - known, set(names) - known
    assert len(names) == len(set(names)), "a flag twice"


def test_every_object_has_a_name_of_its_own(objects):
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(names) == len(set(names))
    assert {kind for kind, _ in names} == {"Service", "StatefulSet", "PodDisruptionBudget"}


def test_arguments_are_flags_that_the_programs_have(sets):
    for workload in sets:
        container = main_container(workload)
        check_arguments(container["args"], container["name"] if container["name"] == "etcd" else "onggi")


def test_variables_are_options_and_no_other_begins_with_onggi(sets):
    for workload in sets:
        # Service links would set ONGGI_PORT and such, which refuse the start.
        assert pod(workload)["enableServiceLinks"] is False
        container = main_container(workload)
        ours = {entry["name"] for entry in container.get("env", []) if entry["name"].startswith("ONGGI_")}
        if container["name"] != "etcd":
            assert ours <= variables(), ours
        # What the arguments name has been defined.
        used = set(re.findall(r"\$\((\w+)\)", " ".join(container["args"])))
        assert used <= {entry["name"] for entry in container["env"]}


def test_services_find_pods_and_their_ports(sets, services):
    for name, service in services.items():
        chosen = [w for w in sets if matches(service["selector"], labels(w))]
        assert chosen, name
        for workload in chosen:
            ports = {p["name"]: p["containerPort"] for p in main_container(workload)["ports"]}
            for port in service["ports"]:
                assert ports[port["name"]] == port["port"], (name, port)


def test_sets_have_their_headless_service_and_advertise_names_in_it(sets, services):
    for workload in sets:
        name = workload["spec"]["serviceName"]
        assert services[name]["clusterIP"] == "None"
        assert matches(services[name]["selector"], labels(workload))
        arguments = dict(a.split("=", 1) for a in main_container(workload)["args"] if "=" in a)
        host = arguments.get("--advertise") or arguments["--advertise-client-urls"]
        assert f"$(POD).{name}" in host


def test_etcd_is_named_alike_by_all(sets):
    etcd = next(w for w in sets if main_container(w)["name"] == "etcd")
    members = {f"{etcd['metadata']['name']}-{i}.{etcd['spec']['serviceName']}" for i in range(etcd["spec"]["replicas"])}
    for workload in sets:
        arguments = dict(a.split("=", 1) for a in main_container(workload)["args"] if "=" in a)
        if workload is etcd:
            found = re.findall(r"http://([^:]+):2380", arguments["--initial-cluster"])
        else:
            found = [endpoint.removesuffix(":2379") for endpoint in arguments["--etcd"].split(",")]
        assert set(found) == members


def test_selectors_labels_and_budgets_meet(objects, sets):
    budgets = [o["spec"] for o in objects if o["kind"] == "PodDisruptionBudget"]
    for workload in sets:
        assert matches(workload["spec"]["selector"]["matchLabels"], labels(workload))
        covering = [b for b in budgets if matches(b["selector"]["matchLabels"], labels(workload))]
        assert len(covering) == 1 and covering[0]["maxUnavailable"] == 1
        for spread in pod(workload)["topologySpreadConstraints"]:
            assert matches(spread["labelSelector"]["matchLabels"], labels(workload))


def test_nodes_are_in_three_zones_and_equal_otherwise(sets):
    nodes = [w for w in sets if main_container(w)["name"] == "node"]
    texts, zones = set(), set()
    for workload in nodes:
        terms = pod(workload)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (zone,) = terms["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
        assert f"--zone={zone}" in main_container(workload)["args"]
        assert workload["metadata"]["name"] == "onggi-node-" + zone.removeprefix("zone-")
        zones.add(zone)
        texts.add(yaml.safe_dump(workload).replace(zone, "ZONE").replace(workload["metadata"]["name"], "NAME"))
    assert len(zones) == 3 and len(texts) == 1


def test_pods_are_no_root_and_have_probes_limits_and_their_volumes(sets):
    for workload in sets:
        context = pod(workload)["securityContext"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] > 0 and context["fsGroup"] > 0
        container = main_container(workload)
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["capabilities"]["drop"] == ["ALL"]
        assert own["readOnlyRootFilesystem"] is True
        ports = {p["name"] for p in container["ports"]}
        for probe in ("readinessProbe", "livenessProbe"):
            check = container[probe].get("httpGet") or container[probe]["tcpSocket"]
            assert check["port"] in ports
        assert container["resources"]["limits"]["memory"]
        volumes = {v["name"] for v in pod(workload).get("volumes", [])}
        volumes |= {v["metadata"]["name"] for v in workload["spec"].get("volumeClaimTemplates", [])}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes


STOP_S = 60  # what docker-compose.yml gives a node to stop in


def test_nodes_go_on_serving_until_no_service_names_them(sets):
    """Endpoints are updated while the pod ends: SIGTERM, which closes the port, waits for them."""
    nodes = [w for w in sets if main_container(w)["name"] == "node"]
    assert nodes
    for workload in nodes:
        command = main_container(workload)["lifecycle"]["preStop"]["exec"]["command"]
        assert command[0] == "sleep" and 3 <= int(command[1]) <= 30
        # The sleep counts against the grace period.
        assert pod(workload)["terminationGracePeriodSeconds"] >= int(command[1]) + STOP_S
    compose = yaml.safe_load(COMPOSE.read_text())["services"]["node1"]["stop_grace_period"]
    assert compose == f"{STOP_S}s"


def test_the_images_user_is_the_manifests(sets):
    dockerfile = (prometheus.DEPLOY / "Dockerfile").read_text()
    user = re.search(r"AS onggi\n.*?\nUSER (\d+)\n", dockerfile, re.DOTALL)
    assert {pod(w)["securityContext"]["runAsUser"] for w in sets} == {int(user[1])}


def test_compose_services_have_known_flags_ports_and_targets():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    scraped = set()
    for job in yaml.safe_load((prometheus.DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]:
        scraped |= {t.split(":")[0] for s in job["static_configs"] for t in s["targets"]}
    zones = set()
    for name, service in services.items():
        if not service["image"].startswith(("onggi:", "onggi-etcd:")):
            continue
        assert name in scraped
        role = "etcd" if service["image"].startswith("onggi-etcd:") else "onggi"
        check_arguments(service["command"], role)
        if role == "onggi":
            assert set(service["environment"]) <= variables()
            zones |= {a for a in service["command"] if a.startswith("--zone=")}
    assert len(zones) == 3
    assert len([name for name in services if name.startswith("node")]) == 3
