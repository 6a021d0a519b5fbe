"""Writes the reference values of OSNet, LightMBN and MobileNetV2 with PyTorch and torchvision.

    python tests/golden/make_light.py        (pip install torch torchvision numpy safetensors grad-cam)

The networks are written from Zhou et al., "Omni-Scale Feature Learning for Person
Re-Identification", ICCV 2019, Sandler et al., "MobileNetV2", CVPR 2018, and Herzog et al.,
"Lightweight Multi-Branch Network for Person Re-Identification", ICIP 2021. The formula, its ranges
and the storage format are those of make.py in this folder. MobileNetV2 is computed a second time by
torchvision, and the script stops if the results differ. README.md documents the files.
"""

import torch
import torch.nn.functional as F
from make import INPUT, SqueezeExcite, filled, formula, passes, write
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual as TorchvisionBlock
from torchvision.models.mobilenetv2 import MobileNetV2 as TorchvisionNetwork


class ConvNorm(nn.Module):
    """bn(conv(x)) without bias; `bn` may be absent."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, groups=1, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs) if norm else None

    def forward(self, x):
        x = self.conv(x)
        return x if self.bn is None else self.bn(x)


# ---------------------------------------------------------------------------------------- OSNet


class LightConv(nn.Module):
    """relu(bn(depthwise(pointwise(x))))."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.bn(self.conv2(self.conv1(x))))


class OsBlock(nn.Module):
    """relu(conv3(sum_t gate(stream_t(conv1(x)))) + shortcut(x)), four streams and one gate.

    `instance` is None, "sum" (normalises the sum) or "residual" (normalises the residual).
    """

    def __init__(self, inputs, outputs, instance=None):
        super().__init__()
        hidden = outputs // 4
        self.conv1 = ConvNorm(inputs, hidden)
        self.conv2a = LightConv(hidden)
        self.conv2b = nn.Sequential(*(LightConv(hidden) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv(hidden) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv(hidden) for _ in range(4)))
        self.gate = SqueezeExcite(hidden, min(16, hidden))
        self.conv3 = ConvNorm(hidden, outputs, norm=instance != "residual")
        self.downsample = ConvNorm(inputs, outputs) if inputs != outputs else None
        self.in_residual, self.in_sum = None, None
        if instance == "residual":
            self.in_residual = nn.InstanceNorm2d(outputs, affine=True)
        if instance == "sum":
            self.in_sum = nn.InstanceNorm2d(outputs, affine=True)

    def forward(self, x):
        hidden = F.relu(self.conv1(x))
        streams = self.conv2a, self.conv2b, self.conv2c, self.conv2d
        residual = self.conv3(sum(self.gate(stream(hidden)) for stream in streams))
        if self.in_residual is not None:
            residual = self.in_residual(residual)
        total = residual + (x if self.downsample is None else self.downsample(x))
        return F.relu(total if self.in_sum is None else self.in_sum(total))


class OsNet(nn.Module):
    """Three stages of blocks, transitions with average pooling, and a last 1x1 layer.

    `instance` lists the blocks of each stage by their instance normalisation.
    """

    def __init__(self, channels, instance, instance_stem=False):
        super().__init__()
        stem, *widths = channels
        self.conv1 = ConvNorm(3, stem, 7, 2, norm=not instance_stem)
        self.in1 = nn.InstanceNorm2d(stem, affine=True) if instance_stem else None
        stages, inputs = [], stem
        for outputs, kinds in zip(widths, instance, strict=True):
            blocks = []
            for kind in kinds:
                blocks.append(OsBlock(inputs, outputs, kind))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.conv2, self.conv3, self.conv4 = stages
        self.pool2, self.pool3 = (ConvNorm(width, width) for width in widths[:2])
        self.conv5 = ConvNorm(inputs, inputs)

    def forward(self, x):
        x = self.conv1(x)
        x = F.relu(x if self.in1 is None else self.in1(x))
        x = self.conv2(F.max_pool2d(x, 3, 2, 1))
        x = self.conv3(F.avg_pool2d(F.relu(self.pool2(x)), 2))
        x = self.conv4(F.avg_pool2d(F.relu(self.pool3(x)), 2))
        return F.relu(self.conv5(x))


# ------------------------------------------------------------------------------------- LightMBN


class Stage(nn.Module):
    """A stage of OSNet after the split: a transition, blocks and a last 1x1 layer, each optional."""

    def __init__(self, inputs, outputs, blocks, transition=False, last=False):
        super().__init__()
        self.transition = ConvNorm(inputs, inputs) if transition else None
        widths = [inputs] + [outputs] * blocks
        self.blocks = nn.ModuleList(OsBlock(a, b) for a, b in zip(widths, widths[1:]))
        self.last = ConvNorm(widths[-1], outputs) if last else None

    def forward(self, x):
        if self.transition is not None:
            x = F.avg_pool2d(F.relu(self.transition(x)), 2)
        for block in self.blocks:
            x = block(x)
        return x if self.last is None else F.relu(self.last(x))


class LateStages(nn.Module):
    """The second block of conv3, the second transition, conv4 and conv5."""

    def __init__(self, third, fourth):
        super().__init__()
        self.stages = nn.Sequential(
            Stage(third, third, 1),
            Stage(third, fourth, 2, transition=True),
            Stage(fourth, fourth, 0, last=True),
        )

    def forward(self, x):
        return self.stages(x)


class Neck(nn.Module):
    """A batch normalisation and a classifier of vectors, after a linear layer if `inputs` is given.

    Returns the embedding, which has length 1, the features before the normalisation, and the logits.
    """

    def __init__(self, dimensions, classes, inputs=None):
        super().__init__()
        if inputs is not None:
            self.reduction = nn.Conv2d(inputs, dimensions, 1, bias=False)
        self.bn = nn.BatchNorm1d(dimensions)
        self.bn.bias.requires_grad_(False)
        self.classifier = nn.Linear(dimensions, classes, bias=False)

    def forward(self, x):
        f = self.reduction(x[:, :, None, None])[:, :, 0, 0] if hasattr(self, "reduction") else x
        g = self.bn(f)
        return g / g.norm(dim=1, keepdim=True), f, self.classifier(g)


def drop_top(x, share):
    """Sets the rows of each image with the largest max_w sum_c x^2 to zero."""
    kept = torch.ones(x.shape[0], 1, x.shape[2], 1, dtype=x.dtype)
    for image, energy in enumerate(x.detach().square().sum(1).amax(2)):
        order = energy.sort(descending=True, stable=True).indices
        gaps = energy[order].diff().abs() / energy.max()
        assert gaps.min() > 1e-3, "two rows are too close to be told apart by rounding"
        kept[image, 0, order[: round(share * len(energy))], 0] = 0
    return x * kept


def branch(block, head):
    return nn.ModuleDict({"block": block, "head": head})


class EarlyStages(nn.Module):
    """An OSNet with a small stem up to the first block of conv3."""

    def __init__(self, stem, second, third):
        super().__init__()
        self.conv1 = ConvNorm(3, stem, 3)
        self.conv2 = nn.Sequential(OsBlock(stem, second), OsBlock(second, second))
        self.pool2 = ConvNorm(second, second)
        self.conv3 = nn.Sequential(OsBlock(second, third))

    def forward(self, x):
        x = self.conv2(F.relu(self.conv1(x)))
        return self.conv3(F.avg_pool2d(F.relu(self.pool2(x)), 2))


class LightMbn(nn.Module):
    """Early stages of OSNet and three branches, with a small stem. Module names are those of reid.

    The output is [embedding, features of the three metric losses, seven logits], concatenated.
    """

    def __init__(self, channels, dimensions, classes):
        super().__init__()
        stem, second, third, fourth = channels
        self.backbone = EarlyStages(stem, second, third)

        def reduced():
            return Neck(dimensions, classes, fourth)

        late = [LateStages(third, fourth) for _ in range(3)]
        necks = nn.ModuleDict({"branches": nn.ModuleList([reduced(), reduced()])})
        stripes = nn.ModuleList([reduced(), reduced()])
        part = nn.ModuleDict({"whole": reduced(), "stripes": stripes})
        channel = nn.ModuleDict(
            {
                "shared": ConvNorm(fourth // 2, dimensions),
                "necks": nn.ModuleList(Neck(dimensions, classes) for _ in range(2)),
            }
        )
        extra = OsBlock(fourth, fourth)
        branches = [
            branch(nn.Sequential(late[0], extra), necks),
            branch(late[1], part),
            branch(late[2], channel),
        ]
        self.head = nn.ModuleDict({"branches": nn.ModuleList(branches)})

    def forward(self, x):
        whole, part, channel = self.head["branches"]
        x = self.backbone(x)

        t = whole["block"](x)
        dropped = drop_top(t, 0.33) if self.training else t
        first, second = whole["head"]["branches"]
        outputs = [first(t.mean((2, 3))), second(dropped.amax((2, 3)))]

        p = part["block"](x)
        outputs.append(part["head"]["whole"](p.amax((2, 3))))
        for stripe, neck in zip(p.chunk(2, 2), part["head"]["stripes"], strict=True):
            outputs.append(neck(stripe.mean((2, 3))))

        c = channel["block"](x).mean((2, 3))
        for group, neck in zip(c.chunk(2, 1), channel["head"]["necks"], strict=True):
            shared = channel["head"]["shared"](group[:, :, None, None])
            outputs.append(neck(F.relu(shared)[:, :, 0, 0]))

        embedding, features, logits = zip(*outputs, strict=True)
        return torch.cat([*embedding, *features[:3], *logits], 1)


# ---------------------------------------------------------------------------------- MobileNetV2


class InvertedResidual(nn.Module):
    """project(relu6(depthwise(relu6(expand(x))))), plus x if the shapes are equal."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * (expansion or 1)
        self.expand = ConvNorm(inputs, hidden) if expansion else None
        self.depthwise = ConvNorm(hidden, hidden, 3, stride, hidden)
        self.project = ConvNorm(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(hidden)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """A stem, seven layers of inverted residuals and a last 1x1 layer."""

    def __init__(self, stem, settings, last):
        super().__init__()
        self.stem = ConvNorm(3, stem, 3, 2)
        self.layers, inputs = nn.ModuleList(), stem
        for expansion, outputs, count, stride in settings:
            blocks = []
            for index in range(count):
                block_stride = stride if index == 0 else 1
                expand = expansion if expansion > 1 else None
                blocks.append(InvertedResidual(inputs, outputs, block_stride, expand))
                inputs = outputs
            self.layers.append(nn.Sequential(*blocks))
        self.last = ConvNorm(inputs, last)

    def forward(self, x):
        x = F.relu6(self.stem(x))
        for layer in self.layers:
            x = layer(x)
        return F.relu6(self.last(x))


def equals(part, other, x):
    """Fails if another module with the same tensors in the same order computes other values."""
    ours, theirs = part.state_dict(), other.double().state_dict()
    values = [value for key, value in ours.items() if "num_batches" not in key]
    keys = [key for key in theirs if "num_batches" not in key]
    other.load_state_dict(theirs | dict(zip(keys, values, strict=True)))
    with torch.no_grad():
        found, expected = part.eval()(x), other.eval()(x)
    difference = (found - expected).abs().max()
    assert difference <= 1e-12 * expected.abs().max(), difference


# ----------------------------------------------------------------------------------------- file

# Expansion, channels, blocks and stride of the layers of a small MobileNetV2.
LAYERS = [
    (1, 2, 1, 1),
    (6, 3, 2, 2),
    (6, 4, 1, 2),
    (6, 5, 1, 2),
    (6, 6, 1, 1),
    (6, 7, 1, 2),
    (6, 8, 1, 1),
]


def torchvision_network():
    """torchvision's network of the same size, with its last layer narrowed from 1280 to 9."""
    setting = [[t, 8 * c, n, s] for t, c, n, s in LAYERS]
    network = TorchvisionNetwork(
        width_mult=0.125, inverted_residual_setting=setting, round_nearest=1
    ).features
    network[-1][0] = nn.Conv2d(8, 9, 1, bias=False)
    network[-1][1] = nn.BatchNorm2d(9)
    return network


# The channels of a small LightMBN.
MBN_WIDTHS = (4, 12, 16, 16)


def write_parts(file, parts, script="make_light.py"):
    """Writes the outputs, gradients and running statistics of parts, by name."""
    tensors = {}
    for name, (part, shape, other) in parts.items():
        part = filled(part, f"{name}.")
        x = formula(f"{name}.input", shape, INPUT)
        if other is not None:
            equals(part, other, x)
        tensors |= passes(name, part, x.requires_grad_())
        for key, buffer in part.named_buffers():
            if not key.endswith("num_batches_tracked"):
                tensors[f"{name}.state_after.{key}"] = buffer
    write(file, {key: value.float() for key, value in tensors.items()}, script)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    widths = (4, 8, 12, 16)
    plain, residual = (None,), ("residual",)
    parts = {
        "os_block": (OsBlock(8, 12), (4, 8, 4, 3), None),
        "os_block_sum": (OsBlock(16, 16, "sum"), (4, 16, 4, 3), None),
        "os_block_residual": (OsBlock(8, 16, "residual"), (4, 8, 4, 3), None),
        "osnet": (OsNet(widths, (plain * 2, plain, plain)), (4, 3, 32, 16), None),
        "osnet_ain": (
            OsNet(widths, (residual, plain, residual), True),
            (4, 3, 32, 16),
            None,
        ),
        "inverted": (InvertedResidual(4, 4, 1, 6), (4, 4, 6, 4), TorchvisionBlock(4, 4, 1, 6)),
        "inverted_strided": (
            InvertedResidual(4, 6, 2, 6),
            (4, 4, 6, 4),
            TorchvisionBlock(4, 6, 2, 6),
        ),
        "inverted_first": (
            InvertedResidual(4, 3, 1, None),
            (4, 4, 6, 4),
            TorchvisionBlock(4, 3, 1, 1),
        ),
        "mobilenet_v2": (MobileNetV2(4, LAYERS, 9), (8, 3, 32, 16), torchvision_network()),
    }
    write_parts("light", parts)
    write_parts("light_mbn", {"light_mbn": (LightMbn(MBN_WIDTHS, 6, 5), (6, 3, 24, 8), None)})


if __name__ == "__main__":
    main()
