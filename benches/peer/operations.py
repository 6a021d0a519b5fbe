"""The operations of ResNet-50 and SE-ResNeXt-101 at 256 x 128, one at a time: reid, Burn and PyTorch.

    cargo bench --bench operations --no-run
    python benches/peer/operations.py --threads 2 --batch 8

Runs the Rust benchmark, repeats each of its operations in PyTorch with both memory formats, and prints
a table: milliseconds forward, forward and backward, and how many times as long reid takes as
PyTorch's better format. The floor is what a forward pass takes at least: its operations at the rate of
a large product of matrices, or its bytes at that of a copy, as measured here in the same go.
"""

import argparse
import json
import re
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
import torchvision

CONVOLUTION = re.compile(
    r"convolution (\d)x\d( by 2)? (\d+) to (\d+), (\d+)x(\d+)(?:, (\d+) groups)?"
)
MAPS = re.compile(r"(.*) (\d+), (\d+)x(\d+)")


def median(work, repeats):
    """Milliseconds of the median run after one that is not timed."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def peer(operation, batch):
    """The same operation: its inputs, and a function of them for training and evaluation."""
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

    def normalise(x, gain, bias, training):
        return F.relu(F.batch_norm(x, mean, variance, gain, bias, training))

    return [torch.randn(shape), one, zero], normalise


def rates():
    """Operations and bytes per millisecond, at best."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    operations = 2 * 2048**3 / min(median(lambda: left @ right, 3) for _ in range(3))
    source, target = torch.randn(2**25), torch.empty(2**25)
    copy = min(median(lambda: target.copy_(source), 3) for _ in range(3))
    return operations, 2 * 4 * 2**25 / copy


def floor(operation, settings, operations, bandwidth):
    """The least milliseconds of a forward pass."""
    if operation in OWN:
        # What is read and written, and as much again backward.
        return 4 * 4 * OWN[operation][0].numel() / bandwidth
    if operation.startswith("Adam"):
        # Weight, gradient and both means are read, and all but the gradient written.
        return 7 * 4 * sum(p.numel() for p in weights()) / bandwidth
    inputs, of = peer(operation, settings.batch)
    results = of(*inputs, False)
    moved = 4 * (results.numel() + sum(x.numel() for x in inputs)) / bandwidth
    if not operation.startswith("convolution"):
        return moved
    return max(moved, 2 * results.numel() * inputs[1][0].numel() / operations)


def weights():
    return [p for p in torchvision.models.resnet50().parameters()]


IDENTITIES = torch.arange(64) // 4


def triplet(features):
    """Batch-hard triplet loss with a margin of 0.3."""
    distances = torch.cdist(features, features)
    same = IDENTITIES[:, None] == IDENTITIES[None]
    farthest = distances.masked_fill(~same, 0).max(1).values
    nearest = distances.masked_fill(same, torch.inf).min(1).values
    return F.relu(farthest - nearest + 0.3).mean()


def mix(features):
    """The 6 cells of 3 x 2 with the most evidence, of 32, give way to another identity's."""
    evidence = F.avg_pool2d(EVIDENCE[:, None], (3, 2)).flatten(1)
    cut = torch.zeros(64, 32, dtype=torch.bool).scatter_(1, evidence.topk(6).indices, True)
    cut = cut.view(64, 1, 8, 4).repeat_interleave(3, 2).repeat_interleave(2, 3)
    return torch.where(cut, features[DONORS], features).sum()


EVIDENCE = torch.randn(64, 24, 8)
DONORS = torch.arange(64).roll(4)
OWN = {
    "batch-hard triplet, 64 of 2048": (torch.randn(64, 2048), triplet),
    "cells cut and mixed, 64 of 2048, 24x8": (torch.randn(64, 2048, 24, 8), mix),
}


def alone(operation, settings):
    """Milliseconds of what is measured in one piece."""
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
    """Forward without gradients, and forward and backward."""
    inputs, of = peer(operation, settings.batch)
    inputs = [x.contiguous(memory_format=layout) if x.dim() == 4 else x for x in inputs]
    with torch.no_grad():
        forward = median(lambda: of(*inputs, False), settings.repeats)
    inputs = [x.requires_grad_() for x in inputs]
    pull = torch.randn_like(of(*inputs, True))

    def both():
        of(*inputs, True).backward(pull)

    return forward, median(both, settings.repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    flags = ["batch", "threads", "repeats"]
    command = ["cargo", "bench", "--quiet", "--bench", "operations", "--"]
    for flag in flags:
        command += [f"--{flag}", str(getattr(settings, flag))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    operations, bandwidth = rates()
    print(f"{operations / 1e6:.0f} GFLOP/s, {bandwidth / 1e6:.1f} GB/s")
    print(
        "| operation | floor | reid | Burn | PyTorch | of PyTorch "
        "| reid, both | Burn | PyTorch | of PyTorch |"
    )
    print("|---" * 10 + "|")
    for line in lines:
        ours = json.loads(line)
        least = floor(ours["operation"], settings, operations, bandwidth)
        if "both" not in ours:
            times = [ours["forward"], alone(ours["operation"], settings)]
            print(
                f"| {ours['operation']} | {least:.2f} | {times[0]:.2f} | | {times[1]:.2f} "
                f"| {times[0] / times[1]:.2f} | | | | |"
            )
            continue
        times = [
            measure(ours["operation"], settings, layout)
            for layout in (torch.contiguous_format, torch.channels_last)
        ]
        forward, both = (min(pair) for pair in zip(*times))
        cells = [least, ours["forward"], ours["burn_forward"], forward, ours["forward"] / forward]
        cells += [ours["both"], ours["burn_both"], both, ours["both"] / both]
        print(f"| {ours['operation']} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
