"""Makes docs/RESULTS.md and its figures from the CSV files in `results`.

    python3 experiments/page.py            # writes the page and the figures
    python3 experiments/page.py --check    # exits with 1 if one of them differs

A result counts if it was computed with the settings that `studies.py` has now. Results of other settings stay in the
files and are not shown.
"""

import argparse
import difflib
import math
import statistics
import sys
from pathlib import Path

import figures
from run import ROOT, path_of, read
from studies import DATA, DRAWN, STUDIES, WEIGHTS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCS = ROOT / "docs"
PAGE = "RESULTS.md"
#: The 97.5 % quantiles of Student's t distribution with 1 to 30 degrees of freedom.
QUANTILES = """12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201 2.179 2.160 2.145 2.131 2.120 2.110
2.101 2.093 2.086 2.080 2.074 2.069 2.064 2.060 2.056 2.052 2.048 2.045 2.042"""
NAMES = {"vehicles": "Vehicles", "groceries": "Groceries", "cifar10": "CIFAR-10", "streets": "Synthetic streets"}

HEADER = """# Results

`python3 experiments/page.py` writes this page from the measurements in [experiments](../experiments/README.md). Each row is the mean of several runs with different seeds, ± their standard deviation, in percent. "Difference" is the mean difference from the baseline, which is the first row unless the text says otherwise, with a 95 % interval: a paired t interval over the seeds that both rows have. A difference whose interval contains 0 is not distinguished from chance. A row with one seed has no interval.

Retrieval: the mAP and Rank-1 of the last epoch, by cosine distance. For vehicles, each camera's images are searched among the other's, and the two results are averaged. The networks are small and the images few, so the absolute values are not those of the papers; the question is whether their orderings hold.
"""


def interval(values):
    """The 95 % t interval of the mean; `None` for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    quantiles = [float(quantile) for quantile in QUANTILES.split()]
    quantile = quantiles[min(count - 1, len(quantiles)) - 1]
    half = quantile * statistics.stdev(values) / math.sqrt(count)
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def paired(values, baseline, row, other):
    """The differences of two rows in the seeds that both have. A row without seeds has one value for all of them."""
    if not row.seeded:
        values = dict.fromkeys(baseline, next(iter(values.values()))) if values else {}
    if not other.seeded:
        baseline = dict.fromkeys(values, next(iter(baseline.values()))) if baseline else {}
    return [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]


class Results:
    """The results of a study that have its present settings."""

    def __init__(self, study):
        self.study = study
        self.rows = {}
        current = {(row.backbone, row.name): row.settings() for row in study.rows}
        for found in read(path_of(RESULTS, study)):
            if current.get((found["backbone"], found["row"])) == found["settings"]:
                key = found["data"], found["backbone"], found["row"]
                self.rows.setdefault(key, {})[int(found["seed"])] = found

    def scores(self, data, row, column=None):
        """The scores of a row by seed."""
        found = self.rows.get((data, row.backbone, row.name), {})
        column = column or self.study.score[0]
        return {seed: float(result[column]) for seed, result in found.items() if result[column]}

    def commits(self):
        found = {result["commit"] for seeds in self.rows.values() for result in seeds.values() if result["commit"]}
        return sorted(found)

    def curve(self, data, row):
        """The mean over the seeds of the score after each epoch."""
        found = self.rows.get((data, row.backbone, row.name), {}).values()
        curves = [[float(score) for score in result["curve"].split()] for result in found if result["curve"]]
        return [statistics.fmean(scores) for scores in zip(*curves, strict=False)]


def spread(values):
    values = list(values)
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def difference(values):
    """The mean difference and its interval as text."""
    if not values:
        return ""
    found, mean = interval(values), f"{statistics.fmean(values):+.1f}"
    return f"{mean} ({found[0]:+.1f} to {found[1]:+.1f})" if found else mean


def papers(study, row):
    """The cells of the paper's figure, and of its difference from the paper's baseline."""
    other = study.baseline(row)
    if row.paper is None:
        return "", ""
    if other is None or other.paper is None:
        return f"{row.paper:.1f}", ""
    return f"{row.paper:.1f}", f"{row.paper - other.paper:+.1f}"


def table(results, data):
    study = results.study
    backbones = len({row.backbone for row in study.rows}) > 1
    reported = any(row.paper is not None for row in study.rows)
    header = ["backbone"] * backbones + ["row", study.score[1], "difference"]
    header += [*(name for _, name in study.further), "seeds"]
    header += ["paper", "paper's difference"] * reported
    lines = []
    for row in study.rows:
        scores = results.scores(data, row)
        if not scores:
            continue
        other = study.baseline(row)
        change = paired(scores, results.scores(data, other), row, other) if other else []
        cells = [row.backbone] * backbones + [row.name, spread(scores.values()), difference(change)]
        cells += [spread(results.scores(data, row, column).values()) for column, _ in study.further]
        lines.append([*cells, str(len(scores)) if row.seeded else "none", *(papers(study, row) if reported else ())])
    marks = ["---"] * (backbones + 1) + ["--:"] * (len(header) - backbones - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, marks, *lines])


def command(study):
    weights = sorted({row.weights for row in study.rows if row.weights})
    options = [f"--data {name}=PATH" for name in study.data if name not in DRAWN]
    options += [f"--weights {name}=FILE" for name in weights]
    return " ".join(["python3 experiments/run.py", f"--only {study.key}", *options])


def figure(results, data):
    """The figure of a study on a dataset; `None` if it has none, or too few results."""
    study, rows = results.study, []
    title = f"{study.title}, {NAMES[data].lower() if data != 'cifar10' else NAMES[data]}"
    if study.score[0] == "error":
        series = [(row.name, results.curve(data, row)) for row in study.rows]
        series = [(name, curve) for name, curve in series if curve]
        return figures.curves(title, series, "error on test images in percent, mean over seeds") if series else None
    if not study.figure:
        return None
    for row in study.rows:
        other = study.baseline(row)
        change = other and paired(results.scores(data, row), results.scores(data, other), row, other)
        if change:
            has_paper = row.paper is not None and other.paper is not None
            paper = row.paper - other.paper if has_paper else None
            rows.append((row.name, statistics.fmean(change), interval(change), paper))
    unit = f"points of {study.score[1]}, 95 % interval"
    return figures.differences(f"{title}: difference from the baseline", rows, unit) if rows else None


def section(results):
    """The section of a study, and its figures by file name."""
    study, parts, pictures = results.study, [], {}
    parts.append(f"## {study.title}\n\n{study.text}")
    if study.paper:
        parts.append(f"The columns of the paper have its {study.score[1]} on {study.paper}.")
    for data in study.data:
        if not any(key[0] == data for key in results.rows):
            continue
        if len(study.data) > 1:
            parts.append(f"### {study.title}: {NAMES[data].lower()}")
        parts.append(table(results, data))
        if picture := figure(results, data):
            name = f"results-{study.key}-{data}.svg"
            pictures[name] = picture
            parts.append(f"![{study.title}, {data}](pictures/{name})")
    commits = ", ".join(results.commits())
    parts.append(f"Command: `{command(study)}`" + (f", at {commits}" if commits else ""))
    return "\n\n".join(parts), pictures


def page():
    """The page and its figures, by path below `docs`."""
    parts, made, without = [HEADER.strip()], {}, []
    for study in STUDIES:
        results = Results(study)
        if not results.rows:
            without.append(study)
            continue
        text, pictures = section(results)
        parts.append(text)
        made |= {f"pictures/{name}": picture for name, picture in pictures.items()}
    if without:
        lines = [f"- {study.title}: `{command(study)}`" for study in without]
        parts.append("## Studies without results\n\n" + "\n".join(lines))
    sources = [f"- `{name}`: {text}" for name, text in {**WEIGHTS, **DATA}.items() if name not in DRAWN]
    parts.append("## Data and weights\n\nThe commands need these data and weights:\n\n" + "\n".join(sources))
    return {PAGE: "\n\n".join(parts) + "\n", **made}


def check(made):
    """Prints what differs, and returns whether anything does."""
    present = {f"pictures/{path.name}" for path in (DOCS / "pictures").glob("results-*.svg")}
    differs = bool(present - set(made))
    for name in sorted(present - set(made)):
        print(f"docs/{name}: no results for this figure")
    for name, text in made.items():
        path = DOCS / name
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if found != text:
            differs = True
            lines = [each.splitlines(keepends=True) for each in (found, text)]
            sys.stdout.writelines(difflib.unified_diff(*lines, f"docs/{name}", "made from experiments/results"))
    return differs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 if something differs")
    settings = parser.parse_args()
    made = page()
    if settings.check:
        if check(made):
            sys.exit("docs/RESULTS.md is not what experiments/results gives: run python3 experiments/page.py")
        return
    for path in (DOCS / "pictures").glob("results-*.svg"):
        path.unlink()
    for name, text in made.items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
