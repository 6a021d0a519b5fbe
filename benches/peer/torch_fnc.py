"""FNC (Liu et al. 2020) in PyTorch, for `networks.py --network fnc`.

Two branches start after the first block of stage 3 of timm's SE-ResNeXt-101 32x4d. Each has its own late
stages, then spatial (SAB) or channel attention (CAB), pooling, a linear reduction to 1024 or 512
dimensions, batch normalisation and a classifier.
"""

import copy

import torch
import torch.nn.functional as F
import torch_networks
from torch import nn

CHANNELS, EMBEDDED, HIDDEN, GROUPS, REDUCTION = 2048, 1024, 1024, 32, 16


class Spatial(nn.Module):
    """y = sigmoid(t(z)) * x, where z is softmax attention over all positions."""

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
    """y = sigmoid(r * sigmoid(SE(r))) * x, where r is a grouped bottleneck."""

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

    def __init__(self, late_stages, attention, dimensions):
        super().__init__()
        self.late_stages, self.attention = copy.deepcopy(late_stages), attention
        self.reduction = nn.Linear(CHANNELS, dimensions)
        self.norm, self.neck = nn.BatchNorm1d(dimensions), nn.BatchNorm1d(dimensions)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(dimensions, torch_networks.CLASSES, bias=False)

    def forward(self, x):
        pooled = self.attention(self.late_stages(x)).mean((2, 3))
        features = F.relu(self.norm(self.reduction(pooled)))
        return features, self.neck(features)


class Network(nn.Module):
    """FNC, with the interface of `torch_networks.Model`."""

    def __init__(self):
        super().__init__()
        whole = torch_networks.backbone("se-resnext101")
        self.early_stages = nn.Sequential(whole.layer0, whole.layer1, whole.layer2, whole.layer3[0])
        if hasattr(whole, "pool0"):
            self.early_stages.insert(1, whole.pool0)
        late_stages = nn.Sequential(*whole.layer3[1:], whole.layer4)
        branches = [Branch(late_stages, Spatial(), 1024), Branch(late_stages, Channel(), 512)]
        self.branches = nn.ModuleList(branches)

    def embed(self, images):
        x = self.early_stages(images)
        return torch.cat([branch(x)[1] for branch in self.branches], 1)

    def forward(self, images, labels):
        x = self.early_stages(images)
        outputs = ((branch, *branch(x)) for branch in self.branches)
        return [(features, branch.classifier(neck)) for branch, features, neck in outputs]
