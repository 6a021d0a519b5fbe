"""Times a training step of progressive feature CutMix in PyTorch, and prints one line of JSON.

    python3 benches/peer/progressive.py --batch 8 --rounds 5       # --device cuda --precision bfloat16

The network is a ResNet-50 with a last stride of 1 at 384 x 128, with a global branch and two attentive
branches (512, 1024 and 512 dimensions) and 751 classes. Each branch has a soft-margin batch-hard triplet
loss and cross-entropy with label smoothing. The optimizer is Adam. Every round runs each variant once, in
rotating order:

without      no features are mixed
second_pass  the Grad-CAM of a branch is computed by autograd, from its scores to its features
whole_graph  the same Grad-CAM is computed by `backward` through the whole network, as in code with hooks;
             the gradients of the parameters are discarded before the real backward pass
"""

import argparse
import json
import statistics
import sys
import time

import results

VARIANTS = ("without", "second_pass", "whole_graph")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images, a multiple of 4")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one untimed round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layout", choices=["plain", "channels-last"], default="channels-last")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["single", "bfloat16"], default="single")
    results.add_arguments(parser)
    settings = parser.parse_args()

    import torch
    import torch.nn.functional as F
    from torch_progressive import Network, triplet

    torch.set_num_threads(settings.threads)
    torch.manual_seed(1)
    last = settings.layout == "channels-last"
    layout = torch.channels_last if last else torch.contiguous_format
    device = torch.device(settings.device)
    network = Network().train().to(device, memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=5e-4)
    images = torch.rand(settings.batch, 3, 384, 128, device=device)
    images = images.contiguous(memory_format=layout)
    labels = torch.arange(settings.batch, device=device) // 4
    half = settings.precision == "bfloat16"
    measured = {variant: [] for variant in VARIANTS}
    for number in range(settings.rounds + 1):
        for variant in VARIANTS[number % 3 :] + VARIANTS[: number % 3]:
            start = time.perf_counter()
            with torch.autocast(settings.device, torch.bfloat16, enabled=half):
                outputs = network(images, labels, variant)
                loss = sum(
                    F.cross_entropy(logits, labels, label_smoothing=0.1) + triplet(f, labels)
                    for f, logits in outputs
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            measured[variant].append(time.perf_counter() - start)
    common = {
        "system": f"PyTorch {torch.__version__.split('+')[0]}",
        "layout": settings.layout,
        "device": settings.device,
        "precision": settings.precision,
        "batch": settings.batch,
        "threads": settings.threads,
        "rounds": settings.rounds,
    }
    variants = {}
    for variant, seconds in measured.items():
        ratios = sorted(a / b for a, b in zip(seconds[1:], measured["without"][1:], strict=True))
        variants[variant] = {
            "seconds": statistics.median(seconds[1:]),
            "of_without": statistics.median(ratios),
            "least": ratios[0],
            "most": ratios[-1],
        }
    print(json.dumps(common | variants))
    if settings.csv:
        rows = [{"variant": name} | row for name, row in variants.items()]
        print(f"wrote {results.write(settings.csv, 'progressive', rows, **common)}", file=sys.stderr)


if __name__ == "__main__":
    main()
