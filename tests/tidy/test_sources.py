"""Every check over the tree, and over samples that it must find fault with."""

import pytest

import checks

SOURCES = checks.tracked(".h", ".cc")
HEADERS = [p for p in SOURCES if p.endswith(".h")]
PUBLIC_HEADERS = [p for p in HEADERS if not p.startswith("tests/")]


def complain(findings):
    assert not findings, "\n".join(["", *findings])


def test_the_tree_is_there():
    assert len(SOURCES) > 100 and len(PUBLIC_HEADERS) > 40


# -- layers ----------------------------------------------------------------------------------------

def test_folders_include_only_what_is_below_them():
    complain(checks.run(checks.layers, SOURCES))


@pytest.mark.parametrize("path, include", [
    ("common/log.cc", "server/model/value.h"),
    ("common/runtime.h", "common/http/server.h"),
    ("server/model/value.cc", "server/expression/tree.h"),
    ("server/model/value.cc", "server/storage/partition_store.h"),
    ("server/storage/partition_store.cc", "server/partition/partition.h"),
    ("server/storage/partition_store.cc", "server/model/value.h"),
    ("replication/group/group.cc", "replication/log/log_store.h"),
    ("replication/log/log_store.cc", "server/storage/data_directory.h"),
    ("server/partition/partition.cc", "server/dynamodb/error.h"),
    ("server/partition/partition.cc", "common/http/server.h"),
    ("server/dynamodb/catalog.cc", "coordinator/table_jobs.h"),
    ("server/dynamodb/api.cc", "server/options.h"),
    ("coordinator/table_jobs.cc", "server/partition/partition.h"),
    ("coordinator/table_jobs.cc", "server/dynamodb/catalog.h"),
    ("client/client.cc", "server/partition/partition.h"),
    ("server/newcomer/x.cc", "common/status.h"),
    ("server/partition/partition.cc", "partition.h"),
])
def test_a_forbidden_include_is_seen(path, include):
    assert checks.layers(path, f'#pragma once\n#include "{include}"\n')


@pytest.mark.parametrize("path, include", [
    ("server/dev_server.cc", "coordinator/table_jobs.h"),
    ("server/partition/life.cc", "replication/log/log_store.h"),
    ("server/dynamodb/api.cc", "common/http/server.h"),
    ("coordinator/table_jobs.cc", "common/proto/catalog.pb.h"),
    ("tests/unit/model/key_test.cc", "server/model/key.h"),
])
def test_an_allowed_include_passes(path, include):
    assert not checks.layers(path, f'#include <vector>\n#include "{include}"\n')


# -- co_await --------------------------------------------------------------------------------------

def test_no_temporary_that_gcc_destroys_twice():
    complain(checks.run(checks.co_await, SOURCES))


@pytest.mark.parametrize("code", [
    "co_await store.Get(Options{.limit = 1});",
    "co_await store.Get({1, 2});",
    "co_await store.Get(key, {.limit = 1});",
    "auto x = co_await Run(log::Entry{epoch, index});",
    "co_return co_await Run([this] { return Flush(); });",
    "co_await Run(executor, [&stops](int n) { return n; });",
    "co_await Run([n = 3]() mutable { return n; });",
    "co_await Run(\n    std::vector<int>{1, 2});",
    "if (auto r = co_await Get(Key{1}); r.ok()) co_return;",
    "ASSIGN_OR_RETURN(x, co_await Get(Key{1}));",
])
def test_a_temporary_in_a_co_await_is_seen(code):
    assert checks.co_await("server/partition/x.cc", code)


@pytest.mark.parametrize("code", [
    "co_await timer.async_wait(token);",
    "const Options options{1, 2}; co_await store.Get(options);",
    "auto f = [this] { return 1; }; co_await Run(f);",
    "// co_await Run(Options{});\nRun();",
    'co_await Run("Options{}", x[3], y[i](2));',
    "if (stop) co_await Run(); else { x = {1}; }",
    "auto f = [&]() -> awaitable<void> { co_await Run(); }; Spawn(f);",
    "co_await asio::async_initiate<const T<>, void()>(initiate, asio::use_awaitable);",
])
def test_named_values_in_a_co_await_pass(code):
    assert not checks.co_await("server/partition/x.cc", code)


# -- files -----------------------------------------------------------------------------------------

def test_headers_have_pragma_once():
    complain(checks.run(checks.pragma_once, HEADERS))


def test_a_header_without_pragma_once_is_seen():
    assert checks.pragma_once("a.h", "#ifndef A_H\n#define A_H\n#endif\n")
    assert checks.pragma_once("a.h", "// #pragma once\nint x;\n")
    assert not checks.pragma_once("a.h", "#pragma once\n")


def test_files_are_short():
    complain(checks.run(checks.length, checks.tracked(".h", ".cc", ".py", ".js", ".mjs", ".cmake")))


def test_a_long_file_is_seen():
    assert checks.length("server/a.cc", "x\n" * (checks.MAX_LINES + 1))
    assert not checks.length("server/a.cc", "x\n" * checks.MAX_LINES)
    assert checks.length("tests/unit/a_test.cc", "x\n" * (checks.MAX_TEST_LINES + 1))
    assert not checks.length("tests/unit/a_test.cc", "x\n" * checks.MAX_TEST_LINES)


def test_nothing_is_left_for_later():
    complain(checks.run(checks.unfinished, checks.tracked()))


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])
def test_a_note_for_later_is_seen(word):
    assert checks.unfinished("a.cc", f"// {word}: later\n")
    assert checks.unfinished("a.cc", f"x;  // {word}(me) later\n")
    assert not checks.unfinished("a.cc", f"// {word.lower()}s, MY{word}S\n")


def test_nothing_of_a_machine_is_tracked():
    complain(checks.run(checks.machine, checks.tracked()))


@pytest.mark.parametrize("text", [
    "/wo" + "rk/onggi/x", "cd /ho" + "me/me/onggi", '"/ro' + 'ot/.aws"', "/Use" + "rs/me/x",
    "http://10.0" + ".0.1/simple", "192.168" + ".1.7", "https://mirror.co" + "rp/debian",
    "https://regis" + "try.npmjs.org/", '"reso' + 'lved": "https://x/y.tgz"', "--index-" + "url x",
])
def test_a_machine_is_seen(text):
    assert checks.machine("a.md", text)


@pytest.mark.parametrize("text", [
    "tests/unit/wo" + "rk/x.cc", "/usr/lib/python3", "/var/lib/onggi", "127.0.0.1:8000", "0.0.0.0",
    "network.internal_address", "http://localhost:8000/",
])
def test_what_any_machine_has_passes(text):
    assert not checks.machine("a.md", text)


# -- comments --------------------------------------------------------------------------------------

def test_public_headers_state_their_contracts():
    complain(checks.run(checks.contracts, PUBLIC_HEADERS))


@pytest.mark.parametrize("text", [
    "#pragma once\nclass A {\n  int x;\n};\n",
    "#pragma once\n/// Something.\nvoid F();\n\nclass A {\n  int x;\n};\n",
    "#pragma once\n/// Something.\nvoid F();\n\ntemplate <class T>\nclass A final : B<T> {\n  int x;\n};\n",
])
def test_a_class_without_comment_is_seen(text):
    assert checks.contracts("common/a.h", text)


@pytest.mark.parametrize("text", [
    "#pragma once\n/// A thing.\nclass A {\n  int x;\n};\n",
    "#pragma once\n/// A thing.\ntemplate <class T>\nclass A {\n  int x;\n};\n",
    "#pragma once\n/// Things.\nvoid F();\n\nstruct Put {\n  int x;  ///< it\n};\nclass Forward;\n",
])
def test_a_class_with_comment_passes(text):
    assert not checks.contracts("common/a.h", text)
