"""Converts the 16 kHz model of the silero-vad 6.2.3 wheel to the voice activity weights that this package ships.

    pip download --no-deps silero-vad==6.2.3 && unzip silero_vad-6.2.3-*.whl 'silero_vad/data/*' -d wheel
    python tools/convert_voice_activity.py --model wheel/silero_vad/data/silero_vad_16k_op15.onnx

Needs the package ``onnx`` besides this package's own dependencies. (The wheel's ``silero_vad_16k.safetensors`` holds an
older network, with other answers than the wheel's default.) The file that comes out says in its metadata what it is,
where it came from, its licence and the SHA-256 of its source; the SHA-256 of the file itself, printed at the end,
belongs into ``portraittalk_core/speech/voice_network.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from portraittalk_core.speech.voice_network import FFT_SIZE, WEIGHTS, VoiceNetwork  # noqa: E402

BASIS = "stft.forward_basis_buffer"  # (258, 1, 256): cosines, then negative sines, under a Hann window
# beginnings of names in the model, without `model.`, and here
NAMES = {
    **{f"encoder.{layer}.reparam_conv.": f"encoder.{2 * layer}." for layer in range(4)},
    "decoder.decoder.2.": "answer.",
}


def renamed(name: str) -> str:
    """This package's name of one of the model's tensors."""
    if name.startswith("decoder.rnn."):
        return f"memory.{name.removeprefix('decoder.rnn.')}_l0"
    for before, after in NAMES.items():
        if name.startswith(before):
            return after + name.removeprefix(before)
    raise ValueError(f"{name} is not known: another version of the model?")


def check_basis(basis: np.ndarray) -> None:
    """Raise ValueError if the model's spectrum is not the Fourier transform under a Hann window that we compute."""
    angle = 2 * np.pi * np.arange(FFT_SIZE // 2 + 1)[:, None] * np.arange(FFT_SIZE) / FFT_SIZE
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)
    error = np.abs(np.concatenate([np.cos(angle), -np.sin(angle)]) * window - basis[:, 0]).max()
    if error > 1e-6:
        raise ValueError(f"the model's spectrum differs from the Fourier transform by {error:.2g}")


def convert(source: Path) -> bytes:
    """Content of the safetensors file for a model."""
    import onnx
    from safetensors.torch import save

    content = source.read_bytes()
    graph = onnx.load_from_string(content).graph
    found = {entry.name.removeprefix("model."): onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    for node in graph.node:  # small ones stand in the graph itself
        if node.op_type == "Constant" and node.output[0].startswith("model."):
            found[node.output[0].removeprefix("model.")] = onnx.numpy_helper.to_array(node.attribute[0].t)
    check_basis(found.pop(BASIS))
    tensors = {renamed(name): torch.from_numpy(value.copy()) for name, value in found.items()}
    tensors["answer.weight"] = tensors["answer.weight"][:, :, 0].contiguous()
    VoiceNetwork().load_state_dict(tensors)  # raises for names and shapes that do not fit
    about = {  # one entry, because safetensors does not keep the order of several, and the file's SHA-256 is checked
        "network": "VoiceNetwork",
        "source": f"silero-vad 6.2.3 wheel, silero_vad/data/{source.name}",
        "source_sha256": hashlib.sha256(content).hexdigest(),
        "licence": "MIT, Copyright (c) 2020-present Silero Team",
        "changes": "renamed; the spectrum's constants are computed instead of stored; values unchanged",
    }
    return save(tensors, metadata={"portraittalk": json.dumps(about)})


def main() -> None:
    """Convert the model and print the SHA-256 of what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="silero_vad_16k_op15.onnx of the wheel")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    content = convert(options.model)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(content)
    print(f'SHA256 = "{hashlib.sha256(content).hexdigest()}"  # {len(content)} bytes')  # noqa: T201


if __name__ == "__main__":
    main()
