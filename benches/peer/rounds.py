"""Runs the settings of a comparison in rounds: each in a process of its own, one after the other.

Every round begins with another setting, so that none is always measured after the same one. The programs of
reid are built before the first round, and are run without Cargo.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# An argument that is replaced by the time at which the process is started, in seconds since 1970.
NOW = "{now}"


def add_arguments(parser, rounds):
    """Adds the arguments of comparisons."""
    group = parser.add_argument_group("without --one")
    group.add_argument("--rounds", type=int, default=rounds)
    help = "cores of all processes, such as 0-1 or 0,2; by default all"
    group.add_argument("--cores", type=cores, metavar="LIST", help=help)
    return group


def cores(text):
    """Parses a list of cores, such as `0-1` or `0,2`."""
    found = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def pin(settings):
    """Restricts this process, and those that it starts, to the cores of the command line."""
    if settings.cores:
        os.sched_setaffinity(0, settings.cores)


def built(kind, name, *arguments):
    """Builds a program with Cargo and returns its path. `kind` is `bench` or `example`."""
    command = ["cargo", "bench", "--no-run"] if kind == "bench" else ["cargo", "build", "--release"]
    command += [f"--{kind}", name, *arguments, "--message-format", "json-render-diagnostics"]
    print(shlex.join(command), file=sys.stderr)
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in output.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    sys.exit(f"{shlex.join(command)}: expected the path of {name}, found none")


def device_memory():
    """MB in use on the GPU."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])


def run(command, device="cpu", **more):
    """The lines of JSON that a command prints, with its peak memory on a GPU; `None` if the command fails."""
    before = peak = device_memory() if device == "cuda" else 0
    command = [f"{time.time():.3f}" if part == NOW else part for part in command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                if device == "cuda":
                    peak = max(peak, device_memory())
    if process.returncode:
        print(f"{shlex.join(command)} failed with exit status {process.returncode}", file=sys.stderr)
        return None
    print(output, end="", file=sys.stderr)
    reports = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if device == "cuda":
        for report in reports:
            report["peak_memory_mb"] = peak - before
    return reports


def take(commands, rounds, measure=lambda name, command: run(command)):
    """What `measure` returns for each command in each round, by name. A command that fails, for which it is
    `None`, is left out of further rounds and of the result."""
    found = {name: [] for name in commands}
    failed = set()
    for number in range(rounds):
        names = list(commands)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if name in failed:
                continue
            print(f"round {number + 1}: {shlex.join(commands[name])}", file=sys.stderr)
            result = measure(name, commands[name])
            if result is None:
                failed.add(name)
            else:
                found[name].append(result)
    return {name: reports for name, reports in found.items() if name not in failed}


def median(reports, column):
    """The median of a column over the reports of rounds; empty if it has no values."""
    values = [report[column] for report in reports if report.get(column) is not None]
    return f"{statistics.median(values):.4g}" if values else ""


def most(reports, column):
    """The greatest value of a column over the reports of rounds."""
    return f"{max(report[column] for report in reports):.0f}"


def system(report):
    """The system of a report with its version, without the backend of reid and without build tags."""
    name = "PyTorch" if report["system"] == "pytorch" else report["system"].partition(",")[0]
    return f"{name} {report.get('version', '').split('+')[0]}".strip()
