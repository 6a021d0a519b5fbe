"""The studies: which networks are trained by which recipes on which data, and what the papers report.

A row is one network or setting. All rows of a study differ from its first row, the baseline of their backbone, only in
what their names say. `run.py` runs them and `page.py` makes tables of the results.
"""

import hashlib
import json
from dataclasses import dataclass, field

import recipes as make


@dataclass(frozen=True)
class Row:
    """One row of a table: what is run for each seed."""

    name: str
    #: The recipe without its seed; `None` for published weights that are only evaluated.
    recipe: dict | None
    #: The program in `examples`.
    program: str = "train_baseline"
    #: The name of the weights that training starts from, a key of `WEIGHTS`.
    weights: str | None = None
    flags: tuple[str, ...] = ()
    backbone: str = "OSNet x0.25"
    #: The score that the paper reports, in percent.
    paper: float | None = None
    #: Whether a run has a seed. Without one, the row is run once.
    seeded: bool = True
    #: The name of the row that it is compared with; the first row of its backbone by default.
    baseline: str | None = None

    def settings(self):
        """A digest of everything that decides the result, except seed and data."""
        settings = [self.program, self.recipe, self.weights, self.flags]
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Study:
    key: str
    title: str
    text: str
    rows: tuple[Row, ...]
    data: tuple[str, ...] = ("vehicles",)
    seeds: int = 5
    #: The column of the results that is compared, and its name in tables.
    score: tuple[str, str] = ("map", "mAP")
    #: Whether a lower score is better.
    lower: bool = False
    #: What the column of the paper's own figures is called.
    paper: str = ""
    #: The score of the same paper that a figure compares, or none.
    figure: bool = False
    further: tuple[tuple[str, str], ...] = field(default=(("rank_1", "Rank-1"),))

    def baseline(self, row):
        """The row that a row is compared with; `None` for the baseline itself."""
        rows = [other for other in self.rows if other.backbone == row.backbone]
        name = row.baseline or rows[0].name
        found = next(other for other in rows if other.name == name)
        return None if found is row else found


#: The published weights and where they are found.
WEIGHTS = {
    "osnet": "`osnet_x0_25_msmt17.pth` from torchreid's model zoo",
    "mobilenet": "`mobilenet_v2` of ImageNet from torchvision",
}

#: The data, and what is given as `--data NAME=PATH`.
DATA = {
    "vehicles": "vehicles of two cameras: a folder that `vehicles.py` reads",
    "groceries": "groceries without cameras: a folder or a CSV list that `train_baseline` reads",
    "cifar10": "CIFAR-10: the binary version, or folders `train` and `test` with a folder per class",
    "streets": "synthetic streets, which the program draws",
}

#: Data that need no `--data`.
DRAWN = {"streets"}


def trained(name, network, weights="osnet", paper=None, **changes):
    return Row(name, make.vehicles(network, **changes), weights=weights, paper=paper)


def transfer():
    def rows(backbone, architecture, network, weights):
        published = Row(
            "published weights, not trained",
            None,
            "embed_folder",
            weights,
            ("--architecture", architecture),
            backbone,
            seeded=False,
        )
        recipe = make.vehicles(network)
        return (
            Row("trained from random weights", recipe, backbone=backbone),
            published,
            Row("trained from published weights", recipe, weights=weights, backbone=backbone),
        )

    osnet = rows("OSNet x0.25", "osnet-x0.25", make.osnet(), "osnet")
    mobile = rows("MobileNetV2", "mobilenet-v2", make.mobile_net(), "mobilenet")
    return Study(
        "transfer",
        "Published weights, fine-tuned",
        "OSNet x0.25 with weights of MSMT17 (people) and MobileNetV2 with weights of ImageNet. 507 vehicles are for "
        "training, 60 others for the test. Published weights that are not trained are evaluated at their own image "
        "sizes, 256 x 128 and 224 x 224; all training is at 128 x 128.",
        osnet + mobile,
        seeds=3,
    )


def attention():
    def after(name, block, stages=(1, 2, 3, 4), paper=None):
        network = make.osnet([(stage, block) for stage in stages] if block else [])
        return trained(name, network, paper=paper)

    return Study(
        "attention",
        "Attention after the stages",
        "Relation-aware global attention (RGA) and the attention that its paper compares, after all four stages of "
        "OSNet x0.25, from weights of MSMT17. With the paper's ratios of 8, the hidden layer of RGA-S would have one "
        "unit on the 8 x 8 positions of the last stages. With ratios of 4, the hidden layers have 64, 16, 4 and 4 "
        "units in RGA-S, and 4, 6, 8 and 8 in RGA-C. Squeeze-and-excitation and CBAM have a reduction of 16: 4 to 8 "
        "hidden units. Non-local blocks start as the identity, all other attention as factors around a half, or around "
        f"{make.NEAR_1} in the rows near 1.",
        (
            after("baseline", None, paper=69.0),
            after("SE", make.SE, paper=71.9),
            after("SE, near 1", make.near_1(make.SE)),
            after("CBAM", make.CBAM, paper=73.0),
            after("CBAM, near 1", make.near_1(make.CBAM)),
            after("non-local", make.NON_LOCAL, paper=72.6),
            after("RGA-S", make.rga_spatial(4), paper=74.7),
            after("RGA-C", make.rga_channel(4), paper=74.9),
            after("RGA-SC", make.rga(4), paper=76.5),
            after("RGA-SC, near 1", make.near_1(make.rga(4))),
            after("RGA-SC, ratios of 8", make.rga(8)),
            after("RGA-SC, last stage only", make.rga(4), (4,)),
        ),
        data=("vehicles", "groceries"),
        paper="CUHK03 (labelled), ResNet-50: Tables 1 to 3",
        figure=True,
    )


def branches():
    soft = {"losses.triplet.criterion.margin": "soft"}

    def row(name, *parts, paper=None):
        return trained(name, make.branched(*parts), paper=paper, **soft)

    def two(partner="negative", cut=6):
        return make.mix(1024, partner, cut), make.mix(512, partner, cut)

    cuts = [row(f"+PC2, k = {cut}", *two(cut=cut)) for cut in (0, 2, 4, 8, 10)]
    return Study(
        "branches",
        "Branches with feature CutMix",
        "Progressive feature CutMix and Batch DropBlock on OSNet x0.25, from weights of MSMT17. G is the global "
        "branch alone, BDB* and BDB*3 have one and two more branches in which a rectangle is dropped, +PC1 and +PC2 "
        "one and two branches with feature CutMix. Donors are of another identity (N), of the same (P) or any (P+N), "
        "and 6 of the 32 patches are cut unless the row says otherwise. With k = 0, the branches are not augmented.",
        (
            row("G", paper=60.1),
            row("BDB*", make.drop(1024), paper=69.5),
            row("BDB*3", make.drop(1024), make.drop(512), paper=71.2),
            row("+PC1", make.mix(1024), paper=71.5),
            row("+PC2", *two(), paper=73.0),
            row("+PC2, donors P", *two("positive"), paper=66.4),
            row("+PC2, donors P+N", *two("any"), paper=71.1),
            *cuts,
        ),
        paper="CUHK03 (detected), ResNet-50: Tables 3 and 4",
        figure=True,
    )


def fnc():
    def after(name, block, combine, paper=None):
        return trained(name, make.osnet([(4, block(combine))]), paper=paper)

    def spatial(combine):
        return {"fnc-spatial": make.fnc_spatial(combine)}

    def channel(combine):
        return {"fnc-channel": make.fnc_channel(combine)}

    return Study(
        "fnc",
        "Further non-local and channel attention",
        "FNC on OSNet x0.25, from weights of MSMT17. The baseline and the rows with one attention block, after the "
        "last stage, have OSNet's head of 512 dimensions. FNC has two branches of 1024 and 512 dimensions. Separate "
        "branches have their own blocks from the second block of stage 3 on. The channel attention has 64 hidden "
        "channels in 4 groups, half as many as the features, as in the paper. In the rows near 1, the factors of SAB "
        f"start around {make.NEAR_1} instead of a half; those of CAB cannot, because no bias comes last in it.",
        (
            trained("baseline", make.osnet(), paper=61.8),
            after("+CAB", channel, "multiply", paper=66.0),
            after("+SAB", spatial, "multiply", paper=68.6),
            trained("FNC, shared", make.fnc(False, "multiply"), paper=68.5),
            trained("FNC, separate", make.fnc(True, "multiply"), paper=70.8),
            trained("FNC, separate, added", make.fnc(True, "add"), paper=67.1),
            trained("+SAB, near 1", make.osnet([(4, make.near_1(spatial("multiply")))])),
            trained("FNC, separate, SAB near 1", make.fnc(True, "multiply", initial_gate=make.NEAR_1)),
            after("+CAB, added", channel, "add"),
            after("+SAB, added", spatial, "add"),
        ),
        paper="CityFlow (validation), SE-ResNeXt-101: Tables 5 and 6",
        figure=True,
    )


def losses():
    def weighted(**criterion):
        return {"weight": 1.0, "criterion": criterion}

    def pair(name, field, **criterion):
        return trained(name, make.osnet(), **{"losses.triplet": None, f"losses.{field}": weighted(**criterion)})

    def margin(name, field, **criterion):
        return trained(name, make.osnet(), **{"losses.identity": None, f"losses.{field}": weighted(**criterion)})

    similarity = {"margin": 0.1, "threshold": 0.5, "positive_scale": 2.0, "negative_scale": 50.0}
    return Study(
        "losses",
        "Losses",
        "OSNet x0.25, from weights of MSMT17, with the hyper-parameters that are the library's defaults. The baseline "
        "has cross-entropy and the batch-hard triplet loss. Losses of pairs replace the triplet loss, and losses with "
        "a margin between classes replace cross-entropy. All weights are 1.",
        (
            trained("cross-entropy and triplet", make.osnet()),
            pair("circle", "circle", margin=0.25, gamma=64.0),
            pair("multi-similarity", "multi_similarity", **similarity),
            pair("supervised contrastive", "supervised_contrastive", temperature=0.1),
            pair("weighted regularised triplet", "weighted_regularised_triplet", distance="euclidean"),
            margin("ArcFace", "arc_face", scale=30.0, margin=0.5),
            margin("CosFace", "cos_face", scale=30.0, margin=0.35),
        ),
        data=("vehicles", "groceries"),
    )


def unlabelled():
    published = Row(
        "published weights",
        None,
        "embed_folder",
        "osnet",
        ("--architecture", "osnet-x0.25"),
        seeded=False,
    )
    flags = ("--min-samples", "2", "--neighbours", "8", "--epsilon", "0.4")
    recipe = make.unlabelled(make.osnet())
    return Study(
        "unlabelled",
        "Without labels",
        "Cluster contrast from OSNet's weights of MSMT17 on the images of the 507 vehicles, whose identities are not "
        "used: 20 rounds at 128 x 128. Clusters have at least 2 images. The radius of DBSCAN, 0.4, gives the most clusters "
        "in the first round, which needs no labels either. Published weights are evaluated at 256 x 128.",
        (published, Row("cluster contrast", recipe, "train_unlabelled", "osnet", flags)),
    )


def cifar():
    def row(name, depth, block=None, paper=None):
        network = make.cifar_resnet(depth, [(1, block)] if block else [])
        return Row(name, make.cifar(network), backbone="ResNet", paper=paper)

    reduced = {"squeeze-excitation": {"reduction": 4}}
    cbam = {"chain": [{"cbam-channel": {"reduction": 4}}, make.CBAM["chain"][1]]}
    return Study(
        "cifar",
        "Classification",
        "CIFAR-10, one recipe of 30 epochs. Attention is after stage 1, of 16 channels at 32 x 32; RGA has ratios of "
        "4 as in its paper. The hidden layer of RGA-S has 64 units, but that of RGA-C only one, because there are 16 "
        "channels. In the row with a wider RGA-C, its ratio s2 is 1 and it has 5. ResNet-32 has more parameters instead of attention. "
        "Squeeze-and-excitation and CBAM have a reduction of 4: 4 hidden units.",
        (
            row("ResNet-20", 20, paper=6.40),
            row("ResNet-20, RGA-SC", 20, make.rga(4), paper=5.91),
            row("ResNet-20, RGA-SC, wider RGA-C", 20, rga_of_cifar()),
            row("ResNet-20, SE", 20, reduced),
            row("ResNet-20, CBAM", 20, cbam),
            row("ResNet-32", 32, paper=6.26),
        ),
        data=("cifar10",),
        seeds=3,
        score=("error", "error"),
        lower=True,
        paper="ResNet-110, with RGA-SC, and ResNet-218: Table 7",
        further=(),
    )


def rga_of_cifar():
    """RGA-SC whose channel attention has at least 4 hidden units with 16 channels."""
    channel = {"rga-channel": {"s1": 4, "s2": 1, "terms": "both"}}
    return {"chain": [make.rga_spatial(4), channel]}


def streets():
    def row(name, context, side=None, paper=None, baseline=None):
        flags = ("--context", context)
        recipe = make.streets(context, side)
        return Row(name, recipe, "segment_streets", flags=flags, backbone="ResNet", paper=paper, baseline=baseline)

    return Study(
        "streets",
        "Segmentation",
        "Synthetic streets of four classes, a dilated ResNet of six bottlenecks with random weights, 400 steps. RGA-SC "
        "has 13 x 13 positions and ratios of 4: hidden layers of 10 units in RGA-S and 4 in RGA-C. Rows with RGA-SC "
        "are compared with the same head without it.",
        (
            row("plain", "plain", paper=74.8),
            row("pyramid pooling", "pyramid", paper=77.0),
            row("ASPP", "aspp", paper=78.5),
            row("plain, RGA-SC", "plain", 13, paper=78.5, baseline="plain"),
            row("pyramid pooling, RGA-SC", "pyramid", 13, paper=78.9, baseline="pyramid pooling"),
            row("ASPP, RGA-SC", "aspp", 13, paper=79.6, baseline="ASPP"),
        ),
        data=("streets",),
        seeds=3,
        score=("miou", "mIoU"),
        paper="Cityscapes (validation), ResNet-101: Table 6",
        further=(),
    )


#: All studies, the most important first.
STUDIES = (
    transfer(),
    attention(),
    branches(),
    fnc(),
    losses(),
    unlabelled(),
    cifar(),
    streets(),
)
