"""Writes the reference values of the losses that compare pairs or have class weights.

    python tests/golden/make_losses.py    (pip install torch numpy safetensors grad-cam torchvision
                                           pytorch-metric-learning)

Every loss is computed in loops from the equation of its paper, in float64. Where
pytorch-metric-learning has the loss too, the script stops if the two differ by more than 1e-9.
"""

import math

import pytorch_metric_learning
import torch
import torch.nn.functional as F
from make import INPUT, formula, with_gradients, write
from pytorch_metric_learning import losses as peer
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer

MARGIN, GAMMA, TEMPERATURE, TRIPLET_MARGIN = 0.25, 64.0, 0.1, 0.3
ARC = {"scale": 30.0, "margin": 0.5}
COS = {"scale": 30.0, "margin": 0.35}


def cosine(a, b):
    return F.normalize(a, dim=0) @ F.normalize(b, dim=0)


def euclidean(a, b):
    """The distance, at least 1e-6 with a gradient of 0 below."""
    return (a - b).square().sum().clamp_min(1e-12).sqrt()


def split(i, labels, references):
    """The indices of the positive and of the negative references of an anchor.

    `references` are the labels of a memory, where -1 is an empty slot, or None for the batch itself.
    """
    others = labels if references is None else references
    indices = [j for j in range(len(others)) if references is not None or j != i]
    own = [j for j in indices if others[j] == labels[i]]
    return own, [j for j in indices if others[j] not in (labels[i], -1)]


def mean(terms, features):
    return torch.stack(terms).mean() if terms else features.sum() * 0


def circle(features, labels, memory, references):
    terms = []
    for i, f in enumerate(features):
        own, others = split(i, labels, references)
        if not own or not others:
            continue
        exponents = []
        for chosen, sign, optimum, delta in (
            (own, -1, 1 + MARGIN, 1 - MARGIN),
            (others, 1, -MARGIN, MARGIN),
        ):
            s = torch.stack([cosine(f, memory[j]) for j in chosen])
            weights = F.relu(sign * (s - optimum)).detach()
            exponents.append(torch.logsumexp(sign * GAMMA * weights * (s - delta), 0))
        terms.append(F.softplus(sum(exponents)))
    return mean(terms, features)


def supervised_contrastive(features, labels, memory, references):
    terms = []
    for i, f in enumerate(features):
        own, others = split(i, labels, references)
        if not own:
            continue
        logits = {j: cosine(f, memory[j]) / TEMPERATURE for j in own + others}
        denominator = torch.logsumexp(torch.stack(list(logits.values())), 0)
        terms.append(denominator - sum(logits[j] for j in own) / len(own))
    return mean(terms, features)


def weighted_triplet(features, labels, memory, references):
    terms = []
    for i, f in enumerate(features):
        own, others = split(i, labels, references)
        if not own or not others:
            continue
        positives = torch.stack([euclidean(f, memory[j]) for j in own])
        negatives = torch.stack([euclidean(f, memory[j]) for j in others])
        farthest = (F.softmax(positives, 0) * positives).sum()
        nearest = (F.softmax(-negatives, 0) * negatives).sum()
        terms.append(F.softplus(farthest - nearest))
    return mean(terms, features)


def triplets(features, labels, memory, references, choose):
    """d_ap - d_an of the chosen negatives of every positive pair."""
    gaps = []
    for i, f in enumerate(features):
        own, others = split(i, labels, references)
        for p in own:
            positive = euclidean(f, memory[p])
            negatives = [euclidean(f, memory[n]) for n in others]
            gaps += [positive - negative for negative in choose(positive, negatives)]
    return gaps


def semi_hard(positive, negatives):
    """The nearest negative that is farther than the positive."""
    farther = [negative for negative in negatives if negative > positive]
    return [min(farther)] if farther else []


def reduced(gaps, penalty, reduction, features):
    terms = [penalty(gap) for gap in gaps]
    if reduction == "non-zero":
        terms = [term for term in terms if term > 0]
    if reduction == "sum":
        return sum(terms) if terms else features.sum() * 0
    return mean(terms, features)


PENALTIES = {"hard": lambda gap: F.relu(gap + TRIPLET_MARGIN), "soft": F.softplus}
MINING = {"all": lambda _, negatives: negatives, "semi-hard": semi_hard}
LOSSES = {
    "circle": circle,
    "supervised_contrastive": supervised_contrastive,
    "weighted_triplet": weighted_triplet,
}


def agrees(name, found, expected):
    difference = (found - expected).abs().max().item()
    assert difference <= 1e-9 * max(1, expected.abs().max().item()), (name, difference)
    print(f"{name}: the same as pytorch-metric-learning up to {difference:.1e}")


def peers():
    """The losses that pytorch-metric-learning has, by name."""
    distance = LpDistance(normalize_embeddings=False)
    triplet = {"margin": TRIPLET_MARGIN, "distance": distance}
    soft = {"margin": 0.0, "distance": distance, "smooth_loss": True}
    return {
        "circle": peer.CircleLoss(m=MARGIN, gamma=GAMMA),
        "supervised_contrastive": peer.SupConLoss(temperature=TEMPERATURE),
        "triplet.all.hard.mean": peer.TripletMarginLoss(**triplet, reducer=MeanReducer()),
        "triplet.all.hard.non-zero": peer.TripletMarginLoss(**triplet, reducer=AvgNonZeroReducer()),
        "triplet.all.soft.mean": peer.TripletMarginLoss(**soft, reducer=MeanReducer()),
    }


def compare_with_peers(case, tensors, features, labels, memory, references):
    for name, loss in peers().items():
        ref = {}
        if references is not None:
            ref = {"ref_emb": memory, "ref_labels": torch.tensor(references)}
        value = loss(features, torch.tensor(labels), **ref)
        agrees(f"{case}.{name}", value, tensors[f"{case}.{name}.loss"][0])
        (gradient,) = torch.autograd.grad(value, features)
        agrees(f"{case}.{name} gradient", gradient, tensors[f"{case}.{name}.grad.features"])


def pair_case(case, features, labels, memory=None, references=None):
    """All losses of one batch."""
    features = features.float().double().requires_grad_()
    inputs = {f"{case}.features": features, f"{case}.labels": torch.tensor(labels)}
    if memory is not None:
        inputs |= {f"{case}.memory": memory, f"{case}.references": torch.tensor(references)}
    compared = features if memory is None else memory
    tensors = {}
    for name, loss in LOSSES.items():
        value = loss(features, labels, compared, references)
        tensors |= with_gradients(f"{case}.{name}", value, features=features)
    for m, choose in MINING.items():
        if memory is not None:
            continue
        for p, penalty in PENALTIES.items():
            for reduction in ("mean", "sum", "non-zero"):
                gaps = triplets(features, labels, compared, references, choose)
                value = reduced(gaps, penalty, reduction, features)
                name = f"{case}.triplet.{m}.{p}.{reduction}"
                tensors |= with_gradients(name, value, features=features)
    return features, inputs, tensors


def usual(name):
    """Vectors of 3, 2, 2 and 1 images of an identity, which are separated a little."""
    labels = [0, 0, 0, 1, 1, 2, 2, 3]
    features = formula(f"{name}.features", (8, 5), INPUT)
    features[range(8), labels] += 1.0
    return features, labels


def stored(tensors):
    whole = {k: v if v.dtype == torch.int64 else v.float() for k, v in tensors.items()}
    return whole


def pair_file():
    """Writes the pair losses of a usual batch, of extreme batches, and of a batch with a memory."""
    features, labels = usual("pair_losses")
    plain = formula("pair_losses.plain", (4, 5), INPUT)
    memory = formula("pair_losses.memory", (7, 5), INPUT)
    cases = {
        "usual": (features, labels),
        "no_positives": (plain, [0, 1, 2, 3]),
        "no_negatives": (plain, [2, 2, 2, 2]),
        "equal": (plain[:1].expand(4, 5).clone(), [0, 0, 1, 1]),
        "long": (features * 1e4, labels),
        "memory": (features, labels, memory, [-1, 0, 1, 2, 4, 0, 3]),
        "empty_memory": (features, labels, torch.zeros(3, 5).double(), [-1, -1, -1]),
    }
    everything = {}
    for case, parts in cases.items():
        found, inputs, tensors = pair_case(case, *parts)
        if case in ("usual", "long"):
            compare_with_peers(case, tensors, found, parts[1], found, None)
        everything |= inputs | tensors
    # The peer has no empty slots.
    _, _, tensors = pair_case("filled", features, labels, memory[1:], [0, 1, 2, 4, 0, 3])
    for name in ("circle", "supervised_contrastive"):
        for key in ("loss", "grad.features"):
            key = f"{name}.{key}"
            assert torch.equal(tensors[f"filled.{key}"], everything[f"memory.{key}"]), key
    reference = {"ref_emb": memory[1:], "ref_labels": torch.tensor([0, 1, 2, 4, 0, 3])}
    for name in ("circle", "supervised_contrastive"):
        value = peers()[name](features, torch.tensor(labels), **reference)
        agrees(f"memory.{name}", value, everything[f"memory.{name}.loss"][0])
    write("pair_losses", stored(everything), "make_losses.py", (torch, pytorch_metric_learning))


# --------------------------------------------------------------------------------- class weights


def class_margin(features, weights, labels, scale, own):
    """The mean cross-entropy of scaled cosines; `own` computes that of the true class."""
    terms = []
    for f, label in zip(features, labels, strict=True):
        cosines = [cosine(f, w) for w in weights]
        cosines[label] = own(F.normalize(f, dim=0), F.normalize(weights[label], dim=0))
        terms.append(torch.logsumexp(scale * torch.stack(cosines), 0) - scale * cosines[label])
    return torch.stack(terms).mean()


def arc_face(margin):
    def own(f, w):
        c = f @ w
        if c <= math.cos(math.pi - margin):
            return c - margin * math.sin(margin)
        # Below 1e-6 the sine is constant.
        sine = (f - c * w).square().sum().clamp_min(1e-12).sqrt()
        return c * math.cos(margin) - sine * math.sin(margin)

    return own


def class_margin_file():
    """Writes ArcFace and CosFace of a few vectors.

    One is opposite to the weights of its class up to 20 degrees, which is beyond pi - 0.5.
    """
    features, labels = usual("class_margin")
    weights = formula("class_margin.weights", (4, 5), INPUT)
    features[4] = -weights[1] + 0.1 * features[4]
    aligned = features.clone()
    aligned[0], aligned[5] = 2 * weights[0], -3 * weights[2]
    cases = {"usual": features, "aligned": aligned, "long": features * 1e4}
    tensors = {"weights": weights, "labels": torch.tensor(labels)}
    for case, values in cases.items():
        values = values.float().double().requires_grad_()
        trained = weights.clone().requires_grad_()
        tensors[f"{case}.features"] = values
        for name, settings, own in (
            ("arc_face", ARC, arc_face(ARC["margin"])),
            ("cos_face", COS, lambda f, w: f @ w - COS["margin"]),
        ):
            loss = class_margin(values, trained, labels, settings["scale"], own)
            inputs = {"features": values, "weights": trained}
            tensors |= with_gradients(f"{case}.{name}", loss, **inputs)
            if case == "aligned":
                continue
            margin = math.degrees(ARC["margin"]) if name == "arc_face" else COS["margin"]
            kind = peer.ArcFaceLoss if name == "arc_face" else peer.CosFaceLoss
            other = kind(4, 5, margin=margin, scale=settings["scale"])
            other.W.data = weights.T.clone()
            value = other(values, torch.tensor(labels))
            agrees(f"{case}.{name}", value, loss)
            by_features, by_weights = torch.autograd.grad(value, (values, other.W))
            key = f"{case}.{name}.grad"
            agrees(f"{key}.features", by_features, tensors[f"{key}.features"])
            agrees(f"{key}.weights", by_weights.T, tensors[f"{key}.weights"])
    write("class_margin", stored(tensors), "make_losses.py", (torch, pytorch_metric_learning))


if __name__ == "__main__":
    torch.set_num_threads(1)
    pair_file()
    class_margin_file()
