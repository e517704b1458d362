#!/bin/sh
# Installs the SDK into build/npm/js (or $1) with the pinned versions of package.json, and copies the
# tests beside it, so that nothing generated lands in the source tree. Does nothing when up to date.
set -eu
source_dir=$(cd "$(dirname "$0")" && pwd)
target=${1:-$source_dir/../../../build/npm/js}
mkdir -p "$target"
if ! cmp -s "$source_dir/package.json" "$target/package.json" || [ ! -d "$target/node_modules" ]; then
  cp "$source_dir/package.json" "$target/package.json"
  (cd "$target" && npm install --no-audit --no-fund --no-package-lock --loglevel=error >&2) || {
    rm -f "$target/package.json"
    exit 1
  }
fi
cp "$source_dir"/*.test.mjs "$target/"
cd "$target" && pwd
