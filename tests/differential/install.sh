#!/bin/sh
# Puts DynamoDB Local (from the npm package amplify-dynamodb-simulator) into build/npm/dynamodb-local
# (or $1) and prints its folder. Needs npm once, a Java runtime to run. Does nothing when it is there.
set -eu
source_dir=$(cd "$(dirname "$0")" && pwd)
target=${1:-$source_dir/../../build/npm/dynamodb-local}
folder=$target/node_modules/amplify-dynamodb-simulator/emulator
if [ ! -f "$folder/DynamoDBLocal.jar" ]; then
  mkdir -p "$target"
  cd "$target"
  [ -f package.json ] || echo '{"private": true}' > package.json
  npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error \
    amplify-dynamodb-simulator@2.9.30 >&2
fi
cd "$folder" && pwd
