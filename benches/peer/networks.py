"""Compares whole networks of reid and its peers: images per second, peak memory and, on a GPU, kernels.

    cargo bench --bench networks --no-run
    python3 benches/peer/networks.py --network resnet50 --batch 8 --csv benches/results/MACHINE
    python3 benches/peer/networks.py --modes infer --batch 1 8 16 32 64 --network resnet50 osnet-x0.25 \\
        --peer channels-last compiled onnxruntime openvino --csv benches/results/MACHINE

For each network, precision, mode and batch size, the settings of reid and of the peers are measured in
rounds. Every round runs each setting in a new process, one after the other, and begins with another one.
`--repeats` is their number at batch 8; smaller batches have more repeats, and larger ones fewer.
The script prints a table. The speed of a setting is the median over rounds of the median over repeats; its
best speed is that of the fastest repeat of all rounds. The ratio to the fastest setting of PyTorch is the
median over rounds, in which both ran one after the other. `--csv` also writes the table for
docs/BENCHMARKS.md, after each network and batch size. `--one` runs only one peer and prints a line of JSON.

resnet50       torchvision's backbone, last stride 1, average pooling and a BNNeck head (Luo et al. 2019)
se-resnext101  the same on timm's SE-ResNeXt-101 32x4d (legacy, as Cadene's)
rga            the authors' ResNet-50 with RGA-SC after each stage; needs `--authors`, a checkout of
               github.com/microsoft/Relation-Aware-Global-Attention-Networks, for PyTorch
fnc            the network of torch_fnc.py, at 288 x 384
progressive    the three branches of torch_progressive.py, at 384 x 128, with feature CutMix in training
osnet-x0.25, osnet-x1.0, mobilenet-v2   those of torch_small.py
cifar-resnet20 that of torch_small.py, at 32 x 32, with 10 classes

All networks but the last have 751 classes. Images are random, of 256 x 128 unless stated otherwise.

infer  from images to embeddings, in evaluation mode without gradients.
train  one training step: forward; for each branch, cross-entropy with label smoothing 0.1 and batch-hard
       triplet loss with margin 0.3; backward; Adam (learning rate 3.5e-4, coupled weight decay 5e-4). For
       cifar-resnet20, cross-entropy and SGD (0.1, momentum 0.9, weight decay 1e-4).

contiguous, channels-last   PyTorch, eager, in this memory format
compiled       torch.compile in channels-last format; its peak memory is that of compilation, if that is more
frozen         the same with weights as constants (`torch._inductor.config.freezing`); inference only
onnxruntime, openvino       the file of reid's exporter, in single precision on a CPU; inference only

ONNX files are taken from `--onnx`, and exported there if they are missing. `--precision bfloat16` means
automatic mixed precision in PyTorch. `--peer` takes several peers, and `--features` several builds of reid.
On a GPU (`--device cuda --features cuda`), the peak memory is the increase of the used memory that
`nvidia-smi` reports during the run; otherwise it is that of the process. `--kernels` counts the kernels of
one step and adds up their time. Those of PyTorch are counted by its profiler, and those of reid in
CubeCL's logs of two runs of different length, in which the host waits for every kernel.
"""

import argparse
import itertools
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

import results
import rounds
import runtimes

IMAGES_PER_IDENTITY = 4
SIZES = {
    "resnet50": (256, 128),
    "se-resnext101": (256, 128),
    "rga": (256, 128),
    "fnc": (288, 384),
    "progressive": (384, 128),
    "osnet-x0.25": (256, 128),
    "osnet-x1.0": (256, 128),
    "mobilenet-v2": (256, 128),
    "cifar-resnet20": (32, 32),
}
PEERS = {
    "contiguous": ["--layout", "contiguous"],
    "channels-last": ["--layout", "channels-last"],
    "compiled": ["--layout", "channels-last", "--compile"],
    "frozen": ["--layout", "channels-last", "--compile", "--freeze"],
}
INFERENCE_ONLY = {"frozen", *runtimes.RUNTIMES}


def parser(description, modes):
    """The arguments that `networks.py` and `rga.py` share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=modes, default=modes[0])
    parser.add_argument("--layout", choices=["contiguous", "channels-last"], default="contiguous")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return parser


def repeats(settings, mode, batch):
    """The number of repeats, with about as many images in every batch size, and half as many in training; at
    least 3."""
    asked = settings.repeats if mode == "infer" else settings.repeats // 2
    return max(asked * 8 // batch, 3)


def peer_commands(settings, files, network, precision, mode, shared):
    """The commands of the peers that can run this network in this mode, by name."""
    commands = {}
    for peer in settings.peer:
        command = [sys.executable, __file__, "--one", "--device", settings.device, *shared]
        if mode == "train" and peer in INFERENCE_ONLY:
            continue
        if peer in runtimes.RUNTIMES:
            if precision == "single":
                command += ["--runtime", peer, "--onnx", str(files[network])]
                commands[runtimes.RUNTIMES[peer]] = command
        elif network != "rga" or settings.authors:
            command += PEERS[peer] + ["--kernels"] * settings.kernels
            command += ["--authors", settings.authors] if settings.authors else []
            commands[f"PyTorch, {peer}"] = command
    return commands


def commands_of(settings, programs, files, network, precision, mode, batch):
    """The commands of the peers and of reid for one network, by name."""
    shared = ["--network", network, "--batch", str(batch), "--precision", precision]
    shared += ["--threads", str(settings.threads), "--mode", mode]
    shared += ["--repeats", str(repeats(settings, mode, batch))]
    commands = peer_commands(settings, files, network, precision, mode, shared)
    for features, program in programs.items():
        name = f"reid, {features}" if features else "reid"
        commands[name] = [program, *shared]
        if mode == "infer":
            commands[f"{name}, folded"] = [program, *shared, "--fused"]
    return commands


KERNEL = re.compile(r"\| ([\d.]+)(ns|µs|ms|s) +\| ")
MILLISECONDS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def logged_kernels(command, device):
    """Counts the kernels of one step of reid and adds up their milliseconds, from the logs of two runs of
    different length. Returns an empty dictionary if a run fails."""
    totals = []
    for number in (2, 6):
        with tempfile.NamedTemporaryFile("r", suffix=".log", encoding="utf-8") as log:
            logging = {"CUBECL_DEBUG_LOG": log.name, "CUBECL_DEBUG_OPTION": "profile-medium"}
            at = command.index("--repeats") + 1
            logged = [*command[:at], str(number), *command[at + 1 :]]
            if rounds.run(logged, device, env=os.environ | logging) is None:
                return {}
            times = [found for line in log if (found := KERNEL.match(line))]
            took = sum(float(time[1]) * MILLISECONDS[time[2]] for time in times)
            totals.append((len(times), took))
    (few, short), (many, long) = totals
    return {"kernels": (many - few) / 4, "kernel_milliseconds": (long - short) / 4}


def measured(name, command, settings):
    """The report of a command, with its kernels if `--kernels` is given; `None` if it fails."""
    reports = rounds.run(command, settings.device)
    if not reports:
        return None
    if settings.kernels and name.startswith("reid"):
        reports[0] |= logged_kernels(command, settings.device)
    return reports[0]


def compare(settings):
    """Measures all settings in rounds, and prints their results as a table."""
    rounds.pin(settings)
    programs = {}
    for features in settings.features or [None]:
        arguments = ["--features", features] if features else []
        programs[features] = rounds.built("bench", "networks", *arguments)
    files = {}
    if set(settings.peer) & set(runtimes.RUNTIMES):
        files = runtimes.exported(settings.onnx_folder, settings.network, SIZES)
    print("| | images/s | best | ratio to PyTorch | peak memory, MB | kernels | ms in kernels |")
    print("|---|---|---|---|---|---|---|")
    for what in itertools.product(settings.network, settings.precision, settings.modes, settings.batch):
        commands = commands_of(settings, programs, files, *what)
        reports = rounds.take(
            commands, settings.rounds, lambda name, command: measured(name, command, settings)
        )
        rows = summarise(what, reports)
        for name in commands.keys() - reports.keys():
            print(f"| {', '.join(map(str, [*what, name]))} | failed | | | | | |")
        for name, row in zip(reports, rows):
            label = ", ".join(map(str, [*what, name]))
            print(f"| {label} | {' | '.join(str(row[column]) for column in SHOWN)} |", flush=True)
        if settings.csv and rows:
            common = {name: getattr(settings, name) for name in ("threads", "device", "rounds")}
            file = results.write(settings.csv, "networks", rows, **common)
            print(f"wrote {file}", file=sys.stderr)


SHOWN = ["images_per_second", "best_images_per_second", "ratio", "peak_memory_mb"]
SHOWN += ["kernels", "kernel_milliseconds"]


def summarise(what, reports):
    """One row for each setting of a network: its speed, its ratio to PyTorch over rounds, and its memory."""
    network, precision, mode, batch = what
    height, width = SIZES[network]
    speeds = {name: [report["images_per_second"] for report in of] for name, of in reports.items()}
    peers = {name: of for name, of in speeds.items() if name.startswith("PyTorch")}
    fastest = max(peers.values(), key=statistics.median, default=[])
    rows = []
    for name, of in reports.items():
        best = max(1e3 * batch / report["milliseconds"]["min"] for report in of)
        ratios = [own / peer for own, peer in zip(speeds[name], fastest)]
        row = {"network": network, "height": height, "width": width}
        row |= {"precision": precision, "mode": mode, "batch": batch}
        row |= {"system": rounds.system(of[0]), "setting": name.partition(", ")[2] or "plain"}
        row["images_per_second"] = f"{statistics.median(speeds[name]):.2f}"
        row["best_images_per_second"] = f"{best:.2f}"
        row["ratio"] = f"{statistics.median(ratios):.2f}" if ratios else ""
        row["peak_memory_mb"] = rounds.most(of, "peak_memory_mb")
        for column in ("kernels", "kernel_milliseconds"):
            row[column] = f"{of[0][column]:.4g}" if column in of[0] else ""
        rows.append(row)
    return rows


def arguments():
    own = parser(__doc__.splitlines()[0], ["infer", "train"])
    results.add_arguments(own)
    own.add_argument("--network", nargs="+", choices=SIZES, default=["resnet50"])
    own.add_argument("--precision", nargs="+", choices=["single", "bfloat16"], default=["single"])
    own.add_argument("--batch", nargs="+", type=int, default=[8], help="images; at least 5 in training")
    own.add_argument("--authors", metavar="DIR", help="a checkout of the authors' repository")
    own.add_argument("--kernels", action="store_true", help="count kernels and their time, on a GPU")
    onnx = "the folder of ONNX files, by default target/onnx; with --one the file"
    own.add_argument("--onnx", metavar="PATH", help=onnx)
    alone = own.add_argument_group("with --one")
    alone.add_argument("--one", action="store_true", help="run only one peer and print one line of JSON")
    alone.add_argument("--compile", action="store_true", help="PyTorch with torch.compile")
    alone.add_argument("--freeze", action="store_true", help="and with weights as constants")
    alone.add_argument("--runtime", choices=runtimes.RUNTIMES, help="instead of PyTorch; needs --onnx FILE")
    both = rounds.add_arguments(own, rounds=2)
    both.add_argument("--peer", nargs="+", choices=[*PEERS, *runtimes.RUNTIMES], default=["channels-last"])
    both.add_argument("--modes", nargs="+", choices=["infer", "train"], default=["infer", "train"])
    both.add_argument("--features", nargs="*", help="Cargo features of reid; each value is a setting")
    settings = own.parse_args()
    check(own, settings)
    settings.onnx_folder = Path(settings.onnx or rounds.ROOT / "target" / "onnx")
    return settings


def check(own, settings):
    """Reports arguments that do not fit together."""
    trains = settings.mode == "train" if settings.one else "train" in settings.modes
    if trains and min(settings.batch) <= IMAGES_PER_IDENTITY:
        least = IMAGES_PER_IDENTITY + 1
        own.error(f"training needs two identities: --batch {least} or more, found {min(settings.batch)}")
    if settings.kernels and settings.device == "cpu":
        own.error("--kernels needs a GPU: --device cuda")
    if settings.device == "cuda" and set(settings.peer) & set(runtimes.RUNTIMES):
        own.error("the peers onnxruntime and openvino run on a CPU, found --device cuda")
    if not settings.one:
        return
    if max(len(settings.network), len(settings.precision), len(settings.batch)) > 1:
        own.error("--one takes one network, one precision and one batch size")
    if settings.runtime and not settings.onnx:
        own.error("--runtime needs --onnx FILE")
    if settings.network == ["rga"] and not (settings.authors or settings.runtime):
        own.error("--network rga needs --authors DIR, a checkout of the authors' repository")


def run_one(settings):
    """Runs one peer and prints its line of JSON."""
    [settings.network], [settings.batch], [precision] = settings.network, settings.batch, settings.precision
    size = SIZES[settings.network]
    what = {"network": settings.network, "precision": precision}
    if settings.runtime:
        import timing

        system, times = runtimes.time_network(settings, size)
        what |= {name: getattr(settings, name) for name in ("mode", "batch", "threads")}
        return timing.report(settings.batch, times, **system, **what)
    import torch_networks

    layout = torch_networks.begin(settings)
    times, more = torch_networks.time_network(settings, layout, size)
    return torch_networks.report(settings, times, **what, **more)


def main():
    settings = arguments()
    if not settings.one:
        compare(settings)
        return
    report = run_one(settings)
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'networks', [report])}", file=sys.stderr)


if __name__ == "__main__":
    main()
