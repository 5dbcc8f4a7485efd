#!/usr/bin/env bash
# Runs Debian's mosquitto with the arguments given, installing or unpacking it first where it is missing.
# With the single argument --prepare it only makes sure that it is there.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -x /usr/sbin/mosquitto ] && [ ! -x "$top/.tools/debian/usr/sbin/mosquitto" ]; then "$top/scripts/debian.sh" mosquitto; fi
if [ "${1:-}" = --prepare ]; then exit 0; fi
if [ -x /usr/sbin/mosquitto ]; then exec /usr/sbin/mosquitto "$@"; fi
unpacked=$top/.tools/debian
export LD_LIBRARY_PATH="$unpacked/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu"):${LD_LIBRARY_PATH:-}"
exec "$unpacked/usr/sbin/mosquitto" "$@"
