"""The PyTorch code of `networks.py`: networks, training steps and reports."""

import timing
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50

CLASSES = 751
# Of CIFAR-10.
FEW_CLASSES = 10
IMAGES_PER_IDENTITY = 4


def backbone(network):
    """A backbone with a last stride of 1, its pooling and its flattening, without the classifier."""
    if network == "se-resnext101":
        import timm

        network = timm.create_model("legacy_seresnext101_32x4d", num_classes=0)
    else:
        network = resnet50()
        network.fc = nn.Identity()
    network.layer4[0].conv2.stride = (1, 1)
    network.layer4[0].downsample[0].stride = (1, 1)
    return network


class Model(nn.Module):
    """Maps images [n, 3, height, width] to embeddings [n, 2048], or to features and logits of each branch."""

    def __init__(self, network="resnet50"):
        super().__init__()
        self.backbone = backbone(network)
        self.bn = nn.BatchNorm1d(2048)
        self.bn.bias.requires_grad_(False)
        self.classifier = nn.Linear(2048, CLASSES, bias=False)

    def embed(self, images):
        return self.bn(self.backbone(images))

    def forward(self, images, labels):
        features = self.backbone(images)
        return [(features, self.classifier(self.bn(features)))]


def build(settings):
    """The network that the command line names, with the interface of `Model`."""
    if settings.network == "rga":
        import rga

        return rga.network(settings.authors)
    if settings.network == "fnc":
        import torch_fnc

        return torch_fnc.Network()
    if settings.network == "progressive":
        import torch_progressive

        return torch_progressive.Branches()
    if settings.network in ("resnet50", "se-resnext101"):
        return Model(settings.network)
    import torch_small

    return torch_small.network(settings.network, FEW_CLASSES if classifies(settings) else CLASSES)


def classifies(settings):
    """Whether the network is a classifier of small images, and not for re-identification."""
    return settings.network.startswith("cifar-")


def batch_hard_triplet(features, labels, margin=0.3):
    """The mean over anchors of max(0, farthest positive - nearest negative + margin), Euclidean."""
    squares = features.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    distances = squared.clamp(min=1e-12).sqrt()
    same = labels[:, None] == labels[None, :]
    farthest_positive = distances.masked_fill(~same, -torch.inf).amax(1)
    nearest_negative = distances.masked_fill(same, torch.inf).amin(1)
    return F.relu(farthest_positive - nearest_negative + margin).mean()


def inference(model, images):
    """A function that embeds the batch once."""
    model.eval()

    @torch.no_grad()
    def embed():
        return model.embed(images)

    return embed


def training(model, images):
    """A function that runs one training step of the strong baseline on the batch."""

    def criterion(features, logits, labels):
        identity = F.cross_entropy(logits, labels, label_smoothing=0.1)
        return identity + batch_hard_triplet(features, labels)

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3.5e-4, weight_decay=5e-4)
    return stepping(model, images, criterion, optimizer, CLASSES)


def classifier_training(model, images):
    """A function that runs one training step of a ResNet for CIFAR on the batch, as in its paper."""

    def criterion(_, logits, labels):
        return F.cross_entropy(logits, labels)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    return stepping(model, images, criterion, optimizer, FEW_CLASSES)


def stepping(model, images, criterion, optimizer, classes):
    """A function that runs one training step: the sum of the losses of all branches is minimised."""
    model.train()
    labels = torch.arange(len(images), device=images.device) // IMAGES_PER_IDENTITY % classes

    def step():
        optimizer.zero_grad()
        loss = 0.0
        for features, logits in model(images, labels):
            loss = loss + criterion(features, logits, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def kernels(work):
    """The number of kernels that one call launches on a GPU, and the milliseconds in them."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
    on_device = torch.autograd.DeviceType.CUDA
    times = [e.time_range.elapsed_us() for e in profile.events() if e.device_type == on_device]
    return {"kernels": len(times), "kernel_milliseconds": round(sum(times) / 1e3, 2)}


def begin(settings):
    """Sets threads and the seed, and returns the memory format."""
    torch.set_num_threads(settings.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    channels_last = settings.layout == "channels-last"
    return torch.channels_last if channels_last else torch.contiguous_format


def time_network(settings, layout, size):
    """Times the network on random images. Returns the wall time of each repeat and, with `--kernels`, the
    number of kernels and their time."""
    if settings.freeze:
        from torch._inductor import config

        config.freezing = True
    device = torch.device(settings.device)
    model = build(settings).to(device=device, memory_format=layout)
    images = torch.randn(settings.batch, 3, *size, device=device)
    images = images.contiguous(memory_format=layout)
    train = classifier_training if classifies(settings) else training
    prepare = inference if settings.mode == "infer" else train
    if settings.compile:
        model.compile()
        model.embed = torch.compile(model.embed)
    work = prepare(model, images)
    half = settings.precision[0] == "bfloat16"

    def timed():
        with torch.autocast(settings.device, torch.bfloat16, enabled=half):
            work()
        if settings.device == "cuda":
            torch.cuda.synchronize()

    times = timing.milliseconds(timed, settings.repeats)
    return times, kernels(timed) if settings.kernels else {}


def report(settings, times, **more):
    """Prints one line of JSON, with `more` fields about what was timed, and returns its object."""
    what = {"system": "pytorch", "version": torch.__version__, **more}
    what |= {name: getattr(settings, name) for name in ("mode", "layout", "batch", "threads")}
    if settings.device == "cuda":
        what["device_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return timing.report(settings.batch, times, **what)
