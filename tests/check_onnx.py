"""Compares networks that were exported as ONNX, as onnxruntime computes them, with the program: tests/onnxruntime.sh."""

import json
import pathlib
import sys

import numpy
import onnxruntime

TOLERANCE = 1e-4

folder = pathlib.Path(sys.argv[1])
images = numpy.fromfile(folder / "images.f32", "<f4").reshape(-1, 1, 28, 28)
networks = sorted(folder.glob("*.onnx"), key=lambda network: network.stem)
assert [network.stem for network in networks] == ["chain", "compressed", "convolutions", "dense", "mps", "mps-all", "padded"], networks
for network in networks:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape, image.type) == ("images", ["batch", 1, 28, 28], "tensor(float)"), image
    assert (output.name, output.shape) == ("logits", ["batch", 10]), output
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert classes[0] == "T-shirt/top" and len(classes) == 10, classes

    expected = numpy.fromfile(network.with_suffix(".f32"), "<f4").reshape(-1, 10)
    assert len(expected) == len(images) == 256
    # All at once, and one alone: the batch is not part of the file.
    logits = session.run(["logits"], {"images": images})[0]
    alone = session.run(["logits"], {"images": images[:1]})[0]
    off = max(abs(logits - expected).max(), abs(alone - expected[:1]).max())
    assert off < TOLERANCE, f"{network.stem}: {off}"
    assert (logits.argmax(1) == expected.argmax(1)).all(), network.stem
    print(f"onnxruntime {onnxruntime.__version__}, {network.stem}: logits within {off:.1e} on {len(images)} test images")
