#!/bin/sh
# Holds docs/statement-v1.cddl against the vectors and our parser, with cddl-verifier in an environment of its own under .tools/.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools="$root/.tools/interop-cddl"
if [ ! -e "$tools/done" ] || ! cmp -s "$here/requirements.txt" "$tools/done"; then
    rm -rf "$tools"
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$tools/done"
fi
"${PROJECT_PYTHON:-$root/.venv/bin/python}" "$here/accepted.py" > "$tools/accepted.txt"
exec "$tools/bin/python" "$here/verify.py" "$root/docs/statement-v1.cddl" "$root/tests/vectors" "$tools/accepted.txt"
