"""Times an attention module of the authors of relation-aware attention (Zhang et al. 2020) in PyTorch.

    git clone https://github.com/microsoft/Relation-Aware-Global-Attention-Networks authors
    python3 benches/peer/rga.py --authors authors --part spatial --channels 256 --height 64 --width 32

`networks.py --network rga` compares their whole network with that of reid. This script times one attention
module on random features and prints two lines of JSON: forward in evaluation mode without gradients,
then forward and backward in training mode, with gradients for the input and all weights.
"""

import contextlib
import importlib
import sys

import networks
import results


def imported(authors, name):
    """Imports a module of the authors' `reid.models` without importing their whole package."""
    sys.path.append(f"{authors}/reid")
    return importlib.import_module(f"models.{name}")


@contextlib.contextmanager
def quiet():
    """Sends to standard error what the authors' modules print when they are built."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def network(authors):
    """The authors' ResNet-50 with RGA-SC after each stage, with the interface of `torch_networks.Model`."""
    import torch_networks
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            network = imported(authors, "rga_model").ResNet50_RGA_Model
            with quiet():
                self.network = network(
                    pretrained=False, height=256, width=128, num_classes=torch_networks.CLASSES
                )

        def embed(self, images):
            return self.network([images], training=False)[1]

        def forward(self, images, labels):
            features, _, logits = self.network([images])
            return [(features, logits)]

    return Network()


def time_block(settings):
    """Times the forward pass of one attention module, then forward and backward, and reports both.

    The order matters: the peak memory in a report is that of the process so far.
    """
    import timing
    import torch
    import torch_networks

    layout = torch_networks.begin(settings)
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
    times = timing.milliseconds(forward, settings.repeats)
    what = {"model": "authors", "part": settings.part, "shape": shape}
    reports = [torch_networks.report(settings, times, **what, passes="forward")]
    block.train()
    x.requires_grad_()
    times = timing.milliseconds(forward_backward, settings.repeats)
    reports.append(torch_networks.report(settings, times, **what, passes="forward+backward"))
    return reports


def main():
    parser = networks.parser(__doc__.splitlines()[0], ["block"])
    parser.add_argument("--authors", metavar="DIR", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--part", choices=["spatial", "channel"], default="spatial")
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    results.add_arguments(parser)
    settings = parser.parse_args()
    reports = time_block(settings)
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'rga-block', reports)}", file=sys.stderr)


if __name__ == "__main__":
    main()
