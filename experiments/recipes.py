"""Recipes of the studies, made from `examples/recipes/small_objects.json` and from tables of networks."""

import copy
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "recipes"


def changed(value, changes):
    """A copy of JSON in which the values at paths, such as `sampling.images`, are replaced. The path must lead to an
    object; its last field may be new."""
    value = copy.deepcopy(value)
    for path, new in changes.items():
        *folders, last = path.split(".")
        inner = value
        for folder in folders:
            if not isinstance(inner, dict) or folder not in inner:
                raise KeyError(f"{path}: no field `{folder}`")
            inner = inner[folder]
        if not isinstance(inner, dict):
            raise KeyError(f"{path}: `{last}` is not in an object")
        inner[last] = copy.deepcopy(new)
    return value


def example(name):
    """A recipe of the examples."""
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


def square(side):
    return {"height": side, "width": side}


def osnet_backbone(after=()):
    """OSNet x0.25 with blocks after stages, `[(stage, block), …]`."""
    return {
        "channels": [16, 64, 96, 128],
        "blocks": [["none", "none"]] * 3,
        "instance_stem": False,
        "stem": {"large": "padded"},
        "after": [{"stage": stage, "block": block} for stage, block in after],
    }


def osnet(after=()):
    return {"osnet": {"backbone": osnet_backbone(after), "head": {"dimensions": 512, "pool": "average"}}}


def mobile_net(after=()):
    """MobileNetV2 x1.0 of torchvision."""
    backbone = {
        "stem": 32,
        "channels": [16, 24, 32, 64, 96, 160, 320],
        "blocks": [1, 2, 3, 4, 3, 3, 1],
        "last": 1280,
        "first_expansion": False,
        "last_stride": 2,
        "after": [{"stage": stage, "block": block} for stage, block in after],
    }
    return {"mobilenet-v2": {"backbone": backbone, "head": {"pool": "average"}}}


def cifar_resnet(depth, after=()):
    """ResNet of He et al. for images of 32 x 32, with blocks after stages."""
    blocks = (depth - 2) // 6
    backbone = {
        "kind": "basic",
        "blocks": [blocks, blocks, blocks, 0],
        "width": 16,
        "groups": 1,
        "width_per_group": 64,
        "last_stride": 2,
        "stem": "small",
        "ibn": "none",
        "shortcut": "padded",
        "fan": "in",
        "inside": None,
        "after": [{"stage": stage, "block": block} for stage, block in after],
    }
    return {"resnet": {"backbone": backbone, "head": {"init": "kaiming-normal", "pool": "average"}}}


def rga_spatial(ratio):
    return {"rga-spatial": {"s1": ratio, "s2": ratio, "terms": "both"}}


def rga_channel(ratio):
    return {"rga-channel": {"s1": ratio, "s2": ratio, "terms": "both"}}


def rga(ratio):
    """RGA-SC."""
    return {"chain": [rga_spatial(ratio), rga_channel(ratio)]}


SE = {"squeeze-excitation": {"reduction": 16}}
CBAM = {
    "chain": [
        {"cbam-channel": {"reduction": 16}},
        {"cbam-spatial": {"kernel": 7, "normalised": True}},
    ]
}
#: The gate that a new block starts with, so that it hardly changes the features of a pretrained network.
NEAR_1 = 0.95


def near_1(block):
    """Attention, or a chain of it, whose gates start near 1."""
    if "chain" in block:
        return {"chain": [near_1(each) for each in block["chain"]]}
    return {name: {**settings, "initial_gate": NEAR_1} for name, settings in block.items()}


NON_LOCAL = {"non-local": {"reduction": 2, "similarity": "embedded-gaussian"}}


def fnc_spatial(combine):
    """SAB, the spatial attention of FNC."""
    return {"reduction": 2, "combine": combine}


def fnc_channel(combine):
    """CAB, the channel attention of FNC, with half as many hidden channels as the features have, as in the paper."""
    return {"hidden": 64, "groups": 4, "squeeze": {"reduction": 16}, "gate": "map", "combine": combine}


def drop(dimensions):
    """A branch of Batch DropBlock."""
    return {"dimensions": dimensions, "augment": {"drop": {"height": 0.33, "width": 1.0}}}


def mix(dimensions, partner="negative", cut=6):
    """A branch with feature CutMix. The 8 x 8 positions of the feature map are 32 patches, as many as in the paper."""
    settings = {
        "patches": {"height": 2, "width": 1},
        "cut": cut,
        "partner": partner,
        "partner_gradient": "flows",
        "on_empty_cam": "cut",
    }
    return {"dimensions": dimensions, "augment": {"cut-mix": {"mix": settings, "cam_source": "closed-form"}}}


def branched(*branches):
    """OSNet x0.25 with a global branch and these."""
    return {"osnet-branched": {"backbone": osnet_backbone(), "head": {"global": 512, "branches": list(branches)}}}


def fnc(separate, combine, **spatial):
    """FNC on OSNet x0.25. Each branch has its own stages from block 1 of stage 3 on, or all stages are shared. The
    spatial attention has further settings."""
    neck = {"pool": "average", "embedding": "after"}
    return {
        "osnet-fnc": {
            "network": osnet_backbone(),
            "split": {"stage": 3, "block": 1} if separate else None,
            "branches": {
                "spatial": {**fnc_spatial(combine), **spatial},
                "spatial_neck": {"dimensions": 1024, **neck},
                "channel": fnc_channel(combine),
                "channel_neck": {"dimensions": 512, **neck},
            },
        }
    }


def vehicles(network, **changes):
    """Images of 128 x 128 in batches of 16 identities with both of their images, 40 epochs of Adam at 1e-3."""
    base = {
        "network": network,
        "input": square(128),
        "sampling.identities": 16,
        "sampling.images": 2,
        "optimizer.adam.weight_decay": 5e-4,
        "schedule.base": 1e-3,
        "epochs": 40,
        "evaluate_every": 0,
    }
    return changed(changed(example("small_objects.json"), base), changes)


def cifar(network, **changes):
    """The recipe of He et al. in 30 epochs: the learning rate is divided by 10 after 15 and 23 of them."""
    none = dict.fromkeys(["translation", "affine", "colour", "erasing"])
    base = {
        "network": network,
        "input": square(32),
        "sampling.shuffled": 128,
        "losses.triplet": None,
        "losses.identity.criterion.smoothing": 0.0,
        "optimizer": {"sgd": {"momentum": 0.9, "nesterov": False, "weight_decay": 1e-4}},
        "schedule": {
            "base": 0.1,
            "first_epoch": 0,
            "warm_up": None,
            "decay": {"multi-step": {"milestones": [15, 23], "factor": 0.1}},
        },
        "epochs": 30,
        "evaluate_every": 1,
        "flip_test": False,
        "augmentation.pad_crop": {"padding": 4},
        **{f"augmentation.{name}": value for name, value in none.items()},
    }
    return changed(changed(example("small_objects.json"), base), changes)


def unlabelled(network, **changes):
    """Cluster contrast: rounds of clustering and training, 16 clusters x 2 images, Adam at 3.5e-4."""
    base = {
        "losses": {"momentum": 0.1, "temperature": 0.05, "update": "each-image"},
        "schedule": {"base": 3.5e-4, "first_epoch": 0, "warm_up": None, "decay": {"cosine": {"floor": 0.01}}},
        "epochs": 20,
    }
    return changed(vehicles(network), {**base, **changes})


def streets(context, side):
    """The recipe of the example `segment_streets` for synthetic streets, with RGA-SC at `side` x `side` positions
    if there is a side."""
    dropout = {"probability": 0.1, "unit": "channel"}
    head = {
        "plain": {"bias": True, "dropout": {**dropout, "probability": 0.05}, "negative_slope": 0.01},
        "pyramid": {"context": {"alignment": "corners", "bins": [1, 2, 3, 6], "channels": None}, "dropout": dropout},
        "aspp": {
            "context": {"channels": 256, "rates": [12, 24, 36]},
            "context_dropout": {"probability": 0.5, "unit": "value"},
        },
    }[context]
    plain = {"attention": None, "bias": False, "context": None, "context_dropout": None, "dropout": None}
    plain |= {"negative_slope": 0.0}
    attention = None
    if side:
        resized = {"height": side, "width": side, "pooling": "roi-align"}
        attention = {"chain": [{"resized": {"gate": gate, **resized}} for gate in (rga_spatial(4), rga_channel(4))]}
    backbone = {
        "kind": "bottleneck",
        "blocks": [1, 1, 2, 2],
        "width": 8,
        "groups": 1,
        "width_per_group": 64,
        "last_stride": 2,
        "stem": "small",
        "ibn": "none",
        "dilation": {"stride8": "previous"},
        "inside": None,
        "after": [],
    }
    normalise = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    return {
        "classes": 4,
        "clip_norm": None,
        "crop": {"mirror": 0.5, "normalise": normalise, "scales": [0.5, 2.1], "size": square(97), "steps": 16},
        "epochs": 8,
        "evaluate_every": 0,
        "losses": {"auxiliary_weight": 0.4, "class_weights": None},
        "network": {
            "alignment": "edges",
            "auxiliary": {**plain, "channels": 32, "dropout": dropout},
            "backbone": backbone,
            "head": {**plain, "channels": 64, **head, "attention": attention},
        },
        "optimizer": {"sgd": {"momentum": 0.9, "nesterov": False, "weight_decay": 5e-4}},
        "precision": "single",
        "sampling": {"batches": 50, "images": 8},
        "schedule": {"base": 0.05, "first_epoch": 0, "warm_up": None, "decay": {"polynomial": {"power": 0.9}}},
    }
