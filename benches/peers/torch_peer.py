"""The network in PyTorch: eager, compiled, or as a CUDA graph that is replayed for each batch."""

import time

import torch
from torch import nn

from common import BATCH, DROPOUT, LEARNING_RATE, SEED, arguments, load, report

parser = arguments(__doc__, ["mps", "mps-all", "chain", "conv", "dense"], ["eager", "compile", "graph"])
parser.add_argument("--channels-last", action="store_true", help="conv: images as NHWC in memory")
parser.add_argument("--device", choices=["cuda", "cpu"], help="cuda where there is one, else cpu")
args = parser.parse_args()
device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(SEED)


class Mps(nn.Module):
    """A tensor network from `j * l` inputs to `m * n` outputs."""

    def __init__(self, bond, j, l, m=32, n=16):
        super().__init__()
        std = (2 / (j * l) / bond) ** 0.25
        self.a = nn.Parameter(std * torch.randn(m, j, bond))
        self.c = nn.Parameter(std * torch.randn(n, l, bond))
        self.bias = nn.Parameter(torch.zeros(m, n))

    def forward(self, x):
        x = x.view(-1, self.a.shape[1], self.c.shape[1])
        # The cheaper order: the core with 16 outputs first.
        u = torch.einsum("bjl,nlk->bjnk", x, self.c)
        return (torch.einsum("bjnk,mjk->bmn", u, self.a) + self.bias).flatten(1)


def chain(bond):
    """Four cores from 784 inputs to 512 outputs, by TensorLy-Torch."""
    from tltorch import FactorizedLinear

    layer = FactorizedLinear(
        (4, 7, 4, 7),
        (8, 4, 4, 4),
        rank=[1, bond, bond, bond, 1],
        factorization="blocktt",
        implementation="factorized",
    )
    layer.weight.normal_(0, (2 / 784) ** 0.5)
    return layer


class MpsConv2d(nn.Module):
    """A convolution whose matrix `[channels * 9, m * n]` is a tensor network of two cores, rebuilt in every step."""

    def __init__(self, bond, channels, m, n):
        super().__init__()
        std = (2 / (channels * 9) / bond) ** 0.25
        self.a = nn.Parameter(std * torch.randn(m, bond, channels))
        self.c = nn.Parameter(std * torch.randn(9, bond, n))
        self.bias = nn.Parameter(torch.zeros(m * n))

    def forward(self, x):
        kernel = torch.einsum("mkj,lkn->mnjl", self.a, self.c)
        kernel = kernel.reshape(len(self.bias), -1, 3, 3)
        return nn.functional.conv2d(x, kernel, self.bias, padding=1)


def convolutions(bond):
    """The network of conv.toml or, with a bond, of conv-mps.toml."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        MpsConv2d(bond, 16, 8, 4) if bond else nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        Mps(bond, 32, 49, 16, 8) if bond else nn.Linear(32 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def fully_connected(layer, bond):
    """The article's network, or a relative of it."""
    if layer == "chain":
        # A network of one hidden layer: a dense one beside it would take most of the time.
        return nn.Sequential(chain(bond), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(512, 10))
    return nn.Sequential(
        nn.Linear(784, 512) if layer == "dense" else Mps(bond, 28, 28),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        Mps(bond, 32, 16) if layer == "mps-all" else nn.Linear(512, 512),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(512, 10),
    )


network = convolutions(args.bond) if args.layer == "conv" else fully_connected(args.layer, args.bond)
network = network.to(device)
if args.channels_last:
    network = network.to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(
    network.parameters(),
    lr=LEARNING_RATE,
    fused=(device == "cuda") or None,
    capturable=args.mode == "graph",
)
cross_entropy = nn.CrossEntropyLoss()
train_x, train_y, test_x, test_y = (
    torch.from_numpy(array.copy()).to(device) for array in load(args.images)
)


def loss(x, y):
    return cross_entropy(network(x), y)


if args.mode == "compile":
    loss = torch.compile(loss)


def step(x, y):
    optimizer.zero_grad(set_to_none=True)
    loss(x, y).backward()
    optimizer.step()


def captured_step():
    """A step recorded once; a batch is copied to where it reads its input."""
    x, y = train_x[:BATCH].clone(), train_y[:BATCH].clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(x, y)
    torch.cuda.current_stream().wait_stream(stream)
    optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss(x, y).backward()
        optimizer.step()

    def replay(batch_x, batch_y):
        # The last batch of an epoch may be smaller than what was recorded; it is left out.
        if len(batch_x) == BATCH:
            x.copy_(batch_x)
            y.copy_(batch_y)
            graph.replay()

    return replay


train_step = captured_step() if args.mode == "graph" else step


def epoch():
    network.train()
    order = torch.randperm(len(train_x), device=device)
    for begin in range(0, len(train_x), BATCH):
        indices = order[begin : begin + BATCH]
        train_step(train_x[indices], train_y[indices])
    if device == "cuda":
        torch.cuda.synchronize()


epoch()
started = time.perf_counter()
for _ in range(args.epochs):
    epoch()
seconds = time.perf_counter() - started

network.eval()
with torch.no_grad():
    accuracy = (network(test_x).argmax(1) == test_y).float().mean().item()
report(f"torch {torch.__version__} {device} {args.mode}", args, seconds, accuracy)
