"""The network in JAX with optax: an epoch as one compiled scan, or as a loop over compiled steps."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common import BATCH, DROPOUT, LEARNING_RATE, SEED, arguments, load, report

parser = arguments(__doc__, ["mps", "mps-all", "chain", "conv", "dense"], ["scan", "loop"])
parser.add_argument("--bond2", type=int, help="mps-all: bond of the second layer, else as the first")
parser.add_argument(
    "--way",
    choices=["fold", "cores", "einsum"],
    default="fold",
    help="chain: the cores folded into two, one after the other, or as einsum's best path",
)
parser.add_argument("--layout", choices=["NHWC", "NCHW"], default="NHWC", help="conv: of images")
args = parser.parse_args()


def dense(key, inputs, outputs):
    """Weights of a dense layer."""
    std = np.sqrt(2 / (inputs + outputs))
    return {"w": std * jax.random.normal(key, (inputs, outputs)), "b": jnp.zeros(outputs)}


def mps(key_a, key_c, j, l, bond, m=32, n=16):
    """Cores and bias of a tensor network from `j * l` inputs to `m * n` outputs."""
    std = (2 / (j * l) / bond) ** 0.25
    return {
        "a": std * jax.random.normal(key_a, (m, j, bond)),
        "c": std * jax.random.normal(key_c, (n, l, bond)),
        "b": jnp.zeros((m, n)),
    }


INPUTS, OUTPUTS = (4, 7, 4, 7), (8, 4, 4, 4)


def chain(key, bond):
    """Four cores `[k, o, i, k']` and a bias from 784 inputs to 512 outputs."""
    std = (2 / 784 / bond**3) ** (1 / 8)
    bonds = (1, bond, bond, bond, 1)
    shapes = zip(bonds, OUTPUTS, INPUTS, bonds[1:])
    keys = jax.random.split(key, 4)
    cores = [std * jax.random.normal(key, shape) for key, shape in zip(keys, shapes)]
    return {"cores": cores, "b": jnp.zeros(512)}


def chained(cores, x):
    """The layer of a chain, without its bias."""
    x = x.reshape(-1, *INPUTS)
    g1, g2, g3, g4 = cores
    if args.way == "fold":
        a = jnp.einsum("oik,kpjl->opijl", g1[0], g2).reshape(32, 28, -1)
        c = jnp.einsum("koil,lpj->ijkop", g3, g4[..., 0]).reshape(28, -1, 16)
        u = jnp.einsum("bjl,lkn->bjkn", x.reshape(-1, 28, 28), c)
        y = jnp.einsum("bjkn,mjk->bmn", u, a)
    elif args.way == "cores":
        right = 1
        for core in reversed(cores):
            k, o, i, last = core.shape
            x = x.reshape(-1, i * last, right)
            x = jnp.einsum("sq,pqr->psr", core.reshape(k * o, i * last), x)
            right *= o
        y = x
    else:
        names = "xoik,kpjl,lqmn,nrsy,bijms->bopqr"
        y = jnp.einsum(names, g1, g2, g3, g4, x, optimize="optimal")
    return y.reshape(-1, 512)


def layer(weights, x):
    """A dense layer or a tensor network, whichever the weights belong to."""
    if "w" in weights:
        return x @ weights["w"] + weights["b"]
    if "cores" in weights:
        return chained(weights["cores"], x) + weights["b"]
    a, c, bias = weights["a"], weights["c"], weights["b"]
    x = x.reshape(-1, a.shape[1], c.shape[1])
    # The cheaper order: the core with 16 outputs first.
    u = jnp.einsum("bjl,nlk->bjnk", x, c)
    y = jnp.einsum("bjnk,mjk->bmn", u, a) + bias
    return y.reshape(len(y), -1)


def mps_kernel(key_a, key_c, channels, bond, m, n):
    """Cores and bias of a convolution whose matrix `[channels * 9, m * n]` is a tensor network."""
    std = (2 / (channels * 9) / bond) ** 0.25
    return {
        "a": std * jax.random.normal(key_a, (m, bond, channels)),
        "c": std * jax.random.normal(key_c, (9, bond, n)),
        "b": jnp.zeros(m * n),
    }


def conv(weights, x):
    """A convolution of 3 x 3 with a border of 1; kernels are `[channels, taps, outputs]`."""
    if "w" in weights:
        kernel = weights["w"]
    else:
        kernel = jnp.einsum("mkj,lkn->jlmn", weights["a"], weights["c"])
    kernel = kernel.reshape(kernel.shape[0], 3, 3, -1)
    names = (args.layout, "IHWO", args.layout)
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names)
    bias = weights["b"]
    return y + (bias if args.layout == "NHWC" else bias[:, None, None])


def maxpool(x):
    kernel = (1, 2, 2, 1) if args.layout == "NHWC" else (1, 1, 2, 2)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, kernel, kernel, "VALID")


def convolutional(weights, x):
    """Logits of the network of conv.toml or, with a bond, of conv-mps.toml."""
    x = x.reshape(-1, 28, 28, 1) if args.layout == "NHWC" else x.reshape(-1, 1, 28, 28)
    for name in ("conv1", "conv2"):
        x = maxpool(jax.nn.relu(conv(weights[name], x)))
    x = jax.nn.relu(layer(weights["layer3"], x.reshape(len(x), -1)))
    return layer(weights["layer4"], x)


def dropout(key, x):
    kept = jax.random.bernoulli(key, 1 - DROPOUT, x.shape)
    return jnp.where(kept, x / (1 - DROPOUT), 0.0)


def network(weights, x, key=None):
    """Logits; with a key, as in training."""
    if args.layer == "conv":
        return convolutional(weights, x)
    keys = (None, None) if key is None else jax.random.split(key)
    for name, drop in zip([name for name in ("layer1", "layer2") if name in weights], keys):
        x = jax.nn.relu(layer(weights[name], x))
        if drop is not None:
            x = dropout(drop, x)
    return layer(weights["layer3"], x)


key = jax.random.PRNGKey(SEED)
keys = jax.random.split(key, 6)
if args.layer == "conv":
    first = np.sqrt(2 / 9) * jax.random.normal(keys[0], (1, 9, 16))
    second = np.sqrt(2 / 144) * jax.random.normal(keys[1], (16, 9, 32))
    weights = {
        "conv1": {"w": first, "b": jnp.zeros(16)},
        "conv2": mps_kernel(keys[1], keys[2], 16, args.bond, 8, 4)
        if args.bond
        else {"w": second, "b": jnp.zeros(32)},
        "layer3": mps(keys[3], keys[4], 32, 49, args.bond, 16, 8)
        if args.bond
        else dense(keys[3], 32 * 49, 128),
        "layer4": dense(keys[5], 128, 10),
    }
elif args.layer == "chain":
    # A network of one hidden layer: a dense one beside it would take most of the time.
    weights = {"layer1": chain(keys[0], args.bond), "layer3": dense(keys[5], 512, 10)}
else:
    weights = {
        "layer1": dense(keys[0], 784, 512)
        if args.layer == "dense"
        else mps(keys[0], keys[1], 28, 28, args.bond),
        "layer2": mps(keys[2], keys[3], 32, 16, args.bond2 or args.bond)
        if args.layer == "mps-all"
        else dense(keys[4], 512, 512),
        "layer3": dense(keys[5], 512, 10),
    }
optimizer = optax.adam(LEARNING_RATE)
train_x, train_y, test_x, test_y = (jnp.asarray(array) for array in load(args.images))
batches = args.images // BATCH


def loss(weights, x, y, key):
    logits = network(weights, x, key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def step(state, indices):
    weights, moments, key = state
    key, drop = jax.random.split(key)
    gradients = jax.grad(loss)(weights, train_x[indices], train_y[indices], drop)
    updates, moments = optimizer.update(gradients, moments)
    return (optax.apply_updates(weights, updates), moments, key), None


@jax.jit
def scan_epoch(state):
    weights, moments, key = state
    key, shuffle = jax.random.split(key)
    order = jax.random.permutation(shuffle, args.images)[: batches * BATCH]
    state, _ = jax.lax.scan(step, (weights, moments, key), order.reshape(batches, BATCH))
    return state


compiled_step = jax.jit(lambda state, indices: step(state, indices)[0])


def loop_epoch(state):
    order = np.random.permutation(args.images)[: batches * BATCH]
    for indices in order.reshape(batches, BATCH):
        state = compiled_step(state, indices)
    return state


epoch = scan_epoch if args.mode == "scan" else loop_epoch
state = jax.block_until_ready(epoch((weights, optimizer.init(weights), key)))
started = time.perf_counter()
for _ in range(args.epochs):
    state = epoch(state)
jax.block_until_ready(state)
seconds = time.perf_counter() - started

accuracy = float((network(state[0], test_x).argmax(1) == test_y).mean())
report(f"jax {jax.__version__} {jax.default_backend()} {args.mode}", args, seconds, accuracy)
