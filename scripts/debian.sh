#!/usr/bin/env bash
# Makes Debian packages available: as root by apt, otherwise downloaded and unpacked, with what they need, into .tools/debian/.
# Usage: scripts/debian.sh PACKAGE...   Prints nothing on success. See scripts/mosquitto.sh for how an unpacked program is run.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for package in "$@"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  # A broker of the machine's own is not wanted: only the program is. The policy file keeps apt from starting services.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >.debian.log 2>&1 ||
    { cat .debian.log >&2; echo "debian.sh: apt could not install: ${missing[*]}" >&2; exit 1; }
  rm -f .debian.log
  exit 0
fi

root=$PWD/.tools
mkdir -p "$root/debian" "$root/apt/lists/partial" "$root/apt/cache/archives/partial"
apt=(-o "Dir::State::lists=$root/apt/lists" -o "Dir::Cache=$root/apt/cache" -o Debug::NoLocking=1 -qq)
apt-get "${apt[@]}" update
wanted=$(apt-get "${apt[@]}" --simulate --no-install-recommends install "${missing[@]}" | awk '$1 == "Inst" {print $2}')
(cd "$root/apt" && apt-get "${apt[@]}" download $wanted)
for file in "$root"/apt/*.deb; do dpkg-deb --extract "$file" "$root/debian"; done
