"""Parity of the landmark generator on a film, and of its sketches and crops, with IP-LAP's own inference script.

The script itself runs, on random weights. Stand-ins give it the landmarks that ours gets too, keep what its networks
are given and make, and render nothing.
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.engines.landmark_generator.crops import unit_points
from portraittalk_core.engines.landmark_generator.engine import LandmarkGenerator, load_landmark_generator
from portraittalk_core.engines.landmark_generator.film import FilmedSpeaker, film_spans, spoken_amounts
from portraittalk_core.engines.landmark_generator.sound import MIDDLE
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.face.lip_points import CONTENT_POINTS, LIP_POINTS, POSE_POINTS
from portraittalk_core.face.sketch import draw_sketch
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.speech.mel_iplap import mel_rows
from portraittalk_core.types import LandmarkTrack, Speech

from .parity import run
from .parity_landmark_generator import buzzing_speech
from .public_script import PUBLIC, Given, Kept, no_renderer, run_script

NUM_FRAMES, WIDTH, HEIGHT, SIZE = 66, 640, 480, 128


def measure(repo: Path) -> dict[str, float]:
    """Largest differences between a film's landmarks, sketches and crops of the script in `repo` and ours.

    Args:
        repo: a copy of github.com/Weizhi-Zhong/IP_LAP.
    """
    torch.manual_seed(0)
    film = _film()
    waveform = buzzing_speech().waveform
    silence = int(film.seconds * Speech.sample_rate) - len(waveform)  # both hear it; the script cuts sound off hard
    speech = Speech(torch.nn.functional.pad(waveform, (0, silence)))
    pictures = [(torch.rand(HEIGHT, WIDTH, 3) * 255).byte().numpy() for _ in range(len(film))]
    with tempfile.TemporaryDirectory() as folder:
        theirs = run_script(repo, Given(Path(folder), film, pictures, speech, no_renderer))
        engine = load_landmark_generator(Path(folder) / "landmarkgenerator_checkpoint.pth")
    return _compare(theirs, engine, speech, film)


def _compare(theirs: Kept, engine: LandmarkGenerator, speech: Speech, film: LandmarkTrack) -> dict[str, float]:
    frames = torch.arange(MIDDLE, MIDDLE + len(theirs.content))  # the script shows its third frame three times
    boxes = torch.from_numpy(theirs.boxes).double()
    corner, size = boxes[:, [2, 0]], boxes[:, [3, 1]] - boxes[:, [2, 0]]
    results: dict[str, float] = {"frames": len(frames)}
    for name, kept in (("float32", theirs.single), ("float64", theirs.content)):
        net = engine.net.float() if name == "float32" else engine.net.double()  # in place, so one after the other
        speaker = FilmedSpeaker(net, film, engine.crop_margin_px)
        made = torch.cat([windows for _, windows in speaker.spoken(speech)])[frames].double()
        expected = torch.stack(kept).transpose(2, 3).double()
        largest = size[frames].amax(1)[:, None, None, None]
        results[f"{name}, windows: difference, pixels"] = float(((made - expected) * largest).abs().max())
        placed = expected[:, MIDDLE] * size[frames, None] + corner[frames, None]
        ours = speaker.crops[frames].to_px(made[:, MIDDLE])
        results[f"{name}, landmarks: difference, pixels"] = float((placed - ours).abs().max())
    rounding = (torch.stack(theirs.single).double() - torch.stack(theirs.content)).transpose(2, 3)
    results["the public code's own float32 from its float64, pixels"] = float((rounding * largest).abs().max())
    results["landmarks: moved, pixels"] = float((placed - placed[:1]).abs().max())
    results["crop: difference, pixels"] = float(
        torch.maximum((speaker.crops.corner_px - corner).abs(), (speaker.crops.size_px - size).abs()).max()
    )
    results |= _compare_track(speaker, speech, frames, placed)
    return results | _compare_inputs(theirs, speaker, speech, frames, size)


def _compare_track(speaker: FilmedSpeaker, speech: Speech, frames: Tensor, placed: Tensor) -> dict[str, float]:
    """The dub's own track, in the frames in which somebody speaks: in pauses its mouth rests."""
    options = MotionOptions(smoothing=0.0, silence_gate_db=-80.0)
    points = torch.cat([span.points_px for span in film_spans(speaker, speech, options)])
    spoken = spoken_amounts(speaker, speech, options)[frames] == 1
    differs = (points[frames][:, list(CONTENT_POINTS), :2].double() - placed).abs().amax((1, 2))
    return {"track: frames in speech": int(spoken.sum()), "track: difference, pixels": float(differs[spoken].max())}


def _compare_inputs(
    theirs: Kept, speaker: FilmedSpeaker, speech: Speech, frames: Tensor, size: Tensor
) -> dict[str, float]:
    """What the renderer is given: sketches of windows and references, and mel rows."""
    film, around = speaker.film, speaker.windows(frames).flatten()
    poses = unit_points(film, speaker.crops, POSE_POINTS, around)
    whole = torch.cat([poses, torch.stack(theirs.single).transpose(2, 3).flatten(0, 1)], 1)
    chosen = torch.tensor(theirs.chosen)
    faces = unit_points(film, speaker.crops, LIP_POINTS, chosen)
    pairs = {
        "sketches": (draw_sketch(whole, SIZE, size[around]), torch.cat(theirs.sketches)),
        "reference sketches": (draw_sketch(faces, SIZE, size[chosen]), theirs.references[1]),
    }
    results = {f"{name}: difference, grey levels": 255 * float((a - b).abs().max()) for name, (a, b) in pairs.items()}
    rows = mel_rows(speech, film.fps)[frames]
    return {**results, "mel rows: difference": float((rows - torch.stack(theirs.mels)).abs().max())}


def _film() -> LandmarkTrack:
    """A face that speaks, nods, turns, comes near, and leaves the picture a little."""
    time = torch.arange(NUM_FRAMES)[:, None] / 25.0
    face = canonical_face() * 110
    points = face.repeat(NUM_FRAMES, 1, 1)
    points[:, 17, 1] += 12 * torch.rand(NUM_FRAMES)
    points += 0.3 * torch.randn(points.shape)
    turn = rotation_matrix(torch.cat([8 * torch.sin(5 * time), 20 * torch.sin(2 * time), 6 * torch.cos(3 * time)], 1))
    grown = (points @ turn.transpose(1, 2)) * (1 + 0.2 * torch.sin(time))[..., None]
    way = torch.cat([300 + 190 * torch.sin(time), 220 + 20 * torch.cos(4 * time), 0 * time], 1)
    return LandmarkTrack.from_px(grown + way[:, None], WIDTH, HEIGHT, Fraction(25))


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
