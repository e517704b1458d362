"""`./x lint [FILES]`: clang-format and clang-tidy over the tree, or over some of its files.

Formatting is checked first, over tracked .h and .cc files; then clang-tidy reads every .cc file of
build/release/compile_commands.json (a header is read where it is included). With FILES, only those;
with --changed, only what differs from the upstream branch, or from the last commit without one;
with --fix, clang-format rewrites. Exits 1 when anything is found.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATABASE = ROOT / "build" / "release" / "compile_commands.json"
CLANG_FORMAT = "clang-format-16"
CLANG_TIDY = "clang-tidy-16"
SUFFIXES = (".h", ".cc")


def git(*arguments):
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.splitlines() if result.returncode == 0 else None


def changed():
    base = git("merge-base", "HEAD", "@{upstream}")
    return set(git("diff", "--name-only", base[0] if base else "HEAD") or []) | set(
        git("ls-files", "--others", "--exclude-standard") or [])


def chosen(arguments):
    """Paths from the root, in order."""
    tracked = [name for name in git("ls-files") or [] if name.endswith(SUFFIXES)]
    if arguments.files:
        wanted = [os.path.relpath(Path(name).resolve(), ROOT) for name in arguments.files]
        missing = [name for name in wanted if not (ROOT / name).is_file()]
        if missing:
            sys.exit(f"no such file: {', '.join(missing)}")
        return [name for name in wanted if name.endswith(SUFFIXES)]
    if arguments.changed:
        names = changed()
        return sorted(name for name in names if name.endswith(SUFFIXES) and (ROOT / name).is_file())
    return [name for name in tracked if (ROOT / name).is_file()]


def check_format(paths, fix):
    if not paths:
        return True
    mode = ["-i"] if fix else ["--dry-run", "-Werror"]
    ok = True
    for start in range(0, len(paths), 100):
        ok &= subprocess.run([CLANG_FORMAT, *mode, *paths[start:start + 100]], cwd=ROOT).returncode == 0
    return ok


def prepare():
    """The compilation database, and what the compiler must find: generated and precompiled headers."""
    subprocess.run([ROOT / "x", "build", "release", "onggi_proto", "onggi_pch"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    with DATABASE.open() as commands:
        return {os.path.relpath(entry["file"], ROOT) for entry in json.load(commands)}


def tidy(path):
    result = subprocess.run([CLANG_TIDY, "--quiet", f"-p={DATABASE.parent}", path], cwd=ROOT,
                            capture_output=True, text=True)
    return path, result.returncode, result.stdout


def check_tidy(paths):
    known = prepare()
    sources = [path for path in paths if path in known]
    ok = True
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, code, output in pool.map(tidy, sources):
            if code != 0:
                ok = False
                print(f"{path}:\n{output}", flush=True)
    print(f"clang-tidy: {len(sources)} files")
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--changed", action="store_true")
    parser.add_argument("--fix", action="store_true")
    parser.add_argument("--format-only", action="store_true", help="leave clang-tidy out")
    arguments = parser.parse_args()
    paths = chosen(arguments)
    ok = check_format(paths, arguments.fix)
    print(f"clang-format: {len(paths)} files", flush=True)
    if not arguments.format_only:
        ok &= check_tidy(paths)
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
