#!/bin/sh
# Verifies the frozen vectors with veraison/go-cose; needs a Go toolchain.
set -eu
cd "$(dirname "$0")"
if ! command -v go >/dev/null; then echo "go-cose: NOT RUN: there is no Go toolchain (apt install golang)"; exit 0; fi
exec go run . ../../vectors
