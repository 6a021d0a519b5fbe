"""Writes the reference values for vehicle re-identification with PyTorch, timm and torchvision.

    python tests/golden/make_vehicles.py
    (pip install torch torchvision numpy safetensors grad-cam timm pytorch_ranger)

The backbones, attention blocks, losses and the optimizer of Liu et al., "Further Non-local and
Channel Attention Networks for Vehicle Re-identification", CVPR Workshops 2020, and what that paper
compares with. The formula, its ranges and the storage format are those of make.py in this folder.
Everything that is implemented here is computed a second time in another way, and the script stops
if the two results differ. README.md documents each file.
"""

import math
import warnings

import pytorch_ranger
import timm
import torch
import torch.nn.functional as F
import torchvision
from make import (
    INPUT,
    UNIT,
    SqueezeExcite,
    batch_hard,
    euclidean_distance,
    filled,
    formula,
    gradients_of,
    network_file,
    passes,
    states_after,
    whole_network,
    write,
)
from timm.optim.lookahead import Lookahead as TimmLookahead
from torch import nn
from torchvision import models
from torchvision.models.resnet import Bottleneck

SCRIPT = {"script": "make_vehicles.py", "used": (torch, torchvision, timm)}


def agree(found, expected, tolerance=1e-12):
    """Fails if two computations of the same values differ, relative to the largest value."""
    difference = (found - expected).abs().max()
    assert difference <= tolerance * expected.abs().max(), (difference, expected.abs().max())


def stored(name, tensors, exact=()):
    """Writes a file in float32, except integers and the tensors in `exact`."""
    narrowed = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    write(name, narrowed | dict(exact), **SCRIPT)


# ------------------------------------------------------------------------------------- networks


class InstanceBatchNorm(nn.Module):
    """Instance normalisation of the first half of the channels, batch normalisation of the rest."""

    def __init__(self, channels):
        super().__init__()
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)

    def forward(self, x):
        return torch.cat([self.IN(x[:, : self.half]), self.BN(x[:, self.half :])], 1)


class NormalisedSum(Bottleneck):
    """A bottleneck with instance normalisation between the addition and the last ReLU."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.IN = nn.InstanceNorm2d(self.conv3.out_channels, affine=True)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(self.IN(y + (x if self.downsample is None else self.downsample(x))))


def ibn_a(network):
    """IBN-Net-a: splits the channels of the first normalisation of each block in layers 1 to 3."""
    for stage in (network.layer1, network.layer2, network.layer3):
        for block in stage:
            block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    return network


def ibn_b(network):
    """IBN-Net-b: instance normalisation in the stem and at the end of layers 1 and 2."""
    network.bn1 = nn.InstanceNorm2d(64, affine=True)
    for stage in (network.layer1, network.layer2):
        last = stage[-1]
        stage[-1] = NormalisedSum(last.conv1.in_channels, last.conv1.out_channels)
    return network


def se_resnext(layers):
    """timm's copy of Cadene's network, without the dropout of 0.2 that timm adds."""
    return timm.create_model(f"legacy_seresnext{layers}_32x4d", drop_rate=0.0)


def check_networks():
    """Checks parameter counts, and instance and batch normalisation against their definitions."""
    counts = {
        "se_resnext101": (se_resnext(101), 48_955_416),
        "se_resnext50": (se_resnext(50), 27_559_896),
        "resnet101": (models.resnet101(), 44_549_160),
        "resnet50_ibn_a": (ibn_a(models.resnet50()), 25_557_032),
        "resnet50_ibn_b": (ibn_b(models.resnet50()), 25_557_032 + 2 * (256 + 512)),
        "resnet101_ibn_a": (ibn_a(models.resnet101()), 44_549_160),
    }
    for name, (network, count) in counts.items():
        assert sum(parameter.numel() for parameter in network.parameters()) == count, name
        print(f"{name}: {count} parameters")

    norm = filled(InstanceBatchNorm(6), "check.").train()
    x = formula("check.input", (3, 6, 4, 5), INPUT)
    expected = torch.empty_like(x)
    for channel in range(6):
        part, index = (norm.IN, channel) if channel < 3 else (norm.BN, channel - 3)
        for image in range(3):
            own = x[image, channel] if channel < 3 else x[:, channel]
            spread = (own.square().mean() - own.mean().square() + 1e-5).sqrt()
            scaled = (x[image, channel] - own.mean()) / spread
            expected[image, channel] = part.weight[index] * scaled + part.bias[index]
    agree(norm(x), expected)


def network_files():
    """Writes for four networks what make.py writes for resnet50, and the logits of a fifth."""
    norms = ("bn1", "layer4.2.bn3")
    networks = {
        "se_resnext101": (lambda: se_resnext(101), ("layer0.bn1", "layer4.2.bn3"), "pool0"),
        "resnet101": (models.resnet101, norms, "maxpool"),
        "ibn_a": (lambda: ibn_a(models.resnet50()), (*norms, "layer1.0.bn1.BN"), "maxpool"),
        "ibn_b": (lambda: ibn_b(models.resnet50()), ("layer1.0.bn1", norms[1]), "maxpool"),
    }
    for name, network in networks.items():
        stored(name, *whole_network(name, *network))
    network_file("se_resnext50", lambda: se_resnext(50), batch=2, stem="pool0", **SCRIPT)


# ------------------------------------------------------------------------------------ attention


class SpatialAttention(nn.Module):
    """SAB: t(z) of z_i = sum_j softmax_j(g_i . h_j) p_j, equations 1 and 2.

    "multiply": sigmoid(t(z)) * x. "add": x + t(z).
    """

    def __init__(self, channels, reduction, how):
        super().__init__()
        inner = channels // reduction
        self.g, self.h, self.p = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.t = nn.Conv2d(inner, channels, 1)
        self.how = how

    def forward(self, x):
        g, h, p = (f(x).flatten(2).transpose(1, 2) for f in (self.g, self.h, self.p))
        weights = (g @ h.transpose(1, 2)).softmax(2)  # over the keys
        y = self.t((weights @ p).transpose(1, 2).unflatten(2, x.shape[2:]))
        return torch.sigmoid(y) * x if self.how == "multiply" else x + y


class ChannelAttention(nn.Module):
    """CAB, equation 3: raw = conv3(relu(bn2(conv2(relu(bn1(conv1(x))))))), then, with SE's gate e,

    "multiply": sigmoid(raw * e(raw)) * x. "vector": e(raw) * x. "add": x + raw * e(raw).
    """

    def __init__(self, channels, hidden, groups, reduction, how):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, channels, 1, bias=False)
        self.se = SqueezeExcite(channels, reduction)
        self.how = how

    def forward(self, x):
        raw = F.relu(self.bn1(self.conv1(x)))
        raw = self.conv3(F.relu(self.bn2(self.conv2(raw))))
        if self.how == "multiply":
            return torch.sigmoid(self.se(raw)) * x
        if self.how == "add":
            return x + self.se(raw)
        pooled = raw.mean((2, 3), keepdim=True)
        return torch.sigmoid(self.se.fc2(F.relu(self.se.fc1(pooled)))) * x


class ReducedNeck(nn.Module):
    """f = relu(norm(reduction(mean_hw(x)))), g = bottleneck(f) with bias 0, classifier(g)."""

    def __init__(self, channels, dimensions, classes):
        super().__init__()
        self.reduction = nn.Linear(channels, dimensions)
        self.norm = nn.BatchNorm1d(dimensions)
        self.bottleneck = nn.BatchNorm1d(dimensions)
        self.classifier = nn.Linear(dimensions, classes, bias=False)

    def frozen(self):
        """Freezes the bias of the neck at 0."""
        self.bottleneck.bias.requires_grad_(False).zero_()
        return self

    def forward(self, x):
        f = F.relu(self.norm(self.reduction(x.mean((2, 3)))))
        g = self.bottleneck(f)
        return f, g, self.classifier(g)


def sab_by_loops(state, x, how):
    """Computes SAB from its state dict, one position at a time."""
    batch, channels, height, width = x.shape
    weight = {k: state[f"{k}.weight"][:, :, 0, 0] for k in "ghpt"}
    y = torch.empty_like(x)
    for image in range(batch):
        positions = [(r, c) for r in range(height) for c in range(width)]
        column = [x[image, :, r, c] for r, c in positions]
        g, h, p = ([weight[k] @ own + state[f"{k}.bias"] for own in column] for k in "ghp")
        for i, (r, c) in enumerate(positions):
            powers = [math.exp(torch.dot(g[i], key)) for key in h]
            z = sum(power * value for power, value in zip(powers, p, strict=True)) / sum(powers)
            t = weight["t"] @ z + state["t.bias"]
            y[image, :, r, c] = (
                column[i] / (1 + torch.exp(-t)) if how == "multiply" else column[i] + t
            )
    return y


def normalised(state, name, x):
    """Batch normalisation with the running statistics of a state dict."""
    shape = (1, -1) + (1,) * (x.dim() - 2)
    mean, variance, weight, bias = (
        state[f"{name}.{k}"].reshape(shape)
        for k in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def se_by_einsum(state, name, x):
    """Computes SE's gate from its state dict, [n, c]."""
    fc1, fc2 = state[f"{name}.fc1.weight"], state[f"{name}.fc2.weight"]
    hidden = torch.einsum("nchw,dc->nd", x, fc1[:, :, 0, 0]) / (x.shape[2] * x.shape[3])
    hidden = (hidden + state[f"{name}.fc1.bias"]).clamp(min=0)
    return torch.sigmoid(
        torch.einsum("nd,cd->nc", hidden, fc2[:, :, 0, 0]) + state[f"{name}.fc2.bias"]
    )


def grouped(weight, x, groups):
    """A 3x3 convolution with padding 1 as nine shifted products, one group at a time."""
    padded, (height, width) = F.pad(x, (1, 1, 1, 1)), x.shape[2:]
    outputs = []
    for own, kernel in zip(padded.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        outputs.append(
            sum(
                torch.einsum(
                    "nchw,dc->ndhw", own[:, :, r : r + height, c : c + width], kernel[:, :, r, c]
                )
                for r in range(3)
                for c in range(3)
            )
        )
    return torch.cat(outputs, 1)


def pointwise(state, name, x):
    """A 1x1 convolution without bias."""
    return torch.einsum("nchw,dc->ndhw", x, state[f"{name}.weight"][:, :, 0, 0])


def cab_by_einsum(state, x, groups, how):
    """Computes CAB in evaluation from its state dict."""
    raw = normalised(state, "bn1", pointwise(state, "conv1", x)).clamp(min=0)
    raw = normalised(state, "bn2", grouped(state["conv2.weight"], raw, groups)).clamp(min=0)
    raw = pointwise(state, "conv3", raw)
    gate = se_by_einsum(state, "se", raw)
    if how == "vector":
        return torch.einsum("nc,nchw->nchw", gate, x)
    product = torch.einsum("nc,nchw->nchw", gate, raw)
    return x / (1 + torch.exp(-product)) if how == "multiply" else x + product


def neck_by_einsum(state, x):
    """Computes the head in evaluation from its state dict: f, g and the logits."""
    pooled = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    f = torch.einsum("nc,dc->nd", pooled, state["reduction.weight"]) + state["reduction.bias"]
    f = normalised(state, "norm", f).clamp(min=0)
    g = normalised(state, "bottleneck", f)
    return f, g, torch.einsum("nd,kd->nk", g, state["classifier.weight"])


def buffers_after(name, part):
    """Every running mean and variance of a part."""
    return {
        f"{name}.state_after.{key}": buffer.clone()
        for key, buffer in part.named_buffers()
        if not key.endswith("num_batches_tracked")
    }


def attention_file():
    """Writes outputs, gradients and statistics of SAB, CAB and the head, inputs [4, 16, 4, 3]."""
    size, groups = (4, 16, 4, 3), 4
    sab = {"sab": "multiply", "sab_add": "add"}
    cab = {"cab": "multiply", "cab_vector": "vector", "cab_add": "add"}
    tensors = {}
    for name, how in (sab | cab).items():
        if name in sab:
            part = filled(SpatialAttention(16, 2, how), f"{name}.")
        else:
            part = filled(ChannelAttention(16, 8, groups, 4, how), f"{name}.")
        x = formula(f"{name}.input", size, INPUT).requires_grad_()
        with torch.no_grad():
            state = part.state_dict()
            if name in sab:
                agree(part.eval()(x), sab_by_loops(state, x, how))
            else:
                agree(part.eval()(x), cab_by_einsum(state, x, groups, how))
        tensors |= passes(name, part, x) | buffers_after(name, part)

    name = "reduced_neck"
    part = filled(ReducedNeck(16, 6, 5), f"{name}.")
    with torch.no_grad():
        part.frozen()
    x = formula(f"{name}.input", size, INPUT).requires_grad_()
    with torch.no_grad():
        again = neck_by_einsum(part.state_dict(), x)
        for found, expected in zip(part.eval()(x), again, strict=True):
            agree(found, expected)
    kinds = ("features", "embedding", "logits")
    for mode in ("eval", "train"):
        outputs = dict(zip(kinds, part.train(mode == "train")(x), strict=True))
        tensors |= {f"{name}.{kind}.{mode}": value for kind, value in outputs.items()}
    loss = 0
    for kind in ("features", "logits"):
        key = f"{name}.grad_{kind}"
        tensors[key] = formula(key, outputs[kind].shape, UNIT)
        loss = loss + (outputs[kind] * tensors[key]).sum()
    loss.backward()
    tensors[f"{name}.grad.input"] = x.grad
    for key, parameter in part.named_parameters():
        if parameter.requires_grad:
            tensors[f"{name}.grad.{key}"] = parameter.grad
    stored("further_attention", tensors | buffers_after(name, part))


# ------------------------------------------------------------------------------------------ FNC


class SeBottleneck(nn.Module):
    """relu(se_module(conv-bn-relu, conv-bn-relu, conv-bn) + shortcut), as in SE-ResNeXt."""

    def __init__(self, inputs, planes, groups, reduction):
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se_module = SqueezeExcite(outputs, reduction)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.se_module(self.bn3(self.conv3(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Stages(nn.Module):
    """The late stages after the split: the rest of layer 3, and layer 4 with stride 1."""

    def __init__(self, groups, reduction):
        super().__init__()
        self.stages = nn.Sequential(
            nn.Sequential(SeBottleneck(64, 16, groups, reduction)),
            nn.Sequential(
                SeBottleneck(64, 32, groups, reduction), SeBottleneck(128, 32, groups, reduction)
            ),
        )

    def forward(self, x):
        return self.stages(x)


class Branch(nn.Module):
    def __init__(self, attention, dimensions, classes):
        super().__init__()
        self.block = nn.Sequential(Stages(4, 16), attention)
        self.head = ReducedNeck(128, dimensions, classes)

    def forward(self, x):
        return self.head(self.block(x))


class Further(nn.Module):
    """The two branches of FNC on one feature map, each with its own late stages."""

    def __init__(self, dimensions, classes):
        super().__init__()
        self.spatial = Branch(SpatialAttention(128, 2, "multiply"), dimensions[0], classes)
        self.channel = Branch(ChannelAttention(128, 32, 8, 16, "multiply"), dimensions[1], classes)

    def forward(self, x):
        return {"spatial": self.spatial(x), "channel": self.channel(x)}


def below(state, prefix):
    """The entries of a state dict under a prefix, without the prefix."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def embedding_by_einsum(state, x):
    """Computes FNC's embedding in evaluation from its state dict."""
    parts = []
    for name in ("spatial", "channel"):
        y = x
        for path in ("0.0", "1.0", "1.1"):
            own = below(state, f"{name}.block.0.stages.{path}.")
            z = normalised(own, "bn1", pointwise(own, "conv1", y)).clamp(min=0)
            z = normalised(own, "bn2", grouped(own["conv2.weight"], z, 4)).clamp(min=0)
            z = normalised(own, "bn3", pointwise(own, "conv3", z))
            z = torch.einsum("nc,nchw->nchw", se_by_einsum(own, "se_module", z), z)
            if "downsample.0.weight" in own:
                y = normalised(own, "downsample.1", pointwise(own, "downsample.0", y))
            y = (z + y).clamp(min=0)
        own = below(state, f"{name}.block.1.")
        if name == "spatial":
            y = sab_by_loops(own, y, "multiply")
        else:
            y = cab_by_einsum(own, y, 8, "multiply")
        parts.append(neck_by_einsum(below(state, f"{name}.head."), y)[1])
    return torch.cat(parts, 1)


def smoothed_cross_entropy(logits, labels, eps):
    """Equations 4 and 5 with N the number of classes: (1 - eps) onehot + eps / K; batch mean."""
    classes = logits.shape[1]
    terms = []
    for row, label in zip(logits, labels, strict=True):
        logarithms = row - torch.logsumexp(row, 0)
        for k in range(classes):
            q = 1 - (classes - 1) / classes * eps if k == label else eps / classes
            terms.append(-q * logarithms[k])
    return torch.stack(terms).sum() / len(labels)


def loss_of(network, x, labels, weight=2):
    """Equation 7 in training mode: its terms, and the outputs of the branches."""
    outputs = network.train()(x)
    terms = {}
    for name, (f, _, logits) in outputs.items():
        terms[f"loss.identity.{name}"] = smoothed_cross_entropy(logits, labels, 0.1)
        terms[f"loss.triplet.{name}"] = batch_hard(
            f, labels, euclidean_distance, lambda gap: F.relu(gap + 0.3), "sum"
        )
    identity = terms["loss.identity.spatial"] + terms["loss.identity.channel"]
    triplet = terms["loss.triplet.spatial"] + terms["loss.triplet.channel"]
    return terms | {"loss.total": weight * identity + triplet}, outputs


def check_losses(terms, outputs, labels):
    """Checks the losses with PyTorch's functions and distance matrices."""
    labels = torch.tensor(labels)
    same = labels[:, None] == labels[None]
    total = 0
    for name, (f, _, logits) in outputs.items():
        identity = F.cross_entropy(logits, labels, label_smoothing=0.1)
        agree(terms[f"loss.identity.{name}"], identity)
        distances = torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist")
        farthest = distances.masked_fill(~same, -math.inf).amax(1)
        nearest, second = distances.masked_fill(same, math.inf).sort(1).values[:, :2].T
        gaps = 0.3 + farthest - nearest
        triplet = gaps.clamp(min=0).sum()
        agree(terms[f"loss.triplet.{name}"], triplet)
        total = total + 2 * identity + triplet
        print(f"fnc {name}: {int((gaps > 0).sum())} of {len(gaps)} anchors above the margin")
        # Rounding must not move an anchor across the margin, nor change its nearest negative.
        assert gaps.abs().min() > 1e-3 and (second - nearest).min() > 1e-3
    agree(terms["loss.total"], total)


def check_direction(build, x, labels, exact, step=1e-6):
    """Checks that the products with the probes sum to the slope of the loss along all probes."""
    losses = []
    for sign in (1, -1):
        network = build()
        with torch.no_grad():
            for key, parameter in network.named_parameters():
                if parameter.requires_grad:
                    probe = formula(f"probe.{key}", parameter.shape, UNIT)
                    parameter.add_(sign * step * probe)
            losses.append(loss_of(network, x, labels)[0]["loss.total"])
    slope = (losses[0] - losses[1]) / (2 * step)
    agree(sum(value[1] for value in exact.values()), slope, 1e-4)


def fnc_file():
    """Writes one evaluation and the gradients of one training step of the whole head."""
    labels = [0, 0, 1, 1, 2, 2, 3, 3]

    def build():
        network = filled(Further((24, 12), 5), "fnc.")
        with torch.no_grad():
            network.spatial.head.frozen()
            network.channel.head.frozen()
        return network

    network = build()
    x = formula("fnc.input", (8, 64, 6, 4), INPUT).requires_grad_()
    tensors = {"labels": torch.tensor(labels)}
    with torch.no_grad():
        embeddings = [g for _, g, _ in network.eval()(x).values()]
        tensors["eval.descriptor"] = torch.cat(embeddings, 1)
        agree(tensors["eval.descriptor"], embedding_by_einsum(network.state_dict(), x))
    terms, outputs = loss_of(network, x, labels)
    check_losses(terms, outputs, labels)
    terms["loss.total"].backward()
    for name, (f, _, logits) in outputs.items():
        tensors |= {f"train.features.{name}": f, f"train.logits.{name}": logits}
    tensors["grad.input"] = x.grad
    norms = ("spatial.block.0.stages.1.1.bn3", "channel.block.1.bn2", "channel.head.bottleneck")
    tensors |= states_after(network, norms)
    whole, exact = gradients_of(network)
    check_direction(build, x.detach(), labels, exact)
    exact |= {key: value.reshape(1) for key, value in terms.items()}
    stored("fnc", tensors | whole, exact)


# ---------------------------------------------------------------------------------- stripe head


class Part(nn.Module):
    """f = relu(norm(reduction(max_hw(x)))), classifier(f): one part of MGN, Wang et al. 2018."""

    def __init__(self, channels, dimensions, classes):
        super().__init__()
        self.reduction = nn.Linear(channels, dimensions, bias=False)
        self.norm = nn.BatchNorm1d(dimensions)
        self.classifier = nn.Linear(dimensions, classes)

    def forward(self, x):
        f = F.relu(self.norm(self.reduction(x.amax((2, 3)))))
        return f, self.classifier(f)


class Stripes(nn.Module):
    """Parts for the whole feature map, and for its horizontal stripes from top to bottom."""

    def __init__(self, channels, dimensions, classes, stripes):
        super().__init__()
        self.whole = Part(channels, dimensions, classes)
        self.stripes = nn.ModuleList(Part(channels, dimensions, classes) for _ in range(stripes))

    def forward(self, x):
        rows = x.chunk(len(self.stripes), 2)
        outputs = {"whole": self.whole(x)}
        for i, (part, own) in enumerate(zip(self.stripes, rows, strict=True)):
            outputs[f"stripes.{i}"] = part(own)
        return outputs


def stripe_head_file():
    """Writes features, logits and gradients of the whole map and three stripes."""
    head = filled(Stripes(16, 6, 5, 3), "granules.")
    x = formula("granules.input", (4, 16, 6, 3), INPUT).requires_grad_()
    tensors, state = {}, head.state_dict()
    for mode in ("eval", "train"):
        outputs = head.train(mode == "train")(x)
        for name, (f, logits) in outputs.items():
            tensors |= {f"{name}.features.{mode}": f, f"{name}.logits.{mode}": logits}
            if mode == "eval":
                own, top = below(state, f"{name}."), 2 * int(name[-1]) if name != "whole" else 0
                bottom = top + 2 if name != "whole" else 6
                largest = x.detach()[:, :, top:bottom].reshape(4, 16, -1).sort(2).values[:, :, -1]
                y = torch.einsum("nc,dc->nd", largest, own["reduction.weight"])
                y = normalised(own, "norm", y).clamp(min=0)
                agree(f.detach(), y)
                y = torch.einsum("nd,kd->nk", y, own["classifier.weight"])
                agree(logits.detach(), y + own["classifier.bias"])
    loss = 0
    for name, values in outputs.items():
        for kind, value in zip(("features", "logits"), values, strict=True):
            key = f"{name}.grad_{kind}"
            tensors[key] = formula(f"granules.{key}", value.shape, UNIT)
            loss = loss + (value * tensors[key]).sum()
    loss.backward()
    tensors["grad.input"] = x.grad
    tensors |= {f"grad.{key}": parameter.grad for key, parameter in head.named_parameters()}
    for key, value in buffers_after("", head).items():
        tensors[key.removeprefix(".")] = value
    stored("granules", tensors)


# ----------------------------------------------------------------------------------- optimizers

STEPS = (1, 2, 5, 6, 7, 12, 50, 200)
SMALL = 2.0**-14  # brings the gradients near eps, so that its value and use in the formula matter


def walk(stepper, scale):
    """The parameters after each of STEPS with the given gradients."""
    parameters = formula("optim.parameter", (7,), UNIT)
    step, found = stepper(parameters), {}
    for t in range(1, max(STEPS) + 1):
        parameters = step(t, scale * formula(f"optim.grad.{t}", (7,), UNIT))
        if t in STEPS:
            found[t] = parameters.detach().double().clone()
    return found


def torch_rule(rule, dtype=torch.float64, before=None):
    """Steps of an optimizer with PyTorch's interface."""

    def stepper(start):
        parameter = nn.Parameter(start.to(dtype).clone())
        optimizer = rule([parameter])

        def step(t, gradient):
            parameter.grad = gradient.to(dtype)
            if t == 1 and before is not None:
                before(optimizer)
            optimizer.step()
            return parameter

        return step

    return stepper


def rectified(rate, betas, eps, decay, coupled=False):
    """RAdam as in Ranger: rectified if N_sma > 5, weight decay decoupled unless `coupled`."""
    first, second = betas

    def stepper(start):
        state = {"p": start.clone(), "m": torch.zeros(7).double(), "v": torch.zeros(7).double()}

        def step(t, gradient, p=None):
            p = state["p"] if p is None else p
            gradient = gradient + decay * p if coupled else gradient
            state["m"] = first * state["m"] + (1 - first) * gradient
            state["v"] = second * state["v"] + (1 - second) * gradient**2
            longest = 2 / (1 - second) - 1
            length = longest - 2 * t * second**t / (1 - second**t)
            p = p if coupled else p - decay * rate * p
            if length > 5:
                rectification = math.sqrt(
                    (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
                )
                size = rate * rectification * math.sqrt(1 - second**t) / (1 - first**t)
                p = p - size * state["m"] / (state["v"].sqrt() + eps)
            else:
                p = p - rate / (1 - first**t) * state["m"]
            state["p"] = p
            return p

        return step

    return stepper


def momentum(rate, factor):
    """SGD with momentum; the first velocity is the first gradient."""

    def stepper(start):
        state = {"p": start.clone(), "velocity": torch.zeros(7).double()}

        def step(_t, gradient, p=None):
            p = state["p"] if p is None else p
            state["velocity"] = factor * state["velocity"] + gradient
            state["p"] = p - rate * state["velocity"]
            return state["p"]

        return step

    return stepper


def looking_ahead(inner, alpha=0.5, k=6):
    """Zhang et al. 2019: after every k-th step both weights are slow + alpha (fast - slow)."""

    def stepper(start):
        step_inner = inner(start)
        state = {"slow": start.clone(), "fast": start.clone()}

        def step(t, gradient):
            state["fast"] = step_inner(t, gradient, state["fast"])
            if t % k == 0:
                state["slow"] = state["slow"] + alpha * (state["fast"] - state["slow"])
                state["fast"] = state["slow"].clone()
            return state["fast"]

        return step

    return stepper


def ranger_file():
    """Writes RAdam, Lookahead and Ranger, each checked with a published implementation."""
    rate, betas, eps, decay = 0.01, (0.95, 0.999), 1e-5, 5e-4
    radam = torch.optim.RAdam
    ranger = pytorch_ranger.Ranger

    def published(weight_decay):
        return torch_rule(
            lambda p: ranger(p, lr=rate, weight_decay=weight_decay), dtype=torch.float32
        )

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)

    def own(weight_decay):
        return looking_ahead(rectified(rate, betas, eps, weight_decay))

    def decoupled(parameters):
        return radam(parameters, rate, betas, eps, weight_decay=decay, decoupled_weight_decay=True)

    # The stored implementation, the other implementation, and the scale of the gradients.
    theirs = (0.9, 0.999), 1e-8  # PyTorch's defaults
    rules = {
        "radam": (torch_rule(lambda p: radam(p, rate)), rectified(rate, *theirs, 0), 1),
        "radam_coupled": (
            torch_rule(lambda p: radam(p, rate, weight_decay=decay)),
            rectified(rate, *theirs, decay, coupled=True),
            1,
        ),
        "radam_decoupled": (rectified(rate, betas, eps, decay), torch_rule(decoupled), 1),
        "lookahead_sgd": (
            looking_ahead(momentum(0.1, 0.9)),
            # timm copies the slow weights at `sync_lookahead`, or otherwise only after k steps.
            torch_rule(lambda p: TimmLookahead(sgd(p)), before=TimmLookahead.sync_lookahead),
            1,
        ),
        "ranger": (own(0), published(0), 1),
        "ranger_decay": (own(decay), published(decay), 1),
        "ranger_small": (own(0), published(0), SMALL),
    }
    tensors = {"parameter": formula("optim.parameter", (7,), UNIT)}
    for name, (rule, other, scale) in rules.items():
        found = walk(rule, scale)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pytorch_ranger uses deprecated calls of PyTorch 1.4
            expected = walk(other, scale)
        worst = max((found[t] - expected[t]).abs().max().item() for t in STEPS)
        print(f"{name}: differs by at most {worst:.1e} from the other implementation")
        for t in STEPS:  # pytorch_ranger computes in float32
            agree(expected[t], found[t], 1e-6 if name.startswith("ranger") else 1e-12)
        tensors |= {f"{name}.{t}": value for t, value in found.items()}
    stored("ranger", tensors)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    attention_file()
    fnc_file()
    stripe_head_file()
    ranger_file()
    check_networks()
    network_files()


if __name__ == "__main__":
    main()
