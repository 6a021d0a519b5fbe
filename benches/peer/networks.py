"""Whole networks beside PyTorch: images per second and peak memory.

    cargo bench --bench networks --no-run
    python benches/peer/networks.py --network resnet50 --batch 8

Runs reid and PyTorch one after the other in every round, each setting in a process of its own, and
prints a table: the geometric mean over rounds of the median of each, and the ratio. With `--one` it is
PyTorch's side alone: one JSON line for one setting.

The networks are torchvision's ResNet-50 trunk and timm's SE-ResNeXt-101 32x4d (legacy, as Cadene's),
with last stride 1, global average pooling and a BNNeck head with 751 classes (Luo et al. 2019), on
random images of 256 x 128.

infer  evaluation mode, no gradients: images in, descriptors out.
train  one step: forward, cross entropy smoothed by 0.1 + batch-hard triplet loss with margin 0.3,
       backward, Adam (learning rate 3.5e-4, coupled weight decay 5e-4).

On a GPU (`--device cuda --features cuda`), `--precision bfloat16` is automatic mixed precision there,
`--compile` adds `torch.compile`, and memory is what `nvidia-smi` sees in use there meanwhile. Several
`--features`, such as `cuda cuda-plain cuda-plain,fusion`, are measured side by side.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50

WARM_UPS = 2
CLASSES = 751
IMAGES_PER_IDENTITY = 4


class Model(nn.Module):
    """Images [n, 3, 256, 128] to pooled features [n, 2048], descriptors alike, and logits."""

    def __init__(self, network="resnet50"):
        super().__init__()
        if network == "se-resnext101":
            import timm

            self.trunk = timm.create_model("legacy_seresnext101_32x4d", num_classes=0)
        else:
            self.trunk = resnet50()
            self.trunk.fc = nn.Identity()  # the trunk's own pooling and flattening stay
        self.trunk.layer4[0].conv2.stride = (1, 1)
        self.trunk.layer4[0].downsample[0].stride = (1, 1)
        self.bn = nn.BatchNorm1d(2048)
        self.bn.bias.requires_grad_(False)
        self.classifier = nn.Linear(2048, CLASSES, bias=False)

    def descriptors(self, images):
        return self.bn(self.trunk(images))

    def forward(self, images):
        features = self.trunk(images)
        return features, self.classifier(self.bn(features))


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
        features, logits = model(images)
        loss = F.cross_entropy(logits, identities, label_smoothing=0.1)
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


def parser(description, modes):
    """The arguments of every peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--mode", choices=modes, default="infer")
    parser.add_argument("--layout", choices=["contiguous", "channels-last"], default="contiguous")
    parser.add_argument("--batch", type=int, default=8, help="for train, more than 4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["single", "bfloat16"], default="single")
    parser.add_argument("--compile", action="store_true")
    return parser


def arguments(parser):
    settings = parser.parse_args()
    if settings.mode == "train" and settings.batch <= IMAGES_PER_IDENTITY:
        parser.error(f"train needs two identities: --batch above {IMAGES_PER_IDENTITY}")
    return settings


def begin(settings):
    """Sets threads and seed; the memory format."""
    torch.set_num_threads(settings.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    channels_last = settings.layout == "channels-last"
    return torch.channels_last if channels_last else torch.contiguous_format


def time_network(settings, model, layout):
    """Wall times of the network on random images."""
    device = torch.device(settings.device)
    model = model.to(device=device, memory_format=layout)
    images = torch.randn(settings.batch, 3, 256, 128, device=device)
    images = images.contiguous(memory_format=layout)
    prepare = inference if settings.mode == "infer" else training
    if settings.compile:
        model.compile()
        model.descriptors = torch.compile(model.descriptors)
    work = prepare(model, images)
    half = settings.precision == "bfloat16"

    def timed():
        with torch.autocast(settings.device, torch.bfloat16, enabled=half):
            work()
        if settings.device == "cuda":
            torch.cuda.synchronize()

    return milliseconds(timed, settings.repeats)


def report(settings, times, **more):
    """Prints one line of JSON; `more` says what was timed."""
    median = statistics.median(times)
    spread = {"median": median, "min": min(times), "max": max(times)}
    result = {
        "system": "pytorch",
        "version": torch.__version__,
        **more,
        "mode": settings.mode,
        "precision": settings.precision,
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


def settings_of_both(settings):
    """For each mode the command of PyTorch and those of reid, by name."""
    shared = ["--network", settings.network, "--batch", str(settings.batch)]
    shared += ["--precision", settings.precision, "--threads", str(settings.threads)]
    peer = [sys.executable, __file__, "--one", "--device", settings.device, *shared]
    peer += ["--layout", settings.layout] + ["--compile"] * settings.compile
    for mode, repeats in [("infer", settings.repeats), ("train", max(settings.repeats // 2, 3))]:
        more = ["--mode", mode, "--repeats", str(repeats)]
        commands = {f"PyTorch, {settings.layout}": peer + more}
        for features in settings.features or [None]:
            cargo = ["cargo", "bench", "--quiet", *(["--features", features] if features else [])]
            cargo += ["--bench", "networks", "--", *shared, *more]
            name = f"reid, {features}" if features else "reid"
            commands[name] = cargo
            if mode == "infer":
                commands[f"{name}, normalisation folded"] = [*cargo, "--fused"]
        yield mode, commands


def device_memory():
    """MB in use on the GPU."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])


def run(command, device):
    """The report that a command prints; of a GPU, with the memory that it took there."""
    before = most = device_memory() if device == "cuda" else 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                if device == "cuda":
                    most = max(most, device_memory())
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    report = json.loads(output)
    if device == "cuda":
        report["peak_memory_mb"] = most - before
    return report


def compare(settings):
    """Runs all settings in turn, round by round, and prints what they came to."""
    rows = {}
    for turn in range(settings.rounds):
        for mode, commands in settings_of_both(settings):
            for name, command in commands.items():
                print(f"round {turn + 1}: {' '.join(command)}", file=sys.stderr)
                rows.setdefault((mode, name), []).append(run(command, settings.device))
    print("| | images/s | of PyTorch | peak memory, MB |")
    print("|---|---|---|---|")
    peers = {mode: lines for (mode, name), lines in rows.items() if name.startswith("PyTorch")}
    for (mode, name), lines in rows.items():
        speed, peer = (
            statistics.geometric_mean(line["images_per_second"] for line in of)
            for of in (lines, peers[mode])
        )
        memory = max(line["peak_memory_mb"] for line in lines)
        print(f"| {mode}, {name} | {speed:.2f} | {speed / peer:.2f} | {memory:.0f} |")


def main():
    own = parser(__doc__.splitlines()[0], ["infer", "train"])
    own.set_defaults(layout="channels-last")
    own.add_argument("--network", choices=["resnet50", "se-resnext101"], default="resnet50")
    own.add_argument("--one", action="store_true", help="PyTorch alone, one line of JSON")
    own.add_argument("--rounds", type=int, default=2, help="without --one")
    own.add_argument("--features", nargs="*", help="Cargo features of reid; without --one")
    settings = arguments(own)
    if not settings.one:
        compare(settings)
        return
    layout = begin(settings)
    times = time_network(settings, Model(settings.network), layout)
    report(settings, times, network=settings.network)


if __name__ == "__main__":
    main()
