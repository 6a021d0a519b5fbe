"""Writes the reference values of the parity tests with PyTorch and torchvision, on the CPU.

    python tests/golden/make.py        (pip install torch torchvision numpy safetensors grad-cam)

Everything is computed in float64 from weights and inputs that are exact in float32, so that the
reference does not depend on the kernels of the machine. It is stored in float32 unless README.md
says otherwise.

THE FORMULA. The weights of ResNet-50 are too large to commit, so Python and Rust both compute
weights and inputs by this formula. A tensor has a name (the name of a parameter is its state-dict
key) and a range [a, b). Its element with flat row-major index i = 0, 1, 2, ... is, in integers
modulo 2^64,

    mix(n):  n = n + 0x9e3779b97f4a7c15
             n = (n xor (n >> 30)) * 0xbf58476d1ce4e5b9
             n = (n xor (n >> 27)) * 0x94d049bb133111eb
             return n xor (n >> 31)                               (SplitMix64)
    hash:    h = 0xcbf29ce484222325; for each byte of the UTF-8 name:
             h = (h xor byte) * 0x100000001b3                     (FNV-1a)
    x = mix(h xor mix(i))
    u = (x >> 40) / 2^24                                          in [0, 1), exact in float32
    value = float32(a + (b - a) * u)          a, b, b - a, the product and the sum in float64,
                                              each rounded once, no fused multiply-add

For example, input[0] = -1.43878675, input[1] = -1.75744224 and input[24575] = 0.50602436.

RANGES, by what the tensor is:

    weight of rank 2 or more (convolution, linear)   [-s, s), s = sqrt(3 / fan_in), where
                                                     fan_in = elements / first dimension
    weight of rank 1 (batch normalisation)           [0.5, 1.5), but [0.1, 0.3) for the last one of
                                                     a residual branch: bn3, or bn2 where the block
                                                     has no bn3 (downsample.1 is not in the branch)
    bias beside a weight of rank 1                   [-0.2, 0.2)
    bias beside a weight of rank 2 or more           [-0.1, 0.1)
    running_mean                                     [-0.2, 0.2)
    running_var                                      [0.5, 1.5)
    num_batches_tracked                              0
    input, features, centers and logits              [-2, 2)
    everything else (grad_output, probe.*, optim.*)  [-1, 1)

s keeps the activations of a 50-layer ResNet near 1 in evaluation mode.
"""

import copy
import functools
import math
from pathlib import Path

import numpy as np
import pytorch_grad_cam
import torch
import torch.nn.functional as F
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import save
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck

FOLDER = Path(__file__).resolve().parent
UNIT = (-1.0, 1.0)
INPUT = (-2.0, 2.0)
WHOLE_GRADIENT = 64  # gradients with at most this number of elements are stored in full


# ---------------------------------------------------------------------------------- the formula


def mix(n):
    """SplitMix64's output function on an array of uint64, with wrapping arithmetic."""
    n = n + np.uint64(0x9E3779B97F4A7C15)
    n = (n ^ (n >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    n = (n ^ (n >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return n ^ (n >> np.uint64(31))


def fnv1a(name):
    """The 64-bit FNV-1a hash of a name."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return np.uint64(h)


def formula(name, shape, bounds):
    """Computes the tensor `name`: float32 values, stored as float64."""
    low, high = bounds
    index = np.arange(math.prod(shape), dtype=np.uint64)
    u = (mix(fnv1a(name) ^ mix(index)) >> np.uint64(40)).astype(np.float64) / 2.0**24
    values = (low + (high - low) * u).astype(np.float32).reshape(shape)
    return torch.from_numpy(values).double()


def bounds_of(key, state):
    """The range of the parameter or buffer `key`, by the table above."""
    owner, _, kind = key.rpartition(".")
    if kind == "running_mean":
        return (-0.2, 0.2)
    if kind == "running_var":
        return (0.5, 1.5)
    weight = state[f"{owner}.weight"]
    if weight.dim() > 1:
        bound = math.sqrt(3.0 / (weight.numel() // weight.shape[0]))
        return (-bound, bound) if kind == "weight" else (-0.1, 0.1)
    if kind == "bias":
        return (-0.2, 0.2)
    block, _, name = owner.rpartition(".")
    closes_branch = name == "bn3" or name == "bn2" and f"{block}.bn3.weight" not in state
    return (0.1, 0.3) if closes_branch else (0.5, 1.5)


def filled(module, prefix=""):
    """Fills every tensor of a module by the formula, in float64; GeM's exponent keeps its value."""
    module = module.double()
    state = {prefix + key: tensor for key, tensor in module.state_dict().items()}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            tensor.zero_()
        elif not key.endswith(".p"):
            tensor.copy_(formula(key, tensor.shape, bounds_of(key, state)))
    return module


# ------------------------------------------------------------------------------------- networks


def last_stride_one(network):
    """Sets the stride of layer 4 to 1, in both paths of its first block."""
    network.layer4[0].conv2.stride = (1, 1)
    network.layer4[0].downsample[0].stride = (1, 1)
    return network


def logits_of(build, batch, stem="maxpool"):
    """Logits in both modes, the network after the training pass, and stage means and norms.

    `stem` is the name of the module whose output is the input of layer 1.
    """
    network = filled(build())
    images = formula("input", (batch, 3, 64, 32), INPUT)
    stages = {}

    def watch(name, stage):
        def summarise(_module, _inputs, output):
            stages[f"eval.{name}"] = torch.stack([output.mean(), output.norm()])

        return stage.register_forward_hook(summarise)

    hooks = [watch("stem", network.get_submodule(stem))]
    hooks += [watch(f"layer{i}", network.get_submodule(f"layer{i}")) for i in range(1, 5)]
    with torch.no_grad():
        values = {"eval.logits": network.eval()(images)}
    for hook in hooks:
        hook.remove()
    values["train.logits"] = network.train()(images)
    return values, network, stages


def print_rounding(name, build, values, batch):
    """Prints how far PyTorch's own float32 logits are from the reference, over the largest."""
    network = filled(build()).float()
    images = formula("input", (batch, 3, 64, 32), INPUT).float()
    for mode in ("eval", "train"):
        with torch.no_grad():
            logits = network.train(mode == "train")(images).double()
        reference = values[f"{mode}.logits"].detach()
        error = (logits - reference).abs().max() / reference.abs().max()
        print(
            f"{name} {mode}: largest logit {reference.abs().max():.3f}, float32 error {error:.1e}"
        )


def network_file(name, build, batch, stem="maxpool", **script):
    """Writes the logits of one network."""
    values, _, _ = logits_of(build, batch, stem)
    print_rounding(name, build, values, batch)
    write(name, {key: value.float() for key, value in values.items()}, **script)


def gradients_of(network):
    """Small gradients in full; of each gradient its norm and dot product with the probe."""
    whole, exact = {}, {}
    for key, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        gradient = parameter.grad
        probe = formula(f"probe.{key}", gradient.shape, UNIT)
        exact[f"grad64.{key}"] = torch.stack([gradient.norm(), (gradient * probe).sum()])
        if gradient.numel() <= WHOLE_GRADIENT:
            whole[f"grad.{key}"] = gradient
    return whole, exact


def states_after(network, layers):
    """The running statistics of these layers."""
    state = network.state_dict()
    return {
        f"state_after.{layer}.{kind}": state[f"{layer}.{kind}"]
        for layer in layers
        for kind in ("running_mean", "running_var")
    }


def whole_network(name, build, layers, stem="maxpool"):
    """Logits, running statistics and gradients on a batch of 4; then the values kept in float64."""
    batch = 4
    values, network, stages = logits_of(build, batch, stem)
    print_rounding(name, build, values, batch)
    tensors = values | states_after(network, layers)
    (values["train.logits"] * formula("grad_output", (batch, 1000), UNIT)).sum().backward()
    whole, exact = gradients_of(network)
    return tensors | whole, stages | exact


def resnet50_file():
    """Writes logits, stage means and norms, running statistics, and gradients of ResNet-50."""
    tensors, exact = whole_network("resnet50", models.resnet50, ("bn1", "layer4.2.bn3"))
    tensors["input"] = formula("input", (4, 3, 64, 32), INPUT)
    write("resnet50", {key: value.float() for key, value in tensors.items()} | exact)


# --------------------------------------------------------------------------------------- blocks


class SqueezeExcite(nn.Module):
    """x * sigmoid(fc2(relu(fc1(mean_hw(x))))), Hu et al. 2018; fc1 and fc2 are 1x1 convolutions."""

    def __init__(self, channels, reduction):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x):
        gate = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class GeM(nn.Module):
    """mean_hw(max(x, eps)^p)^(1/p), Radenovic et al. 2018; [n, c, h, w] -> [n, c]."""

    def __init__(self, p=3.0, eps=1e-6):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))
        self.eps = eps

    def forward(self, x):
        return x.clamp(min=self.eps).pow(self.p).mean((2, 3)).pow(1 / self.p)


class BnNeck(nn.Module):
    """classifier(bn(mean_hw(x))), Luo et al. 2019; the output is the logits."""

    def __init__(self, channels, classes):
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)
        self.classifier = nn.Linear(channels, classes, bias=False)

    def features(self, x):
        return x.mean((2, 3))

    def forward(self, x):
        return self.classifier(self.bn(self.features(x)))


def shortcut(inputs, outputs):
    """The downsample path of a strided block."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
    )


def passes(name, part, x):
    """The outputs in both modes, and the gradients of the training pass."""
    tensors = {f"{name}.output.eval": part.eval()(x)}
    output = part.train()(x)
    grad_output = formula(f"{name}.grad_output", output.shape, UNIT)
    output.backward(grad_output)
    tensors |= {f"{name}.output.train": output, f"{name}.grad_output": grad_output}
    tensors[f"{name}.grad.input"] = x.grad
    trained = (item for item in part.named_parameters() if item[1].requires_grad)
    return tensors | {f"{name}.grad.{key}": p.grad for key, p in trained}


def block_file():
    """Writes outputs and gradients of the parts, for inputs of [4, channels, 8, 4]."""
    parts = {
        "basic": (BasicBlock(8, 16, 2, shortcut(8, 16)), 8),
        "bottleneck": (Bottleneck(16, 8, 2, shortcut(16, 32)), 16),
        "se": (SqueezeExcite(16, 4), 16),
        "gem": (GeM(), 16),
        "bnneck": (BnNeck(16, 5), 16),
    }
    tensors = {}
    for name, (part, channels) in parts.items():
        part = filled(part, f"{name}.")
        x = formula(f"{name}.input", (4, channels, 8, 4), INPUT).requires_grad_()
        if name == "bnneck":
            tensors["bnneck.features"] = part.eval().features(x)
            tensors["bnneck.embedding.eval"] = part.bn(part.features(x))
        tensors |= passes(name, part, x)
    write("blocks", {key: value.float() for key, value in tensors.items()})


# ------------------------------------------------------------------------------------ attention


def embedding(inputs, outputs, bias=False):
    """A 1x1 convolution and its batch normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=bias), nn.BatchNorm2d(outputs))


class Gated(nn.Module):
    """x * gate(x), the gate broadcast over the dimensions in which it has size 1."""

    def forward(self, x):
        return x * self.gate(x)


class CbamChannel(Gated):
    """sigmoid(mlp(mean_hw(x)) + mlp(max_hw(x))), Woo et al. 2018, equation 2; one shared mlp."""

    def __init__(self, channels, reduction):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def gate(self, x):
        pooled = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return torch.sigmoid(sum(self.fc2(F.relu(self.fc1(p))) for p in pooled))


class CbamSpatial(Gated):
    """sigmoid(norm(conv7x7([mean_c(x), max_c(x)]))), Woo et al. 2018, equation 3; norm or bias."""

    def __init__(self, normalised):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=not normalised)
        self.norm = nn.BatchNorm2d(1) if normalised else nn.Identity()

    def gate(self, x):
        maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.norm(self.conv(maps)))


class FullyConnectedChannel(Gated):
    """sigmoid(fc(mean_hw(relu(embed(x))))), the FC-C that Zhang et al. 2019 compare with."""

    def __init__(self, channels, reduction):
        super().__init__()
        self.embed = embedding(channels, channels // reduction)
        self.fc = nn.Linear(channels // reduction, channels)

    def gate(self, x):
        pooled = F.relu(self.embed(x)).mean((2, 3))
        return torch.sigmoid(self.fc(pooled))[:, :, None, None]


class FullyConnectedSpatial(Gated):
    """sigmoid(fc2(relu(fc1(mean_c(relu(embed(x))))))) over positions, their FC-S."""

    def __init__(self, channels, positions, reduction):
        super().__init__()
        self.embed = embedding(channels, channels // reduction)
        self.fc1 = nn.Linear(positions, positions // reduction)
        self.fc2 = nn.Linear(positions // reduction, positions)

    def gate(self, x):
        batch, _, height, width = x.shape
        pooled = F.relu(self.embed(x)).mean(1).reshape(batch, height * width)
        values = torch.sigmoid(self.fc2(F.relu(self.fc1(pooled))))
        return values.reshape(batch, 1, height, width)


class NonLocal(nn.Module):
    """x_i + w(sum_j f(x_i, x_j) g(x_j)), Wang et al. 2018.

    f is softmax_j(theta_i . phi_j), the embedded Gaussian, or theta_i . phi_j / N, the dot product.
    """

    def __init__(self, channels, inner, gaussian):
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.w = embedding(inner, channels, bias=True)
        self.gaussian = gaussian

    def forward(self, x):
        theta, phi, g = (f(x).flatten(2) for f in (self.theta, self.phi, self.g))
        similarity = torch.einsum("bdi,bdj->bij", theta, phi)
        weights = similarity.softmax(2) if self.gaussian else similarity / similarity.shape[2]
        z = torch.einsum("bij,bdj->bdi", weights, g)
        return x + self.w(z.unflatten(2, x.shape[2:]))


class Nodes(nn.Module):
    """Attention of N nodes, Zhang et al. 2019; [b, features, N, 1] -> [b, 1, N, 1].

    w2(relu(w1(y_p))) with y_p the visual term pool_c(psi(x_p)), then the relation term
    varphi([R[p, :], R[:, p]]), where R_ij = theta(x_i) . phi(x_j); equations 1 to 3.
    """

    def __init__(self, features, nodes, terms, s1=4, s2=4):
        super().__init__()
        inner, kept = max(features // s1, 1), max(nodes // s1, 1)
        self.relation, self.visual = terms != "visual", terms != "relation"
        if self.relation:
            self.theta, self.phi = embedding(features, inner), embedding(features, inner)
            self.varphi = embedding(2 * nodes, kept)
        if self.visual:
            self.psi = embedding(features, inner)
        seen = self.visual + kept * self.relation
        hidden = max(seen // s2, 1)
        self.w1, self.w2 = embedding(seen, hidden), embedding(hidden, 1)

    def relations(self, x):
        theta, phi = (F.relu(f(x)).squeeze(3) for f in (self.theta, self.phi))
        r = torch.einsum("bdi,bdj->bij", theta, phi)
        # Channels k and N + k of node p are R[p, k] and R[k, p].
        pairs = torch.cat([r.transpose(1, 2), r], 1).unsqueeze(3)
        return F.relu(self.varphi(pairs))

    def forward(self, x):
        terms = []
        if self.visual:
            terms.append(F.relu(self.psi(x)).mean(1, keepdim=True))
        if self.relation:
            terms.append(self.relations(x))
        return torch.sigmoid(self.w2(F.relu(self.w1(torch.cat(terms, 1)))))


class RgaSpatial(Gated):
    """RGA-S: the nodes are the positions, row by row, and their features the channels."""

    def __init__(self, channels, positions, terms="both"):
        super().__init__()
        self.nodes = Nodes(channels, positions, terms)

    def gate(self, x):
        batch, _, height, width = x.shape
        return self.nodes(x.flatten(2).unsqueeze(3)).reshape(batch, 1, height, width)


class RgaChannel(Gated):
    """RGA-C: the nodes are the channels, and their features the positions, row by row."""

    def __init__(self, channels, positions, terms="both"):
        super().__init__()
        self.nodes = Nodes(positions, channels, terms)

    def gate(self, x):
        batch, channels, _, _ = x.shape
        return self.nodes(x.flatten(2).transpose(1, 2).unsqueeze(3)).reshape(batch, channels, 1, 1)


class Parallel(Gated):
    """Two gates of the same x, multiplied or averaged."""

    def __init__(self, gates, mean):
        super().__init__()
        self.gates = nn.ModuleList(gates)
        self.mean = mean

    def gate(self, x):
        first, second = (gated.gate(x) for gated in self.gates)
        return (first + second) / 2 if self.mean else first * second


def attention_file():
    """Writes outputs, gradients and running statistics of attention blocks, for [4, 16, 4, 3]."""
    size = channels, positions = 16, 12
    parts = {
        "cbam_channel": CbamChannel(channels, 4),
        "cbam_spatial": CbamSpatial(normalised=True),
        "cbam_spatial_plain": CbamSpatial(normalised=False),
        "fc_channel": FullyConnectedChannel(channels, 4),
        "fc_spatial": FullyConnectedSpatial(channels, positions, 4),
        "non_local_gaussian": NonLocal(channels, 8, gaussian=True),
        "non_local_dot": NonLocal(channels, 8, gaussian=False),
        "rga_spatial": RgaSpatial(*size),
        "rga_channel": RgaChannel(*size),
        "rga_spatial_relation": RgaSpatial(*size, "relation"),
        "rga_spatial_visual": RgaSpatial(*size, "visual"),
        "rga_channel_relation": RgaChannel(*size, "relation"),
        "rga_channel_visual": RgaChannel(*size, "visual"),
        "rga_spatial_channel": nn.Sequential(RgaSpatial(*size), RgaChannel(*size)),
        "rga_channel_spatial": nn.Sequential(RgaChannel(*size), RgaSpatial(*size)),
        "rga_parallel_product": Parallel([RgaSpatial(*size), RgaChannel(*size)], mean=False),
        "rga_parallel_mean": Parallel([RgaSpatial(*size), RgaChannel(*size)], mean=True),
    }
    tensors = {}
    for name, part in parts.items():
        part = filled(part, f"{name}.")
        x = formula(f"{name}.input", (4, channels, 4, 3), INPUT).requires_grad_()
        tensors |= passes(name, part, x)
        for key, buffer in part.named_buffers():
            if not key.endswith("num_batches_tracked"):
                tensors[f"{name}.state_after.{key}"] = buffer
    write("attention", {key: value.float() for key, value in tensors.items()})


# ----------------------------------------------------------------------------------- optimizers


def optimizer_file():
    """Writes seven parameters after 1, 2, 10 and 50 steps with given gradients."""
    rules = {
        "adam": lambda p: torch.optim.Adam(
            p, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=5e-4
        ),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0, weight_decay=1e-4),
        "sgd_nesterov": lambda p: torch.optim.SGD(
            p, lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True
        ),
    }
    tensors = {"parameter": formula("optim.parameter", (7,), UNIT)}
    for name, rule in rules.items():
        parameter = nn.Parameter(tensors["parameter"].clone())
        optimizer = rule([parameter])
        for step in range(1, 51):
            parameter.grad = formula(f"optim.grad.{step}", (7,), UNIT)
            optimizer.step()
            if step in (1, 2, 10, 50):
                tensors[f"{name}.{step}"] = parameter.detach().clone()
    write("optim", {key: value.float() for key, value in tensors.items()})


# --------------------------------------------------------------------------------------- losses


def center_loss(features, centers, labels):
    """Wen et al. 2016 in the strong baseline's form: no factor 1/2, a mean over the batch."""
    distances = [(features[i] - centers[label]).square().sum() for i, label in enumerate(labels)]
    return torch.stack(distances).clamp(1e-12, 1e12).sum() / len(labels)


def smoothed_cross_entropy(logits, labels, eps):
    """FastReID's form: 1 - eps for the right class and eps / (K - 1) for each other; batch mean."""
    classes = logits.shape[1]
    terms = []
    for row, label in zip(logits.log_softmax(1), labels, strict=True):
        for k in range(classes):
            terms.append(-(1 - eps if k == label else eps / (classes - 1)) * row[k])
    return torch.stack(terms).sum() / len(labels)


def cosine_distance(a, b):
    return 1 - (a @ b) / (a.norm() * b.norm())


def euclidean_distance(a, b):
    return (a - b).square().sum().sqrt()


def batch_hard(features, labels, distance, penalty, reduction):
    """Hermans et al. 2017: per anchor, the farthest positive and the nearest negative."""
    n = len(labels)
    terms = []
    for i in range(n):
        own = [
            distance(features[i], features[j])
            for j in range(n)
            if j != i and labels[j] == labels[i]
        ]
        others = [distance(features[i], features[j]) for j in range(n) if labels[j] != labels[i]]
        terms.append(penalty(max(own) - min(others)))
    total = torch.stack(terms).sum()
    return total / n if reduction == "mean" else total


def multi_similarity(features, labels, margin, negative_scale):
    """Wang et al. 2019, with alpha = 2 and lambda = 0.5; also the number of pairs kept."""
    n, kept, terms = len(labels), 0, []
    for i in range(n):
        similar = {j: 1 - cosine_distance(features[i], features[j]) for j in range(n) if j != i}
        own = [s for j, s in similar.items() if labels[j] == labels[i]]
        others = [s for j, s in similar.items() if labels[j] != labels[i]]
        if not own or not others:
            continue
        positives = [s for s in own if s < max(others) + margin]
        negatives = [s for s in others if s > min(own) - margin]
        kept += len(positives) + len(negatives)
        for scale, pairs in ((-2, positives), (negative_scale, negatives)):
            if pairs:
                exponentials = sum(torch.exp(scale * (s - 0.5)) for s in pairs)
                terms.append((1 + exponentials).log() / abs(scale))
    return torch.stack(terms).sum() / n, kept


def with_gradients(prefix, loss, **inputs):
    """The loss as [1] and its gradient with respect to each input."""
    gradients = torch.autograd.grad(loss, list(inputs.values()))
    return {f"{prefix}.loss": loss.reshape(1)} | {
        f"{prefix}.grad.{k}": g for k, g in zip(inputs, gradients, strict=True)
    }


def loss_files():
    """Writes losses on a few vectors, computed in loops."""
    labels = [0, 0, 1, 2, 2, 2]
    features = formula("center.features", (6, 4), INPUT).requires_grad_()
    centers = formula("center.centers", (3, 4), INPUT).requires_grad_()
    loss = center_loss(features, centers, labels)
    tensors = {"features": features, "centers": centers}
    tensors |= with_gradients("center", loss, features=features, centers=centers)
    write("center", {k: v.float() for k, v in tensors.items()} | {"labels": torch.tensor(labels)})

    labels = [0, 0, 0, 1, 1, 2, 2]
    features = formula("metric.features", (7, 5), INPUT)
    features[range(7), labels] += 3.5  # separates the classes, so that some anchors meet the margin
    features = features.float().double().requires_grad_()
    logits = formula("metric.logits", (7, 5), INPUT).requires_grad_()
    tensors = {"features": features, "logits": logits}
    smoothed = smoothed_cross_entropy(logits, labels, 0.1)
    tensors |= with_gradients("label_smooth_others0.1", smoothed, logits=logits)
    distances = {"cosine": cosine_distance, "euclidean": euclidean_distance}
    penalties = {"margin0.3": lambda gap: F.relu(gap + 0.3), "soft": F.softplus}
    for d, distance in distances.items():
        for p, penalty in penalties.items():
            for reduction in ("mean", "sum"):
                loss = batch_hard(features, labels, distance, penalty, reduction)
                tensors |= with_gradients(f"triplet.{d}.{p}.{reduction}", loss, features=features)
    write("metric", {k: v.float() for k, v in tensors.items()} | {"labels": torch.tensor(labels)})


def multi_similarity_file():
    """Writes the multi-similarity loss of a few vectors, one of which has no positive."""
    labels = [0, 0, 0, 1, 1, 2, 2, 3]
    features = formula("multi_similarity.features", (8, 5), INPUT)
    features[range(8), labels] += 1.0
    features = features.float().double().requires_grad_()
    tensors = {"features": features}
    for margin, negative_scale in ((0.0, 50), (0.1, 50), (0.7, 40), (3.0, 40)):
        loss, kept = multi_similarity(features, labels, margin, negative_scale)
        name = f"multi_similarity.margin{margin}.negative{negative_scale}"
        tensors |= with_gradients(name, loss, features=features)
        print(f"{name}: {kept} of 49 pairs")
    labels = {"labels": torch.tensor(labels)}
    write("multi_similarity", {k: v.float() for k, v in tensors.items()} | labels)


def cluster_contrast_file():
    """Writes cluster contrast (Dai et al. 2022) over five steps, with momentum 0.1 and temperature 0.05.

    After each loss, the centroid of an image's cluster is moved towards the image and normalised: by each
    image in the order of the batch, or by the one least similar to the centroid.
    """
    clusters, width, momentum = 6, 5, 0.1
    unit = functools.partial(F.normalize, dim=-1)
    start = formula("cluster_contrast.centroids", (clusters, width), INPUT)
    batches = [[0, 0, 1, 1, 2, 2, 3, 3], [4, 4, 4, 4, 0, 0, 0, 1], [5, 3, 5, 3, 5, 3, 5, 3]]
    batches += [[1, 1, 1, 1, 1, 1, 1, 1], [2, 0, 4, 2, 0, 4, 2, 2]]
    tensors, labels = {"centroids": start}, {}
    for step, batch in enumerate(batches):
        features = formula(f"cluster_contrast.features.{step}", (len(batch), width), INPUT)
        tensors[f"features.{step}"] = features
        labels[f"labels.{step}"] = torch.tensor(batch)
    for name in ("each", "hardest"):
        centroids = unit(start)
        for step, batch in enumerate(batches):
            features = tensors[f"features.{step}"].clone().requires_grad_()
            similar = unit(features) @ centroids.T
            loss = F.cross_entropy(similar / 0.05, labels[f"labels.{step}"])
            (gradient,) = torch.autograd.grad(loss, [features])
            similar, images, moved = similar.detach(), unit(features).detach(), centroids.clone()
            for cluster in sorted(set(batch)):
                own = [image for image, label in enumerate(batch) if label == cluster]
                if name == "hardest":
                    own = [min(own, key=lambda image: similar[image, cluster].item())]
                for image in own:
                    towards = momentum * moved[cluster] + (1 - momentum) * images[image]
                    moved[cluster] = unit(towards)
            centroids = moved
            tensors |= {
                f"{name}.{step}.loss": loss.reshape(1),
                f"{name}.{step}.grad": gradient,
                f"{name}.{step}.centroids": centroids,
            }
    write("cluster_contrast", {k: v.float() for k, v in tensors.items()} | labels)


# ------------------------------------------------------------------- Grad-CAM and feature CutMix


class Reduced(nn.Module):
    """Pooling, a linear reduction, BN, ReLU and a classifier; the output is the logits."""

    def __init__(self, channels, dimensions, classes, pool="average"):
        super().__init__()
        if pool == "gem":
            self.pool = GeM()
        else:
            self.pool = lambda x: x.mean((2, 3)) if pool == "average" else x.amax((2, 3))
        self.reduction = nn.Linear(channels, dimensions)
        self.norm = nn.BatchNorm1d(dimensions)
        self.classifier = nn.Linear(dimensions, classes)

    def features(self, x):
        return F.relu(self.norm(self.reduction(self.pool(x))))

    def forward(self, x):
        return self.classifier(self.features(x))


class Pooled(nn.Module):
    """Average pooling and a classifier."""

    def __init__(self, channels, classes):
        super().__init__()
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(x.mean((2, 3)))


def raw_maps(method, head, x, classes):
    """Computes pytorch-grad-cam's maps at the input of a head, without their final scaling."""
    network = nn.Sequential(nn.Identity(), head)
    targets = None if classes is None else [ClassifierOutputTarget(c) for c in classes]
    with method(model=network, target_layers=[network[0]]) as cam:
        return torch.from_numpy(cam(input_tensor=x, targets=targets))


def grad_cam_file():
    """Writes pytorch-grad-cam's maps for heads in evaluation, for <part>.input of [5,8,4,3]."""
    pytorch_grad_cam.base_cam.scale_cam_image = lambda maps, size=None: maps
    heads = {
        "pooled": Pooled(8, 4),
        "bnneck": BnNeck(8, 4),
        "reduced": Reduced(8, 6, 4),
        "reduced_max": Reduced(8, 6, 4, "max"),
        "reduced_gem": Reduced(8, 6, 4, "gem"),
    }
    methods = {
        "grad_cam": pytorch_grad_cam.GradCAM,
        "hires_cam": pytorch_grad_cam.HiResCAM,
        "layer_cam": pytorch_grad_cam.LayerCAM,
    }
    labels = [0, 3, 1, 2, 3]
    tensors = {"labels": torch.tensor(labels)}
    for name, head in heads.items():
        head = filled(head, f"{name}.").eval()
        x = formula(f"{name}.input", (5, 8, 4, 3), INPUT).requires_grad_()
        tensors[f"{name}.logits"] = head(x).float()
        for key, method in methods.items():
            tensors[f"{name}.{key}.label"] = raw_maps(method, head, x, labels).float()
            tensors[f"{name}.{key}.highest"] = raw_maps(method, head, x, None).float()
    write("grad_cam", tensors)


class Striped(nn.Module):
    """The whole feature map and two stripes of it, each embedded by maximum, linear layer, BN, ReLU."""

    def __init__(self, channels, dimensions, classes):
        super().__init__()
        self.whole = Reduced(channels, dimensions, classes, "max")
        self.stripes = nn.ModuleList(Reduced(channels, dimensions, classes, "max") for _ in range(2))

    def features(self, x):
        stripes = zip(self.stripes, x.chunk(2, 2), strict=True)
        return torch.cat([self.whole.features(x)] + [s.features(part) for s, part in stripes], 1)


def position_terms(embed, x):
    """The embedding of one image as a sum over positions, by the Jacobian: [dimensions, positions].

    Gradient times feature; what that does not explain is shared out equally.
    """
    jacobian = torch.autograd.functional.jacobian(lambda x: embed(x[None])[0], x)
    terms = (jacobian * x).sum(1).flatten(1)
    rest = embed(x[None])[0] - terms.sum(1)
    return terms + rest[:, None] / terms.shape[1]


def striped_terms(striped, x):
    """The terms of a Striped: those of a stripe are 0 outside its rows, which share its remainder."""
    width = x.shape[2]
    terms = [position_terms(striped.whole.features, x)]
    for index, (stripe, rows) in enumerate(zip(striped.stripes, x.chunk(2, 1), strict=True)):
        own = position_terms(stripe.features, rows)
        before = index * rows.shape[1] * width
        terms.append(F.pad(own, (before, terms[0].shape[1] - before - own.shape[1])))
    return torch.cat(terms)


def similarity_map_file():
    """Writes the contributions of the pairs of positions of the first image and each of four others."""
    gem = nn.Module()
    gem.pool = GeM()
    neck = BnNeck(8, 4)
    heads = {
        "pooled": (nn.Module(), lambda x: x.mean((2, 3))),
        "pooled_max": (nn.Module(), lambda x: x.amax((2, 3))),
        "pooled_gem": (gem, gem.pool),
        "bnneck": (neck, lambda x: neck.bn(neck.features(x))),
    }
    for name, pool in (("reduced", "average"), ("reduced_max", "max"), ("reduced_gem", "gem")):
        head = Reduced(8, 6, 4, pool)
        heads[name] = (head, head.features)
    striped = Striped(8, 6, 4)
    heads["stripes"] = (striped, striped.features)
    tensors = {}
    for name, (head, embed) in heads.items():
        filled(head, f"{name}.").eval()
        x = formula(f"{name}.input", (5, 8, 4, 3), INPUT)
        if name == "stripes":
            terms = [striped_terms(head, image) for image in x]
        else:
            terms = [position_terms(embed, image) for image in x]
        lengths = embed(x).norm(dim=1)
        others = range(1, 5)
        pairs = [terms[0].T @ terms[i] / (lengths[0] * lengths[i]) for i in others]
        cosines = [F.cosine_similarity(embed(x[:1]), embed(x[i : i + 1])) for i in others]
        tensors[f"{name}.pairs"] = torch.stack(pairs).float()
        tensors[f"{name}.similarity"] = torch.cat(cosines).float()
    write("similarity_map", tensors)


PARTNERS = [[3, 5, 4, 5, 1, 1], [3, 4, 5, 1, 3, 0]]  # the random partners of both branches for seed 1


class Progressive(nn.Module):
    """G and two attentive branches on a shared bottleneck, in the paper's notation (3.2, 3.3)."""

    def __init__(self, channels, dimensions, classes):
        super().__init__()
        self.add_module("global", Reduced(channels, dimensions[0], classes))
        self.bottleneck = Bottleneck(channels, channels // 4)
        self.branches = nn.ModuleList(
            Reduced(channels, d, classes, "max") for d in dimensions[1:]
        )


def attention_map(branch, t, labels):
    """Eq. 1 for the score of each label, by a separate pass in training mode."""
    t = t.detach().requires_grad_()
    logits = copy.deepcopy(branch)(t)  # a copy: the branch keeps its running statistics
    scores = logits[range(len(labels)), labels].sum()
    (gradient,) = torch.autograd.grad(scores, t)
    w = gradient.mean((2, 3), keepdim=True)
    return F.relu((w * t).sum(1)).detach()


def top_patches(g, patch, k):
    """Eq. 2: a mask of the k patches with the largest sums; among equal sums, row by row."""
    (rows, columns), cut = patch, torch.zeros_like(g)
    for image in range(len(g)):
        corners = [
            (r, c)
            for r in range(0, g.shape[1], rows)
            for c in range(0, g.shape[2], columns)
        ]
        sums = [float(g[image, r : r + rows, c : c + columns].sum()) for r, c in corners]
        order = sorted(range(len(corners)), key=lambda i: -sums[i])  # stable
        for r, c in (corners[i] for i in order[:k]):
            cut[image, r : r + rows, c : c + columns] = 1
    return cut


def progressive_file():
    """Writes one training step of the progressive head, with given partners."""
    labels = [0, 0, 1, 1, 2, 2]
    patch, k, classes = (3, 2), 3, 3
    variants = {
        "negative": (PARTNERS, False),
        "positive": ([[1, 0, 3, 2, 5, 4]] * 2, False),
        "stopped": (PARTNERS, True),
    }
    tensors = {"labels": torch.tensor(labels)}
    for name, (partners, stopped) in variants.items():
        head = Progressive(8, (7, 6, 5), classes)
        # The parameters of all variants are the same.
        filled(head, "progressive.").train()
        x = formula("progressive.input", (6, 8, 6, 8), INPUT).requires_grad_()
        shared, seen, branch = head.bottleneck(x), x, head.get_submodule("global")
        losses = []
        for index in range(3):
            if index > 0:
                g = attention_map(branch, seen, labels)
                cut = top_patches(g, patch, k)
                tensors |= {f"{name}.map.{index}": g, f"{name}.cut.{index}": cut}
                tensors[f"{name}.donors.{index}"] = torch.tensor(partners[index - 1])
                partner = shared[partners[index - 1]]
                partner = partner.detach() if stopped else partner
                m = 1 - cut[:, None]
                seen, branch = m * shared + (1 - m) * partner, head.branches[index - 1]
            f = branch.features(seen)
            logits = branch.classifier(f)
            identity = F.cross_entropy(logits, torch.tensor(labels), label_smoothing=0.1)
            triplet = batch_hard(f, labels, euclidean_distance, F.softplus, "mean")
            tensors |= {f"{name}.features.{index}": f, f"{name}.logits.{index}": logits}
            tensors[f"{name}.losses.{index}"] = torch.stack([identity, triplet])
            losses += [identity, triplet]
        sum(losses).backward()
        tensors[f"{name}.grad.input"] = x.grad
        for key, p in head.named_parameters():
            tensors[f"{name}.grad.{key}"] = p.grad
        for key, value in head.state_dict().items():
            if "running" in key:
                tensors[f"{name}.state_after.{key}"] = value.clone()
    for key in list(tensors):
        if tensors[key].is_floating_point():
            tensors[key] = tensors[key].float()
    write("progressive", tensors)


# ---------------------------------------------------------------------------------------- files


def write(name, tensors, script="make.py", used=(torch, torchvision)):
    """Writes one file. A single metadata entry keeps the file byte-identical between runs."""
    path = FOLDER / f"{name}.safetensors"
    tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
    versions = ", ".join(f"{m.__name__} {m.__version__.split('+')[0]}" for m in used)
    path.write_bytes(save(tensors, metadata={"written_by": f"tests/golden/{script}, {versions}"}))
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    resnet50_file()
    network_file("resnet50_stride1", lambda: last_stride_one(models.resnet50()), batch=4)
    network_file("resnet18", models.resnet18, batch=2)
    network_file("resnext50_32x4d", models.resnext50_32x4d, batch=2)
    block_file()
    attention_file()
    grad_cam_file()
    similarity_map_file()
    progressive_file()
    optimizer_file()
    loss_files()
    multi_similarity_file()
    cluster_contrast_file()


if __name__ == "__main__":
    main()
