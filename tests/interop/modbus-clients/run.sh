#!/bin/sh
# Reads the simulator with pysunspec2 and modpoll, in an environment of their own under .tools/.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools="$root/.tools/interop-modbus"
if [ ! -e "$tools/done" ] || ! cmp -s "$here/requirements.txt" "$tools/done"; then
    rm -rf "$tools"
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$tools/done"
fi
exec "$tools/bin/python" "$here/verify.py" "$root/.venv/bin/python"
