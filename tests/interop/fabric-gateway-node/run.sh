#!/bin/sh
# Lets the official Node client use our fake Gateway and a real network; installed under .tools/ as package-lock.json pins it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools="$root/.tools/interop-fabric-gateway"
if ! command -v npm >/dev/null; then echo "fabric-gateway-node: NOT RUN: there is no npm (apt install npm)"; exit 0; fi
if [ ! -e "$tools/done" ] || ! cmp -s "$here/package-lock.json" "$tools/done"; then
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$here/package.json" "$here/package-lock.json" "$tools"
    npm ci --silent --ignore-scripts --prefix "$tools"
    cp "$here/package-lock.json" "$tools/done"
fi
cp "$here/client.mjs" "$tools/client.mjs"
cd "$root"
exec "${PROJECT_PYTHON:-$root/.venv/bin/python}" -m tests.interop.fabric-gateway-node.verify "$tools/client.mjs"
