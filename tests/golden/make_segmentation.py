"""Writes the reference values of RoIAlign and of segmentation networks with PyTorch and torchvision.

    python tests/golden/make_segmentation.py  (pip install torch torchvision numpy safetensors grad-cam)

RoIAlign is torchvision's, and so is the small DeepLabV3. The other networks are written from Zhao et
al., "Pyramid Scene Parsing Network", CVPR 2017, and from the text of Zhang et al., "Relation-Aware
Global Attention", CVPR 2020. The formula, its ranges and the storage format are those of make.py in
this folder. Tensors have the names of reid. README.md documents the files.
"""

import torch
import torch.nn.functional as F
from make import INPUT, UNIT, bounds_of, formula, write
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.segmentation import DeepLabV3
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import roi_align

# ------------------------------------------------------------------------------------ RoIAlign

# Boxes of the two images: inside, across the edges, far outside, smaller than a position, empty.
BOXES = (
    [[1.25, 0.5, 6.75, 4.25], [-2.0, -1.5, 3.5, 9.0], [4.0, 2.0, 4.5, 2.25]],
    [[5.0, 3.0, 12.0, 12.0], [20.0, 20.0, 30.0, 25.0], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 9.0, 7.0]],
)


def roi_align_file():
    """Writes outputs and gradients for both alignments, and for two numbers of samples."""
    boxes = [torch.tensor(image, dtype=torch.float64) for image in BOXES]
    tensors = {f"boxes.{index}": image for index, image in enumerate(boxes)}
    for aligned in (True, False):
        for samples in (-1, 2):
            name = f"{'aligned' if aligned else 'plain'}.{'adaptive' if samples < 0 else samples}"
            x = formula("roi_align.input", (2, 3, 7, 9), INPUT).requires_grad_()
            scaled = [2 * image for image in boxes]
            y = roi_align(x, scaled, (3, 2), 0.5, samples, aligned)
            grad_output = formula("roi_align.grad_output", y.shape, UNIT)
            y.backward(grad_output)
            tensors |= {f"{name}.output": y, f"{name}.grad.input": x.grad}
    # The whole map as one box, to fewer and to more bins than it has positions.
    for rows, columns in ((3, 4), (10, 5)):
        x = formula("roi_align.input", (2, 3, 7, 9), INPUT).requires_grad_()
        whole = [torch.tensor([[0.0, 0.0, 9.0, 7.0]], dtype=torch.float64)] * 2
        y = roi_align(x, whole, (rows, columns), 1.0, -1, True)
        y.backward(formula("roi_align.grad_output", y.shape, UNIT))
        tensors |= {
            f"whole.{rows}x{columns}.output": y,
            f"whole.{rows}x{columns}.grad.input": x.grad,
        }
    write("roi_align", {key: value.float() for key, value in tensors.items()}, SCRIPT)


# ------------------------------------------------------------------------------------ networks

SCRIPT = "make_segmentation.py"
CLASSES = 3


class Narrow(ResNet):
    """torchvision's ResNet with a thirty-second of the width."""

    def __init__(self, blocks, dilation):
        self.inplanes = 2
        super().__init__(Bottleneck, blocks, replace_stride_with_dilation=dilation)
        self.conv1 = nn.Conv2d(3, 2, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(2)

    def _make_layer(self, block, planes, *rest, **options):
        if planes == 64:
            self.inplanes = 2
        return super()._make_layer(block, planes // 32, *rest, **options)


def deeplab():
    """torchvision's DeepLabV3 with few channels and without dropout."""
    backbone = Narrow([1, 1, 2, 2], [False, True, True])
    layers = {"layer4": "out", "layer3": "aux"}
    backbone = IntermediateLayerGetter(backbone, return_layers=layers)
    aspp = ASPP(64, (1, 2, 3), 6)
    conv = nn.Conv2d(6, 6, 3, padding=1, bias=False)
    head = nn.Sequential(aspp, conv, nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, CLASSES, 1))
    network = DeepLabV3(backbone, head, FCNHead(32, CLASSES))
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


DEEPLAB_NAMES = [
    ("classifier.0.convs.4.1.", "head.context.convs.4.conv."),
    ("classifier.0.convs.4.2.", "head.context.convs.4.bn."),
    *((f"classifier.0.convs.{i}.0.", f"head.context.convs.{i}.conv.") for i in range(4)),
    *((f"classifier.0.convs.{i}.1.", f"head.context.convs.{i}.bn.") for i in range(4)),
    ("classifier.0.project.0.", "head.context.project.conv."),
    ("classifier.0.project.1.", "head.context.project.bn."),
    ("classifier.1.", "head.conv.conv."),
    ("classifier.2.", "head.conv.bn."),
    ("classifier.4.", "head.classifier."),
    ("aux_classifier.0.", "auxiliary.conv.conv."),
    ("aux_classifier.1.", "auxiliary.conv.bn."),
    ("aux_classifier.4.", "auxiliary.classifier."),
]


class ConvNorm(nn.Module):
    """bn(conv(x)), with a dilation that keeps the size."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, dilation=1, bias=False):
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding, dilation=dilation, bias=bias
        )
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.bn(self.conv(x))


class DeepBackbone(nn.Module):
    """A stem of three 3x3 convolutions and four stages, with one dilation in all blocks of a stage."""

    def __init__(self, width, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.deep = nn.ModuleList([ConvNorm(width, width, 3), ConvNorm(width, 2 * width, 3)])
        inputs = 2 * width
        for stage, (count, stride, dilation) in enumerate(
            zip(blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True)
        ):
            planes, layers = width << stage, []
            for index in range(count):
                step = stride if index == 0 else 1
                shortcut = None
                if step != 1 or inputs != 4 * planes:
                    shortcut = nn.Sequential(
                        nn.Conv2d(inputs, 4 * planes, 1, step, bias=False),
                        nn.BatchNorm2d(4 * planes),
                    )
                layers.append(Bottleneck(inputs, planes, step, shortcut, dilation=dilation))
                inputs = 4 * planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for layer in self.deep:
            x = F.relu(layer(x))
        x = self.layer2(self.layer1(F.max_pool2d(x, 3, 2, 1)))
        third = self.layer3(x)
        return third, self.layer4(third)


class PyramidPooling(nn.Module):
    """[x, conv of averages over grids, resized with aligned corners]."""

    def __init__(self, inputs, outputs, bins):
        super().__init__()
        self.bins = bins
        self.features = nn.ModuleList(ConvNorm(inputs, outputs) for _ in bins)

    def forward(self, x):
        parts = [x]
        for bins, layer in zip(self.bins, self.features, strict=True):
            grid = F.relu(layer(F.adaptive_avg_pool2d(x, bins)))
            parts.append(F.interpolate(grid, x.shape[2:], mode="bilinear", align_corners=True))
        return torch.cat(parts, 1)


class Head(nn.Module):
    """classifier(activation(conv(context(x)))); slope is that of the activation below 0."""

    def __init__(self, context, inputs, channels, bias=False, slope=0.0):
        super().__init__()
        self.context = context
        self.conv = ConvNorm(inputs, channels, 3, bias=bias)
        self.slope = slope
        self.classifier = nn.Conv2d(channels, CLASSES, 1)

    def forward(self, x):
        return self.classifier(F.leaky_relu(self.conv(self.context(x)), self.slope))


class PspNet(nn.Module):
    """PSPNet as in semseg. In training the logits of the auxiliary head are appended."""

    def __init__(self, width, blocks):
        super().__init__()
        self.backbone = DeepBackbone(width, blocks)
        last = 32 * width
        self.head = Head(PyramidPooling(last, 4, (1, 2, 3, 6)), last + 16, 6)
        self.auxiliary = Head(nn.Identity(), 16 * width, 5)

    def forward(self, x):
        third, last = self.backbone(x)
        logits = [self.head(last)] + ([self.auxiliary(third)] if self.training else [])
        size = x.shape[2:]
        resized = (F.interpolate(y, size, mode="bilinear", align_corners=True) for y in logits)
        return torch.cat(list(resized), 1)


class Flat(nn.Module):
    """The logits of torchvision's DeepLabV3. In training those of the auxiliary head are appended."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        y = self.network(x)
        return torch.cat([y["out"], y["aux"]], 1) if self.training else y["out"]


def renamed(key, names):
    """The name in reid of a tensor."""
    for theirs, ours in names:
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def values_of(name, part, shape, names=()):
    """Fills a part by the formula, and computes its outputs, gradients and running statistics."""
    part = part.double()

    def key_of(key):
        return f"{name}.{renamed(key.removeprefix('network.'), names)}"

    state = {key_of(key): tensor for key, tensor in part.state_dict().items()}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            tensor.zero_()
        else:
            tensor.copy_(formula(key, tensor.shape, bounds_of(key, state)))
    x = formula(f"{name}.input", shape, INPUT).requires_grad_()
    tensors = {f"{name}.output.eval": part.eval()(x)}
    output = part.train()(x)
    grad_output = formula(f"{name}.grad_output", output.shape, UNIT)
    output.backward(grad_output)
    tensors |= {f"{name}.output.train": output, f"{name}.grad_output": grad_output}
    tensors[f"{name}.grad.input"] = x.grad
    for key, parameter in part.named_parameters():
        tensors[f"{name}.grad.{key_of(key).removeprefix(f'{name}.')}"] = parameter.grad
    for key, buffer in part.named_buffers():
        if not key.endswith("num_batches_tracked"):
            tensors[f"{name}.state_after.{key_of(key).removeprefix(f'{name}.')}"] = buffer
    return tensors


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    roi_align_file()
    files = {
        "segmentation_deeplab": values_of(
            "deeplab", Flat(deeplab()), (3, 3, 25, 25), DEEPLAB_NAMES
        ),
        "segmentation_pspnet": values_of("pspnet", PspNet(2, (1, 1, 2, 1)), (3, 3, 25, 33)),
        "segmentation_plain": values_of(
            "plain", Head(nn.Identity(), 6, 5, bias=True, slope=0.01), (3, 6, 5, 4)
        ),
    }
    for name, tensors in files.items():
        write(name, {key: value.float() for key, value in tensors.items()}, SCRIPT)


if __name__ == "__main__":
    main()
