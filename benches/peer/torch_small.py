"""Small networks in PyTorch, for `networks.py`: OSNet, MobileNetV2 and a ResNet for CIFAR.

OSNet is written from Zhou et al. (ICCV 2019), with torchreid's head, and ResNet-20 from He et al. (CVPR
2016, section 4.2), with shortcuts without parameters (option A). MobileNetV2 is torchvision's.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import mobilenet_v2


class ConvNorm(nn.Sequential):
    """A convolution without bias, and batch normalisation."""

    def __init__(self, inputs, outputs, kernel=1, stride=1):
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs))


class LightConv(nn.Module):
    """relu(bn(depthwise(pointwise(x))))."""

    def __init__(self, channels):
        super().__init__()
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.bn(self.depthwise(self.pointwise(x))))


class OsBlock(nn.Module):
    """relu(conv3(sum_t stream_t(h) * gate(stream_t(h))) + shortcut(x)), h = relu(conv1(x)), t = 1 to 4."""

    def __init__(self, inputs, outputs):
        super().__init__()
        hidden = outputs // 4
        units = max(hidden // 16, 1)
        self.conv1, self.conv3 = ConvNorm(inputs, hidden), ConvNorm(hidden, outputs)
        streams = (nn.Sequential(*(LightConv(hidden) for _ in range(depth))) for depth in range(1, 5))
        self.streams = nn.ModuleList(streams)
        self.squeeze, self.excite = nn.Conv2d(hidden, units, 1), nn.Conv2d(units, hidden, 1)
        self.downsample = ConvNorm(inputs, outputs) if inputs != outputs else nn.Identity()

    def gated(self, x):
        seen = F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.excite(seen))

    def forward(self, x):
        hidden = F.relu(self.conv1(x))
        total = sum(self.gated(stream(hidden)) for stream in self.streams)
        return F.relu(self.conv3(total) + self.downsample(x))


class OsNet(nn.Module):
    """OSNet with an embedding of 512 dimensions: relu(bn(W pool(x))), and a classifier of it."""

    def __init__(self, channels, classes):
        super().__init__()
        stem, *widths = channels
        stages, inputs = [ConvNorm(3, stem, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)], stem
        for stage, outputs in enumerate(widths):
            stages += [OsBlock(inputs, outputs), OsBlock(outputs, outputs)]
            inputs = outputs
            if stage < 2:
                stages += [ConvNorm(outputs, outputs), nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        stages += [ConvNorm(inputs, inputs), nn.ReLU(inplace=True)]
        self.backbone = nn.Sequential(*stages)
        self.reduction, self.bn = nn.Linear(inputs, 512), nn.BatchNorm1d(512)
        self.classifier = nn.Linear(512, classes)

    def embed(self, images):
        return F.relu(self.bn(self.reduction(self.backbone(images).mean((2, 3)))))

    def forward(self, images, labels):
        features = self.embed(images)
        return [(features, self.classifier(features))]


class Pooled(nn.Module):
    """A backbone whose pooled features are the embedding, and a classifier of them."""

    def __init__(self, backbone, channels, classes):
        super().__init__()
        self.backbone, self.classifier = backbone, nn.Linear(channels, classes)

    def embed(self, images):
        return self.backbone(images).mean((2, 3))

    def forward(self, images, labels):
        features = self.embed(images)
        return [(features, self.classifier(features))]


class Basic(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).

    The shortcut takes every stride-th position, and pads with channels of zeros on both sides.
    """

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(inputs, outputs, 3, stride), ConvNorm(outputs, outputs, 3)
        self.stride, self.missing = stride, outputs - inputs

    def shortcut(self, x):
        if self.stride == 1:
            return x
        half = self.missing // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.missing - half))

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


def cifar_resnet(depth):
    """ResNet-(6n + 2): a 3 x 3 stem, and three stages of n blocks with 16, 32 and 64 channels."""
    layers, inputs = [ConvNorm(3, 16, 3), nn.ReLU(inplace=True)], 16
    for outputs in (16, 32, 64):
        for index in range((depth - 2) // 6):
            layers.append(Basic(inputs, outputs, 1 if index or outputs == 16 else 2))
            inputs = outputs
    return nn.Sequential(*layers)


def network(name, classes):
    """The network that `networks.py` calls `name`, with the interface of `torch_networks.Model`."""
    if name == "osnet-x0.25":
        return OsNet((16, 64, 96, 128), classes)
    if name == "osnet-x1.0":
        return OsNet((64, 256, 384, 512), classes)
    if name == "mobilenet-v2":
        return Pooled(mobilenet_v2().features, 1280, classes)
    if name == "cifar-resnet20":
        return Pooled(cifar_resnet(20), 64, classes)
    raise ValueError(f"expected a network of torch_small.py, found {name}")
