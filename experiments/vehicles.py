"""Writes CSV lists of vehicles that two cameras have seen, for `run.py`.

    python3 experiments/vehicles.py FOLDER OUT

`FOLDER` has the folders `train` and `test` of images, or a folder `images` with both, as in the Vehicle Re-ID
Dataset of Truong and others (GitHub: Khoa-Nguyen-Truong/Vehicle-Re-ID-Dataset, Apache-2.0). The name of an image is
`IDENTITY_camC.jpg`, with the camera C, 1 or 2.

There are two lists. Both have all training images. In `from-1.csv` the test images of camera 1 are the queries and
those of camera 2 the gallery, and in `from-2.csv` the reverse.
"""

import argparse
import csv
import re
import sys
from pathlib import Path

NAME = re.compile(r"(.+)_cam([12])\.(?:jpe?g|png)", re.IGNORECASE)
LISTS = {1: "from-1.csv", 2: "from-2.csv"}


def images(folder):
    """The images of a folder as (path, identity, camera), in the order of their names."""
    found = []
    for path in sorted(folder.iterdir()):
        if name := NAME.fullmatch(path.name):
            found.append((path.resolve(), name[1], int(name[2])))
    if not found:
        sys.exit(f"{folder}: expected images called IDENTITY_cam1.jpg and IDENTITY_cam2.jpg, found none")
    return found


def rows(root, queries):
    """The lines of a list in which one camera has the queries."""
    for path, identity, camera in images(root / "train"):
        yield path, identity, "train", camera
    for path, identity, camera in images(root / "test"):
        yield path, identity, "query" if camera == queries else "gallery", camera


def write(folder, out):
    """Writes both lists, and returns their paths."""
    folder, out = Path(folder), Path(out)
    root = folder / "images" if (folder / "images").is_dir() else folder
    out.mkdir(parents=True, exist_ok=True)
    for camera, name in LISTS.items():
        with (out / name).open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["path", "identity", "split", "camera"])
            lines.writerows(rows(root, camera))
    return [out / name for name in LISTS.values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder with the images")
    parser.add_argument("out", type=Path, help="the folder for the lists")
    settings = parser.parse_args()
    for path in write(settings.folder, settings.out):
        print(path)


if __name__ == "__main__":
    main()
