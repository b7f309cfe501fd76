"""Table 2 of PortraitTalk on a toy puppet: ``python -m benchmarks ablation``.

A tiny UNet learns the puppet and stays frozen. Then the recipe's three stages: IdentityNet, AnimateNet frame by frame,
all together with motion modules; in full and with one thing left out at a time (the paper does not say whether its rows
add up). Each row is a config key. All take the same number of steps, pictures a step and seeds.

- unified attention: face tokens stand behind the text's in one attention (attention = "unified").
- without the face encoder: CLIP's embedding in its place (face_encoder = "clip"). The toy's stand-in is told the
  brightness of the shirt, its face encoder the colour: how much worse this row is, is made, not found.
- one reference: references = 1 instead of 4. Each has noise of its own, which four average.
- without head placement: no placement tokens (head_placement = false). Drawings stay where the reference's head stands
  in all rows (centred_hint = true): at its true place the drawing tells the network everything.
- without temporal attention: the second stage goes on frame by frame (stage = "spatial").

Two rows more, which the paper has not: in each something is added to the full model.

- with features: the UNet also attends to AnimateNet's feature maps (features = true).
- with the last frame: it and its head placement condition the next frames (previous = true).

Who the puppet is, is the colour of its shirt. Every frame is drawn from noise of its own, in every variant: what holds
frames together shall be temporal attention and not the noise. Everything is trained on the noise levels of SD1.5:
motion modules that learn AnimateDiff's on a toy that has seen few pictures spoil them, which real ones, trained for
long, do not.
Held-out clips are drawn in chunks, each of which begins with the last frame of the one before, the first with the
reference picture: the clip's own first frame, which is not scored.
Landmarks of drawn frames are read by a small network that was trained on true frames; its error is in the table.
Source: PortraitTalk, table 2.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from portraittalk_core.diffusion.motion_modules import new_motion_modules
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.renderers.identitynet.adapter import IdentityAdapter
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.animatenet.config import AnimateTraining
from portraittalk_core.training.animatenet.faces import ClipFaces, FaceChoice
from portraittalk_core.training.animatenet.stage import AnimateParts, AnimateStage, JointStage, SpatialStage
from portraittalk_core.training.data.options import POOL
from portraittalk_core.training.data.video_clips import VideoClip, VideoData
from portraittalk_core.training.identitynet.config import IdentityTraining
from portraittalk_core.training.identitynet.data import FaceData
from portraittalk_core.training.identitynet.people import PARTS, pictures_of
from portraittalk_core.training.identitynet.stage import FrozenParts, IdentityStage, fresh_adapter

from .puppet_training import (
    BETAS,
    FRAMES,
    LENGTH,
    NUM_CLIPS,
    NUM_HELD_OUT,
    SIDE,
    WIDTHS,
    PatchCodec,
    Row,
    add_plan,
    fresh_parts,
    plan_of,
    puppet_clip,
    sample_video,
    score,
    toy_base,
    toy_trainer,
    trained,
    trained_reader,
)

PURPOSE = "PortraitTalk's table 2 on a drawn puppet: six rows, each a config key"
EXTRAS = ("features", "previous")  # what AnimateNet has parts of its own for
REFERENCES, REFERENCE_NOISE, CLIP_WIDTH = 4, 1.5, 16
WITHOUT_TEMPORAL = "without temporal attention"
# fields of the configurations that each row changes
ROWS: dict[str, dict[str, object]] = {
    "full": {},
    "unified attention": {"attention": "unified"},
    "without face encoder": {"face_encoder": "clip"},
    "one reference": {"references": 1},
    "without head placement": {"head_placement": False},
    WITHOUT_TEMPORAL: {"stage": "spatial"},
}
MORE_ROWS: dict[str, dict[str, object]] = {
    "with features": {"features": True},
    "with the last frame": {"previous": True},
}
PAPER = {  # PSNR, ADFD
    "full": (27.495, 0.835),
    "unified attention": (9.430, 0.024),
    "without face encoder": (13.457, 0.386),
    "one reference": (16.296, 0.582),
    "without head placement": (24.725, 0.683),
    WITHOUT_TEMPORAL: (26.951, 0.765),
}


@dataclass(frozen=True)
class Plan:
    """Training and sampling lengths; the same for all variants."""

    base_steps: int = 700  # of the frozen UNet
    identity_steps: int = 300  # of IdentityNet
    first_steps: int = 300  # AnimateNet frame by frame
    second_steps: int = 400  # everything, with motion modules where the variant has any
    rows: int = 32  # pictures in a step of either stage
    learning_rate: float = 2e-3
    sample_steps: int = 10
    clips: int = NUM_CLIPS  # to learn from
    held_out: int = NUM_HELD_OUT  # to score on
    frames: int = LENGTH  # of a clip to score on
    reader_clips: int = 400  # that the landmark reader learns from
    seed: int = 0  # of every random number generator


def with_face(clip: VideoClip) -> VideoClip:
    """A clip with noisy descriptions of its shirt in some frames: its colour to ArcFace, its brightness to CLIP."""
    seed = int(clip.name.split()[1])
    shirt = torch.rand(3, generator=torch.Generator().manual_seed(seed + 10_000)) * 1.2 - 0.6  # as toy_puppet's
    axes, draw = torch.Generator().manual_seed(77), torch.Generator().manual_seed(seed)
    colour, brightness = torch.randn(4, 512, generator=axes), torch.randn(2, CLIP_WIDTH, generator=axes)
    known = {}
    for frame in range(POOL):
        face = torch.cat([shirt, torch.ones(1)]) @ colour + REFERENCE_NOISE * torch.randn(512, generator=draw)
        coarse = torch.stack([shirt.mean(), torch.tensor(1.0)]) @ brightness
        coarse = coarse + 0.3 * torch.randn(CLIP_WIDTH, generator=draw)
        known[frame] = FaceEmbedding(face[None], clip_embeds=coarse[None])
    return dataclasses.replace(clip, references=known)


def identity_stage(
    frozen: FrozenParts, row: dict[str, object], plan: Plan, out: Path, clips: Sequence[VideoClip]
) -> IdentityAdapter:
    """A face adapter after IdentityNet's stage."""
    keys = {name: row[name] for name in ("attention", "face_encoder") if name in row}
    trainer = toy_trainer(plan.identity_steps, plan.rows, plan.learning_rate, plan.seed)
    config = IdentityTraining(
        *[out] * 3, resolution=SIDE, references=row.get("references", REFERENCES), trainer=trainer, **keys
    )
    is_clip = config.face_encoder == "clip"
    data = FaceData([one for clip in clips for one in pictures_of(clip, PARTS[config.face_encoder])])
    adapter = fresh_adapter(frozen.unet, plan.seed, CLIP_WIDTH if is_clip else None)
    trained(IdentityStage(frozen, adapter, data, config), out)
    return adapter


def _faces(adapter: IdentityAdapter, row: dict[str, object], clips: Sequence[VideoClip], learns: bool) -> ClipFaces:
    choice = FaceChoice(row.get("references", REFERENCES), "auto", learns, row.get("attention", "decoupled"))
    return ClipFaces(adapter, clips, choice)


def first_stage(
    frozen: FrozenParts,
    adapter: IdentityAdapter,
    row: dict[str, object],
    plan: Plan,
    out: Path,
    clips: Sequence[VideoClip],
) -> AnimateParts:
    """AnimateNet after the spatial stage."""
    config = _training(out, {**row, "stage": "spatial"}, plan, plan.first_steps)
    faces = _faces(adapter, row, clips, learns=False)
    extras = {name: value for name, value in row.items() if name in EXTRAS}
    parts = fresh_parts(frozen.unet, plan.seed, **extras)
    stage = SpatialStage(frozen, parts, VideoData(clips, 1), config, faces)
    trained(stage, out)
    return stage.parts


def second_stage(
    frozen: FrozenParts,
    first: tuple[IdentityAdapter, AnimateParts],
    row: dict[str, object],
    plan: Plan,
    out: Path,
    clips: Sequence[VideoClip],
) -> AnimateStage:
    """One row after all stages: the last is joint, or spatial again without motion modules."""
    adapter, parts = copy.deepcopy(first)
    config = dataclasses.replace(
        _training(out, {"stage": "joint", **row}, plan, plan.second_steps), train_identity=True
    )
    torch.manual_seed(plan.seed)
    if config.stage == "joint":
        parts = dataclasses.replace(parts, motion=new_motion_modules(WIDTHS, betas=BETAS))
    kind = JointStage if config.stage == "joint" else SpatialStage
    faces = _faces(adapter, row, clips, learns=True)
    stage = kind(frozen, parts, VideoData(clips, config.clip_frames), config, faces)
    trained(stage, out)
    return stage


@functools.lru_cache(1)
def people(seed: int, count: int) -> tuple[VideoClip, ...]:
    """The training set, each clip with its faces."""
    return tuple(with_face(puppet_clip(seed * 1000 + number, LENGTH)) for number in range(count))


def _training(out: Path, row: dict[str, object], plan: Plan, steps: int) -> AnimateTraining:
    known = ("stage", "head_placement", "attention", "references", *EXTRAS)
    keys = {name: row[name] for name in known if name in row}
    batch_size = plan.rows // FRAMES if keys["stage"] == "joint" else plan.rows
    return AnimateTraining(
        *[out] * 3,
        identity=out,
        style="landmarks",
        resolution=SIDE,
        frames=FRAMES,
        overlap=1,
        given_share=1.0,
        centred_hint=True,
        trainer=toy_trainer(steps, batch_size, plan.learning_rate, plan.seed),
        **{"references": REFERENCES, **keys},
    )


def ablation(plan: Plan, table: Mapping[str, dict[str, object]] = ROWS) -> list[Row]:
    """The scores of all rows of a table, in its order; the last row is the truth through the same reader."""
    held_out = [
        with_face(puppet_clip(90_000 + plan.seed * 100 + number, plan.frames)) for number in range(plan.held_out)
    ]
    held_out = [dataclasses.replace(clip, reference=0) for clip in held_out]
    clips, learnt_from = VideoData(held_out, plan.frames), people(plan.seed, plan.clips)
    rows, identities, begun = [], {}, {}
    with one_torch_thread(), tempfile.TemporaryDirectory() as folder:
        reader = trained_reader(min(1500, 5 * plan.base_steps), plan.seed, plan.reader_clips)
        frozen = toy_base(plan.base_steps, plan.seed, learnt_from)
        for name, row in table.items():
            out = Path(folder) / name
            key = _key(row, "attention", "face_encoder", "references")
            if key not in identities:  # rows that differ later share the earlier stages
                identities[key] = identity_stage(frozen, row, plan, out / "identity", learnt_from)
            placed = (key, _key(row, "head_placement", *EXTRAS))
            if placed not in begun:
                begun[placed] = first_stage(frozen, identities[key], row, plan, out / "spatial", learnt_from)
            stage = second_stage(frozen, (identities[key], begun[placed]), row, plan, out / "joint", learnt_from)
            stage.faces = _faces(stage.faces.adapter, row, held_out, learns=True)
            videos = [sample_video(stage, clips, video, plan.sample_steps) for video in range(plan.held_out)]
            rows.append(score(name, videos, clips, reader))
            print(f"  {name}: PSNR {rows[-1].psnr:.2f}, ADFD {rows[-1].adfd:.3f}", file=sys.stderr, flush=True)
    true = [PatchCodec().encode(clips.at([(video, 0)], SIDE).frames[0]) for video in range(plan.held_out)]
    return [*rows, score("(true frames)", true, clips, reader)]


def _key(row: dict[str, object], *names: str) -> tuple:
    return tuple(row.get(name) for name in names)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    add_plan(parser, Plan)
    parser.add_argument("--more", action="store_true", help="rows with features = true and with previous = true too")
    parser.add_argument("--rows-of-table", nargs="+", choices=ROWS, help="besides the full model; all unless given")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a table for each seed; 1 if some row is not below the full model in both scores."""
    missed = 0
    for seed in args.seeds:
        began = time.monotonic()
        table = {name: row for name, row in ROWS.items() if name == "full" or name in (args.rows_of_table or ROWS)}
        plan = plan_of(args, Plan, seed)
        rows = ablation(plan, {**table, **MORE_ROWS} if args.more else table)
        heading = f"{'':28}{'PSNR dB':>9}{'ADFD':>8}{'place':>8}{'motion':>8}{'flicker':>9}{'paper: PSNR, ADFD':>22}"
        print(f"{heading}  config key")
        for row in rows:
            paper = "{:.3f}, {:.3f}".format(*PAPER[row.name]) if row.name in PAPER else ""
            numbers = f"{row.psnr:9.2f}{row.adfd:8.3f}{row.spatial:8.3f}{row.motion:8.3f}{row.flicker:9.2f}"
            keys = ", ".join(f"{key} = {value}" for key, value in {**ROWS, **MORE_ROWS}.get(row.name, {}).items())
            print(f"{row.name:28}{numbers}{paper:>22}  {keys}")
        full, *others = [row for row in rows if row.name in ROWS]
        above = [row.name for row in others if not (row.psnr < full.psnr and row.adfd < full.adfd)]
        missed += len(above)
        seconds = time.monotonic() - began
        print(f"{plan.frames - 1} frames of {plan.held_out} held-out clips, seed {seed}, {seconds:.0f} s.")
        print(f"Not below the full model in PSNR and ADFD, as printed: {', '.join(above) or 'none'}.")
    return 1 if missed else 0


def main() -> int:
    """Command line of this module: ``python -m benchmarks.ablation``."""
    parser = argparse.ArgumentParser("python -m benchmarks.ablation", description=__doc__)
    add_arguments(parser)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    raise SystemExit(main())
