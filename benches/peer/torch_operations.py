"""The PyTorch code of `operations.py`: the operations by the names that the Rust benchmark prints."""

import re
import statistics
import time

import torch
import torch.nn.functional as F
import torchvision

CONVOLUTION = re.compile(
    r"convolution (\d)x\d( by 2)? (\d+) to (\d+), (\d+)x(\d+)(?:, (\d+) groups)?"
)
MAPS = re.compile(r"(.*) (\d+), (\d+)x(\d+)")


def median(work, repeats):
    """The median of the milliseconds of the runs, after one untimed run."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def peer(operation, batch):
    """The same operation in PyTorch: its inputs, and a function of the inputs and of whether it trains."""
    if match := CONVOLUTION.fullmatch(operation):
        kernel, stride, channels, results, height, width, groups = match.groups()
        groups = int(groups or 1)
        inputs = [
            torch.randn(batch, int(channels), int(height), int(width)),
            torch.randn(int(results), int(channels) // groups, int(kernel), int(kernel)),
        ]
        stride, padding = 2 if stride else 1, int(kernel) // 2
        return inputs, lambda x, w, _: F.conv2d(x, w, None, stride, padding, 1, groups)
    name, channels, height, width = MAPS.fullmatch(operation).groups()
    shape = (batch, int(channels), int(height), int(width))
    if name == "max pooling":
        return [torch.randn(shape)], lambda x, _: F.max_pool2d(x, 3, 2, 1)
    if name == "sum and ReLU":
        return [torch.randn(shape), torch.randn(shape)], lambda x, y, _: F.relu(x + y)
    if name == "mean of maps":
        return [torch.randn(shape)], lambda x, _: x.mean((2, 3), keepdim=True)
    if name.startswith("gate of"):
        batch, channels, height, width = shape
        gate = (batch, channels, 1, 1) if "channels" in name else (batch, 1, height, width)
        return [torch.randn(shape), torch.randn(gate)], lambda x, gate, _: x * gate
    one, zero = torch.ones(int(channels)), torch.zeros(int(channels))
    mean, variance = torch.zeros(int(channels)), torch.ones(int(channels))

    def normalise(x, weight, bias, training):
        return F.relu(F.batch_norm(x, mean, variance, weight, bias, training))

    return [torch.randn(shape), one, zero], normalise


def rates():
    """The highest rates of this machine: operations and bytes per millisecond."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    operations = 2 * 2048**3 / min(median(lambda: left @ right, 3) for _ in range(3))
    source, target = torch.randn(2**25), torch.empty(2**25)
    copy = min(median(lambda: target.copy_(source), 3) for _ in range(3))
    return operations, 2 * 4 * 2**25 / copy


def floor(operation, settings, operations, bandwidth):
    """The least milliseconds of a forward pass, of both passes for `OWN`, or of an update of Adam."""
    if operation in OWN:
        # One read and one write forward, and as much again backward.
        return 4 * 4 * OWN[operation][0].numel() / bandwidth
    if operation.startswith("Adam"):
        # An update reads the weight, the gradient and both moments, and writes all but the gradient.
        return 7 * 4 * sum(p.numel() for p in weights()) / bandwidth
    inputs, of = peer(operation, settings.batch)
    results = of(*inputs, False)
    moved = 4 * (results.numel() + sum(x.numel() for x in inputs)) / bandwidth
    if not operation.startswith("convolution"):
        return moved
    return max(moved, 2 * results.numel() * inputs[1][0].numel() / operations)


def weights():
    return [p for p in torchvision.models.resnet50().parameters()]


LABELS = torch.arange(64) // 4


def triplet(features):
    """Batch-hard triplet loss with a margin of 0.3."""
    distances = torch.cdist(features, features)
    same = LABELS[:, None] == LABELS[None]
    farthest = distances.masked_fill(~same, 0).max(1).values
    nearest = distances.masked_fill(same, torch.inf).min(1).values
    return F.relu(farthest - nearest + 0.3).mean()


def mix(features):
    """Replaces the 6 patches of 3 x 2 with the highest scores, of 32, by those of another identity."""
    scores = F.avg_pool2d(CAM[:, None], (3, 2)).flatten(1)
    cut = torch.zeros(64, 32, dtype=torch.bool).scatter_(1, scores.topk(6).indices, True)
    cut = cut.view(64, 1, 8, 4).repeat_interleave(3, 2).repeat_interleave(2, 3)
    return torch.where(cut, features[PARTNERS], features).sum()


CAM = torch.randn(64, 24, 8)
PARTNERS = torch.arange(64).roll(4)
OWN = {
    "batch-hard triplet, 64 of 2048": (torch.randn(64, 2048), triplet),
    "cells cut and mixed, 64 of 2048, 24x8": (torch.randn(64, 2048, 24, 8), mix),
}


def measure_whole(operation, settings):
    """Milliseconds of an operation whose forward and backward passes are timed together."""
    if operation not in OWN:
        return adam(settings)
    features, loss = OWN[operation]
    features.requires_grad_()
    return median(lambda: loss(features).backward(), settings.repeats)


def adam(settings):
    """Milliseconds of an update of ResNet-50's weights."""
    parameters = weights()
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return median(torch.optim.Adam(parameters, weight_decay=5e-4).step, settings.repeats)


def measure(operation, settings, layout):
    """Milliseconds forward without gradients, and forward and backward."""
    inputs, of = peer(operation, settings.batch)
    inputs = [x.contiguous(memory_format=layout) if x.dim() == 4 else x for x in inputs]
    with torch.no_grad():
        forward = median(lambda: of(*inputs, False), settings.repeats)
    inputs = [x.requires_grad_() for x in inputs]
    output_gradient = torch.randn_like(of(*inputs, True))

    def both():
        of(*inputs, True).backward(output_gradient)

    return forward, median(both, settings.repeats)


def both_layouts(operation, settings):
    """The faster of PyTorch's two memory formats: milliseconds forward, and forward and backward."""
    times = [
        measure(operation, settings, layout)
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    return [min(pair) for pair in zip(*times)]
