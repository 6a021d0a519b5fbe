"""Counts the multiplications of networks from the ONNX files that `export_onnx` writes.

    python3 benches/peer/multiplications.py osnet.onnx resnet50.onnx

Prints one line per file: the multiplications for one image, in units of 10^9, and the name. Those of convolutions
and of matrix products are counted, as in the literature; normalisation, activations and pooling are not.
Needs the package `onnx`.
"""

import argparse
import math
from pathlib import Path

import onnx
from onnx import shape_inference


def shapes(graph):
    """The dimensions of each tensor by name, with 1 for the batch."""
    found = {value.name: list(value.dims) for value in graph.initializer}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        dimensions = value.type.tensor_type.shape.dim
        found[value.name] = [dimension.dim_value or 1 for dimension in dimensions]
    return found


def multiplications(graph):
    sizes, total = shapes(graph), 0
    for node in graph.node:
        output = math.prod(sizes[node.output[0]])
        if node.op_type == "Conv":
            total += output * math.prod(sizes[node.input[1]][1:])
        elif node.op_type == "MatMul":
            total += output * sizes[node.input[0]][-1]
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += output * sizes[node.input[0]][0 if transposed else 1]
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="ONNX files")
    for path in parser.parse_args().files:
        model = onnx.load(path)
        batch = model.graph.input[0].type.tensor_type.shape.dim[0]
        batch.dim_value = 1
        graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        print(f"{multiplications(graph) / 1e9:.2f} {path.stem}")


if __name__ == "__main__":
    main()
