"""Counts the kernel launches of a step on CUDA without a GPU, with the stand-in driver in driver.rs.

    rustc --edition 2024 -O --crate-type cdylib -o libcuda.so benches/launches/driver.rs
    python benches/launches/count.py --network resnet50 --mode train

Runs `cargo bench --bench networks` with `libcuda.so`, once with 3 repetitions and once with more. Prints the
difference per step: launches, million threads and name of each kernel, then the time of the host for a
step. Compilation and loading before the first step are excluded from both.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "peer"))
import results  # noqa: E402

SHORT = 3


def counted(settings, repeats):
    """Runs the benchmark and returns launches and threads by kernel, and its report."""
    command = ["cargo", "bench", "--quiet", "--features", settings.features, "--bench", "networks", "--"]
    command += ["--network", settings.network, "--mode", settings.mode, "--batch", str(settings.batch)]
    command += ["--precision", settings.precision, "--repeats", str(repeats)]
    command += ["--fused"] * settings.fused
    with tempfile.NamedTemporaryFile("r") as file:
        library = os.path.abspath(settings.driver)
        libraries = f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}"
        changed = {"LD_LIBRARY_PATH": libraries, "LAUNCHES": file.name}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | changed, check=True
        )
        launches, threads = collections.Counter(), collections.Counter()
        for line in file:
            kernel_launches, kernel_threads, name = line.split(maxsplit=2)
            name = re.sub(r"_[0-9a-f]{8}$", "", name.strip())
            launches[name] += int(kernel_launches)
            threads[name] += int(kernel_threads)
    return launches, threads, json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--mode", choices=["infer", "train"], default="infer")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=["single", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--fused", action="store_true", help="fold batch normalisation into the convolutions")
    parser.add_argument("--repeats", type=int, default=8, help=f"repetitions, above {SHORT}")
    parser.add_argument("--features", default="cuda-plain")
    parser.add_argument("--driver", default=".", metavar="DIR", help="folder of libcuda.so")
    results.add_arguments(parser)
    settings = parser.parse_args()
    (few, narrow, _), (many, wide, report) = (
        counted(settings, repeats) for repeats in (SHORT, settings.repeats)
    )
    steps = settings.repeats - SHORT
    rows = [((many[k] - few[k]) / steps, (wide[k] - narrow[k]) / steps / 1e6, k) for k in many]
    for launches, threads, name in sorted(rows, reverse=True):
        if launches > 0:
            print(f"{launches:7.1f} {threads:10.2f} M  {name}")
    total = sum(launches for launches, _, _ in rows)
    milliseconds = report["milliseconds"]
    print(
        f"{total:7.1f} launches, {milliseconds['min']:.1f} ms at least, {milliseconds['median']:.1f} median"
    )
    if settings.csv:
        names = ("network", "mode", "precision", "batch", "fused", "features")
        record = {name: getattr(settings, name) for name in names}
        record["launches"] = f"{total:.1f}"
        record["million_threads"] = f"{sum(threads for _, threads, _ in rows):.2f}"
        record |= {"host_ms_min": milliseconds["min"], "host_ms_median": milliseconds["median"]}
        print(f"wrote {results.write(settings.csv, 'launches', [record])}", file=sys.stderr)


if __name__ == "__main__":
    main()
