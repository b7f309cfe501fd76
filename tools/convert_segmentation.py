"""Converts MediaPipe's selfie segmentation to the person segmentation weights that this package ships.

    pip download --no-deps mediapipe==0.10.21 && unzip mediapipe-0.10.21-*.whl 'mediapipe/modules/*' -d wheel
    python tools/convert_segmentation.py --modules wheel/mediapipe/modules

Needs ``flatbuffers``, as ``tools/convert_face_mesh.py`` does, whose reader it uses. The SHA-256 of the file that comes
out belongs into ``portraittalk_core/face/segmentation/person.py``.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from convert_face_mesh import ROOT, convert

from portraittalk_core.face.segmentation.network import SelfieSegmentation

SOURCE = "selfie_segmentation/selfie_segmentation.tflite"


def main() -> None:
    """Convert the model and print the SHA-256 of what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=Path, required=True, help="the wheel's folder mediapipe/modules")
    parser.add_argument("--out", type=Path, default=ROOT / "portraittalk_core" / "face" / "weights")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = convert(SelfieSegmentation, options.modules / SOURCE, "selfie_segmentation", options.out)
    print(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}, {path.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
