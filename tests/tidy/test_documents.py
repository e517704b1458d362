"""The documents say what the code does: links, names of files, flags and metrics, generated tables."""

import shutil
import subprocess
import sys

import checks

OPERATING = "docs/operating.md"


def complain(findings):
    assert not findings, "\n".join(["", *findings])


def test_documents_name_what_exists():
    complain(checks.run(checks.links, checks.tracked(".md")))


def test_a_dead_link_is_seen():
    assert checks.links("README.md", "see [x](docs/nothing.md)\n")
    assert checks.links("docs/x.md", "see [x](README.md)\n")
    assert checks.links("README.md", "in `server/nothing.cc`\n")
    assert not checks.links("docs/x.md", "[x](../README.md#top), [y](https://example.com), `server/`\n")


def flags():
    return checks.flags(checks.read("server/options.cc")) + checks.flags(checks.read("server/cluster_options.cc"))


def test_every_flag_is_in_the_operating_guide():
    names = flags()
    assert len(names) > 15
    guide = checks.read(OPERATING)
    complain([f"{OPERATING}: no --{name}" for name in names if f"`--{name}" not in guide])


def test_the_operating_guide_has_no_flag_of_its_own():
    names = set(flags()) | {"config", "version", "help"}
    shown = {line.split("`--")[1].split("`")[0].split(" ")[0].split("=")[0]
             for line in checks.read(OPERATING).splitlines() if line.startswith("| `--")}
    assert shown and not shown - names


def test_flags_are_found():
    assert checks.flags('table->Add("a-b", &x, "y");\n  table->AddChoice("c", &z, {}, "");') == ["a-b", "c"]


def made_metrics():
    return set().union(*(checks.metrics(checks.read(path)) for path in checks.tracked(".cc", ".h")
                         if not path.startswith("tests/")))


def test_every_metric_is_in_the_operating_guide():
    names = made_metrics()
    assert len(names) > 20
    guide = checks.read(OPERATING)
    complain([f"{OPERATING}: no {name}" for name in sorted(names) if f"`{name}`" not in guide])


def test_the_operating_guide_has_no_metric_of_its_own():
    complain([f"{OPERATING}: nothing makes {name}" for name in sorted(
        {line.split("`")[1] for line in checks.read(OPERATING).splitlines()
         if line.startswith(("| `onggi_", "| `process_"))} - made_metrics())])


def test_metrics_are_found():
    assert checks.metrics('AddGauge("onggi_a_bytes", "Text onggi_b.")') == {"onggi_a_bytes"}


def alerts():
    return checks.alerts(checks.read("deploy/prometheus/rules/alerts.yml"))


def test_the_operating_guide_says_what_to_do_about_every_alert():
    """As the head of the rules promises."""
    names = alerts()
    assert len(names) > 20
    rows = {line.split("`")[1] for line in checks.read(OPERATING).splitlines() if line.startswith(("| `Onggi", "| `Etcd"))}
    complain([f"{OPERATING}: no {name}" for name in names if name not in rows])
    complain([f"{OPERATING}: no rule makes {name}" for name in sorted(rows - set(names))])


def test_alerts_are_found():
    assert checks.alerts("      - alert: OnggiA\n        expr: up\n      - record: onggi:b\n") == ["OnggiA"]


def generator(*arguments):
    return subprocess.run([sys.executable, "tools/generate_api_model.py", *arguments], cwd=checks.ROOT,
                          capture_output=True, text=True)


def test_the_api_model_table_is_fresh():
    result = generator("--check")
    assert result.returncode == 0, result.stderr


def test_a_stale_api_model_table_is_seen(tmp_path):
    """The same check in a copy whose table was changed by hand."""
    for name in ("tools/generate_api_model.py", "tools/api_overlay.json", "server/dynamodb/api_model.inc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checks.ROOT / name, tmp_path / name)
    with (tmp_path / "server/dynamodb/api_model.inc").open("a") as table:
        table.write("// by hand\n")
    result = subprocess.run([sys.executable, tmp_path / "tools/generate_api_model.py", "--check"],
                            capture_output=True, text=True)
    assert result.returncode == 1 and "out of date" in result.stderr
