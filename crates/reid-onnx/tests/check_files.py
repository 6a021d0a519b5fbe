"""Checks exported files with ONNX's checker and with ONNX Runtime.

The test `export` writes the files, their images and their outputs into a folder, which is the argument.
It needs `pip install numpy onnx onnxruntime`.
"""

import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime


def check(path):
    """Returns the largest difference of a file's outputs, relative to the largest value."""
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    height, width = json.loads(metadata["reid.input_size"])
    worst = 0.0
    for images_path in path.parent.glob(f"{path.stem}.*.images"):
        images = numpy.fromfile(images_path, numpy.float32).reshape(-1, 3, height, width)
        expected = numpy.fromfile(images_path.with_suffix(".outputs"), numpy.float32)
        if "reid.classes" in metadata:
            output, shape = "logits", (int(metadata["reid.classes"]), height, width)
        else:
            output, shape = "embeddings", (int(metadata["reid.embedding_dimensions"]),)
        (found,) = session.run([output], {"images": images})
        assert found.shape == (len(images), *shape), found.shape
        difference = numpy.abs(found.ravel() - expected).max() / numpy.abs(expected).max()
        worst = max(worst, difference)
    return worst


def main():
    files = sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"))
    assert files, f"{sys.argv[1]}: expected ONNX files, found none"
    differences = {path.stem: check(path) for path in files}
    for name, difference in differences.items():
        print(f"{difference:.1e}  {name}")
    worst = max(differences.values())
    print(f"{len(files)} files, onnxruntime {onnxruntime.__version__}, largest difference {worst:.1e}")
    assert worst < 1e-4, worst


if __name__ == "__main__":
    main()
