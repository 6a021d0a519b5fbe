"""PyTorch's side of the ResNet-50 benchmark: one JSON line for one setting.

The network is torchvision's ResNet-50 trunk with last stride 1, global average pooling and a
BNNeck head with 751 classes (Luo et al. 2019), on random images of 256 x 128.

infer  evaluation mode, no gradients: images in, descriptors out.
train  one step: forward, cross entropy smoothed by 0.1 + batch-hard triplet loss with margin 0.3,
       backward, Adam (learning rate 3.5e-4, coupled weight decay 5e-4).
"""

import argparse
import json
import resource
import statistics
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

    def __init__(self):
        super().__init__()
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
    identities = torch.arange(len(images)) // IMAGES_PER_IDENTITY
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
    model = model.to(memory_format=layout)
    images = torch.randn(settings.batch, 3, 256, 128).contiguous(memory_format=layout)
    prepare = inference if settings.mode == "infer" else training
    return milliseconds(prepare(model, images), settings.repeats)


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
    print(json.dumps(result))


def main():
    settings = arguments(parser(__doc__.splitlines()[0], ["infer", "train"]))
    layout = begin(settings)
    report(settings, time_network(settings, Model(), layout))


if __name__ == "__main__":
    main()
