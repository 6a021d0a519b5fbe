"""Writes the reference values of networks for small images with PyTorch and torchvision.

    python tests/golden/make_cifar.py        (pip install torch torchvision numpy safetensors grad-cam)

The networks are written from He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
section 4.2, and Huang et al., "Densely Connected Convolutional Networks", CVPR 2017. The formula, its
ranges and the storage format are those of make.py in this folder. The DenseNet with a large stem is
computed a second time by torchvision, and the script stops if the results differ. README.md documents
the file.
"""

import torch
import torch.nn.functional as F
from make import RgaChannel, RgaSpatial
from make_light import write_parts
from torch import nn
from torchvision.models.densenet import DenseNet as TorchvisionNetwork


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


# --------------------------------------------------------------------------------------- ResNet


class Basic(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).

    The shortcut is a projection, or every second position and channels of zeros on both sides.
    """

    def __init__(self, inputs, outputs, stride, projection):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.stride, self.missing, self.downsample = stride, outputs - inputs, None
        if projection and (stride != 1 or inputs != outputs):
            layers = conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            self.downsample = nn.Sequential(*layers)

    def shortcut(self, x):
        if self.downsample is not None:
            return self.downsample(x)
        before = self.missing // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, before, self.missing - before))

    def forward(self, x):
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem and three stages of basic blocks."""

    def __init__(self, width, blocks, projection):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width, 3), nn.BatchNorm2d(width)
        inputs = width
        for stage in range(3):
            outputs, layers = width * 2**stage, []
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(Basic(inputs, outputs, stride, projection))
                inputs = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))


# ------------------------------------------------------------------------------------- DenseNet


class DenseLayer(nn.Module):
    """[x, conv(relu(norm(x)))], or with a bottleneck [x, conv2(relu(norm2(conv1(relu(norm1(x))))))]."""

    def __init__(self, inputs, growth, bottleneck=None):
        super().__init__()
        self.norm1, self.conv2 = nn.BatchNorm2d(inputs), None
        if bottleneck is None:
            self.conv1 = conv(inputs, growth, 3)
        else:
            self.conv1 = conv(inputs, bottleneck * growth, 1)
            self.norm2 = nn.BatchNorm2d(bottleneck * growth)
            self.conv2 = conv(bottleneck * growth, growth, 3)

    def forward(self, x):
        new = self.conv1(F.relu(self.norm1(x)))
        if self.conv2 is not None:
            new = self.conv2(F.relu(self.norm2(new)))
        return torch.cat([x, new], 1)


class Transition(nn.Module):
    """avgpool2(conv(relu(norm(x))))."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), conv(inputs, outputs, 1)

    def forward(self, x):
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet(nn.Module):
    """Dense blocks with transitions between them; `after` follows the first transition."""

    def __init__(self, blocks, growth, channels, bottleneck=None, share=1.0, large=False):
        super().__init__()
        self.norm0, self.after, self.count = None, nn.ModuleList(), len(blocks)
        self.conv0 = nn.Conv2d(3, channels, 7, 2, 3, bias=False) if large else conv(3, channels, 3)
        if large:
            self.norm0 = nn.BatchNorm2d(channels)
        for number, layers in enumerate(blocks, 1):
            dense = []
            for _ in range(layers):
                dense.append(DenseLayer(channels, growth, bottleneck))
                channels += growth
            setattr(self, f"denseblock{number}", nn.Sequential(*dense))
            if number < len(blocks):
                setattr(self, f"transition{number}", Transition(channels, int(share * channels)))
                channels = int(share * channels)
        self.norm5 = nn.BatchNorm2d(channels)

    def forward(self, x):
        x = self.conv0(x)
        if self.norm0 is not None:
            x = F.max_pool2d(F.relu(self.norm0(x)), 3, 2, 1)
        for number in range(1, self.count + 1):
            x = getattr(self, f"denseblock{number}")(x)
            if number < self.count:
                x = getattr(self, f"transition{number}")(x)
            if number == 1:
                for block in self.after:
                    x = block(x)
        return F.relu(self.norm5(x))


def densenet_rga():
    """A small DenseNet-BC with RGA-SC on the 10 x 8 x 8 feature map after the first transition."""
    network = DenseNet((2, 1, 1), 6, 8, bottleneck=4, share=0.5)
    network.after.append(nn.Sequential(RgaSpatial(10, 64), RgaChannel(10, 64)))
    return network


def torchvision_network():
    """torchvision's network of the same size, up to the last ReLU."""
    network = TorchvisionNetwork(4, (2, 1, 1, 1), 6, 4, num_classes=2)
    return nn.Sequential(network.features, nn.ReLU())


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    large = DenseNet((2, 1, 1, 1), 4, 6, bottleneck=4, share=0.5, large=True)
    resnets = {
        "basic_padded": (Basic(4, 9, 2, False), (4, 4, 5, 3), None),
        "resnet20_a": (ResNet(3, 3, False), (4, 3, 16, 12), None),
        "resnet20_b": (ResNet(3, 3, True), (4, 3, 16, 12), None),
    }
    densenets = {
        "dense_layer": (DenseLayer(6, 4), (4, 6, 5, 4), None),
        "dense_bottleneck": (DenseLayer(6, 4, 2), (4, 6, 5, 4), None),
        "densenet": (DenseNet((2, 1, 1), 4, 6), (4, 3, 16, 12), None),
        "densenet_bc_rga": (densenet_rga(), (4, 3, 16, 16), None),
        "densenet_large": (large, (4, 3, 64, 32), torchvision_network()),
    }
    write_parts("cifar_resnet", resnets, "make_cifar.py")
    write_parts("cifar_densenet", densenets, "make_cifar.py")


if __name__ == "__main__":
    main()
