"""Tiny ONNX files with the interface of InsightFace's det_10g and w600k_r50, and pictures they detect faces in.

The detector finds bright discs: the mean of 3×3 cells of a level less the mean of the ring around 9×9 cells. A disc is
seen from 5 to 8 cells in diameter, whatever else is in the picture, so one that fills a picture of 640 is not seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

STRIDES = (8, 16, 32)
# x and y of the five points from the middle of the disc, in cells
OFFSETS = ((-1.5, -1.0), (1.5, -1.0), (0.0, 0.5), (-1.0, 2.0), (1.0, 2.0))
HALF_BOX = 3.0  # cells
SHARPNESS, MIN_RESPONSE = 12.0, 1.4  # of the score; black and white differ by 2


def write_detector(path: Path, seed: int | None = None, size: int | None = None) -> Path:
    """det_10g's interface.

    Args:
        path: to write to.
        seed: adds random noise that depends on the picture to boxes, points and scores.
        size: of the input, if it is to be fixed.
    """
    constants = {"one": np.float32(1).reshape(1)}
    nodes = [helper.make_node("Add", ["input.1", "one"], ["light"])]
    outputs = []
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in STRIDES:
            name = f"{kind}_{stride}"
            weight, bias = _head(kind, np.random.default_rng([seed, width, stride]) if seed is not None else None)
            constants |= {f"{name}_w": weight, f"{name}_b": bias, f"{name}_s": np.array([-1, width], np.int64)}
            nodes += [
                helper.make_node("AveragePool", ["light"], [f"{name}_p"], kernel_shape=[stride] * 2,
                                 strides=[stride] * 2),
                helper.make_node("Conv", [f"{name}_p", f"{name}_w", f"{name}_b"], [f"{name}_c"], pads=[4] * 4),
                helper.make_node("Transpose", [f"{name}_c"], [f"{name}_t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_t", f"{name}_s"], [f"{name}_r" if width == 1 else name]),
            ]  # fmt: skip
            if width == 1:
                nodes.append(helper.make_node("Sigmoid", [f"{name}_r"], [name]))
            rows = 2 * ((size or 640) // stride) ** 2  # as the published file says, although its input is of any size
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, width]))
    sides = [size, size] if size else ["?", "?"]
    inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, *sides])]
    return _save(path, nodes, inputs, outputs, constants)


def _head(kind: str, noise: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, 3, 9, 9) and biases (C,) of one output; C counts the numbers of two anchors, one by one."""
    if kind == "score":
        ring = np.ones((9, 9), bool)
        ring[1:-1, 1:-1] = False
        kernel = np.zeros((9, 9))
        kernel[3:6, 3:6], kernel[ring] = 1 / 9, -1 / 32
        weight = np.stack([np.broadcast_to(kernel / 3, (3, 9, 9)) * SHARPNESS] * 2)
        bias = -SHARPNESS * np.array([MIN_RESPONSE, MIN_RESPONSE + 0.1])  # the second anchor is less sure
    else:
        # an anchor is at the upper left of its cell, the face in the cell's middle
        row = np.array([HALF_BOX - 0.5] * 2 + [HALF_BOX + 0.5] * 2) if kind == "bbox" else np.ravel(OFFSETS) + 0.5
        bias = np.tile(row, 2)
        weight = np.zeros((len(bias), 3, 9, 9))
    if noise is not None:
        weight = weight + noise.normal(0, 0.1 if kind == "score" else 0.02, weight.shape)
        bias = noise.normal(-4, 0.5, bias.shape) if kind == "score" else bias + noise.normal(0, 0.2, bias.shape)
    return weight.astype(np.float32), bias.astype(np.float32)


def write_recogniser(path: Path, seed: int = 0, num_convolutions: int = 1, own_scaling: bool = False) -> Path:
    """w600k_r50's interface: a random linear view of 14×14 patches.

    Args:
        path: to write to.
        seed: of the weights.
        num_convolutions: in the graph; all but the first do nothing.
        own_scaling: the graph begins with Sub and Mul, as those that come from MXNet.
    """
    draw = np.random.default_rng(seed)
    constants = {
        "first": draw.normal(size=(4, 3, 8, 8)).astype(np.float32) / 8,
        "same": np.eye(4, dtype=np.float32)[:, :, None, None],
        "matrix": draw.normal(size=(4 * 14 * 14, 512)).astype(np.float32),
    }
    source, nodes = "input.1", []
    if own_scaling:
        constants |= {"mean": np.float32([127.5]), "scale": np.float32([1 / 127.5])}
        nodes = [
            helper.make_node("Sub", ["input.1", "mean"], ["centred"], name="Sub_0"),
            helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="Mul_1"),
        ]
        source = "scaled"
    nodes.append(helper.make_node("Conv", [source, "first"], ["seen0"], strides=[8, 8], name="Conv_0"))
    for i in range(1, num_convolutions):
        nodes.append(helper.make_node("Conv", [f"seen{i - 1}", "same"], [f"seen{i}"], name=f"Conv_{i}"))
    nodes += [
        helper.make_node("Flatten", [f"seen{num_convolutions - 1}"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["683"]),
    ]
    inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, 112, 112])]
    return _save(
        path, nodes, inputs, [helper.make_tensor_value_info("683", TensorProto.FLOAT, ["None", 512])], constants
    )


def _save(path: Path, nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> Path:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, initializers), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_face_models(insightface: Path, seed: int = 0) -> Path:
    """A folder models/insightface as users have it, with both files of buffalo_l."""
    pack = insightface / "models" / "buffalo_l"
    write_detector(pack / "det_10g.onnx")
    write_recogniser(pack / "w600k_r50.onnx", seed)
    return insightface


def paint_disc(
    *discs: tuple[float, float, float], width: int = 640, height: int = 480, tint: tuple[float, ...] = (1, 1, 0.9)
) -> Tensor:
    """(H, W, 3) uint8: bright discs, each x, y and diameter in pixels, on black; stripes make them asymmetric."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    picture = torch.zeros(height, width, 3)
    for cx, cy, diameter in discs:
        inside = torch.hypot(x - cx, y - cy) < diameter / 2
        light = 245 - 20 * ((x - cx) / diameter + 0.5) * torch.tensor(tint)[:, None, None]
        picture = torch.where(inside[..., None], light.permute(1, 2, 0) * torch.tensor(tint), picture)
    return picture.round().clamp(0, 255).to(torch.uint8)
