#!/bin/sh
# Opens exported pages in Chromium, with WebGPU on SwiftShader and again without WebGPU: on 256 test images the logits must be
# the program's to 1e-4, and the classes the same. Then the page is used: pointer, keyboard, files; and looked at for requests.
# A test of the suite trains the networks, exports them, and leaves images and logits beside them; another leaves pages of
# networks that are drawn at random, which test themselves.
#
# TNET_CHROMIUM names the browser (default: chromium). Where there is none, this says that it was skipped, or fails where
# TNET_REQUIRE_BROWSER is 1. TNET_PICTURES names a folder for pictures of the pages.
set -eu
cd "$(dirname "$0")/.."

chromium=${TNET_CHROMIUM:-chromium}
if ! command -v "$chromium" >/dev/null || ! command -v python3 >/dev/null; then
    echo "SKIPPED, PAGES WERE NOT TESTED: $chromium or python3 is not there; apt-get install chromium python3"
    [ "${TNET_REQUIRE_BROWSER:-}" != 1 ]
    exit
fi
TNET_EXPORTED=$(mktemp -d)
export TNET_EXPORTED
trap 'rm -r "$TNET_EXPORTED"' EXIT
${CARGO:-cargo} test -q --release --locked --test suite -- --exact export::trained_networks_are_the_same_in_onnx \
    any_network::pages_of_any_network_have_what_they_test_themselves_by
PYTHONDONTWRITEBYTECODE=1 python3 tests/check_page.py "$chromium" "$TNET_EXPORTED"
