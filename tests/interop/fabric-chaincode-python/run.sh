#!/bin/sh
# Asks the official Python library for contracts what it does, in an environment of its own under .tools/.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools="$root/.tools/interop-fabric-chaincode-python"
if [ ! -e "$tools/done" ] || ! cmp -s "$here/requirements.txt" "$tools/done"; then
    rm -rf "$tools"
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$tools/done"
fi
cd "$root"
PYTHONPATH=. exec .venv/bin/python "$here/verify.py" "$tools/bin/python"
