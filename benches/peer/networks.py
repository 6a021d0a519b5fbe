"""Whole networks beside PyTorch: images per second, peak memory and, on a GPU, kernels.

    cargo bench --bench networks --no-run
    python benches/peer/networks.py --network resnet50 --batch 8

Runs reid and PyTorch one after the other in every round, each setting in a process of its own, and
prints a table: the geometric mean over rounds of the median of each, and the ratio to the fastest of
PyTorch's. With `--one` it is PyTorch's side alone: one JSON line for one setting.

resnet50       torchvision's trunk, last stride 1, average pooling and a BNNeck head (Luo et al. 2019)
se-resnext101  the same on timm's SE-ResNeXt-101 32x4d (legacy, as Cadene's)
rga            the authors' ResNet-50 with RGA-SC after each stage; needs `--authors`, a checkout of
               github.com/microsoft/Relation-Aware-Global-Attention-Networks
fnc            fnc.py's, at 288 x 384
progressive    progressive.py's three branches, at 384 x 128, mixed in training

751 classes, random images, of 256 x 128 where nothing else is said.

infer  evaluation mode, no gradients: images in, descriptors out.
train  one step: forward, cross entropy smoothed by 0.1 + batch-hard triplet loss with margin 0.3 for
       each branch, backward, Adam (learning rate 3.5e-4, coupled weight decay 5e-4).

On a GPU (`--device cuda --features cuda`) `--precision bfloat16` is automatic mixed precision there,
`--peer` takes several of PyTorch's ways, and `--features` several of reid's. Memory is what
`nvidia-smi` sees in use meanwhile. `--kernels` counts what one step launches and adds up how long it
takes: in PyTorch by its profiler, here by CubeCL's log of two runs of different length, in which every
kernel is waited for.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50

WARM_UPS = 2
CLASSES = 751
IMAGES_PER_IDENTITY = 4
NETWORKS = ["resnet50", "se-resnext101", "rga", "fnc", "progressive"]
SIZES = {"fnc": (288, 384), "progressive": (384, 128)}
PEERS = {
    "contiguous": ["--layout", "contiguous"],
    "channels-last": ["--layout", "channels-last"],
    "compiled": ["--layout", "channels-last", "--compile"],
}


def trunk(network):
    """A network without its classifier, with last stride 1; its own pooling and flattening stay."""
    if network == "se-resnext101":
        import timm

        trunk = timm.create_model("legacy_seresnext101_32x4d", num_classes=0)
    else:
        trunk = resnet50()
        trunk.fc = nn.Identity()
    trunk.layer4[0].conv2.stride = (1, 1)
    trunk.layer4[0].downsample[0].stride = (1, 1)
    return trunk


class Model(nn.Module):
    """Images [n, 3, height, width] to descriptors [n, 2048], or features and logits of each branch."""

    def __init__(self, network="resnet50"):
        super().__init__()
        self.trunk = trunk(network)
        self.bn = nn.BatchNorm1d(2048)
        self.bn.bias.requires_grad_(False)
        self.classifier = nn.Linear(2048, CLASSES, bias=False)

    def descriptors(self, images):
        return self.bn(self.trunk(images))

    def forward(self, images, identities):
        features = self.trunk(images)
        return [(features, self.classifier(self.bn(features)))]


def built(settings):
    """The network of a command line, with the interface of `Model`."""
    if settings.network == "rga":
        import rga

        return rga.Network(settings.authors)
    if settings.network == "fnc":
        import fnc

        return fnc.Network()
    if settings.network == "progressive":
        import progressive

        return progressive.Branches()
    return Model(settings.network)


def batch_hard_triplet(features, identities, margin=0.3):
    """Mean over anchors of max(0, farthest own - nearest other + margin), Euclidean."""
    squares = features.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    distances = squared.clamp(min=1e-12).sqrt()
    same = identities[:, None] == identities[None, :]
    farthest_own = distances.masked_fill(~same, -torch.inf).amax(1)
    nearest_other = distances.masked_fill(same, torch.inf).amin(1)
    return F.relu(farthest_own - nearest_other + margin).mean()


def inference(model, images):
    """A function that describes the batch once."""
    model.eval()

    @torch.no_grad()
    def describe():
        return model.descriptors(images)

    return describe


def training(model, images):
    """A function that takes one optimizer step on the batch."""
    model.train()
    identities = torch.arange(len(images), device=images.device) // IMAGES_PER_IDENTITY
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3.5e-4, weight_decay=5e-4)

    def step():
        optimizer.zero_grad()
        loss = 0.0
        for features, logits in model(images, identities):
            loss = loss + F.cross_entropy(logits, identities, label_smoothing=0.1)
            loss = loss + batch_hard_triplet(features, identities)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def milliseconds(work, repeats):
    """Wall time of each repeat, after the warm-ups."""
    times = []
    for _ in range(WARM_UPS + repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return times[WARM_UPS:]


def kernels(work):
    """What one call launches on a GPU, and the milliseconds of it all."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
    on_device = torch.autograd.DeviceType.CUDA
    times = [e.time_range.elapsed_us() for e in profile.events() if e.device_type == on_device]
    return {"kernels": len(times), "kernel_milliseconds": round(sum(times) / 1e3, 2)}


def parser(description, modes):
    """The arguments of every peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=modes, default=modes[0])
    parser.add_argument("--layout", choices=["contiguous", "channels-last"], default="contiguous")
    parser.add_argument("--batch", type=int, default=8, help="for train, more than 4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return parser


def begin(settings):
    """Sets threads and seed; the memory format."""
    torch.set_num_threads(settings.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    channels_last = settings.layout == "channels-last"
    return torch.channels_last if channels_last else torch.contiguous_format


def time_network(settings, layout):
    """Wall times of the network on random images, and what else was asked for."""
    device = torch.device(settings.device)
    model = built(settings).to(device=device, memory_format=layout)
    size = SIZES.get(settings.network, (256, 128))
    images = torch.randn(settings.batch, 3, *size, device=device)
    images = images.contiguous(memory_format=layout)
    prepare = inference if settings.mode == "infer" else training
    if settings.compile:
        model.compile()
        model.descriptors = torch.compile(model.descriptors)
    work = prepare(model, images)
    half = settings.precision[0] == "bfloat16"

    def timed():
        with torch.autocast(settings.device, torch.bfloat16, enabled=half):
            work()
        if settings.device == "cuda":
            torch.cuda.synchronize()

    times = milliseconds(timed, settings.repeats)
    return times, kernels(timed) if settings.kernels else {}


def report(settings, times, **more):
    """Prints one line of JSON; `more` says what was timed."""
    median = statistics.median(times)
    spread = {"median": median, "min": min(times), "max": max(times)}
    result = {
        "system": "pytorch",
        "version": torch.__version__,
        **more,
        "mode": settings.mode,
        "layout": settings.layout,
        "batch": settings.batch,
        "threads": settings.threads,
        "images_per_second": round(1e3 * settings.batch / median, 2),
        "milliseconds": {name: round(value, 2) for name, value in spread.items()},
        # Linux counts ru_maxrss in KiB.
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    if settings.device == "cuda":
        result["device_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    print(json.dumps(result))


def settings_of_both(settings, network, precision, mode):
    """The commands of PyTorch and those of reid for one network, by name."""
    repeats = settings.repeats if mode == "infer" else max(settings.repeats // 2, 3)
    shared = ["--network", network, "--batch", str(settings.batch), "--precision", precision]
    shared += ["--threads", str(settings.threads), "--mode", mode, "--repeats", str(repeats)]
    commands = {}
    if network != "rga" or settings.authors:
        for way in settings.peer:
            peer = [sys.executable, __file__, "--one", "--device", settings.device, *shared]
            peer += PEERS[way] + ["--kernels"] * settings.kernels
            peer += ["--authors", settings.authors] if settings.authors else []
            commands[f"PyTorch, {way}"] = peer
    for features in settings.features or [None]:
        cargo = ["cargo", "bench", "--quiet", *(["--features", features] if features else [])]
        cargo += ["--bench", "networks", "--", *shared]
        name = f"reid, {features}" if features else "reid"
        commands[name] = cargo
        if mode == "infer":
            commands[f"{name}, normalisation folded"] = [*cargo, "--fused"]
    return commands


def device_memory():
    """MB in use on the GPU."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])


def run(command, device, **more):
    """The report that a command prints, with the memory that it took on a GPU; none if it fails."""
    before = most = device_memory() if device == "cuda" else 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                if device == "cuda":
                    most = max(most, device_memory())
    if process.returncode:
        print(f"{' '.join(command)} ended with {process.returncode}", file=sys.stderr)
        return None
    print(output, end="", file=sys.stderr)
    report = json.loads(output)
    if device == "cuda":
        report["peak_memory_mb"] = most - before
    return report


KERNEL = re.compile(r"\| ([\d.]+)(ns|µs|ms|s) +\| ")
MILLISECONDS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def logged_kernels(command, device):
    """What one step of reid launches, and the milliseconds of it all: two runs of different length."""
    totals = []
    for repeats in (2, 6):
        with tempfile.NamedTemporaryFile("r", suffix=".log", encoding="utf-8") as log:
            logging = {"CUBECL_DEBUG_LOG": log.name, "CUBECL_DEBUG_OPTION": "profile-medium"}
            place = command.index("--repeats") + 1
            logged = [*command[:place], str(repeats), *command[place + 1 :]]
            if run(logged, device, env=os.environ | logging) is None:
                return {}
            times = [found for line in log if (found := KERNEL.match(line))]
            took = sum(float(time[1]) * MILLISECONDS[time[2]] for time in times)
            totals.append((len(times), took))
    (few, short), (many, long) = totals
    return {"kernels": (many - few) / 4, "kernel_milliseconds": (long - short) / 4}


def measured(name, command, settings):
    """The report of a command, with its kernels if they are counted."""
    report = run(command, settings.device)
    if report and settings.kernels and name.startswith("reid"):
        report |= logged_kernels(command, settings.device)
    return report


def compare(settings):
    """Runs all settings in turn, round by round, and prints what they came to."""
    asked = [
        (network, precision, mode)
        for network in settings.network
        for precision in settings.precision
        for mode in settings.modes
    ]
    rows = {}
    for turn in range(settings.rounds):
        for what in asked:
            for name, command in settings_of_both(settings, *what).items():
                print(f"round {turn + 1}: {' '.join(command)}", file=sys.stderr)
                report = measured(name, command, settings)
                rows.setdefault((what, name), []).append(report)
    print("| | images/s | of PyTorch | peak memory, MB | kernels | ms in kernels |")
    print("|---|---|---|---|---|---|")
    speeds = {}
    for (what, name), reports in rows.items():
        if all(reports):
            mean = statistics.geometric_mean(report["images_per_second"] for report in reports)
            speeds[what, name] = mean
    for (what, name), reports in rows.items():
        label = ", ".join([*what, name])
        if (what, name) not in speeds:
            print(f"| {label} | failed | | | | |")
            continue
        speed = speeds[what, name]
        peers = [of for (where, who), of in speeds.items() if where == what and "PyTorch" in who]
        ratio = f"{speed / max(peers):.2f}" if peers else ""
        memory = max(report["peak_memory_mb"] for report in reports)
        counted = [reports[0].get(key, "") for key in ("kernels", "kernel_milliseconds")]
        counted = [f"{value:.4g}" if value != "" else "" for value in counted]
        print(f"| {label} | {speed:.2f} | {ratio} | {memory:.0f} | {' | '.join(counted)} |")


def arguments():
    own = parser(__doc__.splitlines()[0], ["infer", "train"])
    own.add_argument("--network", nargs="+", choices=NETWORKS, default=["resnet50"])
    own.add_argument("--precision", nargs="+", choices=["single", "bfloat16"], default=["single"])
    own.add_argument("--authors", metavar="DIR", help="a checkout of the authors' repository")
    own.add_argument("--kernels", action="store_true", help="count them, on a GPU")
    alone = own.add_argument_group("with --one")
    alone.add_argument("--one", action="store_true", help="PyTorch alone, one line of JSON")
    alone.add_argument("--compile", action="store_true")
    both = own.add_argument_group("without --one")
    both.add_argument("--peer", nargs="+", choices=PEERS, default=["channels-last"])
    both.add_argument("--modes", nargs="+", choices=["infer", "train"], default=["infer", "train"])
    both.add_argument("--rounds", type=int, default=2)
    both.add_argument("--features", nargs="*", help="Cargo features of reid, several side by side")
    settings = own.parse_args()
    trains = settings.mode == "train" if settings.one else "train" in settings.modes
    if trains and settings.batch <= IMAGES_PER_IDENTITY:
        own.error(f"train needs two identities: --batch above {IMAGES_PER_IDENTITY}")
    if settings.kernels and settings.device == "cpu":
        own.error("--kernels are those of a GPU: --device cuda")
    if settings.one and settings.network == ["rga"] and not settings.authors:
        own.error("the authors' network needs --authors DIR")
    return settings


def main():
    settings = arguments()
    if not settings.one:
        compare(settings)
        return
    [settings.network], precision = settings.network, settings.precision[0]
    layout = begin(settings)
    times, more = time_network(settings, layout)
    report(settings, times, network=settings.network, precision=precision, **more)


if __name__ == "__main__":
    main()
