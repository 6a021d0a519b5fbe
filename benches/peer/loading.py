"""Compares the loading of training images: reid's loader and PyTorch's DataLoader on the same JPEG files.

    cargo bench --bench loading --no-run
    python3 benches/peer/loading.py --source 128x64 360x144 --input 256x128 384x128 \\
        --csv benches/results/MACHINE

PyTorch needs `pip install torch torchvision pillow`. Sizes are height x width. The files are synthetic
people, written by the Rust benchmark: 128x64 is the size of Market-1501's images, 360x144 that of a large
person cut from a frame of 1080p. Every image is decoded, resized, mirrored with probability 0.5, padded by
10 pixels and cropped, partly erased with probability 0.5, and normalised. Batches have 64 images. Two
worker threads or processes prepare them, and up to 8 wait. All files stay in the page cache.

reid, cached   reid with a cache of decoded and resized images, which the first epoch fills; the others
               decode each image in every epoch
pillow         torchvision's transforms of Pillow images, as in published training code
tensors        torchvision's decoder, and its second version of transforms, on tensors

Every round runs each setting in a new process, one after the other, and begins with another one. The first
epoch is a warm-up, which also starts the workers. The speed of a setting is the median over rounds of the
median over epochs. Memory is the peak of the process. For PyTorch it is at least the sum over the process
and its workers of their share of memory (`Pss`), after any epoch. `--one` runs only PyTorch and prints a
line of JSON.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results
import rounds
import timing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PADDING, PROBABILITY, AREA, ASPECT = 10, 0.5, (0.02, 0.4), (0.3, 1 / 0.3)
SETTINGS = ["reid", "reid, cached", "pillow", "tensors"]
CACHE = 1 << 30
WAITING = 8


def size(text):
    """Parses a size such as `256x128`."""
    height, width = map(int, text.split("x"))
    return height, width


def written(height_and_width):
    return "x".join(map(str, height_and_width))


class Files:
    """A dataset of JPEG files and the transform of each, which PyTorch's workers call."""

    def __init__(self, folder, setting, height_and_width):
        self.files = sorted(map(str, Path(folder, "bounding_box_train").glob("*.jpg")))
        if not self.files:
            sys.exit(f"{folder}/bounding_box_train: expected JPEG files, found none")
        self.setting = setting
        self.transform = transform(setting, height_and_width)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index % len(self.files)]
        if self.setting == "tensors":
            from torchvision import io

            return self.transform(io.decode_jpeg(io.read_file(file), io.ImageReadMode.RGB))
        from PIL import Image

        with Image.open(file) as image:
            return self.transform(image.convert("RGB"))


def transform(setting, height_and_width):
    """The augmentation of the strong baseline; erased rectangles have the mean colour."""
    if setting == "tensors":
        import torch
        from torchvision.transforms import v2 as transforms

        to_values = transforms.ToDtype(torch.float32, scale=True)
    else:
        from torchvision import transforms

        to_values = transforms.ToTensor()
    steps = [
        transforms.Resize(height_and_width, antialias=True),
        transforms.RandomHorizontalFlip(PROBABILITY),
        transforms.Pad(PADDING),
        transforms.RandomCrop(height_and_width),
        to_values,
        transforms.Normalize(MEAN, STD),
        transforms.RandomErasing(PROBABILITY, AREA, ASPECT, value=0),
    ]
    return transforms.Compose(steps)


def shared_memory_mb(processes):
    """The memory of processes in MB, in which each page that several share counts once."""
    total = 0
    for process in processes:
        with open(f"/proc/{process}/smaps_rollup", encoding="ascii") as lines:
            [line] = [line for line in lines if line.startswith("Pss:")]
        total += int(line.split()[1]) / 1024
    return round(total, 1)


def run_one(settings, source, height_and_width):
    """Runs PyTorch's loader and prints its line of JSON."""
    import torch
    from torch.utils.data import DataLoader

    torch.manual_seed(0)
    dataset = Files(settings.images, settings.setting[0], height_and_width)
    images = settings.batch * settings.batches
    batches = torch.arange(images).split(settings.batch)
    loader = DataLoader(
        dataset,
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=settings.threads,
        prefetch_factor=WAITING // settings.threads,
        persistent_workers=True,
    )
    times, memory = [], 0
    for _ in range(settings.epochs + 1):
        start = time.perf_counter()
        for batch in loader:
            assert batch.shape == (settings.batch, 3, *height_and_width), batch.shape
        times.append(1e3 * (time.perf_counter() - start))
        workers = [worker.pid for worker in torch.multiprocessing.active_children()]
        memory = max(memory, shared_memory_mb([os.getpid(), *workers]))
    what = {"system": "pytorch", "version": torch.__version__, "setting": settings.setting[0]}
    what |= {"source": written(source), "input": written(height_and_width)}
    what |= {name: getattr(settings, name) for name in ("batch", "batches", "threads")}
    return timing.report(images, times[1:], **what, all_processes_mb=memory)


def commands_of(settings, program, folder, source, height_and_width):
    """The commands of one pair of sizes, by setting."""
    shared = ["--images", str(folder), "--source", written(source), "--input", written(height_and_width)]
    for name in ("batch", "batches", "epochs", "threads"):
        shared += [f"--{name}", str(getattr(settings, name))]
    commands = {}
    for setting in settings.setting:
        if setting.startswith("reid"):
            cache = ["--cache-bytes", str(CACHE)] if "cached" in setting else []
            commands[setting] = [program, *shared, *cache]
        else:
            commands[setting] = [sys.executable, __file__, "--one", "--setting", setting, *shared]
    return commands


def compare(settings):
    """Measures all settings in rounds for each pair of sizes, and prints their results as a table."""
    rounds.pin(settings)
    program = rounds.built("bench", "loading")
    print("| JPEG files | input | setting | images/s | best | ratio to PyTorch | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for source, height_and_width in itertools.product(settings.source, settings.input):
            folder = Path(settings.images or temporary, written(source))
            prepare = [program, "--prepare", "--images", str(folder), "--source", written(source)]
            subprocess.run(prepare, check=True)
            commands = commands_of(settings, program, folder, source, height_and_width)
            reports = rounds.take(commands, settings.rounds)
            reports = {setting: [report for [report] in of] for setting, of in reports.items()}
            rows = summarise(source, height_and_width, reports)
            for row in rows:
                print(f"| {' | '.join(row[column] for column in SHOWN)} |", flush=True)
            if settings.csv and rows:
                names = "batch", "batches", "epochs", "threads", "rounds"
                common = {name: getattr(settings, name) for name in names}
                print(f"wrote {results.write(settings.csv, 'loaders', rows, **common)}", file=sys.stderr)


SHOWN = ["source", "input", "setting", "images_per_second", "best_images_per_second", "ratio"]
SHOWN += ["peak_memory_mb"]


def summarise(source, height_and_width, reports):
    """One row for each setting: its speed and its ratio to the faster setting of PyTorch, and its memory."""
    speeds = {name: [report["images_per_second"] for report in of] for name, of in reports.items()}
    peers = [of for name, of in speeds.items() if not name.startswith("reid")]
    fastest = max(peers, key=statistics.median, default=[])
    rows = []
    for name, of in reports.items():
        images = of[0]["batch"] * of[0]["batches"]
        best = max(1e3 * images / report["milliseconds"]["min"] for report in of)
        ratios = [own / peer for own, peer in zip(speeds[name], fastest)]
        memory = max(max(report["peak_memory_mb"], report.get("all_processes_mb", 0)) for report in of)
        row = {"source": written(source), "input": written(height_and_width)}
        row |= {"system": rounds.system(of[0]), "setting": name}
        row["images_per_second"] = f"{statistics.median(speeds[name]):.1f}"
        row["best_images_per_second"] = f"{best:.1f}"
        row["ratio"] = f"{statistics.median(ratios):.2f}" if ratios else ""
        row["peak_memory_mb"] = f"{memory:.0f}"
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"nargs": "+", "type": size, "metavar": "HEIGHTxWIDTH"}
    parser.add_argument("--source", **sizes, default=[(128, 64)], help="sizes of the JPEG files")
    parser.add_argument("--input", **sizes, default=[(256, 128)], help="sizes of the images in a batch")
    parser.add_argument("--setting", nargs="+", choices=SETTINGS, default=SETTINGS)
    images = "a folder for the JPEG files; with --one, the folder that has them"
    parser.add_argument("--images", metavar="DIR", help=images)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=24, help="batches in an epoch")
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs, after one warm-up epoch")
    parser.add_argument("--threads", type=int, default=2, help="worker threads or processes")
    parser.add_argument("--one", action="store_true", help="run only PyTorch and print one line of JSON")
    results.add_arguments(parser)
    rounds.add_arguments(parser, rounds=3)
    settings = parser.parse_args()
    if not 1 <= settings.threads <= WAITING:
        parser.error(f"--threads: expected 1 to {WAITING}, found {settings.threads}")
    if not settings.one:
        compare(settings)
        return
    chosen = settings.setting[0]
    if max(len(settings.setting), len(settings.source), len(settings.input)) > 1 or chosen.startswith("reid"):
        parser.error("--one takes one setting of PyTorch and one pair of sizes: --setting pillow")
    if not settings.images:
        parser.error("--one needs --images DIR")
    report = run_one(settings, settings.source[0], settings.input[0])
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'loaders', [report])}", file=sys.stderr)


if __name__ == "__main__":
    main()
