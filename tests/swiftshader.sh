#!/bin/sh
# Checks the release program on SwiftShader, the Vulkan driver that Chromium draws with where there is no GPU. It shares no
# code with Mesa, so that what only Mesa lets pass shows up. With the kernels for software adapters and with those for
# GPUs, the layer is verified, and two short training runs must agree to the bit with each other, and in their metrics
# with the CPU.
#
# TNET_SWIFTSHADER names the driver's JSON file, by an absolute path. Without a driver it says that it was skipped, or
# fails where TNET_REQUIRE_ADAPTER is 1.
set -eu

driver=${TNET_SWIFTSHADER:-/usr/lib/chromium/vk_swiftshader_icd.json}
if [ ! -e "$driver" ]; then
    echo "SKIPPED, SWIFTSHADER WAS NOT TESTED: there is no $driver; Debian's package chromium-common has one"
    [ "${TNET_REQUIRE_ADAPTER:-}" != 1 ]
    exit
fi
runs=$(mktemp -d)
trap 'rm -r "$runs"' EXIT
unset TNET_TARGET TNET_STRATEGY TNET_PRODUCTS
export VK_DRIVER_FILES="$driver" VK_ICD_FILENAMES="$driver"

# What a command prints is kept, and shown if it fails.
tnet() {
    name=$1
    shift
    ${CARGO:-cargo} run -q --release --locked -- "$@" >"$runs/$name.txt" 2>&1 || {
        cat "$runs/$name.txt"
        exit 1
    }
}

train() {
    tnet "$1" train --device "$2" --train-images 640 --epochs 1 --hidden 128,128 --out "$runs/$1"
}

tnet devices devices
grep -q '^| vulkan:0 .*SwiftShader.* software ' "$runs/devices.txt" || {
    cat "$runs/devices.txt"
    exit 1
}
train cpu cpu
for target in software gpu; do
    export TNET_TARGET=$target
    tnet verify verify --device vulkan
    echo "SwiftShader, kernels for $target: $(tail -n 1 "$runs/verify.txt")"
    train one vulkan &
    other=$!
    train two vulkan
    wait $other
    cmp "$runs/one/last.safetensors" "$runs/two/last.safetensors"
    # The losses and the test accuracy: of so few training images one more or less would be a large difference.
    paste -d , "$runs/cpu/metrics.csv" "$runs/one/metrics.csv" | awk -F , -v target="$target" 'NR == 2 {
        split("2 4 5", columns, " ")
        for (i in columns) {
            off = $columns[i] - $(columns[i] + 7)
            if (off > 0.001 || off < -0.001) {
                print "the metrics are not those of the CPU: " $0
                exit 1
            }
        }
        print "SwiftShader, kernels for " target ": two trainings agree to the bit, their metrics with the CPU"
    }'
    rm -r "$runs/one" "$runs/two"
done
