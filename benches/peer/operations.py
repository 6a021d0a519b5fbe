"""The operations of ResNet-50 at 256 x 128, one at a time: reid, Burn and PyTorch in one go.

    cargo bench --bench operations --no-run
    python benches/peer/operations.py --threads 2 --batch 8

Runs the Rust benchmark, repeats each of its operations in PyTorch with both memory formats, and prints
a table: milliseconds forward, forward and backward, and how many times as long reid takes as
PyTorch's better format.
"""

import argparse
import json
import re
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F

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
    one, zero = torch.ones(int(channels)), torch.zeros(int(channels))
    mean, variance = torch.zeros(int(channels)), torch.ones(int(channels))

    def normalise(x, gain, bias, training):
        return F.relu(F.batch_norm(x, mean, variance, gain, bias, training))

    return [torch.randn(shape), one, zero], normalise


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
    print("| operation | reid | Burn | PyTorch | of PyTorch | reid, both | Burn | PyTorch | of PyTorch |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in lines:
        ours = json.loads(line)
        times = [
            measure(ours["operation"], settings, layout)
            for layout in (torch.contiguous_format, torch.channels_last)
        ]
        forward, both = (min(pair) for pair in zip(*times))
        cells = [ours["forward"], ours["burn_forward"], forward, ours["forward"] / forward]
        cells += [ours["both"], ours["burn_both"], both, ours["both"] / both]
        print(f"| {ours['operation']} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
