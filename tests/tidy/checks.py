"""The checks of the tidy layer: what neither the compiler nor clang-format says about the sources.

A check takes a file's path (from the repository root) and text and returns its findings, each as
"path:line: what is wrong". The tests run every check over the tracked files and over samples that it
must find fault with.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Which folders a folder may include from, itself apart. It follows the targets that its CMakeLists.txt
# links, and what those link. the files of server/ itself compose everything.
_GROUND = {"common"}
_MODEL = _GROUND | {"server/model"}
_EXPRESSION = _MODEL | {"server/expression"}
_RPC = _GROUND | {"common/proto", "common/tls", "common/rpc"}
_TRANSPORT = _RPC | {"replication/group", "replication/lease"}
_METADATA = _GROUND | {"common/proto", "replication/metadata"}
# The interfaces of transport and checkpoints are headers without gRPC.
_REPLICA = _METADATA | {"replication/log", "replication/group", "replication/lease", "replication/transport"}
_PARTITION = _EXPRESSION | _REPLICA | {"replication/replica", "replication/checkpoint", "server/storage"}
_ROUTING = _PARTITION | _RPC | {"server/partition"}
_DYNAMODB = _ROUTING | {"server/routing", "common/http"}
_NODE = _DYNAMODB | _RPC | {"server/dynamodb", "server/grpc", "replication/checkpoint"}
ALLOWED = {
    "common": set(),
    "common/tls": _GROUND,
    "common/http": _GROUND | {"common/tls"},
    "common/rpc": _GROUND | {"common/proto", "common/tls"},
    "server/model": _GROUND,
    "server/expression": _MODEL,
    "server/storage": _GROUND,
    "replication/log": _GROUND,
    "replication/group": _GROUND | {"common/proto"},
    "replication/lease": _GROUND | {"common/proto", "replication/group"},
    "replication/metadata": _METADATA | {"common/rpc"},
    "replication/transport": _TRANSPORT,
    "replication/checkpoint": _TRANSPORT | {"replication/transport"},
    "replication/replica": _REPLICA,
    "server/partition": _PARTITION,
    "server/routing": _ROUTING,
    "server/dynamodb": _DYNAMODB,
    "server/grpc": _DYNAMODB | _RPC | {"server/dynamodb", "onggi/v1"},
    "coordinator": _METADATA | {"common/rpc"},
    "client": _MODEL | _RPC | {"onggi/v1"},
    "client/cli": _MODEL | _RPC | {"client", "onggi/v1"},
    "server/node": _NODE,
    "server": _NODE | {"server/node", "coordinator", "client", "client/cli"},
}

# A .cc over 600 lines is asking to be two; tests are lists, and may be longer.
MAX_LINES = 700
MAX_TEST_LINES = 1000


def tracked(*suffixes):
    """Paths of the tracked text files with these suffixes (none: all), as git knows them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [name for name in listed.stdout.decode().split("\0") if name]
    return [p for p in paths if (not suffixes or p.endswith(suffixes)) and (ROOT / p).is_file()]


def read(path):
    """The file's text; None for what is not text."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def run(check, paths):
    """All findings of a check over files."""
    findings = []
    for path in paths:
        text = read(path)
        if text is not None:
            findings += check(path, text)
    return findings


def line_of(text, position):
    return text.count("\n", 0, position) + 1


_TOKENS = re.compile(
    r"//[^\n]*|/\*.*?\*/|R\"([^(\s]*)\(.*?\)\1\"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])'", re.DOTALL)


def blank(text):
    """C++ with comments and literals replaced by spaces: positions and lines stay."""
    def spaces(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return _TOKENS.sub(spaces, text)


# -- layers ----------------------------------------------------------------------------------------

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.MULTILINE)
_OUTSIDE = ("tests/", "tools/")


def folder_of(path):
    return path.rsplit("/", 1)[0] if "/" in path else ""


def layers(path, text):
    """A folder includes only folders below it, and by their path from the root."""
    folder = folder_of(path)
    if path.startswith(_OUTSIDE):
        return []
    if folder not in ALLOWED:
        return [f"{path}:1: the folder has no place in the order of tests/tidy/checks.py"]
    findings = []
    for match in _INCLUDE.finditer(text):
        included = match.group(1)
        target = folder_of(included)
        where = f"{path}:{line_of(text, match.start())}"
        if target == "":
            findings.append(f"{where}: include {included} by its path from the root")
        elif target != folder and target not in ALLOWED[folder]:
            findings.append(f"{where}: {folder} must not include {included}")
        elif target == "server" and folder != "server":
            findings.append(f"{where}: only server/ itself includes {included}")
    return findings


# -- co_await --------------------------------------------------------------------------------------

_LAMBDA = re.compile(r"(?<![\w\])])\[\s*[&=\w*][^\[\]]*\]\s*(?:\(|\{|<|mutable\b|noexcept\b)")
_BRACED_ARGUMENT = re.compile(r"[(,]\s*\{")
_BRACED_TYPE = re.compile(r"\b(?:\w+::)*\w+(?:<[^<>;{}]*>)?\s*\{")


def awaited_expression(text, start):
    """The operand of the co_await that ends at `start`, up to where its expression ends."""
    depth = 0
    for i in range(start, len(text)):
        c = text[i]
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth < 0:
                return text[start:i]
        elif c == ";" and depth == 0:
            return text[start:i]
    return text[start:]


def co_await(path, text):
    """No brace-made temporary and no capturing lambda inside the expression of a co_await.

    g++ 12 destroys such temporaries twice: name them first, then await.
    """
    code = blank(text)
    findings = []
    for match in re.finditer(r"\bco_await\b", code):
        expression = awaited_expression(code, match.end())
        where = f"{path}:{line_of(text, match.start())}"
        if _LAMBDA.search(expression):
            findings.append(f"{where}: a capturing lambda in a co_await expression: name it first")
        elif _BRACED_ARGUMENT.search(expression) or _BRACED_TYPE.search(expression):
            findings.append(f"{where}: a braced temporary in a co_await expression: name it first")
    return findings


# -- files -----------------------------------------------------------------------------------------

def pragma_once(path, text):
    """Every header is included once."""
    return [] if re.search(r"^#pragma once$", text, re.MULTILINE) else [f"{path}:1: no #pragma once"]


def length(path, text):
    """A file tells one story."""
    lines = text.count("\n")
    limit = MAX_TEST_LINES if path.startswith("tests/") else MAX_LINES
    return [f"{path}:{lines}: {lines} lines; {limit} at most"] if lines > limit else []


_UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")


def unfinished(path, text):
    """What is not done is an issue, not a comment."""
    return [f"{path}:{line_of(text, m.start())}: {m.group(1)}" for m in _UNFINISHED.finditer(text)]


# The parts are written apart so that this file passes its own check.
_MACHINE = re.compile("|".join([
    r"(?<![\w.])/(?:(?:wo" + r"rk|ro" + r"ot)/|(?:ho" + r"me|Use" + r"rs)/\w)",  # a checkout's or user's path
    r"\b10\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", r"\b192\.168\.\d{1,3}\.\d{1,3}\b",  # a private network
    r"\b[\w-]+\.(?:inter" + r"nal|co" + r"rp|la" + r"n)\b(?=[:/\"'])",         # a private host
    r"regis" + r"try\.npmjs|files\.python" + r"hosted|py" + r"pi\.org/simple|arti" + r"factory",
    r'"reso' + r'lved":\s*"https?:', r"(?:extra-)?index-" + r"url",
]))


def machine(path, text):
    """Nothing of the machine or network it was written on."""
    return [f"{path}:{line_of(text, m.start())}: {m.group(0)!r} belongs to a machine"
            for m in _MACHINE.finditer(text)]


# -- comments --------------------------------------------------------------------------------------

_CLASS = re.compile(r"^class\s+(?:\[\[\w+\]\]\s+)?(\w+)[^;{(]*\{")


def contracts(path, text):
    """A header says what it is for, and so does every class that it declares at namespace scope.

    Plain structs and enums may leave it to their members.
    """
    if "///" not in text:
        return [f"{path}:1: a public header without a single contract comment (///)"]
    findings = []
    lines = text.split("\n")
    for number, line in enumerate(lines):
        match = _CLASS.match(line)
        if not match:
            continue
        above = number - 1
        while above >= 0 and (lines[above].startswith(("template", "requires", "[[", "#"))):
            above -= 1
        if not lines[above].startswith("///"):
            findings.append(f"{path}:{number + 1}: {match.group(1)} has no comment")
    return findings


# -- documents -------------------------------------------------------------------------------------

_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")
_NAMED = re.compile(
    r"`((?:common|server|replication|coordinator|client|tests|tools|docs|cmake|deploy)/[\w./-]*)`")


def links(path, text):
    """What a document links to, or names as a path in backquotes, is there."""
    findings = []
    for match in _LINK.finditer(text):
        if not (ROOT / folder_of(path) / match.group(1)).exists():
            findings.append(f"{path}:{line_of(text, match.start())}: no {match.group(1)}")
    for match in _NAMED.finditer(text):
        if not (ROOT / match.group(1)).exists():
            findings.append(f"{path}:{line_of(text, match.start())}: no {match.group(1)}")
    return findings


def flags(options_source):
    """Names of the command line's flags, from the files that define options."""
    return re.findall(r'table->Add\w*\(\s*"([\w-]+)"', options_source)


def alerts(rules):
    """Names of the alerts of a file of Prometheus rules."""
    return re.findall(r"^\s*- alert: (\w+)$", rules, re.MULTILINE)


def metrics(source):
    """Names of the metrics that a C++ file makes."""
    return set(re.findall(r'"((?:onggi|process)_[a-z0-9_]+)"', source))
