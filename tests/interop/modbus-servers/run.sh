#!/usr/bin/env bash
# The drivers read servers that are not ours: libmodbus (compiled here) and pymodbus.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
tools="$root/.tools/interop-servers"
mkdir -p "$tools"
"$root/scripts/debian.sh" libmodbus-dev socat
debian="$root/.tools/debian/usr"
libraries=$(ls -d "$debian"/lib/*-linux-gnu 2>/dev/null | head -1 || true)
export PATH="$PATH:$debian/bin" LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
compiler=$(command -v cc || command -v gcc || true)
if [ -n "$compiler" ]; then
  "$compiler" -O1 -o "$tools/libmodbus" "$here/libmodbus.c" -I"$debian/include" ${libraries:+-L"$libraries"} -lmodbus
fi
exec "$root/.venv/bin/python" "$here/verify.py" "$tools"
