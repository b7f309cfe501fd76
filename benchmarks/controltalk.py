"""ControlTalk's experiments on a drawn puppet: ``python -m benchmarks controltalk``.

The real networks in a tiny configuration (block expansion 8, 15 keypoints, 64 pixels) learn a puppet whose speech is a
tone as loud as its mouth is open: the renderer, the lip-sync network, then Audio2Exp in several settings. Held-out
puppets then say what another one said. Opening is measured in the rendered frames, by the area of the mouth's colour: 0
shut and 1 wide open, on the scale of frames that the renderer makes of known mouths. Speech is heard as log-mel rows,
for HuBERT's weights are nobody's to ship.
Source: ControlTalk, section 4.3, figures 7 and 8; equation 5.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.losses.sync import sync_cosine
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.records import save_record
from portraittalk_core.renderers.implicit.audio2exp.files import load_audio2exp
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp
from portraittalk_core.renderers.implicit.contract import KeypointModel, Keypoints
from portraittalk_core.renderers.implicit.files import open_keypoint_model
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.audio2exp.config import Audio2ExpTrainer, Audio2ExpTraining
from portraittalk_core.training.audio2exp.stage import train_audio2exp
from portraittalk_core.training.data.speech_rows import MelEncoder, read_rows
from portraittalk_core.training.data.squares import fit_square, track_on_crop
from portraittalk_core.training.data.video_clips import FRAMES, MARKER, SPEECH, TRACK, VideoClip, read_videos
from portraittalk_core.training.data.windows import NUM_FRAMES
from portraittalk_core.training.keypoints.config import KeypointTrainer, KeypointTraining, LossWeights
from portraittalk_core.training.keypoints.stage import train_keypoints
from portraittalk_core.training.sync.config import SyncTrainer, SyncTraining
from portraittalk_core.training.sync.mouth_crop import crop_mouths, mouth_boxes
from portraittalk_core.training.sync.network import SyncNetwork, load_sync
from portraittalk_core.training.sync.stage import train_sync

from .lipsync_tables import Table, show

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from toy_puppet import MOUTH_DROP, UNIT, draw_puppet, motion, track_of  # noqa: E402
from toy_speech import spoken  # noqa: E402

PURPOSE = "ControlTalk's experiments on a drawn puppet: alpha against opening, lambda of lip sync, image and video"
ALPHAS, LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0), (0.1, 0.3, 0.5, 1.0)
SIDE = 64  # pixels of the networks' pictures
DRAWN, CROP, CORNER = (
    206,
    128,
    (39, 32),
)  # pixels: of the puppet's picture, of the crop around its head, where it begins
CALM = (0.12, 0.12, 0.2, 1.0)  # of the puppet's moves: what is measured is the mouth
EYES = UNIT * DRAWN / CROP  # inter-ocular distance over the crop's side
SHUT, FOLLOWS, SAME = 0.12, 0.8, 0.9  # opening at alpha 0; r with the driving puppet's mouth; r of image with video
SKIN_REDNESS, MOUTH_REDNESS = 0.2, 0.575  # red less the mean of green and blue, as the puppet is painted
HALF_WIDTH, HALF_HEIGHT = 0.4, 0.1  # of the puppet's mouth, the height when shut


@dataclass(frozen=True)
class Plan:
    """Sizes and lengths."""

    num_clips: int = 24  # to learn from
    num_held_out: int = 4
    frames: int = 48  # of a clip
    renderer_steps: int = 600
    renderer_rows: int = 4  # pairs in a step
    sync_steps: int = 400
    steps: int = 400  # of every Audio2Exp
    windows: int = 2  # in a step of Audio2Exp
    seed: int = 0


def moves_of(seed: int, num_frames: int) -> Tensor:
    """(T, 4) moves of a puppet: head's x, y and roll, mouth 0..1."""
    return motion(num_frames, seed) * torch.tensor(CALM)


def head_clip(seed: int, num_frames: int) -> VideoClip:
    """A puppet's head, cut out as `portraittalk prepare` does it."""
    moves, (x, y) = moves_of(seed, num_frames), CORNER
    shirt = torch.rand(3, generator=torch.Generator().manual_seed(seed + 10_000)) * 1.2 - 0.6
    frames = torch.stack([draw_puppet(move, shirt, DRAWN)[:, y : y + CROP, x : x + CROP] for move in moves])
    track = track_on_crop(track_of(moves, DRAWN), CORNER, CROP, CROP)
    return VideoClip(f"puppet{seed}", lambda number: frames[number], track)


def write_clips(folder: Path, seeds: Sequence[int], num_frames: int) -> Path:
    """Puppets' videos with their sound, as `portraittalk prepare` writes them; returns the folder."""
    for seed in seeds:
        clip, place = head_clip(seed, num_frames), folder / f"puppet{seed}"
        (place / FRAMES).mkdir(parents=True)
        for number in range(num_frames):
            picture = ((clip.read(number) + 1) * 127.5).round().byte().permute(1, 2, 0)
            save_picture(picture, place / FRAMES / f"{number:06d}.png")
        save_record(clip.track, place / TRACK)
        save_file({"waveform": spoken(seed, num_frames)}, place / SPEECH)
        (place / MARKER).write_text('{"dropped": "", "reference": 0}')
    return folder


@dataclass(frozen=True)
class Trained:
    """Files that all settings of Audio2Exp share."""

    clips: Path
    renderer: Path
    sync: Path
    accuracy: float  # of the lip-sync network, on held-out puppets


def train_base(folder: Path, plan: Plan) -> Trained:
    """Train renderer and lip-sync network on puppets."""
    clips = write_clips(folder / "clips", range(plan.num_clips), plan.frames)
    trainer = KeypointTrainer(
        steps=plan.renderer_steps, batch_size=plan.renderer_rows, learning_rate=1e-3, ema_decay=0.99, sample_every=0,
        save_every=10**6, seed=plan.seed,
    )  # fmt: skip
    weights = LossWeights(perceptual=0.0, pixels=30.0, gan=0.0, feature_matching=0.0, expression=1.0, lower_face=0.667)
    config = KeypointTraining(
        clips, folder / "renderer", size="tiny", resolution=SIDE, scales=3, weights=weights, trainer=trainer
    )
    renderer = train_keypoints(config).renderer
    say("the renderer is trained")
    sync_trainer = SyncTrainer(
        steps=plan.sync_steps, batch_size=16, learning_rate=1e-3, ema_decay=0.99, sample_every=0, save_every=10**6,
        seed=plan.seed,
    )  # fmt: skip
    held_out = write_clips(folder / "held_out", held_out_seeds(plan), plan.frames)
    names = folder / "held_out.txt"
    names.write_text("".join(f"puppet{seed}\n" for seed in held_out_seeds(plan)))
    sync = train_sync(SyncTraining(clips, folder / "sync", size="tiny", trainer=sync_trainer))
    say("the lip-sync network is trained")
    return Trained(clips, renderer, sync.network, held_out_accuracy(sync.network, held_out, plan))


def held_out_seeds(plan: Plan) -> range:
    """Seeds of puppets that nothing is trained on."""
    return range(90_000, 90_000 + plan.num_held_out)


def held_out_accuracy(network: Path, clips: Path, plan: Plan) -> float:
    """Share of held-out windows whose right or wrong speech is told."""
    from portraittalk_core.training.data.windows import SyncWindows
    from portraittalk_core.training.sync.stage import sync_score

    videos, rows, _ = read_rows(clips, read_videos(clips, NUM_FRAMES).videos, MelEncoder())
    return sync_score(load_sync(network), SyncWindows(videos, rows), 32, plan.seed).accuracy


def train_setting(trained: Trained, out: Path, plan: Plan, **changes: object) -> Audio2Exp:
    """Audio2Exp of one setting.

    Adam's long memory would not suit so few steps: the gradients of the silent pass are hundreds of times those of lip
    sync at first, and with a memory of a thousand steps hold lip sync back to the end (r .73 instead of .84).
    """
    trainer = Audio2ExpTrainer(
        steps=plan.steps, batch_size=plan.windows, learning_rate=6e-3, betas=(0.9, 0.95), ema_decay=0.95,
        sample_every=0, save_every=10**6, seed=plan.seed, gamma=0.3,
        milestones=(plan.steps * 6 // 10, plan.steps * 8 // 10),
    )  # fmt: skip
    config = Audio2ExpTraining(trained.clips, trained.renderer, trained.sync, out, trainer=trainer, **changes)
    result = train_audio2exp(config)
    say(f"Audio2Exp is trained with {changes or 'the default'}")
    return load_audio2exp(result.audio2exp)


@dataclass(frozen=True)
class Clip:
    """A held-out puppet, and the speech of another one."""

    video: VideoClip
    keypoints: Keypoints  # of T frames
    rows: Tensor  # (T, R, D) of the other's speech
    silence: Tensor  # (R, D)
    spoken_opening: Tensor  # (T,) of the other's mouth
    own_opening: Tensor  # (T,) of its own


def read_clips(folder: Path, model: KeypointModel, plan: Plan) -> list[Clip]:
    """Held-out puppets; each says what the next one said."""
    videos, rows, _ = read_rows(folder, read_videos(folder, NUM_FRAMES).videos, MelEncoder())
    seeds, clips = held_out_seeds(plan), []
    for number, video in enumerate(videos):
        other = (number + 1) % len(videos)
        crops = crops_of(video, range(plan.frames))
        heard = rows.windows(other, range(plan.frames))
        mouths = [moves_of(seeds[which], plan.frames)[:, 3] for which in (other, number)]
        clips.append(Clip(video, model.keypoints(crops), heard, rows.silence(other), *mouths))
    return clips


def crops_of(video: VideoClip, frames: Sequence[int]) -> Tensor:
    """(F, 3, S, S) frames of a video in 0..1, at the networks' size."""
    return (torch.stack([fit_square(video.read(frame), SIDE) for frame in frames]) + 1) / 2


@torch.no_grad()
def talk(
    model: KeypointModel, network: Audio2Exp | None, clip: Clip, alpha: float | None, still: bool = False
) -> Tensor:
    """(T, 3, S, S) frames of a puppet that says the other's speech: the silent pass, then speech.

    Args:
        model: the renderer.
        network: Audio2Exp; None where alpha is.
        clip: whom to move.
        alpha: of speech; None leaves the expression as it is.
        still: whether the puppet is given as an image, its first frame, instead of as a video.
    """
    frames = [0] * len(clip.rows) if still else list(range(len(clip.rows)))
    source = Keypoints(*(getattr(clip.keypoints, f.name)[frames] for f in dataclasses.fields(Keypoints)))
    crops = crops_of(clip.video, frames)
    expression = source.expression
    if alpha is not None:
        shut = network(expression, clip.silence.expand(len(frames), -1, -1))
        expression = network(shut, clip.rows, alpha)
    placed = model.place(dataclasses.replace(source, expression=expression))
    return model.render(model.features(crops), model.place(source), placed)


def openings(frames: Tensor, clip: Clip, still: bool = False) -> Tensor:
    """(T,) how far mouths are open in frames (T, 3, S, S), 0..1, by the area of their colour."""
    redness = frames[:, 0] - frames[:, 1:].mean(1)
    share = ((redness - SKIN_REDNESS) / (MOUTH_REDNESS - SKIN_REDNESS)).clamp(0, 1)
    centres = _mouth_centres(clip)[[0] * len(frames) if still else slice(None)]
    line = (torch.arange(SIDE) + 0.5) / SIDE
    rows, columns = (line - centres[:, axis : axis + 1] for axis in (1, 0))
    inside = ((rows > -0.25 * EYES) & (rows < 0.6 * EYES))[:, :, None] & (columns.abs() < 0.55 * EYES)[:, None]
    area = (share * inside).sum((1, 2)) / (EYES * SIDE) ** 2
    half_height = area / (math.pi * HALF_WIDTH)
    return 2 * (half_height - HALF_HEIGHT) / MOUTH_DROP


@dataclass(frozen=True)
class Scale:
    """What `openings` reads of the renderer's own frames: its blur makes shut mouths look larger than they are."""

    shut: float
    wide: float  # more than shut

    @classmethod
    def of(cls, model: KeypointModel, clips: Sequence[Clip]) -> Scale:
        """Least squares over rendered frames of held-out puppets as they are, whose openings are known."""
        read = torch.cat([openings(talk(model, None, clip, None), clip) for clip in clips])
        true = torch.cat([clip.own_opening for clip in clips])
        columns = torch.stack([torch.ones_like(true), true], 1)
        shut, wide = torch.linalg.lstsq(columns, read[:, None]).solution[:, 0].tolist()
        return cls(shut, wide)

    def __call__(self, read: Tensor) -> Tensor:
        """Openings, 0 shut and 1 wide open, of what was read."""
        return (read - self.shut) / self.wide


def _mouth_centres(clip: Clip) -> Tensor:
    """(T, 2) where the shut mouth's middle stands, over the picture's side."""
    points, face = clip.video.track.points, canonical_face()
    upper = points[:, 13, :2]
    return upper + (float(face[[13, 14], 1].mean()) - float(face[13, 1])) * EYES * torch.tensor([0.0, 1.0])


@torch.no_grad()
def cosine(sync: SyncNetwork, frames: Tensor, clip: Clip) -> float:
    """Mean cosine of a clip's frames with the speech that they say."""
    boxes = mouth_boxes(clip.video.track.points[..., :2] * SIDE)
    crops = crop_mouths(frames, boxes, sync.sizes.crop_size)
    windows = torch.stack([crops[start : start + NUM_FRAMES] for start in range(len(frames) - NUM_FRAMES + 1)])
    return float(sync_cosine(sync.mouth_encoder(windows), sync.embed_rows(clip.rows[: len(windows)])).mean())


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's r of two curves."""
    return float(torch.corrcoef(torch.stack([first.float(), second.float()]))[0, 1])


@dataclass(frozen=True)
class Row:
    """What frames of all held-out puppets show with one setting and alpha."""

    opening: float  # mean
    spread: float  # standard deviation over frames
    follows: float  # r with the mouth of the puppet who said it
    cosine: float  # with that speech


@dataclass(frozen=True)
class Bench:
    """What every setting is measured with."""

    model: KeypointModel
    sync: SyncNetwork
    clips: Sequence[Clip]
    scale: Scale


def measure(bench: Bench, network: Audio2Exp | None, alpha: float | None) -> Row:
    """Measures of one setting and alpha."""
    clips = bench.clips
    drawn = [talk(bench.model, network, clip, alpha) for clip in clips]
    opened = bench.scale(torch.cat([openings(frames, clip) for frames, clip in zip(drawn, clips, strict=True)]))
    asked = torch.cat([clip.spoken_opening for clip in clips])
    cosines = [cosine(bench.sync, frames, clip) for frames, clip in zip(drawn, clips, strict=True)]
    return Row(float(opened.mean()), float(opened.std()), correlation(opened, asked), sum(cosines) / len(cosines))


@dataclass(frozen=True)
class Findings:
    """All that the experiments give."""

    accuracy: float  # of the lip-sync network on held-out puppets
    unedited: Row
    alphas: dict[float, Row]
    lambdas: dict[float, Row]  # at alpha 1
    printed: tuple[Row, Row]  # with equation 5 as printed, at alpha 0 and 1
    image_as_video: float  # r of the openings of both kinds of input
    image_difference: float  # mean absolute difference of the openings

    def claims(self) -> dict[str, bool]:
        """What the paper says, and whether it is so here."""
        mean = [row.opening for row in self.alphas.values()]
        return {
            "opening rises strictly with alpha": all(a < b for a, b in zip(mean, mean[1:], strict=False)),
            f"alpha 0 shuts the mouth (opening below {SHUT})": mean[0] < SHUT,
            f"alpha 1 follows the speech (r of {FOLLOWS} at least)": self.alphas[1.0].follows >= FOLLOWS,
            f"image and video give the same mouth (r of {SAME} at least)": self.image_as_video >= SAME,
            "-log cos raises the cosine from alpha 0 to 1": self.alphas[1.0].cosine > self.alphas[0.0].cosine,
            "equation 5 as printed lowers it": self.printed[1].cosine < self.printed[0].cosine,
        }


def experiments(plan: Plan, folder: Path, picture: Path | None = None) -> Findings:
    """Train everything, and measure on held-out puppets."""
    trained = train_base(folder, plan)
    model, sync = open_keypoint_model(trained.renderer)[0], load_sync(trained.sync)
    settings = {weight: {"sync_weight": weight} for weight in LAMBDAS} | {"printed": {"sync_loss": "printed"}}
    networks = {name: train_setting(trained, folder / f"a2e {name}", plan, **how) for name, how in settings.items()}
    clips, plain = read_clips(folder / "held_out", model, plan), networks[0.3]
    bench = Bench(model, sync, clips, Scale.of(model, clips))
    pairs = [[openings(talk(model, plain, c, 1.0, still), c, still) for still in (False, True)] for c in clips]
    video, image = (bench.scale(torch.cat(part)) for part in zip(*pairs, strict=True))
    if picture is not None:
        save_sheet(model, plain, clips[0], picture)
    return Findings(
        trained.accuracy,
        measure(bench, None, None),
        {alpha: measure(bench, plain, alpha) for alpha in ALPHAS},
        {weight: measure(bench, networks[weight], 1.0) for weight in LAMBDAS},
        tuple(measure(bench, networks["printed"], alpha) for alpha in (0.0, 1.0)),
        correlation(video, image),
        float((video - image).abs().mean()),
    )


def save_sheet(model: KeypointModel, network: Audio2Exp, clip: Clip, path: Path) -> None:
    """A picture of the frame that is to be widest open: true, as rendered, then alpha from 0 to 1."""
    at = int(clip.spoken_opening.argmax())
    drawn = [crops_of(clip.video, [at])[0], *(talk(model, network, clip, a)[at] for a in (None, *ALPHAS))]
    sheet = (torch.cat(drawn, 2).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(sheet.repeat_interleave(3, 0).repeat_interleave(3, 1), path)


def say(text: str) -> None:
    """Tell what is done, on the error output."""
    print(f"  {text}", file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    for field in dataclasses.fields(Plan):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default, help="%(default)s")
    parser.add_argument("--picture", metavar="FILE.png", type=Path, help="frames at each alpha are written here")
    parser.set_defaults(run=run)


def _rows(findings: Findings) -> Iterator[tuple[str, Row]]:
    yield "as they are", findings.unedited
    yield from ((f"alpha {alpha:g}", row) for alpha, row in findings.alphas.items())
    yield from ((f"lambda {weight:g}, alpha 1", row) for weight, row in findings.lambdas.items())
    yield from ((f"equation 5 as printed, alpha {alpha}", row) for alpha, row in enumerate(findings.printed))


def run(args: argparse.Namespace) -> int:
    """Print the tables; 1 if a claim does not hold."""
    began = time.process_time()
    plan = Plan(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Plan)})
    with one_torch_thread(), tempfile.TemporaryDirectory() as folder:
        findings = experiments(plan, Path(folder), args.picture)
    heading = ["held-out puppets", "opening", "spread", "r with speech", "cosine"]
    rows = [
        [name, *(f"{number:.3f}" for number in (row.opening, row.spread, row.follows, row.cosine))]
        for name, row in _rows(findings)
    ]
    show(Table("mouths of puppets that say another's speech", heading, rows))
    print(f"The lip-sync network tells {findings.accuracy:.1%} of held-out windows; chance is 50 %.")
    print(f"Image against video: r {findings.image_as_video:.3f}, mean difference {findings.image_difference:.3f}.")
    claims = findings.claims()
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'does NOT hold'}: {claim}")
    print(f"{time.process_time() - began:.0f} s of one core.")
    return 0 if all(claims.values()) else 1
