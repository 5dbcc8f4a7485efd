#!/bin/sh
# Verifies the frozen vectors with veraison/go-cose; needs a Go toolchain.
set -eu
cd "$(dirname "$0")"
exec go run . ../../vectors
