#!/bin/sh
# Runs exported networks in onnxruntime, a runtime that shares no code with this program: on 256 test images the logits
# must be the program's to 1e-4, and the classes the same. A test of the suite trains the networks, exports them, and
# leaves images and logits beside them.
#
# TNET_PYTHON names a Python that has onnxruntime and numpy (default: python3). Where it has not, this says that it was
# skipped, or fails where TNET_REQUIRE_ONNXRUNTIME is 1.
set -eu
cd "$(dirname "$0")/.."

python=${TNET_PYTHON:-python3}
if ! "$python" -c 'import numpy, onnxruntime' 2>/dev/null; then
    echo "SKIPPED, ONNXRUNTIME WAS NOT TESTED: $python does not have it; pip install onnxruntime numpy"
    [ "${TNET_REQUIRE_ONNXRUNTIME:-}" != 1 ]
    exit
fi
TNET_EXPORTED=$(mktemp -d)
export TNET_EXPORTED
trap 'rm -r "$TNET_EXPORTED"' EXIT
${CARGO:-cargo} test -q --release --locked --test suite -- --exact export::trained_networks_are_the_same_in_onnx
"$python" tests/check_onnx.py "$TNET_EXPORTED"
