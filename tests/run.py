"""Runs the test layers of `./x test` and ends with one line that counts them all.

Each layer is one command whose results are read from the JUnit file that it writes, so the closing
line counts single tests, not layers. A layer that fails does not stop the later ones.
"""

import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "test-results"
FUZZ_SECONDS = int(os.environ.get("ONGGI_FUZZ_SECONDS", "30"))


class Layer:
    """One layer: `run()` returns (passed, failed). In a run of all layers `brief()` takes its place, if any."""

    def __init__(self, name, run, brief=None):
        self.name = name
        self.run = run
        self.brief = brief or run


def build(tree, *targets):
    """Builds a tree with ./x, so that there is one way to configure it. Ends the run on failure."""
    code = subprocess.run([ROOT / "x", "build", tree, *targets], cwd=ROOT).returncode
    if code != 0:
        print(f"building {tree} failed", flush=True)
        print("0 passed, 1 failed")
        sys.exit(1)


skipped_tests = []
failures = []  # (test, what it said)


def read_junit(path):
    """(passed, failed) of a JUnit file; a missing file is one failure. Skips go to skipped_tests."""
    if not path.exists():
        failures.append((path.stem, "left no results"))
        return 0, 1
    passed = failed = 0
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        if wrong is not None:
            failed += 1
            failures.append((f"{path.stem}: {case.get('name')}", wrong.get("message") or wrong.text or ""))
        elif case.find("skipped") is not None or case.get("result") == "skipped":
            skipped_tests.append(f"{case.get('classname')}.{case.get('name')}")
        else:
            passed += 1
    return passed, failed


def read_googletest(path):
    """The same of a GoogleTest JSON file (its XML is not well-formed when a parameter holds a NUL)."""
    if not path.exists():
        failures.append((path.stem, "left no results"))
        return 0, 1
    passed = failed = 0
    for suite in json.loads(path.read_text(errors="replace"), strict=False)["testsuites"]:
        for case in suite["testsuite"]:
            if case.get("failures"):
                failed += 1
                failures.append((f"{path.stem}: {case['classname']}.{case['name']}",
                                 case["failures"][0]["failure"]))
            elif case["result"] == "SKIPPED":
                skipped_tests.append(f"{case['classname']}.{case['name']}")
            elif case["result"] == "COMPLETED":
                passed += 1
    return passed, failed


def command(arguments, env=None):
    merged = dict(os.environ, **(env or {}))
    return subprocess.run([str(a) for a in arguments], cwd=ROOT, env=merged).returncode


def googletests(tree, env=None):
    """Every unit test binary of a tree, counted by test."""
    passed = failed = 0
    for binary in sorted((ROOT / "build" / tree / "tests" / "unit").glob("*/*_test")):
        report = RESULTS / f"{tree}-{binary.name}.json"
        report.unlink(missing_ok=True)
        code = command([binary, "--gtest_brief=1", f"--gtest_output=json:{report}"],
                       {"ONGGI_TIMING_SLACK": "2", **(env or {})})
        good, bad = read_googletest(report)
        if code != 0 and bad == 0:
            bad = 1  # it died
            failures.append((report.stem, f"ended with {code}"))
        print(f"  {tree}/{binary.name}: {good} passed, {bad} failed", flush=True)
        passed += good
        failed += bad
    return passed, failed


def pytest(folder, tree="release", env=None, arguments=()):
    report = RESULTS / f"{tree}-{folder.replace('/', '-')}.xml"
    report.unlink(missing_ok=True)
    # Figures are for ./x bench on a quiet machine; here they only may not be off by a multiple.
    settings = {"ONGGI_BINARY": str(ROOT / "build" / tree / "onggi"), "ONGGI_TIMING_SLACK": "3",
                **(env or {})}
    code = command(
        ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{folder}",
         f"--junitxml={report}", *arguments], settings)
    good, bad = read_junit(report)
    if code not in (0, 1) and bad == 0:
        bad = 1
        failures.append((report.stem, f"pytest ended with {code}"))
    return good, bad


SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=0",
    "LSAN_OPTIONS": f"suppressions={ROOT / 'tests' / 'lsan.supp'}:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def unit():
    build("release")
    return googletests("release")


def asan():
    """The sanitizer build runs unit tests and the integration tests."""
    modules = [folder.parent.name for folder in sorted((ROOT / "tests" / "unit").glob("*/CMakeLists.txt"))]
    build("asan", "onggi", "onggi_client_check", *(f"{module}_test" for module in modules))
    env = {**SANITIZER_ENV, "ONGGI_TIMING_SLACK": "20"}
    good, bad = googletests("asan", env)
    more_good, more_bad = pytest("integration", "asan", env)
    return good + more_good, bad + more_bad


def fuzz():
    """Every fuzz target for FUZZ_SECONDS, two at a time, from its seed corpus."""
    build("asan", *(source.stem for source in sorted((ROOT / "tests" / "fuzz").glob("*_fuzz.cc"))))
    targets = sorted((ROOT / "build" / "asan" / "tests" / "fuzz").glob("*_fuzz"))
    if not targets:
        return 0, 1
    passed = failed = 0
    running = []

    def finish(name, process, log):
        nonlocal passed, failed
        code = process.wait()
        text = log.read_text(errors="replace")
        runs = re.findall(r"Done (\d+) runs", text)
        print(f"  {name}: {'ok' if code == 0 else 'FAILED'}, {runs[-1] if runs else 0} inputs", flush=True)
        if code != 0:
            print(text[-4000:])
            failed += 1
            failures.append((name, "\n".join(text.splitlines()[-12:])))
        else:
            passed += 1

    for target in targets:
        if len(running) == 2:
            finish(*running.pop(0))
        corpus = ROOT / "build" / "fuzz-corpus" / target.name
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = ROOT / "tests" / "fuzz" / "seeds" / target.name
        log = RESULTS / f"{target.name}.log"
        arguments = [str(target), f"-max_total_time={FUZZ_SECONDS}", "-max_len=65536",
                     "-rss_limit_mb=4096", "-timeout=10", "-print_final_stats=1", str(corpus)]
        if seeds.is_dir():
            arguments.append(str(seeds))
        process = subprocess.Popen(arguments, cwd=RESULTS, stdout=log.open("w"),
                                   stderr=subprocess.STDOUT, env=dict(os.environ, **SANITIZER_ENV))
        running.append((target.name, process, log))
    for item in running:
        finish(*item)
    return passed, failed


simulation_arguments = []


def simulation():
    """Seeded clusters in one process, and whether they would notice mistakes (tests/simulation).

    Without arguments: what is written down, 2,000 seeds, and every mutation.
    """
    build("release")
    report = RESULTS / "simulation.json"
    report.unlink(missing_ok=True)
    binary = ROOT / "build" / "release" / "tests" / "simulation" / "simulation"
    command([binary, "--json", report, *simulation_arguments])
    if not report.exists():
        failures.append((report.stem, "left no results"))
        return 0, 1
    results = json.loads(report.read_text(), strict=False)["results"]
    wrong = [result for result in results if result["error"]]
    failures.extend((f"simulation: {result['name']}", result["error"]) for result in wrong)
    failed = len(wrong)
    return len(results) - failed, failed


def with_server(folder):
    def run():
        build("release")
        return pytest(folder)
    return run


def cluster(*arguments):
    build("release")
    return pytest("cluster", arguments=arguments)


def chaos(seconds, seed=None):
    """So many seconds of faults, unless ONGGI_CHAOS_SECONDS says otherwise; ONGGI_CHAOS_SEED replays."""
    build("release")
    settings = {"ONGGI_CHAOS_SECONDS": os.environ.get("ONGGI_CHAOS_SECONDS", str(seconds))}
    if seed is not None:
        settings["ONGGI_CHAOS_SEED"] = os.environ.get("ONGGI_CHAOS_SEED", str(seed))
    return pytest("chaos", env=settings, arguments=["-s"])


LAYERS = [
    Layer("tidy", lambda: pytest("tidy")),
    Layer("unit", unit),
    Layer("simulation", simulation),
    Layer("integration", with_server("integration")),
    Layer("differential", with_server("differential")),
    Layer("crash", with_server("crash")),
    Layer("robustness", with_server("robustness")),
    Layer("cluster", cluster, lambda: cluster("-m", "core")),
    Layer("chaos", lambda: chaos(600), lambda: chaos(90, seed=1)),
    Layer("monitoring", with_server("monitoring")),
    Layer("asan", asan),
    Layer("fuzz", fuzz),
]


ON_DEMAND = [
    Layer("deploy", with_server("deploy")),
]


def main():
    names = sys.argv[1:]
    for flag in ("--seeds", "--first", "--seconds", "--seed"):  # of the simulation
        if flag in names:
            place = names.index(flag)
            simulation_arguments.extend(names[place:place + 2])
            del names[place:place + 2]
    every = LAYERS + ON_DEMAND
    unknown = set(names) - {layer.name for layer in every}
    if unknown:
        print(f"no such layer: {', '.join(sorted(unknown))}; there are: "
              f"{', '.join(layer.name for layer in every)}", file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    total_passed = total_failed = 0
    rows = []
    for layer in every if names else LAYERS:
        if names and layer.name not in names:
            continue
        print(f"== {layer.name}", flush=True)
        start = time.monotonic()
        passed, failed = layer.run() if names else layer.brief()
        rows.append((layer.name, passed, failed, time.monotonic() - start))
        total_passed += passed
        total_failed += failed
    print("== summary")
    for name, passed, failed, seconds in rows:
        print(f"  {name:<14} {passed:5} ok {failed:5} bad {seconds:7.0f} s")
    for name, said in failures:
        print(f"  failed: {name}\n" + "\n".join(f"    {line}" for line in said.strip().splitlines()[:12]))
    for name in skipped_tests:
        print(f"  skipped: {name}")
    print(f"{total_passed} passed, {total_failed} failed, {len(skipped_tests)} skipped", flush=True)
    return 1 if total_failed or not total_passed else 0


if __name__ == "__main__":
    sys.exit(main())
