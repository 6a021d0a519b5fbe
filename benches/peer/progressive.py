"""PyTorch's side of the progressive feature CutMix benchmark: one JSON line.

    python benches/peer/progressive.py --batch 8 --rounds 5       # --device cuda --precision bfloat16

ResNet-50 with last stride 1 at 384 x 128, a global branch and two attentive ones (512, 1024 and 512
dimensions), 751 classes, soft-margin batch-hard triplet loss and label-smoothed cross-entropy per
branch, Adam. The variants take turns in every round:

without      nothing is mixed
second_pass  the map of a branch by autograd from its scores to its features
whole_graph  the same by `backward` through the whole network, as code with hooks does it: parameter
             gradients are thrown away before the real pass
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.resnet import Bottleneck

CLASSES, CELL, CUT = 751, (3, 2), 6
VARIANTS = ("without", "second_pass", "whole_graph")


class Branch(nn.Module):
    """Pooling, reduction, BN, ReLU; a classifier."""

    def __init__(self, dimensions, maximum):
        super().__init__()
        self.maximum = maximum
        self.reduction = nn.Linear(2048, dimensions)
        self.norm = nn.BatchNorm1d(dimensions)
        self.classifier = nn.Linear(dimensions, CLASSES)

    def forward(self, x):
        v = x.amax((2, 3)) if self.maximum else x.mean((2, 3))
        f = F.relu(self.norm(self.reduction(v)))
        return f, self.classifier(f)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        trunk = torchvision.models.resnet50(weights=None)
        trunk.layer4[0].conv2.stride = trunk.layer4[0].downsample[0].stride = (1, 1)
        self.trunk = nn.Sequential(*list(trunk.children())[:-2])
        self.bottleneck = Bottleneck(2048, 512)
        self.branches = nn.ModuleList([Branch(512, False), Branch(1024, True), Branch(512, True)])

    def forward(self, images, labels, variant):
        t = self.trunk(images)
        shared, seen, outputs = self.bottleneck(t), t, []
        for place, branch in enumerate(self.branches):
            if place > 0:
                seen = shared
                if variant != "without":
                    m = mask(gradient_map(self, given, outputs[-1][1], labels, variant))
                    donors = negatives(labels)
                    seen = m * shared + (1 - m) * shared[donors]
            given = seen
            if variant != "without":
                given.retain_grad()
            outputs.append(branch(given))
        return outputs


class Branches(nn.Module):
    """The network with the interface of `networks.Model`, mixed by a second pass in training."""

    def __init__(self):
        super().__init__()
        self.network = Network()

    def descriptors(self, images):
        outputs = self.network(images, None, "without")
        return torch.cat([features for features, _ in outputs], 1)

    def forward(self, images, identities):
        return self.network(images, identities, "second_pass")


def gradient_map(network, features, logits, labels, variant):
    scores = logits.gather(1, labels[:, None]).sum()
    if variant == "second_pass":
        (gradient,) = torch.autograd.grad(scores, features, retain_graph=True)
    else:
        scores.backward(retain_graph=True)
        gradient = features.grad
        features.grad = None
    w = gradient.mean((2, 3), keepdim=True)
    return F.relu((w * features.detach()).sum(1))


def mask(g):
    batch, height, width = g.shape
    rows, columns = height // CELL[0], width // CELL[1]
    e = g.view(batch, rows, CELL[0], columns, CELL[1]).sum((2, 4)).flatten(1)
    m = torch.ones_like(e).scatter_(1, e.topk(CUT, 1).indices, 0.0)
    m = m.view(batch, 1, rows, 1, columns, 1)
    return m.expand(-1, -1, -1, CELL[0], -1, CELL[1]).reshape(batch, 1, height, width)


def negatives(labels):
    other = (labels[:, None] != labels[None, :]).float()
    return torch.multinomial(other, 1).squeeze(1)


def triplet(features, labels):
    distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels[None, :]
    farthest = distance.masked_fill(~same, -1.0).amax(1)
    nearest = distance.masked_fill(same, float("inf")).amin(1)
    return F.softplus(farthest - nearest).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images, in multiples of 4")
    parser.add_argument("--rounds", type=int, default=5, help="timed, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layout", choices=["plain", "channels-last"], default="channels-last")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["single", "bfloat16"], default="single")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(1)
    last = settings.layout == "channels-last"
    layout = torch.channels_last if last else torch.contiguous_format
    device = torch.device(settings.device)
    network = Network().train().to(device, memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=5e-4)
    images = torch.rand(settings.batch, 3, 384, 128, device=device)
    images = images.contiguous(memory_format=layout)
    labels = torch.arange(settings.batch, device=device) // 4
    half = settings.precision == "bfloat16"
    measured = {variant: [] for variant in VARIANTS}
    for turn in range(settings.rounds + 1):
        for variant in VARIANTS[turn % 3 :] + VARIANTS[: turn % 3]:
            start = time.perf_counter()
            with torch.autocast(settings.device, torch.bfloat16, enabled=half):
                outputs = network(images, labels, variant)
                loss = sum(
                    F.cross_entropy(logits, labels, label_smoothing=0.1) + triplet(f, labels)
                    for f, logits in outputs
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            measured[variant].append(time.perf_counter() - start)
    report = {
        "system": f"PyTorch {torch.__version__.split('+')[0]}",
        "layout": settings.layout,
        "device": settings.device,
        "precision": settings.precision,
        "batch": settings.batch,
        "threads": settings.threads,
        "rounds": settings.rounds,
    }
    for variant, seconds in measured.items():
        ratios = sorted(a / b for a, b in zip(seconds[1:], measured["without"][1:], strict=True))
        report[variant] = {
            "seconds": statistics.median(seconds[1:]),
            "of_without": statistics.median(ratios),
            "least": ratios[0],
            "most": ratios[-1],
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
