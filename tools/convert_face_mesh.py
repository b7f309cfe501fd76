"""Converts the models of the mediapipe 0.10.21 wheel to the face mesh weights that this package ships.

    pip download --no-deps mediapipe==0.10.21 && unzip mediapipe-0.10.21-*.whl 'mediapipe/modules/*' -d wheel
    python tools/convert_face_mesh.py --modules wheel/mediapipe/modules

Needs the small package ``flatbuffers`` besides this package's own dependencies. Each file that comes out says in its
metadata what it is, where it came from, its licence and the SHA-256 of its source; the SHA-256 of the files themselves,
printed at the end, belong into ``portraittalk_core/face/mesh/torch_backend.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from flatbuffers import flexbuffers
from flatbuffers.number_types import UOffsetTFlags
from flatbuffers.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from portraittalk_core.face.detection.blazeface import FullRangeDetector, ShortRangeDetector  # noqa: E402
from portraittalk_core.face.mesh.attention_mesh import AttentionMesh  # noqa: E402

MODELS = {
    "blazeface_short_range": (ShortRangeDetector, "face_detection/face_detection_short_range.tflite"),
    "blazeface_full_range": (FullRangeDetector, "face_detection/face_detection_full_range_sparse.tflite"),
    "attention_mesh": (AttentionMesh, "face_landmark/face_landmark_with_attention.tflite"),
}
NUMPY_TYPES = {0: "<f4", 1: "<f2", 2: "<i4"}  # TFLite's TensorType numbers
CONV, DEPTHWISE, DEQUANTIZE, CUSTOM, PRELU, DENSIFY = 3, 4, 6, 32, 54, 124  # TFLite's BuiltinOperator numbers
TRANSPOSED_CONV = "Convolution2DTransposeBias"  # MediaPipe's custom operator
REGIONS = {61: "lips", 33: "right_eye", 362: "left_eye"}  # by the first corner that a region is turned by


class Fields:
    """A flatbuffer table; fields go by their number in the schema (tensorflow/lite/schema/schema.fbs)."""

    def __init__(self, content: bytes, position: int) -> None:
        self.table = Table(content, position)

    def _at(self, field: int) -> int:
        offset = self.table.Offset(4 + 2 * field)
        return offset and self.table.Pos + offset

    def number(self, field: int, code: str, default: int = 0) -> int:
        at = self._at(field)
        return struct.unpack_from("<" + code, self.table.Bytes, at)[0] if at else default

    def child(self, field: int) -> Fields | None:
        at = self._at(field)
        return Fields(self.table.Bytes, self.table.Indirect(at)) if at else None

    def children(self, field: int) -> list[Fields]:
        offset = self.table.Offset(4 + 2 * field)
        if not offset:
            return []
        start, count = self.table.Vector(offset), self.table.VectorLen(offset)
        width = UOffsetTFlags.bytewidth
        return [Fields(self.table.Bytes, self.table.Indirect(start + width * i)) for i in range(count)]

    def array(self, field: int, dtype: str) -> np.ndarray:
        offset = self.table.Offset(4 + 2 * field)
        if not offset:
            return np.zeros(0, dtype)
        return np.frombuffer(self.table.Bytes, dtype, self.table.VectorLen(offset), self.table.Vector(offset))


class Graph:
    """The operators and constants of a TFLite file."""

    def __init__(self, content: bytes) -> None:
        model = Fields(content, struct.unpack_from("<I", content)[0])
        kinds = model.children(1)
        codes = [max(code.number(0, "b"), code.number(3, "i")) for code in kinds]
        custom = [bytes(code.array(1, "u1")).decode() for code in kinds]
        self.buffers = model.children(4)
        graph = model.children(2)[0]
        self.tensors = graph.children(0)
        self.outputs = sorted(graph.array(2, "<i4").tolist())
        self.steps = [
            (codes[op.number(0, "I")], op.array(1, "<i4").tolist(), op.array(2, "<i4").tolist(), op.array(5, "u1"))
            for op in graph.children(3)
        ]
        self.transposed = {i for i, op in enumerate(graph.children(3)) if custom[op.number(0, "I")] == TRANSPOSED_CONV}
        self.made_by = {out: i for i, (_, _, outs, _) in enumerate(self.steps) for out in outs}

    def constant(self, number: int) -> np.ndarray:
        """A constant tensor, looked up through the operators that only unpack it."""
        while number in self.made_by:
            code, inputs, _, _ = self.steps[self.made_by[number]]
            if code not in (DEQUANTIZE, DENSIFY):
                raise ValueError(f"tensor {number} is computed by operator {code}, not a constant")
            number = inputs[0]
        tensor = self.tensors[number]
        shape = tensor.array(0, "<i4")
        raw = self.buffers[tensor.number(2, "I")].array(0, "u1")
        values = raw.view(NUMPY_TYPES[tensor.number(1, "b")])
        sparsity = tensor.child(6)
        return values.reshape(shape) if sparsity is None else densify(values, shape, sparsity)

    def ancestors(self, number: int) -> set[int]:
        """The operators that the tensor `number` depends on."""
        operators, todo = set(), [number]
        while todo:
            step = self.made_by.get(todo.pop())
            if step is not None and step not in operators:
                operators.add(step)
                todo += self.steps[step][1]
        return operators

    def weights(self) -> list[np.ndarray]:
        """All weights in torch's layout: output by output, operators in their order, each once."""
        # The networks list their parts in this order too, so that names and weights meet.
        done: set[int] = set()
        weights = []
        for output in self.outputs:
            new = sorted(self.ancestors(output) - done)
            done.update(new)
            for step in new:
                code, inputs, _, _ = self.steps[step]
                if step in self.transposed:  # out, height, width, in
                    weights += [self.constant(inputs[1]).transpose(3, 0, 1, 2), self.constant(inputs[2])]
                elif code == CONV:  # out, height, width, in
                    weights += [self.constant(inputs[1]).transpose(0, 3, 1, 2), self.constant(inputs[2])]
                elif code == DEPTHWISE:  # 1, height, width, channels
                    weights += [self.constant(inputs[1]).transpose(3, 0, 1, 2), self.constant(inputs[2])]
                elif code == PRELU:
                    weights.append(self.constant(inputs[1]).reshape(-1))
        return weights

    def region_indices(self) -> dict[str, np.ndarray]:
        """Mesh point indices of each region, from the options of the custom operators that crop it."""
        maps = [flexbuffers.Loads(bytes(extra)) for code, _, _, extra in self.steps if code == CUSTOM and len(extra)]
        regions = [region for region in maps if "subset_idxs" in region]
        return {REGIONS[region["left_rotation_idx"]]: np.array(region["subset_idxs"], np.int16) for region in regions}


def densify(values: np.ndarray, shape: np.ndarray, sparsity: Fields) -> np.ndarray:
    """Dense array of a sparse TFLite constant without blocks (sparse dimensions list their non-zeros)."""
    order, dimensions = sparsity.array(0, "<i4"), sparsity.children(2)
    if len(order) != len(shape) or len(sparsity.array(1, "<i4")):
        raise ValueError("sparse tensors stored in blocks are not supported")
    kinds = {1: "<i4", 2: "<u2", 3: "u1"}
    positions = [()]  # of the entries so far, along the dimensions in storage order
    for dimension, axis in zip(dimensions, order, strict=True):
        if dimension.number(0, "b") == 0:
            positions = [at + (i,) for at in positions for i in range(shape[axis])]
            continue
        segments = dimension.child(3).array(0, kinds[dimension.number(2, "B")]).tolist()
        indices = dimension.child(5).array(0, kinds[dimension.number(4, "B")]).tolist()
        positions = [at + (i,) for n, at in enumerate(positions) for i in indices[segments[n] : segments[n + 1]]]
    full = np.zeros([shape[axis] for axis in order], values.dtype)
    full[tuple(np.array(positions).T)] = values
    return full.transpose(np.argsort(order))


def convert(kind: type[torch.nn.Module], source: Path, name: str, folder: Path) -> Path:
    """Write one model's weights and return the file's path."""
    from safetensors.torch import save

    content = source.read_bytes()
    graph = Graph(content)
    network = kind()
    weights = iter(graph.weights())
    tensors = {}
    for key, value in network.state_dict().items():
        region, _, last = key.rpartition(".")
        weight = graph.region_indices()[region] if last == "index" else next(weights)
        if tuple(weight.shape) != tuple(value.shape):
            raise ValueError(f"{key} of {name} is {tuple(value.shape)}, but the model holds {weight.shape}")
        stored = weight if last == "index" else weight.astype(np.float16)
        if not np.array_equal(stored, weight):
            raise ValueError(f"{key} of {name} does not fit in half precision")
        tensors[key] = torch.from_numpy(stored.copy())
    if next(weights, None) is not None:
        raise ValueError(f"{name}: the model holds more weights than the network")
    # One entry, because safetensors does not keep the order of several, and the file's SHA-256 is checked.
    about = {
        "network": kind.__name__,
        "source": f"mediapipe 0.10.21 wheel, mediapipe/modules/{'/'.join(source.parts[-2:])}",
        "source_sha256": hashlib.sha256(content).hexdigest(),
        "licence": "Apache-2.0, Google LLC (MediaPipe)",
        "changes": "constants unpacked, renamed and laid out for torch; values unchanged, half precision",
    }
    target = folder / f"{name}.safetensors"
    target.write_bytes(save(tensors, metadata={"portraittalk": json.dumps(about)}))
    return target


def main() -> None:
    """Convert all models and print the SHA-256 of what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=Path, required=True, help="the wheel's folder mediapipe/modules")
    parser.add_argument("--out", type=Path, default=ROOT / "portraittalk_core" / "face" / "weights")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (kind, source) in MODELS.items():
        path = convert(kind, options.modules / source, name, options.out)
        print(f'    "{path.name}": "{hashlib.sha256(path.read_bytes()).hexdigest()}",  # {path.stat().st_size} bytes')  # noqa: T201


if __name__ == "__main__":
    main()
