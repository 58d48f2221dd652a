#!/bin/sh
# Loads exported networks into PyTorch: the merged weights into modules of the same layers, whose logits must be the program's
# to 1e-4, and the cores, which are contracted there. A test of the suite trains the networks and leaves the files.
#
# TNET_PYTORCH names a Python that has torch, numpy and safetensors (default: python3). Where it has not, this says that it was
# skipped, or fails where TNET_REQUIRE_PYTORCH is 1.
set -eu
cd "$(dirname "$0")/.."

python=${TNET_PYTORCH:-python3}
if ! "$python" -c 'import numpy, torch, safetensors' 2>/dev/null; then
    echo "SKIPPED, PYTORCH WAS NOT TESTED: $python does not have it; pip install torch numpy safetensors"
    [ "${TNET_REQUIRE_PYTORCH:-}" != 1 ]
    exit
fi
TNET_EXPORTED=$(mktemp -d)
export TNET_EXPORTED
trap 'rm -r "$TNET_EXPORTED"' EXIT
${CARGO:-cargo} test -q --release --locked --test suite -- --exact export::trained_networks_are_the_same_in_onnx
"$python" tests/check_pytorch.py "$TNET_EXPORTED"
