"""The runner of `./x test` counts what went wrong, and says what it was."""

import json
import sys

import pytest

import checks

sys.path.insert(0, str(checks.ROOT / "tests"))
import run  # noqa: E402


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(run, "failures", [])
    monkeypatch.setattr(run, "skipped_tests", [])


def test_a_junit_file_is_counted_by_test(tmp_path):
    report = tmp_path / "release-cluster.xml"
    report.write_text("""<testsuites><testsuite>
        <testcase classname="c" name="good"/>
        <testcase classname="c" name="wrong"><failure message="assert 1 == 0">trace</failure></testcase>
        <testcase classname="c" name="broken"><error>no fixture</error></testcase>
        <testcase classname="c" name="left_out"><skipped/></testcase>
        </testsuite></testsuites>""")
    assert run.read_junit(report) == (1, 2)
    assert run.failures == [("release-cluster: wrong", "assert 1 == 0"), ("release-cluster: broken", "no fixture")]
    assert run.skipped_tests == ["c.left_out"]


def test_a_googletest_file_is_counted_by_test(tmp_path):
    report = tmp_path / "asan-routing_test.json"
    case = {"classname": "Map", "name": "Good", "result": "COMPLETED"}
    report.write_text(json.dumps({"testsuites": [{"testsuite": [
        case, {**case, "name": "Wrong", "failures": [{"failure": "heard: 0"}, {"failure": "more"}]},
        {**case, "name": "LeftOut", "result": "SKIPPED"}]}]}))
    assert run.read_googletest(report) == (1, 1)
    assert run.failures == [("asan-routing_test: Map.Wrong", "heard: 0")]
    assert run.skipped_tests == ["Map.LeftOut"]


@pytest.mark.parametrize("read", [run.read_junit, run.read_googletest])
def test_no_results_are_a_failure(tmp_path, read):
    assert read(tmp_path / "release-group_test.json") == (0, 1)
    assert run.failures == [("release-group_test", "left no results")]


def test_the_summary_names_what_failed(tmp_path, monkeypatch, capsys):
    def layer():
        run.failures.append(("release-cluster: test_moves", "\n".join(["not within 40 s"] + ["more"] * 30)))
        return 3, 1

    monkeypatch.setattr(run, "LAYERS", [run.Layer("cluster", layer)])
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert run.main() == 1
    said = capsys.readouterr().out.splitlines()
    assert "  failed: release-cluster: test_moves" in said and "    not within 40 s" in said
    assert said.count("    more") == 11
    assert said[-1] == "3 passed, 1 failed, 0 skipped"
