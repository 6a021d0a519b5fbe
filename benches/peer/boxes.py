"""Compares the way from the boxes of a 1080p frame to their embeddings: reid, ONNX Runtime and OpenVINO.

    cargo bench --bench boxes --no-run
    cargo build --release -p reid-onnx --example export_onnx
    python3 benches/peer/boxes.py --boxes 1 32 --csv benches/results/MACHINE
    python3 benches/peer/boxes.py --one --systems openvino --onnx osnet-x0.25.onnx --boxes 32

The peers need `pip install onnxruntime openvino opencv-python-headless`. Every round runs each system in a
new process, one after the other, and begins with another one. The percentiles are medians over rounds.
The script prints a table. `--one` runs only one peer and prints a line of JSON.

The network is OSNet x0.25 from reid's exporter, in single precision, for any number of images. Crops,
resizing and colour conversion of the peers are OpenCV's. Its bilinear resizing takes four pixels, whereas
reid's is antialiased, as Pillow's. The sizes of the boxes have the same distribution as in
benches/boxes.rs. `first_ms` is the time from the start of the process to the first embeddings.
"""

import argparse
import json
import os
import sys
import time

import results
import rounds
import runtimes
import timing

NETWORK = "osnet-x0.25"
SIZE = 1920, 1080
INPUT = 128, 256
SYSTEMS = ["reid", *runtimes.RUNTIMES]


def random_boxes(count, generator):
    """Boxes of people as rows of left, top, right and bottom."""
    import numpy as np

    width, height = SIZE
    tall = generator.uniform(120, 360, count)
    x = generator.uniform(0, width - tall / 2)
    y = generator.uniform(0, height - tall)
    return np.stack([x, y, x + 0.4 * tall, y + tall], 1).round().astype(int)


def run_one(settings, system, count):
    """Runs one peer and prints its line of JSON."""
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    import cv2
    import numpy as np

    cv2.setNumThreads(settings.threads)
    what, run = runtimes.load(system, settings.onnx, settings.threads)
    generator = np.random.default_rng(1)
    frame = generator.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    scale = 1 / np.array([0.229, 0.224, 0.225], np.float32)

    def embed(found):
        images = np.empty((len(found), 3, INPUT[1], INPUT[0]), np.float32)
        for image, (left, top, right, bottom) in zip(images, found):
            crop = cv2.resize(frame[top:bottom, left:right], INPUT, interpolation=cv2.INTER_LINEAR)
            crop = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.float32)
            image[:] = ((crop / 255 - mean) * scale).transpose(2, 0, 1)
        return run(images)

    found = embed(random_boxes(count, generator)).shape
    assert found == (count, 512), f"expected {count} embeddings of 512 dimensions, found {found}"
    first = None if settings.started is None else 1e3 * (time.time() - settings.started)
    times = []
    for _ in range(settings.repeats):
        found = random_boxes(count, generator)
        start = time.perf_counter()
        embed(found)
        times.append(1e3 * (time.perf_counter() - start))
    median = timing.percentile(times, 50)
    report = {**what, "network": NETWORK, "boxes": count, "threads": settings.threads}
    report |= {"p50_ms": median, "p99_ms": timing.percentile(times, 99)}
    report |= {"boxes_per_second": 1e3 * count / median, "first_ms": first}
    report["peak_memory_mb"] = timing.peak_memory_mb()
    print(json.dumps(report))
    return report


def compare(settings):
    """Measures all systems in rounds, and prints their results as a table."""
    rounds.pin(settings)
    program = rounds.built("bench", "boxes") if "reid" in settings.systems else None
    file = settings.onnx
    if not file and set(settings.systems) & set(runtimes.RUNTIMES):
        folder = rounds.ROOT / "target" / "onnx"
        file = str(runtimes.exported(folder, [NETWORK], {NETWORK: INPUT[::-1]})[NETWORK])
    rows = []
    for count in settings.boxes:
        shared = ["--boxes", str(count), "--repeats", str(settings.repeats)]
        shared += ["--threads", str(settings.threads), "--started", rounds.NOW]
        commands = {}
        for system in settings.systems:
            peer = [sys.executable, __file__, "--one", "--systems", system, "--onnx", file]
            commands[system] = [program, *shared] if system == "reid" else [*peer, *shared]
        reports = rounds.take(commands, settings.rounds)
        rows += [summarise(count, [report for [report] in of]) for of in reports.values()]
    print("| boxes | system | p50, ms | p99, ms | boxes/s | first, ms | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['boxes']} | {row['system']} | {' | '.join(row[column] for column in SHOWN)} |")
    if settings.csv:
        common = {name: getattr(settings, name) for name in ("threads", "repeats", "rounds")}
        print(f"wrote {results.write(settings.csv, 'boxes', rows, **common)}", file=sys.stderr)


SHOWN = ["p50_ms", "p99_ms", "boxes_per_second", "first_ms", "peak_memory_mb"]


def summarise(count, reports):
    """The row of one system: medians over rounds, and the greatest memory."""
    row = {"network": NETWORK, "boxes": count, "system": rounds.system(reports[0])}
    row |= {column: rounds.median(reports, column) for column in SHOWN[:4]}
    return row | {"peak_memory_mb": rounds.most(reports, "peak_memory_mb")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--boxes", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--onnx", metavar="FILE", help="default without --one: exported to target/onnx")
    parser.add_argument("--repeats", type=int, default=200, help="frames in a round")
    parser.add_argument("--threads", type=int, default=2)
    results.add_arguments(parser)
    alone = parser.add_argument_group("with --one")
    alone.add_argument("--one", action="store_true", help="run only one peer and print one line of JSON")
    alone.add_argument("--started", type=float, help="when the process was started, in seconds since 1970")
    rounds.add_arguments(parser, rounds=3)
    settings = parser.parse_args()
    if not settings.one:
        compare(settings)
        return
    if len(settings.systems) != 1 or len(settings.boxes) != 1 or settings.systems == ["reid"]:
        parser.error("--one takes one peer and one number of boxes: --systems openvino --boxes 32")
    if not settings.onnx:
        parser.error("--one needs --onnx FILE")
    report = run_one(settings, settings.systems[0], settings.boxes[0])
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'boxes', [report])}", file=sys.stderr)


if __name__ == "__main__":
    main()
