"""Shared by the scripts: command line, Fashion-MNIST as float32 in [0, 1], and the report.

Every script trains layer 1 -> ReLU -> dropout 0.2 -> dense 512 -> ReLU -> dropout 0.2 -> dense 10
with softmax cross entropy, batches of 128 and Adam at 0.001. What is timed is training alone, with the
data in memory and after one epoch of warm-up.
"""

import argparse
import gzip
import json
import os
import struct

import numpy as np

BATCH = 128
DROPOUT = 0.2
LEARNING_RATE = 1e-3
SEED = 200

DATA = os.environ.get("TNET_DATA", "/usr/share/datasets/fashion-mnist")


def arguments(description, layers, modes=None):
    """A parser of the arguments that all scripts take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("layer", choices=layers, help="first layer; mps-all: the second one too")
    parser.add_argument("bond", type=int, help="size of the bond; a dense layer has none")
    parser.add_argument("images", type=int, help="how many training images to use")
    parser.add_argument("epochs", type=int, help="timed epochs, after one of warm-up")
    if modes:
        parser.add_argument("--mode", choices=modes, default=modes[0])
    return parser


def read_idx(name):
    """The array in an IDX file of bytes, gzipped or not."""
    path = os.path.join(DATA, name)
    file = open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz")
    with file:
        (magic,) = struct.unpack(">I", file.read(4))
        rank = magic & 255
        shape = struct.unpack(f">{rank}I", file.read(4 * rank))
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def load(images):
    """Training images and labels, the first `images` of them, and those of the test set."""

    def split(name):
        pixels = read_idx(f"{name}-images-idx3-ubyte").astype(np.float32) / 255.0
        labels = read_idx(f"{name}-labels-idx1-ubyte").astype(np.int64)
        return pixels.reshape(len(pixels), -1), labels

    (train_x, train_y), (test_x, test_y) = split("train"), split("t10k")
    return train_x[:images], train_y[:images], test_x, test_y


def report(framework, args, seconds, accuracy):
    """Prints the result as one JSON line."""
    result = {
        "framework": framework,
        "layer": args.layer,
        "bond": args.bond,
        "images": args.images,
        "epochs": args.epochs,
        "s_per_epoch": seconds / args.epochs,
        "images_per_s": args.images * args.epochs / seconds,
        "test_accuracy": accuracy,
    }
    print(json.dumps(result), flush=True)
