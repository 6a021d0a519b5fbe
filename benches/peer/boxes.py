"""Times the way from the boxes of a 1080p frame to their embeddings with ONNX Runtime or OpenVINO, and prints a
line of JSON.

    cargo run --release -p reid-onnx --example export_onnx -- --architecture osnet-x0.25 --out osnet.onnx
    python3 benches/peer/boxes.py --onnx osnet.onnx --boxes 32       (pip install onnxruntime openvino opencv-python-headless)
    python3 benches/peer/boxes.py --onnx osnet.onnx --boxes 32 --system openvino

Crops, resizing and colour conversion are OpenCV's. The sizes of the boxes have the same distribution as in
benches/boxes.rs.
"""

import argparse
import json
import os
import resource
import sys
import time

import results

SIZE = 1920, 1080
INPUT = 128, 256


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--onnx", required=True, help="the network as an ONNX file")
    parser.add_argument("--system", choices=["onnxruntime", "openvino"], default="onnxruntime")
    parser.add_argument("--boxes", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--started", type=float, help="when the process was started, in seconds since 1970")
    results.add_arguments(parser)
    settings = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)

    import cv2
    import numpy as np

    cv2.setNumThreads(settings.threads)
    if settings.system == "onnxruntime":
        import onnxruntime

        name = f"ONNX Runtime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        session = onnxruntime.InferenceSession(settings.onnx, options, ["CPUExecutionProvider"])
        key = session.get_inputs()[0].name
        run = lambda images: session.run(None, {key: images})[0]
    else:
        import openvino

        name = f"OpenVINO {openvino.__version__.split('-')[0]}"
        core = openvino.Core()
        hints = {"INFERENCE_NUM_THREADS": settings.threads, "PERFORMANCE_HINT": "LATENCY"}
        # In single precision, like the others.
        hints["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = core.compile_model(settings.onnx, "CPU", hints)
        run = lambda images: compiled(images)[0]

    generator = np.random.default_rng(1)
    width, height = SIZE
    frame = generator.integers(0, 256, (height, width, 3), np.uint8)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    scale = 1 / np.array([0.229, 0.224, 0.225], np.float32)

    def boxes():
        tall = generator.uniform(120, 360, settings.boxes)
        x = generator.uniform(0, width - tall / 2)
        y = generator.uniform(0, height - tall)
        return np.stack([x, y, x + 0.4 * tall, y + tall], 1).round().astype(int)

    def embed(found):
        images = np.empty((len(found), 3, INPUT[1], INPUT[0]), np.float32)
        for image, (left, top, right, bottom) in zip(images, found):
            crop = cv2.resize(frame[top:bottom, left:right], INPUT, interpolation=cv2.INTER_LINEAR)
            crop = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB).astype(np.float32)
            image[:] = ((crop / 255 - mean) * scale).transpose(2, 0, 1)
        return run(images)

    assert embed(boxes()).shape == (settings.boxes, 512)
    first = None if settings.started is None else 1e3 * (time.time() - settings.started)
    times = []
    for _ in range(settings.repeats):
        found = boxes()
        start = time.perf_counter()
        embed(found)
        times.append(1e3 * (time.perf_counter() - start))
    times.sort()
    at = lambda share: times[min(len(times) * share // 100, len(times) - 1)]
    report = {
        "system": name,
        "network": "osnet-x0.25",
        "boxes": settings.boxes,
        "threads": settings.threads,
        "p50_ms": at(50),
        "p99_ms": at(99),
        "boxes_per_second": 1e3 * settings.boxes / at(50),
        "first_ms": first,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(report))
    if settings.csv:
        print(f"wrote {results.write(settings.csv, 'boxes', [report])}", file=sys.stderr)


if __name__ == "__main__":
    main()
