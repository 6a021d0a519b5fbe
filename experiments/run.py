"""Runs the studies of `studies.py`, and appends each result to `results/STUDY.csv`.

    cargo build --release --examples
    python3 experiments/run.py --data vehicles=FOLDER --weights osnet=FILE --weights mobilenet=FILE --jobs 2

Each run is a process of an example: one row of a study, on one dataset, with one seed. A result that is already in
the file is skipped, so the script can be stopped and started again; a run that was stopped goes on from its last
checkpoint. The first seed of all rows comes first, then the second, so that partial results compare as many seeds of
each row. Rows whose data or weights are not given are skipped.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import vehicles
from studies import DATA, DRAWN, STUDIES, WEIGHTS, Row, Study

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: What identifies a result, and then what was measured. Scores are in percent, those of retrieval means of both
#: directions if there are two; `curve` has the score after each epoch that was evaluated.
KEY = ["study", "data", "backbone", "row", "seed", "settings"]
DIRECTIONS = ["map_from_1", "rank_1_from_1", "map_from_2", "rank_1_from_2"]
SCORES = ["map", "rank_1", *DIRECTIONS, "error", "miou", "curve"]
COLUMNS = [*KEY, "epochs", *SCORES, "parameters", "seconds", "threads", "commit"]


class Stopped(Exception):
    """The script was asked to stop, and this run is not finished."""


class Failed(Exception):
    """A program failed."""


@dataclass(frozen=True)
class Job:
    """One run."""

    study: Study
    row: Row
    data: str
    seed: int

    def key(self):
        backbone, settings = self.row.backbone, self.row.settings()
        return self.study.key, self.data, backbone, self.row.name, str(self.seed), settings

    def same(self):
        """What runs have in common whose results are equal, because studies share a row."""
        return self.row.settings(), self.data, str(self.seed)

    def __str__(self):
        return f"{self.study.key}, {self.data}: {self.row.backbone}, {self.row.name}, seed {self.seed}"


def jobs(studies, seeds, rows=None):
    """All runs, in the order in which they are started: by seed, study, data and row."""
    for seed in seeds:
        for study in studies:
            if seed > study.seeds:
                continue
            for name in study.data:
                for row in study.rows:
                    chosen = rows is None or row.name in rows
                    if chosen and (row.seeded or seed == 1):
                        yield Job(study, row, name, seed)


def path_of(results, study):
    return results / f"{study.key}.csv"


def read(path):
    """The rows of a file of results; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def finished(results):
    """All results by their keys."""
    rows = [row for study in STUDIES for row in read(path_of(results, study))]
    return {tuple(row[name] for name in KEY): row for row in rows}


def append(path, row):
    """Appends a line to a file of results; a new file gets a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            lines.writeheader()
        lines.writerow(row)


def share(results, row, group):
    """Appends one result to the files of all studies that share it."""
    for job in group:
        append(path_of(results, job.study), {**row, **dict(zip(KEY, job.key(), strict=True))})


def commit():
    """The state of the repository, without results and pages; empty without git."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("diff", "HEAD", "--name-only", "--", ".", ":!experiments/results", ":!docs")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def percent(value):
    return f"{100 * value:.3f}"


class Runner:
    """Starts the programs of runs, and reads their results."""

    def __init__(self, settings):
        self.settings = settings
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.processes = set()
        self.written = None
        self.commit = commit()

    def lists(self, name):
        """The datasets to evaluate on; the first one is also trained on."""
        path = self.settings.data[name]
        if name != "vehicles":
            return [path]
        with self.lock:  # once, because running programs read them
            if self.written is None:
                self.written = vehicles.write(path, self.settings.work / "vehicles")
            return self.written

    def call(self, folder, name, *arguments):
        """Runs a program, and returns its standard output. Both streams are appended to files in `folder`."""
        command = [str(self.settings.binaries / name), *map(str, arguments)]
        threads = str(self.settings.threads)
        environment = {**os.environ, "RAYON_NUM_THREADS": threads}
        output, log = folder / f"{name}.out", folder / f"{name}.log"
        before = output.stat().st_size if output.exists() else 0
        with output.open("ab") as out, log.open("ab") as err:
            with self.lock:
                if self.stop.is_set():
                    raise Stopped
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=environment,
                    start_new_session=True,
                )
                self.processes.add(process)
            code = process.wait()
        with self.lock:
            self.processes.discard(process)
        if self.stop.is_set():
            raise Stopped
        if code:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise Failed(f"{' '.join(command)}\nexited with {code}:\n{tail}")
        with output.open("rb") as file:
            file.seek(before)
            return file.read().decode()

    def interrupt(self):
        """Stops all processes. Training saves a checkpoint first."""
        with self.lock:
            self.stop.set()
            for process in self.processes:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)

    def run(self, group):
        """Runs a job that several studies may share, appends its result to all of them, and deletes its folder."""
        job = group[0]
        if self.stop.is_set():
            raise Stopped
        folder = self.settings.work / "-".join(job.same())
        resumed = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        scores = PROGRAMS[job.row.program](self, job, folder)
        seconds = time.monotonic() - started
        row = {"epochs": (job.row.recipe or {}).get("epochs", ""), **scores, "commit": self.commit}
        # The time of a run that was stopped is not known.
        row |= {"seconds": "" if resumed else f"{seconds:.0f}", "threads": self.settings.threads}
        with self.lock:
            share(self.settings.results, row, group)
        shutil.rmtree(folder)
        return row

    def recipe(self, job, folder):
        """Writes the recipe of a job with its seed, and returns its path."""
        path = folder / "recipe.json"
        name = f"{job.study.key}: {job.row.name}"
        recipe = {**job.row.recipe, "name": name, "seed": job.seed}
        path.write_text(json.dumps(recipe, indent=2), encoding="utf-8")
        return path

    def weights(self, job, option):
        if job.row.weights is None:
            return []
        return [option, self.settings.weights[job.row.weights]]


def retrieval(reports):
    """The scores of one report, or of two reports whose queries are from camera 1 and camera 2."""
    each = [(report["mean_average_precision"], report["cmc"][0]) for report in reports]
    mean = [sum(scores) / len(each) for scores in zip(*each, strict=True)]
    scores = dict(zip(["map", "rank_1"], map(percent, mean), strict=True))
    if len(each) == 2:
        scores |= dict(zip(DIRECTIONS, map(percent, [*each[0], *each[1]]), strict=True))
    return scores


def events(path):
    """The events of a training run, which may have been stopped and resumed."""
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a line that a kill has cut
            yield json.loads(line)


def train_baseline(runner, job, folder):
    """Trains, and evaluates the last checkpoint on all lists; a classifier has been tested by the training."""
    lists, out = runner.lists(job.data), folder / "run"
    arguments = ["--recipe", runner.recipe(job, folder), "--data", lists[0], "--out", out, "--resume", "--json"]
    runner.call(folder, "train_baseline", *arguments, *runner.weights(job, "--pretrained"))
    found = list(events(folder / "train_baseline.out"))
    parameters = next(event["parameters"] for event in found if event["event"] == "started")
    # A resumed run may test an epoch twice.
    errors = {event["epoch"]: event["error"] for event in found if event["event"] == "classified"}
    if errors:
        curve = [percent(errors[epoch]) for epoch in sorted(errors)]
        return {"parameters": parameters, "error": curve[-1], "curve": " ".join(curve)}
    return {"parameters": parameters, **checkpoint(runner, out, lists, folder)}


def checkpoint(runner, run, lists, folder):
    """The scores of the last checkpoint of a run."""
    data = [argument for path in lists for argument in ("--data", path)]
    picture = folder / "ranked.png"
    arguments = ["--run", run, *data, "--last", "--json", "--draw", 1, "--picture", picture]
    found = json.loads(runner.call(folder, "evaluate_checkpoint", *arguments))
    return retrieval([scores["report"] for scores in found])


def embed_folder(runner, job, folder):
    """Evaluates published weights without training."""
    reports = []
    for index, path in enumerate(runner.lists(job.data)):
        file = folder / f"{index}.npz"
        arguments = [*job.row.flags, *runner.weights(job, "--weights"), "--data", path, "--out", file]
        runner.call(folder, "embed_folder", *arguments)
        reports.append(json.loads(runner.call(folder, "rank_embeddings", "--file", file, "--json"))["report"])
    return retrieval(reports)


def train_unlabelled(runner, job, folder):
    """Trains without labels, and evaluates the last round."""
    lists, out = runner.lists(job.data), folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    arguments = ["--recipe", runner.recipe(job, folder), "--data", lists[0], "--out", out, *job.row.flags]
    runner.call(folder, "train_unlabelled", *arguments, *runner.weights(job, "--weights"))
    rounds = sorted(path for path in out.glob("round-*") if path.is_dir())
    return checkpoint(runner, rounds[-1], lists, folder)


def segment_streets(runner, job, folder):
    out = folder / "run"
    arguments = ["--recipe", runner.recipe(job, folder), *job.row.flags, "--out", out, "--resume"]
    runner.call(folder, "segment_streets", *arguments)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return {"miou": percent(report["mean_intersection_over_union"])}


PROGRAMS: dict[str, Callable] = {
    "train_baseline": train_baseline,
    "embed_folder": embed_folder,
    "train_unlabelled": train_unlabelled,
    "segment_streets": segment_streets,
}


def named(text):
    name, found, path = text.partition("=")
    if not found or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, found {text}")
    path = Path(path).resolve()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{path}: no such file or folder")
    return name, path


def seed_range(text):
    """The seeds of `3` or `1-5`."""
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a seed or a range such as 1-5, found {text}") from error
    if not seeds or seeds[0] < 1:
        raise argparse.ArgumentTypeError(f"expected seeds from 1 on, found {text}")
    return seeds


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    several = {"action": "append", "type": named, "default": [], "metavar": "NAME=PATH"}
    parser.add_argument("--data", **several, help="; ".join(f"{name}: {text}" for name, text in DATA.items()))
    parser.add_argument("--weights", **several, help="; ".join(f"{k}: {text}" for k, text in WEIGHTS.items()))
    keys = [study.key for study in STUDIES]
    parser.add_argument("--only", action="append", choices=keys, metavar="STUDY", help="one of " + ", ".join(keys))
    parser.add_argument("--row", action="append", metavar="NAME", help="only rows of this name")
    parser.add_argument("--seeds", type=seed_range, default=range(1, 6), help="such as 1-3; 1-5 by default")
    parser.add_argument("--jobs", type=int, default=1, help="the number of runs at once")
    parser.add_argument("--threads", type=int, default=1, help="the number of threads of each run")
    parser.add_argument("--binaries", type=Path, default=ROOT / "target" / "release" / "examples")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "experiments", help="for unfinished runs")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="the folder of the CSV files")
    parser.add_argument("--list", action="store_true", help="only list the runs that are left")
    settings = parser.parse_args(arguments)
    settings.data, settings.weights = dict(settings.data), dict(settings.weights)
    for given, known in ((settings.data, DATA), (settings.weights, WEIGHTS)):
        if unknown := set(given) - set(known):
            parser.error(f"expected one of {', '.join(known)}, found {', '.join(sorted(unknown))}")
    settings.data |= dict.fromkeys(DRAWN)
    return settings


def left(settings):
    """The runs that can be started and have no result yet, in groups that share their result, and what the others
    lack, and the results that another study already has."""
    done, groups, missing, copies = finished(settings.results), {}, set(), []
    known = {(key[5], key[1], key[4]): row for key, row in done.items()}
    studies = [study for study in STUDIES if settings.only is None or study.key in settings.only]
    for job in jobs(studies, settings.seeds, settings.row):
        if job.key() in done:
            continue
        lacks = set() if job.data in settings.data else {f"--data {job.data}=…"}
        if job.row.weights and job.row.weights not in settings.weights:
            lacks.add(f"--weights {job.row.weights}=…")
        missing |= lacks
        if job.same() in known:
            copies.append((known[job.same()], job))
        elif not lacks:
            groups.setdefault(job.same(), []).append(job)
    return list(groups.values()), missing, copies


def main(arguments=None):
    settings = parse(arguments)
    waiting, missing, copies = left(settings)
    if missing:
        print(f"skips runs without {', '.join(sorted(missing))}", file=sys.stderr)
    if settings.list:
        print("\n".join(str(group[0]) for group in waiting))
        return 0
    for row, job in copies:
        share(settings.results, row, [job])
    settings.binaries, settings.work = settings.binaries.resolve(), settings.work.resolve()
    runner, failed, done = Runner(settings), [], 0
    for stopping in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stopping, lambda *_: runner.interrupt())

    def start(group):
        nonlocal done
        job = group[0]
        try:
            row = runner.run(group)
        except Stopped:
            return
        except Exception as error:  # one failed run must not stop the others
            with runner.lock:
                failed.append(job)
                print(f"failed: {job}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return
        with runner.lock:
            done += 1
            (score, name), seconds = job.study.score, row["seconds"] or "?"
            print(f"{done} of {len(waiting)}: {job}: {name} {row[score]} %, {seconds} s", flush=True)

    with ThreadPoolExecutor(settings.jobs) as pool:
        list(pool.map(start, waiting))
    return 1 if failed or runner.stop.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
