"""Launches of a step on CUDA, counted without a card by the driver beside this file.

    rustc --edition 2024 -O --crate-type cdylib -o libcuda.so benches/launches/driver.rs
    python benches/launches/count.py --network resnet50 --mode train

Runs `cargo bench --bench networks` with 3 and with more repetitions in front of `libcuda.so` and prints
what one step launches more: how often, with how many million threads, and which kernel; then the host's
time for a step. What is compiled and read before the first step is in neither.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import tempfile

SHORT = 3


def counted(settings, repeats):
    """Launches and threads by kernel, and the report of the benchmark."""
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
            times, of, name = line.split(maxsplit=2)
            name = re.sub(r"_[0-9a-f]{8}$", "", name.strip())
            launches[name] += int(times)
            threads[name] += int(of)
    return launches, threads, json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--mode", choices=["infer", "train"], default="infer")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--precision", choices=["single", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--fused", action="store_true", help="normalisation folded away")
    parser.add_argument("--repeats", type=int, default=8, help=f"above {SHORT}")
    parser.add_argument("--features", default="cuda-plain,fusion")
    parser.add_argument("--driver", default=".", metavar="DIR", help="where libcuda.so is")
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
    print(f"{total:7.1f} launches, {milliseconds['min']:.1f} ms at least, {milliseconds['median']:.1f} median")


if __name__ == "__main__":
    main()
