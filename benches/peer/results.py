"""Writes measurements to a CSV file: a function for the peer scripts, and a command for the Rust benchmarks.

    cargo bench --bench ranking | python3 benches/peer/results.py ranking --csv benches/results/MACHINE
    cargo bench --bench attention | python3 benches/peer/results.py attention --csv benches/results/MACHINE

The command reads what a benchmark prints, which is either lines of JSON or divan's table. `--csv` takes a
file, or the folder of a machine, where the file is named by the date and by what was measured. Rows are
added to a file that exists. `--set NAME=VALUE` adds a column, such as `--set threads=2`.

Columns carry their unit in their name (`seconds`, `milliseconds`, `fastest_ms`, `peak_memory_mb`,
`images_per_second`). The last two are the commit and the command.
"""

import argparse
import csv
import datetime
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

LAST = ["commit", "command"]
MILLISECONDS = {"ps": 1e-9, "ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}


def add_arguments(parser):
    """Adds `--csv`, which every peer script has."""
    help = "also write a CSV: a file, or the folder of a machine under benches/results"
    parser.add_argument("--csv", type=Path, metavar="PATH", help=help)


def command():
    """The command line of this process, from the repository root."""
    root = Path(__file__).resolve().parents[2]
    script = Path(sys.argv[0]).resolve()
    script = script.relative_to(root) if script.is_relative_to(root) else script
    arguments = sys.argv[1:]
    if "--csv" in arguments:
        at = arguments.index("--csv")
        del arguments[at : at + 2]
    arguments = [argument for argument in arguments if not argument.startswith("--csv=")]
    return shlex.join(["python3", str(script), *arguments])


def commit():
    """The commit that is checked out, with a `+` if tracked files differ from it; empty without Git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except OSError:
        return ""
    return head.stdout.strip() + "+" * bool(dirty.stdout.strip())


def flatten(record, prefix=""):
    """A record without nested objects: `{"a": {"b": 1}}` becomes `{"a_b": 1}`."""
    flat = {}
    for name, value in record.items():
        name = f"{prefix}{name}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}_")
        else:
            flat[name] = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    return flat


def target(path, what):
    """The file to write: `path`, or `<date>-<what>.csv` in it if it is a folder."""
    if path.suffix == ".csv":
        return path
    return path / f"{datetime.date.today().isoformat()}-{what}.csv"


def write(path, what, records, **common):
    """Adds records to a CSV file, each with the `common` columns, and returns the file's path.

    The columns are those of the file, if it exists, and then those of the records, in the order of their
    first appearance. `commit` and `command` default to those of this process.
    """
    common = {"commit": commit(), "command": command()} | common
    rows = [{**common, **flatten(record)} for record in records]
    file = target(Path(path), what)
    if file.exists():
        with file.open(newline="", encoding="utf-8") as old:
            rows = [*csv.DictReader(old), *rows]
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in LAST))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as new:
        writer = csv.DictWriter(new, columns + LAST, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file


BRANCH = re.compile(r"((?:│  |   )*)[├╰]─ (\S+)(.*)")
TIME = re.compile(r"([\d.]+) (ps|ns|µs|ms|s|m|h)")


def divan(lines):
    """The rows of divan's table: benchmark, argument, and the milliseconds of a run.

    A benchmark in a module is named `module.benchmark`. Lines of counters and of the allocator are skipped.
    """
    records, path = [], []
    for line in lines:
        if not (found := BRANCH.match(line)):
            continue
        depth, name, cells = len(found[1]) // 3, found[2], found[3].split("│")
        path = [*path[:depth], name]
        times = [TIME.fullmatch(cell.strip()) for cell in cells[:4]]
        if len(times) < 4 or not all(times):
            continue
        # An argument is a value; a module or a benchmark is an identifier.
        names, argument = (path, "") if name.isidentifier() else (path[:-1], name)
        record = {"benchmark": ".".join(names), "argument": argument}
        for column, time in zip(("fastest", "slowest", "median", "mean"), times):
            record[f"{column}_ms"] = f"{float(time[1]) * MILLISECONDS[time[2]]:.6g}"
        counts = [cell.strip() for cell in cells[4:6]]
        records.append(record | dict(zip(("samples", "iterations"), counts)))
    return records


def parse(lines):
    """The records that a Rust benchmark printed: its lines of JSON, or the rows of divan's table."""
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    return objects or divan(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", help="the benchmark, such as ranking or attention")
    parser.add_argument("--command", help="the column `command`; default: cargo bench --bench WHAT")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="add a column")
    add_arguments(parser)
    settings = parser.parse_args()
    if settings.csv is None:
        parser.error("--csv PATH is required")
    if wrong := [text for text in settings.set if "=" not in text]:
        parser.error(f"--set needs NAME=VALUE, found {wrong[0]!r}")
    lines = sys.stdin.read().splitlines()
    print("\n".join(lines))
    records = parse(lines)
    if not records:
        parser.error("expected lines of JSON or a table of divan on standard input, found neither")
    common = {"command": settings.command or f"cargo bench --bench {settings.what}"}
    common |= dict(text.split("=", 1) for text in settings.set)
    if "system" not in records[0]:
        common = {"system": "reid"} | common
    print(f"wrote {write(settings.csv, settings.what, records, **common)}", file=sys.stderr)


if __name__ == "__main__":
    main()
