"""Compares the segmentation of one large image by a ResNet-101 of output stride 8: reid and PyTorch.

    cargo bench --bench segmentation --no-run
    python3 benches/peer/segmentation.py --csv benches/results/MACHINE
    python3 benches/peer/segmentation.py --one --network fcn --layout channels-last

The peer needs `pip install torch torchvision`. Its networks are torchvision's `fcn_resnet101` and `deeplabv3_resnet101`
without auxiliary heads. RGA-SC, for which there is no published code, is measured in reid only. Weights are random.
Every round runs each system in a new process. The script prints a table; `--one` runs only one peer and prints a line
of JSON.
"""

import argparse
import json
import statistics
import sys
import time

import results
import rounds
import timing

CLASSES = 19
NETWORKS = {"fcn": "fcn_resnet101", "deeplab-v3": "deeplabv3_resnet101", "rga": None}
LAYOUTS = ["contiguous", "channels-last"]


def run_one(settings, network, layout):
    """Runs PyTorch once and prints its line of JSON."""
    import torch
    import torchvision

    torch.set_num_threads(settings.threads)
    build = getattr(torchvision.models.segmentation, NETWORKS[network])
    model = build(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=False).eval()
    image = torch.rand(1, 3, *sides(settings.size))
    if layout == "channels-last":
        model = model.to(memory_format=torch.channels_last)
        image = image.to(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + settings.repeats):
            start = time.perf_counter()
            output = model(image)["out"]
            seconds.append(time.perf_counter() - start)
    expected = (1, CLASSES, *sides(settings.size))
    assert tuple(output.shape) == expected, f"expected {expected}, found {tuple(output.shape)}"
    report = {"system": "pytorch", "version": torch.__version__, "network": network, "layout": layout}
    report |= {"size": settings.size, "threads": settings.threads, "seconds": statistics.median(seconds[1:])}
    report["peak_memory_mb"] = timing.peak_memory_mb()
    print(json.dumps(report))
    return report


def sides(size):
    """Height and width of a size such as 1024x2048."""
    return tuple(map(int, size.split("x")))


def compare(settings):
    """Measures all systems in rounds, and prints their results as a table."""
    rounds.pin(settings)
    program = rounds.built("bench", "segmentation")
    shared = ["--size", settings.size, "--threads", str(settings.threads), "--repeats", str(settings.repeats)]
    rows = []
    for network in settings.network:
        commands = {"": [program, "--network", network, *shared]}
        for layout in LAYOUTS if NETWORKS[network] else []:
            peer = [sys.executable, __file__, "--one", "--network", network, "--layout", layout]
            commands[layout] = [*peer, *shared]
        found = rounds.take(commands, settings.rounds)
        for layout, reports in found.items():
            reports = [report for [report] in reports]
            row = {"network": network, "size": settings.size, "system": rounds.system(reports[0]), "setting": layout}
            row |= {"seconds": rounds.median(reports, "seconds")}
            rows.append(row | {"peak_memory_mb": rounds.most(reports, "peak_memory_mb")})
    print("| network | system | setting | seconds | peak memory, MB |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row[name] for name in ('network', 'system', 'setting', *SHOWN))} |")
    if settings.csv:
        common = {name: getattr(settings, name) for name in ("threads", "repeats", "rounds")}
        print(f"wrote {results.write(settings.csv, 'segmentation', rows, **common)}", file=sys.stderr)


SHOWN = ["seconds", "peak_memory_mb"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--size", default="1024x2048", help="height x width of the image")
    parser.add_argument("--repeats", type=int, default=3, help="timed passes in a round, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    results.add_arguments(parser)
    alone = parser.add_argument_group("with --one")
    alone.add_argument("--one", action="store_true", help="run only PyTorch and print one line of JSON")
    alone.add_argument("--layout", choices=LAYOUTS, default=LAYOUTS[0])
    rounds.add_arguments(parser, rounds=1)
    settings = parser.parse_args()
    if not settings.one:
        compare(settings)
        return
    if len(settings.network) != 1 or not NETWORKS[settings.network[0]]:
        parser.error("--one takes one network that PyTorch has: --network fcn")
    report = run_one(settings, settings.network[0], settings.layout)
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'segmentation', [report])}", file=sys.stderr)


if __name__ == "__main__":
    main()
