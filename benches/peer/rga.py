"""PyTorch's side of the relation-aware attention benchmark: one JSON line for one setting.

    git clone https://github.com/microsoft/Relation-Aware-Global-Attention-Networks authors
    python benches/peer/rga.py --authors authors --mode train --batch 8
    python benches/peer/rga.py --model trunk --mode train --batch 8
    python benches/peer/rga.py --authors authors --mode block --part spatial \\
        --channels 256 --height 64 --width 32

The network is the authors' own ResNet-50 with RGA-SC after each stage (Zhang et al. 2020), or the
same without attention, networks.py's; both with last stride 1 and a BNNeck head with 751 classes.

infer, train  as in networks.py.
block         one attention module on random features, two lines: forward in evaluation mode without
              gradients, then forward and backward in training mode, to the input and all weights.
"""

import contextlib
import importlib
import sys

import networks
import torch
from torch import nn


def imported(authors, name):
    """A module of the authors' `reid.models`, without the imports of their whole package."""
    sys.path.append(f"{authors}/reid")
    return importlib.import_module(f"models.{name}")


@contextlib.contextmanager
def quiet():
    """Leaves standard output to the result: the authors' modules print when they are built."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


class Authors(nn.Module):
    """The authors' network with the interface of `networks.Model`."""

    def __init__(self, authors):
        super().__init__()
        network = imported(authors, "rga_model").ResNet50_RGA_Model
        self.network = network(
            pretrained=False, height=256, width=128, num_classes=networks.CLASSES
        )

    def descriptors(self, images):
        return self.network([images], training=False)[1]

    def forward(self, images):
        features, _, logits = self.network([images])
        return features, logits


def time_block(settings, layout):
    """Times one attention module and reports both passes, the smaller first for its peak memory."""
    shape = settings.batch, settings.channels, settings.height, settings.width
    spatial = settings.part == "spatial"
    module = imported(settings.authors, "models_utils.rga_branches").RGA_Module
    with quiet():
        block = module(
            settings.channels,
            settings.height * settings.width,
            use_spatial=spatial,
            use_channel=not spatial,
        )
    block = block.to(memory_format=layout)
    x = torch.randn(shape).contiguous(memory_format=layout)
    grad_output = torch.randn(shape).contiguous(memory_format=layout)

    @torch.no_grad()
    def forward():
        block(x)

    def forward_backward():
        x.grad = None
        block.zero_grad()
        block(x).backward(grad_output)

    block.eval()
    times = networks.milliseconds(forward, settings.repeats)
    what = {"model": "authors", "part": settings.part, "shape": shape}
    networks.report(settings, times, **what, passes="forward")
    block.train()
    x.requires_grad_()
    times = networks.milliseconds(forward_backward, settings.repeats)
    networks.report(settings, times, **what, passes="forward+backward")


def arguments():
    parser = networks.parser(__doc__.splitlines()[0], ["infer", "train", "block"])
    parser.add_argument("--authors", metavar="DIR", help="a checkout of the authors' repository")
    parser.add_argument("--model", choices=["authors", "trunk"], default="authors")
    block = parser.add_argument_group("block")
    block.add_argument("--part", choices=["spatial", "channel"], default="spatial")
    block.add_argument("--channels", type=int, default=256)
    block.add_argument("--height", type=int, default=64)
    block.add_argument("--width", type=int, default=32)
    settings = networks.arguments(parser)
    if settings.mode == "block" and settings.model == "trunk":
        parser.error("the trunk has no attention module")
    if settings.model == "authors" and settings.authors is None:
        parser.error("the authors' modules need --authors DIR")
    return settings


def main():
    settings = arguments()
    layout = networks.begin(settings)
    if settings.mode == "block":
        time_block(settings, layout)
        return
    with quiet():
        model = networks.Model() if settings.model == "trunk" else Authors(settings.authors)
    networks.report(
        settings, networks.time_network(settings, model, layout), model=settings.model
    )


if __name__ == "__main__":
    main()
