"""Compares exported networks, as PyTorch computes them, with the program: tests/pytorch.sh."""

import pathlib
import sys
import tomllib

import numpy
import torch
from safetensors.torch import load_file
from torch import nn

TOLERANCE = 1e-4


def product(numbers):
    return int(numpy.prod(numbers))


def network(stack):
    """The modules whose weights an exported file of matrices has, and the names of the layers by their positions."""
    modules, names = [], []
    channels, height, width = stack["input"]
    features, on_images = channels * height * width, False
    for layer in stack["layers"]:
        kind = layer["kind"]
        if kind in ("conv2d", "maxpool", "avgpool"):
            on_images = True
            kernel, stride = tuple(layer["kernel"]), layer.get("stride", layer["kernel"][0])
            padding = layer.get("padding", 0)
            if kind == "conv2d":
                out = product(layer["out"])
                module = nn.Conv2d(channels, out, kernel, stride, padding, bias=layer["bias"])
                channels = out
            else:
                module = (nn.MaxPool2d if kind == "maxpool" else nn.AvgPool2d)(kernel, stride)
            height = (height + 2 * padding - kernel[0]) // stride + 1
            width = (width + 2 * padding - kernel[1]) // stride + 1
            features = channels * height * width
        elif kind in ("mps", "dense"):
            if on_images:
                modules.append(nn.Flatten())
                names.append(None)
                on_images = False
            out = product(layer["out"]) - layer.get("pad", [0, 0])[1]
            module = nn.Linear(features, out, bias=layer["bias"])
            features = out
        else:
            module = {"relu": nn.ReLU, "gelu": nn.GELU, "dropout": nn.Dropout}[kind]()
        modules.append(module)
        names.append(f"{kind}{len([name for name in names if name]) + 1}")
    return nn.Sequential(*modules).eval(), names


def merged(cores, layer):
    """The matrix `[out, in]` of a tensor layer, or `[out, in, taps]` of a convolution, in f64."""
    cores = {name: tensor.double() for name, tensor in cores.items()}
    if "g1" not in cores:
        matrix = torch.einsum("mkj,lkn->mnjl", cores["a"], cores["c"])
        m, n, j, l = matrix.shape
        return matrix.reshape(m * n, j, l) if layer["kind"] == "conv2d" else matrix.reshape(m * n, j * l)
    matrix = torch.ones(1, 1, 1, dtype=torch.float64)
    for at in range(len(cores) - ("bias" in cores)):
        matrix = torch.einsum("abk,koil->aobil", matrix, cores[f"g{at + 1}"])
        a, o, b, i, k = matrix.shape
        matrix = matrix.reshape(a * o, b * i, k)
    return matrix[..., 0]


folder = pathlib.Path(sys.argv[1])
images = torch.from_numpy(numpy.fromfile(folder / "images.f32", "<f4").reshape(-1, 1, 28, 28))
files = sorted(folder.glob("*.toml"))
assert len(files) >= 6, files
for file in files:
    stack = tomllib.loads(file.read_text())
    model, names = network(stack)
    model.load_state_dict(load_file(file.with_suffix(".dense")), strict=True)
    on_images = stack["layers"][0]["kind"] in ("conv2d", "maxpool", "avgpool")
    with torch.no_grad():
        logits = model(images if on_images else images.flatten(1)).numpy()
    expected = numpy.fromfile(file.with_suffix(".f32"), "<f4").reshape(-1, 10)
    off = abs(logits - expected).max()
    assert off < TOLERANCE, f"{file.stem}: {off}"
    assert (logits.argmax(1) == expected.argmax(1)).all(), file.stem

    # The cores, contracted here.
    cores = load_file(file.with_suffix(".cores"))
    state, layers, compared = model.state_dict(), iter(stack["layers"]), 0
    for at, name in enumerate(names):
        layer = next(layers) if name else None
        own = {key.split(".")[1]: tensor for key, tensor in cores.items() if key.split(".")[0] == name}
        if not own or "weight" in own:
            continue
        weight = state[f"{at}.weight"].double()
        matrix = merged(own, layer)
        if "pad" in layer:
            matrix = matrix[: weight.shape[0], : weight.shape[1]]
        distance = (matrix.reshape(weight.shape) - weight).norm() / weight.norm()
        assert distance < 1e-6, f"{file.stem}, {name}: {distance}"
        compared += 1
    print(f"PyTorch {torch.__version__}, {file.stem}: logits within {off:.1e}, the matrices of {compared} tensor layers equal")
