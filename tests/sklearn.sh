#!/bin/sh
# Compares a report of `eval --report` with scikit-learn, which computes the same figures from predictions.csv: accuracy,
# loss, confusion matrix, precision, recall and F1 of each class and their averages. The network is trained for one epoch
# on 6,000 images of Fashion-MNIST.
#
# TNET_PYTHON names a Python that has scikit-learn (default: python3). Where it has not, this says that it was skipped, or
# fails where TNET_REQUIRE_SKLEARN is 1.
set -eu
cd "$(dirname "$0")/.."

python=${TNET_PYTHON:-python3}
if ! "$python" -c 'import numpy, sklearn' 2>/dev/null; then
    echo "SKIPPED, THE REPORT WAS NOT COMPARED: $python does not have scikit-learn; pip install scikit-learn"
    [ "${TNET_REQUIRE_SKLEARN:-}" != 1 ]
    exit
fi
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
tnet() { ${CARGO:-cargo} run -q --release --locked -- "$@"; }
tnet train --device cpu --train-images 6000 --epochs 1 --out "$folder/run" 2>/dev/null >/dev/null
tnet eval "$folder/run" --device cpu --json --report "$folder/report" 2>/dev/null >"$folder/eval.json"
"$python" tests/check_report.py "$folder"
