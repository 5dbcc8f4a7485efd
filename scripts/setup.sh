#!/usr/bin/env bash
# Makes .venv/ with everything that requirements.txt and requirements-dev.txt pin, and this project's commands in it.
# Needs: Python 3.11 to 3.13. On a Debian without python3-venv it gets pip from Debian's package (apt as root, else unpacked).
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-}
for candidate in python3 python3.13 python3.12 python3.11; do
  [ -n "$python" ] && break
  if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then python=$candidate; fi
done
[ -n "$python" ] || { echo "setup: no Python 3.11 to 3.13 on PATH; try: apt install python3, or PYTHON=/path/to/python3.12 make setup" >&2; exit 1; }

if [ ! -x .venv/bin/python ]; then
  if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$python" -m venv .venv
  else
    scripts/debian.sh python3-pip-whl >/dev/null
    wheel=
    for candidate in /usr/share/python-wheels/pip-*.whl "$PWD"/.tools/debian/usr/share/python-wheels/pip-*.whl; do
      if [ -e "$candidate" ]; then wheel=$candidate; fi
    done
    [ -n "$wheel" ] || { echo "setup: this Python has no ensurepip; try: apt install python3-venv" >&2; exit 1; }
    "$python" -m venv --without-pip .venv
    PYTHONPATH="$wheel" .venv/bin/python -m pip install --quiet --no-index --no-deps "$wheel"
  fi
fi

# Quiet when it works; everything that was said when it does not.
install() {
  .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps "$@" >.venv/setup.log 2>&1 ||
    { cat .venv/setup.log >&2; exit 1; }
}
install --require-hashes -r requirements.txt -r requirements-dev.txt
install --no-build-isolation --editable .
