"""The network of `progressive.py`: three branches with progressive feature CutMix on ResNet-50."""

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.resnet import Bottleneck

CLASSES, PATCH, CUT = 751, (3, 2), 6


class Branch(nn.Module):
    """Pooling, a linear reduction, batch normalisation and ReLU; then a classifier."""

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
    """A ResNet-50 with a global branch and two branches that are trained on mixed features."""

    def __init__(self):
        super().__init__()
        backbone = torchvision.models.resnet50(weights=None)
        backbone.layer4[0].conv2.stride = backbone.layer4[0].downsample[0].stride = (1, 1)
        self.backbone = nn.Sequential(*list(backbone.children())[:-2])
        self.bottleneck = Bottleneck(2048, 512)
        self.branches = nn.ModuleList([Branch(512, False), Branch(1024, True), Branch(512, True)])

    def forward(self, images, labels, variant):
        t = self.backbone(images)
        shared, seen, outputs = self.bottleneck(t), t, []
        for index, branch in enumerate(self.branches):
            if index > 0:
                seen = shared
                if variant != "without":
                    m = mask(gradient_map(self, given, outputs[-1][1], labels, variant))
                    partners = negatives(labels)
                    seen = m * shared + (1 - m) * shared[partners]
            given = seen
            if variant != "without":
                given.retain_grad()
            outputs.append(branch(given))
        return outputs


class Branches(nn.Module):
    """The network with the interface of `torch_networks.Model`. In training, Grad-CAM is a second pass."""

    def __init__(self):
        super().__init__()
        self.network = Network()

    def embed(self, images):
        outputs = self.network(images, None, "without")
        return torch.cat([features for features, _ in outputs], 1)

    def forward(self, images, labels):
        return self.network(images, labels, "second_pass")


def gradient_map(network, features, logits, labels, variant):
    """Grad-CAM of the label of each image."""
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
    """0 in the patches with the highest sums of the map, and 1 elsewhere."""
    batch, height, width = g.shape
    rows, columns = height // PATCH[0], width // PATCH[1]
    e = g.view(batch, rows, PATCH[0], columns, PATCH[1]).sum((2, 4)).flatten(1)
    m = torch.ones_like(e).scatter_(1, e.topk(CUT, 1).indices, 0.0)
    m = m.view(batch, 1, rows, 1, columns, 1)
    return m.expand(-1, -1, -1, PATCH[0], -1, PATCH[1]).reshape(batch, 1, height, width)


def negatives(labels):
    """The index of a random image of another identity, for each image."""
    other = (labels[:, None] != labels[None, :]).float()
    return torch.multinomial(other, 1).squeeze(1)


def triplet(features, labels):
    distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels[None, :]
    farthest = distance.masked_fill(~same, -1.0).amax(1)
    nearest = distance.masked_fill(same, float("inf")).amin(1)
    return F.softplus(farthest - nearest).mean()
