"""Makes docs/BENCHMARKS.md, and a table of the guide, from the CSV files beside this script.

    python3 benches/results/page.py            # writes both
    python3 benches/results/page.py --check    # exits with 1 if one of them differs

`page.md` is the template of docs/BENCHMARKS.md. Each `{{name}}` in it is the result of the function `name` here. The text from
`{{#name}}` to `{{/name}}` is left out if the function returns an empty text, because nothing was measured.
"""

import argparse
import csv
import difflib
import math
import re
import statistics
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent
PAGE = RESULTS.parents[1] / "docs" / "BENCHMARKS.md"
GUIDE = RESULTS.parents[1] / "docs" / "guide" / "src" / "networks.md"
SPEEDS = re.compile(r"(<!-- speeds: [^\n]*-->\n).*?(\n<!-- end of speeds -->)", re.DOTALL)
NAMED = re.compile(r"(\d{4}-\d{2}-\d{2})-(.+)\.csv")
NETWORKS = {
    "resnet50": "ResNet-50",
    "se-resnext101": "SE-ResNeXt-101",
    "rga": "RGA-ResNet-50",
    "fnc": "FNC",
    "progressive": "progressive CutMix",
    "osnet-x1.0": "OSNet x1.0",
    "osnet-x0.25": "OSNet x0.25",
    "mobilenet-v2": "MobileNetV2",
    "cifar-resnet20": "ResNet-20 for CIFAR",
}
MODES = {"infer": "inference", "train": "training"}
MACHINES = {
    "xeon-emerald-rapids-2-cores": "Emerald Rapids",
    "xeon-ice-lake-2-cores": "Ice Lake",
    "epyc-2-cores": "EPYC",
    "unrecorded-2-cores": "one of the CPU machines",
    "h200": "H200",
}


def files(what):
    """The files of a benchmark as (machine, date, path), oldest first."""
    found = []
    for path in RESULTS.glob("*/*.csv"):
        if (name := NAMED.fullmatch(path.name)) and name[2] == what:
            found.append((path.parent.name, name[1], path))
    return sorted(found, key=lambda file: file[1:])


def read(what, keys):
    """The rows of a benchmark with their machine and date: for each machine and each value of the `keys`,
    only those of the newest file."""
    newest = {}
    for machine, date, path in files(what):
        rows = {}
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                row = {"note": "", **row, "machine": machine, "date": date}
                if missing := [key for key in keys if key not in row]:
                    sys.exit(f"{path}: expected the column {missing[0]}, found {', '.join(row)}")
                rows.setdefault((machine, *(row[key] for key in keys)), []).append(row)
        newest |= rows
    if not newest:
        sys.exit(f"{RESULTS}: no file MACHINE/YYYY-MM-DD-{what}.csv")
    return [row for rows in newest.values() for row in rows]


LEFT = {"machine", "system", "setting"}


def table(header, rows):
    """A table in Markdown. The first column is aligned to the left, as are columns of words."""
    marks = ["---" if i == 0 or name in LEFT else "--:" for i, name in enumerate(header)]
    lines = [header, marks, *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def short(machine):
    return MACHINES.get(machine, machine)


def order(names, name):
    names = list(names)
    return names.index(name) if name in names else len(names)


def commands(rows, label="Command"):
    """The distinct commands of rows, as one line."""
    distinct = list(dict.fromkeys(row["command"] for row in rows if row["command"]))
    return f"{label}{'s' if len(distinct) > 1 else ''}: " + ", ".join(f"`{text}`" for text in distinct)


def ours(row):
    return row["system"].startswith("reid")


def family(row):
    """The system of a row without its version: `ONNX Runtime 1.32.0` is `ONNX Runtime`."""
    return re.match(r"[^\d,]*", row["system"])[0].strip()


def latest(what, keys):
    """The newest row of a benchmark for each machine, system and value of the keys, whatever the version of
    the system. There are no rows if it was not measured."""
    newest = {}
    for row in read(what, [*keys, "system"]) if files(what) else []:
        key = row["machine"], family(row), *(row[name] for name in keys)
        if key not in newest or row["date"] >= newest[key]["date"]:
            newest[key] = row
    return list(newest.values())


def machines():
    rows = []
    for path in RESULTS.glob("*/machine.csv"):
        with path.open(newline="", encoding="utf-8") as lines:
            [row] = csv.DictReader(lines)
        name = path.parent.name
        hardware = [row["processor"], row["cores"] and f"{row['cores']} cores", row["instructions"]]
        hardware += [row["memory_gib"] and f"{row['memory_gib']} GiB", row["accelerator"]]
        text = ", ".join(part for part in hardware if part) + "; " + row["notes"]
        rows.append((short(name), f"`{name}`", text))
    rows.sort(key=lambda row: order(MACHINES.values(), row[0]))
    marks = ["| machine | folder of results | processor, memory, accelerator |", "|---|---|---|"]
    return "\n".join(marks + [f"| {' | '.join(row)} |" for row in rows])


NETWORK_KEYS = ["network", "mode", "precision", "setting", "batch"]


def single_precision():
    """The rows of networks in single precision on CPUs."""
    rows = latest("networks", NETWORK_KEYS)
    return [row for row in rows if row["precision"] == "single" and row["machine"] != "h200"]


def cpu_networks():
    """The rows of the first table: those at batch 8."""
    return [row for row in single_precision() if row["batch"] == "8"]


def spread(network, mode, batch):
    """The least and the greatest ratio to PyTorch in all runs on all machines."""
    rows = read("networks-ratio", ["network", "mode", "setting", "batch"])
    key = network, mode, "plain", batch
    rows = [row for row in rows if key == tuple(row[k] for k in ("network", "mode", "setting", "batch"))]
    if not rows:
        return ""
    low = min((row["ratio_min"] for row in rows), key=float)
    high = max((row["ratio_max"] for row in rows), key=float)
    return f"{low} to {high}"


def same_day(rows):
    """The rows of the newest day."""
    rows = list(rows)
    return [row for row in rows if row["date"] == max(other["date"] for other in rows)]


def networks():
    groups = {}
    for row in cpu_networks():
        groups.setdefault((row["machine"], row["network"], row["mode"]), []).append(row)
    keys = sorted(groups, key=lambda k: (order(MACHINES, k[0]), order(NETWORKS, k[1]), order(MODES, k[2])))
    rows = []
    for machine, network, mode in keys:
        found = groups[machine, network, mode]
        peers = same_day(row for row in found if family(row) == "PyTorch")
        peer = max(peers, key=lambda row: float(row["images_per_second"] or 0), default={})
        own = {row["setting"]: row for row in same_day(filter(ours, found))}
        if not own:
            continue
        plain, folded = own.get("plain", {}), own.get("folded", {})
        name = f"{NETWORKS.get(network, network)}, {MODES[mode]}"
        speeds = [row.get("images_per_second", "") for row in (plain, folded, peer)]
        ratios = [row.get("ratio", "") for row in (plain, folded)]
        memory = [row.get("peak_memory_mb", "") for row in (plain, peer)]
        between = spread(network, mode, "8")
        rows.append((name, *speeds, *ratios, between, *memory, short(machine)))
    header = ["network", "reid", "reid, folded", "PyTorch", "ratio", "ratio, folded", "ratio, all runs"]
    return table([*header, "reid, MB", "PyTorch, MB", "machine"], rows)


def speeds():
    """The speed and memory of this library in each network, for the guide: the faster setting, the newest day."""
    groups = {}
    for row in filter(ours, cpu_networks()):
        groups.setdefault((row["machine"], row["network"]), {}).setdefault(row["mode"], []).append(row)
    keys = sorted(groups, key=lambda k: (order(MACHINES, k[0]), order(NETWORKS, k[1])))
    rows = []
    for machine, network in keys:
        cells = []
        for mode in MODES:
            found = [row for row in groups[machine, network].get(mode, []) if row["images_per_second"]]
            best = max(same_day(found), key=lambda row: float(row["images_per_second"]), default={}) if found else {}
            cells += [best.get("images_per_second", ""), best.get("peak_memory_mb", "")]
        if any(cells):
            rows.append((NETWORKS.get(network, network), *cells, short(machine)))
    header = ["network", "inference, images/s", "MB", "training, images/s", "MB", "machine"]
    return table(header, rows)


def networks_commands():
    return commands(cpu_networks())


EAGER = {"contiguous", "channels-last", "fastest"}
COLUMNS = ["reid", "reid, folded", "PyTorch", "PyTorch, compiled", "PyTorch, frozen"]
COLUMNS += ["ONNX Runtime", "OpenVINO"]


def column(row):
    """The column of a row in the tables by batch size."""
    plain = row["setting"] == "plain" or row["setting"] in EAGER
    return family(row) if plain else f"{family(row)}, {row['setting']}"


def batch_rows(mode):
    """The rows of a mode of all networks that were also measured compiled or in another runtime."""
    rows = [row for row in single_precision() if row["mode"] == mode]
    shown = {(row["machine"], row["network"]) for row in rows if column(row) in COLUMNS[3:]}
    return [row for row in rows if (row["machine"], row["network"]) in shown]


def by_batch(mode):
    """Images per second and memory by network and batch size; the columns that have values."""
    cells = {}
    for row in batch_rows(mode):
        key = row["machine"], row["network"], int(row["batch"])
        found = cells.setdefault(key, {})
        # The faster of PyTorch's memory formats.
        speed = float(row["images_per_second"] or 0)
        if speed and speed > found.get(column(row), (0, ""))[0]:
            found[column(row)] = speed, row["peak_memory_mb"]
    cells = {key: found for key, found in cells.items() if found}
    columns = [name for name in COLUMNS if any(name in found for found in cells.values())]
    rows = []
    for key in sorted(cells, key=lambda k: (order(MACHINES, k[0]), order(NETWORKS, k[1]), k[2])):
        machine, network, batch = key
        found = cells[key]
        own = max((found[name][0] for name in COLUMNS[:2] if name in found), default=None)
        peer = max((found[name][0] for name in COLUMNS[2:] if name in found), default=None)
        shown = [f"{found[name][0]:.4g} ({found[name][1]})" if name in found else "" for name in columns]
        rows.append((NETWORKS.get(network, network), batch, *shown, quotient(own, peer), short(machine)))
    return table(["network", "batch", *columns, "ratio", "machine"], rows) if rows else ""


def inference_by_batch():
    return by_batch("infer")


def training_by_batch():
    return by_batch("train")


def inference_by_batch_commands():
    return commands(batch_rows("infer"))


def training_by_batch_commands():
    return commands(batch_rows("train"))


def operations_file():
    machine, _, path = files("operations")[-1]
    return f"{machine}/{path.name}"


BLOCKS = {
    "squeeze_excitation": "squeeze-and-excitation",
    "cbam_channel": "CBAM, channels",
    "cbam_spatial": "CBAM, spatial",
    "fully_connected_channel": "fully connected, channels",
    "fully_connected_spatial": "fully connected, spatial",
    "non_local_gaussian": "non-local, Gaussian",
    "non_local_dot_product": "non-local, dot product",
    "rga_channel": "RGA-C",
    "rga_spatial": "RGA-S",
}
PASSES = ["", "_training"]


def attention_rows():
    """The fastest milliseconds by machine, benchmark, argument and system."""
    rows = read("attention", ["benchmark", "argument", "system"])
    found = {}
    for row in rows:
        if row.get("fastest_ms"):
            system = "reid" if ours(row) else "Burn"
            found[row["machine"], row["benchmark"], row["argument"], system] = row["fastest_ms"]
    return found


def quotient(peer, own):
    return f"{float(peer) / float(own):.2f}" if peer and own else ""


def attention():
    found = attention_rows()
    rows = []
    for machine in sorted({key[0] for key in found}):
        for block, name in BLOCKS.items():
            cells = []
            for mode in PASSES:
                own, burn = (found.get((machine, block + mode, "", s), "") for s in ("reid", "Burn"))
                cells += [own, burn, quotient(burn, own)]
            if any(cells):
                rows.append((name, *cells, short(machine)))
    header = [
        "block",
        "forward, reid",
        "Burn",
        "ratio",
        "forward and backward, reid",
        "Burn",
        "ratio",
        "machine",
    ]
    return table(header, rows)


def relations():
    found = attention_rows()
    sizes = sorted({key[2] for key in found if key[1].startswith("relations.")}, key=int)
    rows = []
    for machine in sorted({key[0] for key in found if key[1].startswith("relations.")}):
        for size in sizes:
            cells = []
            for mode in PASSES:
                names = [f"relations.{form}{mode}" for form in ("factorised", "published")]
                own, published = (found.get((machine, name, size, "reid"), "") for name in names)
                cells += [own, published, quotient(published, own)]
            rows.append((size, *cells, short(machine)))
    header = [
        "positions",
        "forward, factorised",
        "published",
        "ratio",
        "forward and backward, factorised",
        "published",
    ]
    return table([*header, "ratio", "machine"], rows)


def attention_command():
    return commands(
        [row for row in read("attention", ["benchmark", "argument", "system"]) if row.get("fastest_ms")]
    )


def number(text):
    return f"{float(text):.3g}"


def ranking_rows():
    rows = read("ranking", ["system", "mode", "queries", "gallery", "dimensions", "note"])
    return [row for row in rows if row.get("peak_memory_mb")]


def geometric(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def ranking():
    groups = {}
    for row in ranking_rows():
        size = int(row["queries"]), int(row["gallery"])
        groups.setdefault(
            (size, row["mode"], order(MACHINES, row["machine"]), row["machine"], row["date"], row["note"]), []
        ).append(row)
    rows = []
    for key in sorted(groups):
        (queries, gallery), mode, _, machine, date, note = key
        own = [row for row in groups[key] if ours(row)]
        peers = [row for row in groups[key] if not ours(row)]
        if not own:
            continue
        median = [statistics.median(float(r["seconds"]) for r in rs) if rs else "" for rs in (own, peers)]
        if len(own) == len(peers) and peers:
            ratios = [float(b["seconds"]) / float(a["seconds"]) for a, b in zip(own, peers, strict=True)]
            ratio = f"{geometric(ratios):.1f}"
        else:
            ratio = f"{median[1] / median[0]:.1f}" if peers else ""
        memory = [rs[0].get("peak_memory_mb", "") if rs else "" for rs in (own, peers)]
        name = {"evaluate": "evaluation", "rerank": "re-ranking"}[mode] + (f" ({note})" if note else "")
        cells = [number(m) if m != "" else "" for m in median]
        rows.append((name, f"{queries:,} x {gallery:,}", *cells, ratio, *memory, f"{short(machine)}, {date}"))
    header = [
        "",
        "queries x gallery",
        "reid, s",
        "FastReID, s",
        "ratio",
        "reid, MB",
        "FastReID, MB",
        "machine",
    ]
    return table(header, rows)


def ranking_command():
    return commands([row for row in ranking_rows() if row["queries"] == "3368"])


def growth_rows():
    return sorted(read("growth", ["gallery"]), key=lambda row: int(row["gallery"]))


def growth_machine():
    return ", ".join(sorted({short(row["machine"]) for row in growth_rows()}))


def growth():
    rows = growth_rows()
    columns = [f"{int(row['gallery']):,}" for row in rows]
    seconds, memory = ([row[c] for row in rows] for c in ("seconds", "peak_memory_mb"))
    return table(["gallery images", *columns], [("seconds", *seconds), ("peak memory, MB", *memory)])


def loading():
    """A sentence about measurements from before reid's loader was compared; empty if there are newer ones."""
    if files("loaders"):
        return ""
    rows = [row for row in read("loading", ["argument", "system"]) if ours(row)]
    parts = []
    for row in sorted(rows, key=lambda row: (order(MACHINES, row["machine"]), int(row["argument"]))):
        source = "from disk" if row["argument"] == "0" else "from the cache of decoded images"
        parts.append(f"{row['fastest_ms']} ms {source} ({short(row['machine'])})")
    text = (
        "Loading decodes and augments batches of 64 images at 256 x 128, in milliseconds of the fastest run"
    )
    return f"{text}: {', '.join(parts)}. {commands(rows)}"


LOADERS = {
    "reid": "reid",
    "reid, cached": "reid, from its cache",
    "pillow": "PyTorch, Pillow",
    "tensors": "PyTorch, tensors",
}


def loader_rows():
    return latest("loaders", ["source", "input", "setting"])


def loaders():
    """Images per second and memory of loaders by size."""
    cells = {}
    for row in loader_rows():
        key = order(MACHINES, row["machine"]), row["machine"], row["source"], row["input"]
        cells.setdefault(key, {})[row["setting"]] = row
    rows = []
    for key in sorted(cells):
        _, machine, source, size = key
        found = [cells[key].get(setting) for setting in LOADERS]
        shown = [f"{row['images_per_second']} ({row['peak_memory_mb']})" if row else "" for row in found]
        sizes = [text.replace("x", " x ") for text in (source, size)]
        rows.append((*sizes, *shown, cells[key].get("reid", {}).get("ratio", ""), short(machine)))
    header = ["JPEG files", "input", *LOADERS.values(), "ratio", "machine"]
    return table(header, rows) if rows else ""


def loaders_commands():
    return commands(loader_rows())


def boxes_rows():
    rows = latest("boxes", ["network", "boxes"])
    return sorted(rows, key=lambda row: (order(MACHINES, row["machine"]), int(row["boxes"]), not ours(row)))


BOXES = {
    "p50_ms": "median, ms",
    "p99_ms": "99th percentile, ms",
    "boxes_per_second": "boxes/s",
    "first_ms": "first embeddings, ms",
    "peak_memory_mb": "MB",
}


def boxes():
    """Latency from the boxes of a frame to embeddings."""
    rows = [
        (row["boxes"], row["system"], *(row.get(name, "") for name in BOXES), short(row["machine"]))
        for row in boxes_rows()
    ]
    return table(["boxes", "system", *BOXES.values(), "machine"], rows) if rows else ""


def boxes_commands():
    return commands(boxes_rows())


TASKS = {
    ("first search", "1"): "first search",
    ("search", "1"): "search of 1",
    ("search", "64"): "search of 64",
    ("save", "0"): "save",
    ("open", "0"): "open",
}


def gallery_rows():
    return latest("gallery", ["storage", "task", "queries", "entries", "dimensions"])


def gallery():
    """Milliseconds of searches in a gallery by system, with the 99th percentile of single queries."""
    found = {}
    for row in gallery_rows():
        size = int(row["entries"]), int(row["dimensions"])
        key = order(MACHINES, row["machine"]), row["machine"], size, not ours(row)
        key += row["system"], row["storage"]
        found.setdefault(key, {})[row["task"], row["queries"]] = row
    rows = []
    for key in sorted(found):
        _, machine, (entries, dimensions), _, system, storage = key
        tasks = found[key]
        cells = [f"{1e3 * float(tasks[task]['seconds']):.4g}" if task in tasks else "" for task in TASKS]
        if single := tasks.get(("search", "1")):
            cells[1] += f" ({1e3 * float(single['p99_seconds']):.4g})"
        searched = [row for (task, _), row in tasks.items() if task.endswith("search")]
        memory = max((int(float(row["peak_memory_mb"])) for row in searched), default="")
        name = system + (", half precision" if storage == "half" else "")
        rows.append((f"{entries:,} x {dimensions}", name, *cells, memory, short(machine)))
    header = ["embeddings", "system", *(f"{name}, ms" for name in TASKS.values()), "MB", "machine"]
    return table(header, rows) if rows else ""


def gallery_commands():
    return commands(gallery_rows())


def shards_rows():
    return latest("shards", ["gallery", "step"])


def shards():
    """Time and memory of an evaluation whose gallery is read from shards on disk."""
    rows = [
        (f"{int(row['gallery']):,}", row["step"], row["seconds"], row["peak_memory_mb"], short(row["machine"]))
        for row in shards_rows()
    ]
    return table(["gallery images", "step", "seconds", "peak memory, MB", "machine"], rows) if rows else ""


def shards_reranked():
    """What the steps of re-ranking are, if they were measured."""
    if not any(row["step"].startswith("re-rank") for row in shards_rows()):
        return ""
    return (
        ' "Re-rank" is re-ranking with k₁ = 20, k₂ = 6 and λ = 0.3, and its evaluation; 256 MiB of the gallery are in '
        "memory at a time. Its mAP is equal to that in memory too."
    )


def shards_commands():
    return commands(shards_rows())


SEGMENTATION = {"fcn": "FCN", "deeplab-v3": "DeepLabV3", "rga": "RGA-SC"}


def segmentation_rows():
    return latest("segmentation", ["network", "size", "setting"])


def segmentation():
    """Time and memory of the segmentation of one large image."""
    key = lambda row: (order(MACHINES, row["machine"]), order(SEGMENTATION, row["network"]), not ours(row))
    rows = []
    for row in sorted(segmentation_rows(), key=key):
        system = ", ".join(part for part in (row["system"], row["setting"]) if part)
        cells = [row["seconds"], row["peak_memory_mb"], short(row["machine"])]
        rows.append((SEGMENTATION[row["network"]], row["size"].replace("x", " x "), system, *cells))
    return table(["network", "image", "system", "seconds", "peak memory, MB", "machine"], rows) if rows else ""


def segmentation_commands():
    return commands(segmentation_rows())


def engines_rows():
    return latest("engines", ["setting", "entries", "dimensions"])


ENGINES = {
    "recall_at_1": "recall at 1",
    "recall_at_10": "recall at 10",
    "map_lost_percent": "mAP lost, %",
    "p50_ms": "median, ms",
    "p99_ms": "99th percentile, ms",
    "build_seconds": "build, s",
    "peak_memory_mb": "MB",
}


def engines():
    """What the indexes of engines lose against the exact search, by the size of the gallery. Columns of which
    nothing was measured are left out."""
    columns = [name for name in ENGINES if any(row.get(name) for row in engines_rows())]
    rows = []
    for row in sorted(
        engines_rows(),
        key=lambda row: (order(MACHINES, row["machine"]), int(row["entries"]), not ours(row), row["system"]),
    ):
        size = f"{int(row['entries']):,} x {row['dimensions']}"
        cells = [f"{float(row[name]):.4g}" if row.get(name) else "" for name in columns]
        rows.append((size, row["system"], row["setting"], *cells, short(row["machine"])))
    header = ["embeddings", "system", "setting", *(ENGINES[name] for name in columns), "machine"]
    return table(header, rows) if rows else ""


def engines_commands():
    return commands(engines_rows())


def tiles_machine():
    return short(read("tiles", ["height", "width"])[0]["machine"])


def tiles():
    cells = {}
    for row in read("tiles", ["height", "width", "mode", "variant"]):
        cells[int(row["height"]), int(row["width"]), row["mode"], row["variant"]] = (
            f"{row['milliseconds']} ms, {row['memory_mb']} MB"
        )
    rows = []
    for height, width in sorted({key[:2] for key in cells}):
        own = [
            cells[height, width, mode, how] for mode in ("forward", "training") for how in ("chunks", "whole")
        ]
        rows.append((f"{height} x {width}", *own))
    return table(
        ["positions", "forward, in chunks", "at once", "forward and backward, in chunks", "at once"], rows
    )


VARIANTS = {
    "without": "without mixing",
    "closed_form": "Grad-CAM in closed form",
    "autodiff": "by a second forward and backward pass of the branch",
    "second_pass": "by a backward pass of the branch",
    "whole_graph": "by a backward pass of the whole network",
}


def progressive_rows():
    return read("progressive", ["system", "variant", "batch"])


def progressive():
    systems = {}
    for row in progressive_rows():
        cell = f"{row['seconds']} ({row['of_without']})" if row["variant"] != "without" else row["seconds"]
        systems.setdefault((row["system"], row["machine"]), {})[row["variant"]] = cell
    rows = [(s, *(own.get(v, "") for v in VARIANTS), short(m)) for (s, m), own in systems.items()]
    return table(["", *VARIANTS.values(), "machine"], rows)


def progressive_commands():
    return commands(progressive_rows())


def gpu_rows():
    return [row for row in read("networks", [*NETWORK_KEYS, "system"]) if row["machine"] == "h200"]


def gpu():
    found = gpu_rows()
    peers = {(r["host"], r["mode"]): r["images_per_second"] for r in found if not ours(r)}
    rows = []
    for row in filter(ours, found):
        name = f"{MODES[row['mode']]}, {row['precision']}{', folded' if row['setting'] == 'folded' else ''}"
        peer = peers.get((row["host"], row["mode"]), "")
        rows.append(
            (name, row["state"], row["images_per_second"], peer, row["ratio"], f"H200, host {row['host']}")
        )
    return table(["", "system", "reid", "PyTorch", "ratio", "machine"], rows)


def gpu_command():
    rows = [row for row in gpu_rows() if row["mode"] == "train"]
    return commands(rows) + "; with `--mode infer` for inference, and also `--fused` for the folded row"


def accuracy_rows():
    return read("accuracy", ["dataset", "seed", "epoch"])


def accuracy_machine():
    return ", ".join(sorted({short(row["machine"]) for row in accuracy_rows()}))


def accuracy():
    rows = accuracy_rows()
    out = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        last = max(int(row["epoch"]) for row in rows if row["dataset"] == dataset)
        own = [row for row in rows if row["dataset"] == dataset and int(row["epoch"]) == last]
        means = [
            f"{statistics.fmean(float(row[c]) for row in own):.1f}" for c in ("map_percent", "rank1_percent")
        ]
        seconds = sorted(int(row["seconds_in_all"]) for row in own)
        out.append(
            (f"{dataset}, recipe `{own[0]['recipe']}`", last, *means, f"{seconds[0]} to {seconds[-1]}")
        )
    return table(["dataset", "epochs", "mAP, %", "Rank-1, %", "seconds"], out)


def accuracy_command():
    return commands([row for row in accuracy_rows() if row["seed"] == "1"])


def build():
    rows = read("build", ["version", "crate", "crates"])
    crates = {row["version"]: row["crates"] for row in rows if row["crates"]}
    costs = [
        row for row in rows if row["version"] == "0.1" and row["cpu_seconds"] and "," not in row["crate"]
    ]
    rest, *costs = costs
    largest = ", ".join(" ".join(filter(None, (r["crate"], r["bound"], r["cpu_seconds"]))) for r in costs[:4])
    return (
        f"A release build of the quickstart, from nothing, took {rest['bound']} {rest['cpu_seconds']} s of "
        "processor time in version 0.1, not counting burn-flex and most of reid's crates. The most "
        f"expensive crates, in seconds: {largest}. Version 0.2 has {crates['0.2']} crates instead of "
        f"{crates['0.1']}. {cold_build()}"
    )


def cold_build():
    rows = read("cold-build", ["version"])
    machines = sorted({row["machine"] for row in rows})
    seconds = []
    for machine in machines:
        old, new = ({r["version"]: r for r in rows if r["machine"] == machine}[v] for v in ("0.1", "0.2"))
        seconds.append(f"{old['cpu_seconds']} and {new['cpu_seconds']} ({MACHINES[machine]})")
    (new,) = (row for row in rows if row["version"] == "0.2" and row.get("reid_share"))
    flex, own = (100 * float(new[share]) for share in ("burn_flex_share", "reid_share"))
    return (
        f"Built at the same time on a busy machine with one job each, version 0.1 ({old['commit']}) and version "
        f"0.2 took these seconds of processor time: {', '.join(seconds)}. Version 0.2 has more networks, losses and "
        f"tasks. burn-flex takes {flex:.0f} % of its seconds, and the crates of reid {own:.0f} %. {commands([new])}"
    )


def page():
    template = (RESULTS / "page.md").read_text(encoding="utf-8")
    return filled(template, lambda name: globals()[name]())


def filled(template, result):
    """Replaces `{{name}}` by `result(name)`, and leaves out sections whose result is empty."""
    section = re.compile(r"\{\{#(\w+)\}\}\n\n(.*?)\{\{/\1\}\}\n\n", re.DOTALL)
    template = section.sub(lambda found: found[2] if result(found[1]) else "", template)
    return re.sub(r"\{\{(\w+)\}\}", lambda found: result(found[1]), template)


def guide(text):
    """The page of the guide with the present table of speeds."""
    made, count = SPEEDS.subn(lambda found: f"{found[1]}\n{speeds()}\n{found[2]}", text)
    if count != 1:
        sys.exit(f"{GUIDE}: expected one table between comments on speeds, found {count}")
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 if a page differs")
    settings = parser.parse_args()
    for path, made in ((PAGE, page()), (GUIDE, guide(GUIDE.read_text(encoding="utf-8")))):
        if not settings.check:
            path.write_text(made, encoding="utf-8")
            continue
        present, name = path.read_text(encoding="utf-8"), path.relative_to(RESULTS.parents[1]).as_posix()
        if made != present:
            lines = [text.splitlines(keepends=True) for text in (present, made)]
            sys.stdout.writelines(difflib.unified_diff(*lines, name, "made from benches/results"))
            sys.exit(f"{name} is not what benches/results gives: run python3 benches/results/page.py")


if __name__ == "__main__":
    main()
