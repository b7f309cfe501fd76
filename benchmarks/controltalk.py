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
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.losses.sync import sync_cosine
from portraittalk_core.media.image import save_picture
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp
from portraittalk_core.renderers.implicit.contract import KeypointModel
from portraittalk_core.renderers.implicit.files import open_keypoint_model
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.data.windows import NUM_FRAMES
from portraittalk_core.training.sync.mouth_crop import crop_mouths, mouth_boxes
from portraittalk_core.training.sync.network import SyncNetwork, load_sync

from .controltalk_mouths import Clip, Scale, crops_of, openings, read_clips, talk
from .controltalk_training import SIDE, Plan, train_base, train_setting
from .lipsync_tables import Table, show

PURPOSE = "ControlTalk's experiments on a drawn puppet: alpha against opening, lambda of lip sync, image and video"
ALPHAS, LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0), (0.1, 0.3, 0.5, 1.0)
SHUT, FOLLOWS, SAME = 0.12, 0.8, 0.9  # opening at alpha 0; r with the driving puppet's mouth; r of image with video


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
