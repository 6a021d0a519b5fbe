"""The operations of ResNet-50 and SE-ResNeXt-101 at 256 x 128, one at a time: reid, Burn and PyTorch.

    cargo bench --bench operations --no-run
    python3 benches/peer/operations.py --threads 2 --batch 8 --csv benches/results/MACHINE

Runs the Rust benchmark, and then each of its operations in PyTorch with both memory formats. Prints a
table with the milliseconds of the forward pass, and of forward and backward, and with the ratio of reid's
time to that of PyTorch's faster format. The floor is a lower bound of the time of a forward pass: its
operations at the rate of a large matrix product, or its bytes at the rate of a copy. Both rates are
measured in the same run.
"""

import argparse
import json
import subprocess
import sys

import results

COLUMNS = ["floor_ms", "reid_forward_ms", "burn_forward_ms", "pytorch_forward_ms"]
COLUMNS += ["forward_times_pytorch", "reid_both_ms", "burn_both_ms", "pytorch_both_ms"]
COLUMNS += ["both_times_pytorch"]


def row(ours, floor, forward, both=None):
    """The columns of one operation. `both` is `None` if its passes are timed together."""
    cells = [floor, ours["forward"], ours.get("burn_forward"), forward, ours["forward"] / forward]
    if both is not None:
        cells += [ours["both"], ours["burn_both"], both, ours["both"] / both]
    cells = ["" if cell is None else f"{cell:.2f}" for cell in cells]
    return {"operation": ours["operation"], **dict.fromkeys(COLUMNS, ""), **dict(zip(COLUMNS, cells))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    results.add_arguments(parser)
    settings = parser.parse_args()

    import torch
    import torch_operations as peer

    torch.set_num_threads(settings.threads)
    command = ["cargo", "bench", "--quiet", "--bench", "operations", "--"]
    for flag in ("batch", "threads", "repeats"):
        command += [f"--{flag}", str(getattr(settings, flag))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    operations, bandwidth = peer.rates()
    print(f"{operations / 1e6:.0f} GFLOP/s, {bandwidth / 1e6:.1f} GB/s")
    print(
        "| operation | floor | reid | Burn | PyTorch | reid / PyTorch "
        "| reid, both | Burn, both | PyTorch, both | reid / PyTorch |"
    )
    print("|---" * 10 + "|")
    rows = []
    for line in lines:
        ours = json.loads(line)
        name = ours["operation"]
        floor = peer.floor(name, settings, operations, bandwidth)
        if "both" in ours:
            rows.append(row(ours, floor, *peer.both_layouts(name, settings)))
        else:
            rows.append(row(ours, floor, peer.measure_whole(name, settings)))
        print(f"| {' | '.join(rows[-1].values())} |")
    if settings.csv:
        common = {"batch": settings.batch, "threads": settings.threads}
        print(f"wrote {results.write(settings.csv, 'operations', rows, **common)}", file=sys.stderr)


if __name__ == "__main__":
    main()
