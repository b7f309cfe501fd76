"""Makes samples/portrait.jpg, film.mp4 and generated.mp4; see README.md beside it."""

from pathlib import Path

import torch
from PIL import Image
from skimage.data import astronaut

from portraittalk_core.face.mesh.landmarks import find_portrait
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.talk import talk

FOLDER = Path(__file__).parent
# lively and calm, so that a score finds something to say
FILMS = {
    "film.mp4": MotionOptions(seed=3, head_motion=1.3, mouth_gain=1.1),
    "generated.mp4": MotionOptions(seed=0, head_motion=1.0, mouth_gain=0.9),
}
CRF = 26


def main() -> None:
    """Write the three files beside this script."""
    Image.fromarray(astronaut()).save(FOLDER / "portrait.jpg", quality=90)
    portrait = find_portrait(torch.from_numpy(astronaut().copy()))
    speech = load_speech(FOLDER / "speech.wav")
    for name, options in FILMS.items():
        talk(portrait, speech, FOLDER / name, options, crf=CRF)


if __name__ == "__main__":
    main()
