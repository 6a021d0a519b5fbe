"""Runtimes of ONNX files, for `networks.py` and `boxes.py`: ONNX Runtime and OpenVINO, in single precision.

The files are those of reid's exporter. They are exported without weights of a training, with batch
normalisation folded, and accept any number of images.
"""

import os
import subprocess
import sys

import rounds

RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
# The exporter's names of networks that `networks.py` names otherwise.
EXPORTED = {"rga": "rga-resnet50", "progressive": "progressive-cut-mix"}


def exported(folder, networks, sizes):
    """Exports the networks that the folder does not have. Returns the file of each."""
    files = {network: folder / f"{network}.onnx" for network in networks}
    if missing := [network for network in networks if not files[network].exists()]:
        folder.mkdir(parents=True, exist_ok=True)
        exporter = rounds.built("example", "export_onnx", "--package", "reid-onnx")
        for network in missing:
            height, width = sizes[network]
            name = EXPORTED.get(network, network)
            command = [exporter, "--architecture", name, "--size", f"{height}x{width}"]
            subprocess.run([*command, "--out", str(files[network])], stdout=sys.stderr, check=True)
    return files


def load(runtime, file, threads, shape=None):
    """Loads a network. Returns the name and version of the runtime, and a function from images to embeddings.

    With a shape of images the network is compiled for it; otherwise for any number of images.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if runtime == "onnxruntime":
        version, run = onnx_runtime(file, threads, shape)
    else:
        version, run = open_vino(file, threads, shape)
    return {"system": RUNTIMES[runtime], "version": version}, run


def onnx_runtime(file, threads, shape):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if shape:
        # The name that reid's exporter gives the dimension.
        options.add_free_dimension_override_by_name("batch", shape[0])
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    key = session.get_inputs()[0].name
    return onnxruntime.__version__, lambda images: session.run(None, {key: images})[0]


def open_vino(file, threads, shape):
    import openvino

    core = openvino.Core()
    network = core.read_model(file)
    if shape:
        network.reshape(list(shape))
    hints = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # Otherwise bfloat16 on processors that multiply it.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(network, "CPU", hints)
    return openvino.__version__.split("-")[0], lambda images: compiled(images)[0]


def time_network(settings, size):
    """Times a network on random images. Returns what was timed and the milliseconds of each repeat."""
    import numpy as np
    import timing

    shape = settings.batch, 3, *size
    what, run = load(settings.runtime, settings.onnx, settings.threads, shape)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    return what, timing.milliseconds(lambda: run(images), settings.repeats)
