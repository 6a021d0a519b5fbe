"""FNC (Liu et al. 2020) in PyTorch, for `networks.py --network fnc`.

Two branches with late stages of their own behind the first block of stage 3 of timm's SE-ResNeXt-101
32x4d, one with spatial attention (SAB) and one with channel attention (CAB), each behind it pooled,
reduced (to 1024 and 512 dimensions), normalised and named.
"""

import copy

import networks
import torch
import torch.nn.functional as F
from torch import nn

CHANNELS, EMBEDDED, HIDDEN, GROUPS, REDUCTION = 2048, 1024, 1024, 32, 16


class Spatial(nn.Module):
    """y = sigmoid(t(z)) * x, where z is what each place gathers from all."""

    def __init__(self):
        super().__init__()
        self.g, self.h, self.p = (nn.Conv2d(CHANNELS, EMBEDDED, 1) for _ in range(3))
        self.t = nn.Conv2d(EMBEDDED, CHANNELS, 1)

    def forward(self, x):
        query, key, value = (conv(x).flatten(2) for conv in (self.g, self.h, self.p))
        weights = torch.softmax(query.transpose(1, 2) @ key, 2)
        gathered = (value @ weights.transpose(1, 2)).view(len(x), EMBEDDED, *x.shape[2:])
        return torch.sigmoid(self.t(gathered)) * x


class Channel(nn.Module):
    """y = sigmoid(r * sigmoid(SE(r))) * x, where r is a bottleneck in groups."""

    def __init__(self):
        super().__init__()
        self.raw = nn.Sequential(
            nn.Conv2d(CHANNELS, HIDDEN, 1, bias=False),
            nn.BatchNorm2d(HIDDEN),
            nn.ReLU(inplace=True),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1, groups=GROUPS, bias=False),
            nn.BatchNorm2d(HIDDEN),
            nn.ReLU(inplace=True),
            nn.Conv2d(HIDDEN, CHANNELS, 1, bias=False),
        )
        self.squeeze = nn.Conv2d(CHANNELS, CHANNELS // REDUCTION, 1)
        self.excite = nn.Conv2d(CHANNELS // REDUCTION, CHANNELS, 1)

    def forward(self, x):
        raw = self.raw(x)
        seen = F.relu(self.squeeze(raw.mean((2, 3), keepdim=True)))
        return torch.sigmoid(raw * torch.sigmoid(self.excite(seen))) * x


class Branch(nn.Module):
    """Late stages, attention, and a neck on fewer dimensions."""

    def __init__(self, tail, attention, dimensions):
        super().__init__()
        self.tail, self.attention = copy.deepcopy(tail), attention
        self.reduction = nn.Linear(CHANNELS, dimensions)
        self.norm, self.neck = nn.BatchNorm1d(dimensions), nn.BatchNorm1d(dimensions)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(dimensions, networks.CLASSES, bias=False)

    def forward(self, x):
        pooled = self.attention(self.tail(x)).mean((2, 3))
        features = F.relu(self.norm(self.reduction(pooled)))
        return features, self.neck(features)


class Network(nn.Module):
    """With the interface of `networks.Model`."""

    def __init__(self):
        super().__init__()
        whole = networks.trunk("se-resnext101")
        self.trunk = nn.Sequential(whole.layer0, whole.layer1, whole.layer2, whole.layer3[0])
        if hasattr(whole, "pool0"):
            self.trunk.insert(1, whole.pool0)
        tail = nn.Sequential(*whole.layer3[1:], whole.layer4)
        branches = [Branch(tail, Spatial(), 1024), Branch(tail, Channel(), 512)]
        self.branches = nn.ModuleList(branches)

    def descriptors(self, images):
        x = self.trunk(images)
        return torch.cat([branch(x)[1] for branch in self.branches], 1)

    def forward(self, images, identities):
        x = self.trunk(images)
        outputs = ((branch, *branch(x)) for branch in self.branches)
        return [(features, branch.classifier(neck)) for branch, features, neck in outputs]
