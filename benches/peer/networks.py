"""Compares whole networks of reid and PyTorch: images per second, peak memory and, on a GPU, kernels.

    cargo bench --bench networks --no-run
    python3 benches/peer/networks.py --network resnet50 --batch 8 --csv benches/results/MACHINE

Every round runs each setting of reid and of PyTorch in a new process, one after the other. The script
prints a table with the speed of each setting, which is the geometric mean over rounds of the medians,
and its ratio to the fastest setting of PyTorch. `--csv` also writes the table for docs/BENCHMARKS.md.
`--one` runs only PyTorch, in one setting, and prints one line of JSON.

resnet50       torchvision's backbone, last stride 1, average pooling and a BNNeck head (Luo et al. 2019)
se-resnext101  the same on timm's SE-ResNeXt-101 32x4d (legacy, as Cadene's)
rga            the authors' ResNet-50 with RGA-SC after each stage; needs `--authors`, a checkout of
               github.com/microsoft/Relation-Aware-Global-Attention-Networks
fnc            the network of torch_fnc.py, at 288 x 384
progressive    the three branches of torch_progressive.py, at 384 x 128, with feature CutMix in training

All networks have 751 classes. The images are random, of 256 x 128 unless stated otherwise.

infer  from images to embeddings, in evaluation mode without gradients.
train  one training step: forward; for each branch, cross-entropy with label smoothing 0.1 and batch-hard
       triplet loss with margin 0.3; backward; Adam (learning rate 3.5e-4, coupled weight decay 5e-4).

`--precision bfloat16` means automatic mixed precision in PyTorch. `--peer` takes several settings of
PyTorch, and `--features` several of reid. On a GPU (`--device cuda --features cuda`), the peak memory is
the increase of the used memory that `nvidia-smi` reports during the run. `--kernels` counts the kernels
of one step and adds up their time. Those of PyTorch are counted by its profiler, and those of reid in
CubeCL's logs of two runs of different length, in which the host waits for every kernel.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

import results

IMAGES_PER_IDENTITY = 4
NETWORKS = ["resnet50", "se-resnext101", "rga", "fnc", "progressive"]
PEERS = {
    "contiguous": ["--layout", "contiguous"],
    "channels-last": ["--layout", "channels-last"],
    "compiled": ["--layout", "channels-last", "--compile"],
}


def parser(description, modes):
    """The arguments that `networks.py` and `rga.py` share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=modes, default=modes[0])
    parser.add_argument("--layout", choices=["contiguous", "channels-last"], default="contiguous")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch; at least 5 in training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return parser


def settings_of_both(settings, network, precision, mode):
    """The commands of PyTorch and of reid for one network, by name."""
    repeats = settings.repeats if mode == "infer" else max(settings.repeats // 2, 3)
    shared = ["--network", network, "--batch", str(settings.batch), "--precision", precision]
    shared += ["--threads", str(settings.threads), "--mode", mode, "--repeats", str(repeats)]
    commands = {}
    if network != "rga" or settings.authors:
        for setting in settings.peer:
            peer = [sys.executable, __file__, "--one", "--device", settings.device, *shared]
            peer += PEERS[setting] + ["--kernels"] * settings.kernels
            peer += ["--authors", settings.authors] if settings.authors else []
            commands[f"PyTorch, {setting}"] = peer
    for features in settings.features or [None]:
        cargo = ["cargo", "bench", "--quiet", *(["--features", features] if features else [])]
        cargo += ["--bench", "networks", "--", *shared]
        name = f"reid, {features}" if features else "reid"
        commands[name] = cargo
        if mode == "infer":
            commands[f"{name}, folded"] = [*cargo, "--fused"]
    return commands


def device_memory():
    """MB in use on the GPU."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])


def run(command, device, **more):
    """The report that a command prints, with its peak memory on a GPU; `None` if the command fails."""
    before = peak = device_memory() if device == "cuda" else 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                if device == "cuda":
                    peak = max(peak, device_memory())
    if process.returncode:
        print(f"{' '.join(command)} failed with exit status {process.returncode}", file=sys.stderr)
        return None
    print(output, end="", file=sys.stderr)
    report = json.loads(output)
    if device == "cuda":
        report["peak_memory_mb"] = peak - before
    return report


KERNEL = re.compile(r"\| ([\d.]+)(ns|µs|ms|s) +\| ")
MILLISECONDS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def logged_kernels(command, device):
    """Counts the kernels of one step of reid and adds up their milliseconds, from the logs of two runs of
    different length. Returns an empty dictionary if a run fails."""
    totals = []
    for repeats in (2, 6):
        with tempfile.NamedTemporaryFile("r", suffix=".log", encoding="utf-8") as log:
            logging = {"CUBECL_DEBUG_LOG": log.name, "CUBECL_DEBUG_OPTION": "profile-medium"}
            at = command.index("--repeats") + 1
            logged = [*command[:at], str(repeats), *command[at + 1 :]]
            if run(logged, device, env=os.environ | logging) is None:
                return {}
            times = [found for line in log if (found := KERNEL.match(line))]
            took = sum(float(time[1]) * MILLISECONDS[time[2]] for time in times)
            totals.append((len(times), took))
    (few, short), (many, long) = totals
    return {"kernels": (many - few) / 4, "kernel_milliseconds": (long - short) / 4}


def measured(name, command, settings):
    """The report of a command, with its kernels if `--kernels` is given."""
    report = run(command, settings.device)
    if report and settings.kernels and name.startswith("reid"):
        report |= logged_kernels(command, settings.device)
    return report


def compare(settings):
    """Runs all settings one after the other, round by round, and prints their means as a table."""
    asked = [
        (network, precision, mode)
        for network in settings.network
        for precision in settings.precision
        for mode in settings.modes
    ]
    reports = {}
    for number in range(settings.rounds):
        for what in asked:
            for name, command in settings_of_both(settings, *what).items():
                print(f"round {number + 1}: {' '.join(command)}", file=sys.stderr)
                report = measured(name, command, settings)
                reports.setdefault((what, name), []).append(report)
    rows = summarise(reports)
    print("| | images/s | ratio to PyTorch | peak memory, MB | kernels | ms in kernels |")
    print("|---|---|---|---|---|---|")
    for (what, name), row in zip(reports, rows):
        label = ", ".join([*what, name])
        if row is None:
            print(f"| {label} | failed | | | | |")
        else:
            print(f"| {label} | {' | '.join(str(row[column]) for column in SHOWN)} |")
    if settings.csv:
        rows = [row for row in rows if row]
        common = {name: getattr(settings, name) for name in ("batch", "threads", "device", "rounds")}
        print(f"wrote {results.write(settings.csv, 'networks', rows, **common)}", file=sys.stderr)


SHOWN = ["images_per_second", "ratio", "peak_memory_mb", "kernels", "kernel_milliseconds"]


def summarise(reports):
    """One row for each setting: the geometric mean of its speed over rounds, its ratio to the fastest setting
    of PyTorch, and its peak memory. A setting with a failed run has `None` instead."""
    speeds = {
        key: statistics.geometric_mean(report["images_per_second"] for report in rounds)
        for key, rounds in reports.items()
        if all(rounds)
    }
    rows = []
    for (what, name), rounds in reports.items():
        if (what, name) not in speeds:
            rows.append(None)
            continue
        speed = speeds[what, name]
        peers = [of for (where, who), of in speeds.items() if where == what and "PyTorch" in who]
        system, _, setting = name.partition(", ")
        version = rounds[0].get("version", "").split("+")[0]
        row = dict(zip(("network", "precision", "mode"), what))
        row["system"] = f"{system} {version}".strip()
        row["setting"] = setting or "plain"
        row["images_per_second"] = f"{speed:.2f}"
        row["ratio"] = f"{speed / max(peers):.2f}" if peers else ""
        row["peak_memory_mb"] = f"{max(report['peak_memory_mb'] for report in rounds):.0f}"
        for column in ("kernels", "kernel_milliseconds"):
            row[column] = f"{rounds[0][column]:.4g}" if column in rounds[0] else ""
        rows.append(row)
    return rows


def arguments():
    own = parser(__doc__.splitlines()[0], ["infer", "train"])
    results.add_arguments(own)
    own.add_argument("--network", nargs="+", choices=NETWORKS, default=["resnet50"])
    own.add_argument("--precision", nargs="+", choices=["single", "bfloat16"], default=["single"])
    own.add_argument("--authors", metavar="DIR", help="a checkout of the authors' repository")
    own.add_argument("--kernels", action="store_true", help="count kernels and their time, on a GPU")
    alone = own.add_argument_group("with --one")
    alone.add_argument("--one", action="store_true", help="run only PyTorch and print one line of JSON")
    alone.add_argument("--compile", action="store_true")
    both = own.add_argument_group("without --one")
    both.add_argument("--peer", nargs="+", choices=PEERS, default=["channels-last"])
    both.add_argument("--modes", nargs="+", choices=["infer", "train"], default=["infer", "train"])
    both.add_argument("--rounds", type=int, default=2)
    both.add_argument("--features", nargs="*", help="Cargo features of reid; each value is a setting")
    settings = own.parse_args()
    trains = settings.mode == "train" if settings.one else "train" in settings.modes
    if trains and settings.batch <= IMAGES_PER_IDENTITY:
        least = IMAGES_PER_IDENTITY + 1
        own.error(f"training needs two identities: --batch {least} or more, found {settings.batch}")
    if settings.kernels and settings.device == "cpu":
        own.error("--kernels needs a GPU: --device cuda")
    if settings.one and settings.network == ["rga"] and not settings.authors:
        own.error("--network rga needs --authors DIR, a checkout of the authors' repository")
    return settings


def main():
    settings = arguments()
    if not settings.one:
        compare(settings)
        return
    import torch_networks

    [settings.network], precision = settings.network, settings.precision[0]
    layout = torch_networks.begin(settings)
    times, more = torch_networks.time_network(settings, layout)
    what = {"network": settings.network, "precision": precision, **more}
    report = torch_networks.report(settings, times, **what)
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'networks', [report])}", file=sys.stderr)


if __name__ == "__main__":
    main()
