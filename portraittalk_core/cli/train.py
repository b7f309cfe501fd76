"""The command `train`: trains or adapts networks of motion, of SD1.5, of style, and of keypoint renderers."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_range
from ..errors import InputError
from .arguments import Command, add_file, check_output, print_table
from .process import goes_on_from
from .progress import progress_bar

if TYPE_CHECKING:
    from ..training.animatenet.config import AnimateTraining
    from ..training.animatenet.stage import AnimateResult
    from ..training.audio2exp.config import Audio2ExpTraining
    from ..training.audio2exp.stage import Audio2ExpResult
    from ..training.closures.config import ClosureTraining
    from ..training.closures.stage import ClosureResult
    from ..training.identitynet.config import IdentityTraining
    from ..training.identitynet.stage import IdentityResult
    from ..training.keypoints.config import KeypointTraining
    from ..training.keypoints.stage import KeypointResult
    from ..training.landmarks.config import LandmarkTraining
    from ..training.landmarks.stage import LandmarkResult
    from ..training.lips.config import LipTraining
    from ..training.lips.stage import LipResult
    from ..training.mouth.held_out import HeldOutScore
    from ..training.style.attention_stage import StyleAttentionResult
    from ..training.style.config import StyleAttentionTraining, StyleTraining
    from ..training.style.stage import StyleResult, StyleScore
    from ..training.sync.config import SyncTraining
    from ..training.sync.stage import SyncResult

EXAMPLES = """examples:
  portraittalk train mouth --out mouth.safetensors                 (from nothing: synthesises 10 h of speech, trains)
  portraittalk train mouth --config mouth.toml                     (the same by a recipe: neural voices, videos)
  portraittalk train mouth --videos my_clips --out me.safetensors  (fits the network to the person in the videos)
  portraittalk talk --engine me.safetensors --portrait me.jpg --speech hello.wav --out hello.mp4
  portraittalk train identity --config identity.toml              (fine-tunes a face adapter for SD1.5)
  portraittalk train portraittalk --config recipe.toml            (all of PortraitTalk on the clips of `prepare`:
                                                                   IdentityNet, AnimateNet, then both together)
  portraittalk train animatenet --config animatenet.toml          (landmark control and motion; with identity = FILE
                                                                   of a face adapter, who it is too)
  portraittalk train style --config style.toml                    (what tells how someone speaks)
  portraittalk train keypoints --config keypoints.toml            (a renderer with implicit keypoints)
  portraittalk train sync --config sync.toml                      (whether mouth and speech belong together)
  portraittalk train audio2exp --config audio2exp.toml            (speech moves the keypoints, judged by sync)
  portraittalk train landmarks --config landmarks.toml            (speech and a filmed head to its lips and jaw)
  portraittalk train lips --config lips.toml                      (paints mouths into films: dub --renderer lips)
  portraittalk train closures --config closures.toml              (where lips close on p, b, m and tuck on f, v)"""
SUFFIXES = (".safetensors",)
CHECKPOINTS = "checkpoints"  # folder in that of a run
HOURS, MAX_SEED = 10.0, 2**32 - 1
OF_SPEAKER, OF_SCRATCH = ("out", "videos", "base", "steps", "seed"), ("out", "corpus", "hours", "steps", "seed")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    choices = (
        "mouth", "portraittalk", "identity", "animatenet", "style",
        "keypoints", "sync", "audio2exp", "landmarks", "lips", "closures",
    )  # fmt: skip
    help_text = (
        "mouth: from speech to mouth; portraittalk: a face and its motion into SD1.5; identity: the face alone; "
        "animatenet: the motion alone; style: how someone speaks; keypoints: a keypoint renderer; sync: lip sync; "
        "audio2exp: speech to keypoints; landmarks: speech to lip and jaw landmarks; lips: a lip renderer; closures: "
        "where lips close in speech"
    )
    parser.add_argument("what", choices=choices, help=help_text)
    add_file(parser, "--out", "OUT.safetensors", "mouth: weight file to write", False)
    add_file(parser, "--config", "FILE.toml", "settings of the training: out, data, …, see docs/training.md", False)
    speaker = parser.add_argument_group("fit to a speaker")
    add_file(speaker, "--videos", "FOLDER", "videos of one person, a minute or more in all", False)
    add_file(speaker, "--base", "FILE", "network to begin with; if not given, the built-in one", False)
    scratch = parser.add_argument_group("from nothing (needs Debian's speech synthesisers)")
    add_file(scratch, "--corpus", "FOLDER", "where the synthesised speech is kept for later", False)
    scratch.add_argument("--hours", metavar="X", type=float, help=f"hours of speech to synthesise (default: {HOURS:g})")
    parser.add_argument(
        "--steps", metavar="N", type=int, help="mouth: training steps; if not given, 5000, or 300 for a speaker"
    )
    parser.add_argument("--seed", metavar="N", type=int, help="mouth: seed of all that chance decides (default: 0)")


def train(args: argparse.Namespace) -> None:
    """Train the selected network and print its scores."""
    _check_used(args)
    if args.what == "portraittalk":
        _train_recipe(args)
        return
    if args.what != "mouth":
        _train_configured(args)
        return
    if args.config is not None:
        _train_mouth_recipe(args.config)
        return
    args.hours = HOURS if args.hours is None else args.hours
    args.seed = 0 if args.seed is None else int(check_range(args.seed, 0, MAX_SEED, "--seed"))
    if args.out is None:
        raise InputError("train mouth needs --out OUT.safetensors: where the network is to be written.")
    check_output(args.out, (), SUFFIXES)
    if args.videos:
        _adapt_mouth(args)
    else:
        _train_mouth(args)


def _check_used(args: argparse.Namespace) -> None:
    """Check that only flags are given which this training heeds."""
    heeded = (
        ("config",) if args.what != "mouth" or args.config is not None else OF_SPEAKER if args.videos else OF_SCRATCH
    )
    names = [name for name in ("config", *OF_SPEAKER, "corpus", "hours") if getattr(args, name) is not None]
    if unused := ["--" + name for name in names if name not in heeded]:
        way = "with --config" if args.config is not None else f"with{'' if args.videos else 'out'} --videos"
        which = f"train {args.what}" if args.what != "mouth" else f"train mouth {way}"
        raise InputError(f"{', '.join(unused)} cannot be used in {which}; leave it out.")


def _configured(what: str) -> tuple[Callable, Callable, Callable[[Any, Any], None]]:
    """What reads the settings of a training, what trains, and what prints the result."""
    package, load, run, print_result = {
        "identity": ("identitynet", "load_config", "train_identity", _print_identity),
        "animatenet": ("animatenet", "load_animate_config", "train_animate", _print_animatenet),
        "style": ("style", "load_style_config", "train_style", _print_style),
        "keypoints": ("keypoints", "load_keypoint_config", "train_keypoints", _print_keypoints),
        "sync": ("sync", "load_sync_config", "train_sync", _print_sync),
        "audio2exp": ("audio2exp", "load_audio2exp_config", "train_audio2exp", _print_audio2exp),
        "landmarks": ("landmarks", "load_landmark_config", "train_landmarks", _print_landmarks),
        "lips": ("lips", "load_lip_config", "train_lips", _print_lips),
        "closures": ("closures", "load_closure_config", "train_closures", _print_closures),
    }[what]
    config, stage = (import_module(f"..training.{package}.{part}", __package__) for part in ("config", "stage"))
    return getattr(config, load), getattr(stage, run), print_result


def _config_file(args: argparse.Namespace) -> Path:
    if args.config is None:
        raise InputError(f"train {args.what} needs --config FILE.toml; docs/training.md shows one.")
    return args.config


def _train_recipe(args: argparse.Namespace) -> None:
    from ..training.recipe.config import load_recipe
    from ..training.recipe.stages import train_recipe

    config = load_recipe(_config_file(args))
    with _Stages() as stages:
        result = train_recipe(config, stages)
    for stage in ("identity", "spatial", "joint"):
        print(f"{stage}: {getattr(result, stage).training.steps} steps")
    _print_dropped(result.joint.dropped)
    joint = config.joint
    flags = [f"--{name.replace('_', '-')} {path}" for name, path in result.files.items()]
    flags += ["--features 1"] * joint.features + ["--remove-background"] * joint.remove_background
    flags += [f"--combine {joint.combine}"] * (joint.combine != "auto")
    print("Paint with:", " ".join(flags))


def _train_configured(args: argparse.Namespace) -> None:
    load_config, train_stage, print_result = _configured(args.what)
    config = load_config(_config_file(args))
    with progress_bar("training") as on_progress, goes_on_from(config.out / CHECKPOINTS, "checkpoints"):
        result = train_stage(config, on_progress)
    print_result(config, result)


def _print_dropped(dropped: Iterable[tuple[str, str]]) -> None:
    for name, reason in dropped:
        print(f"left out {name}: {reason}")


def _print_identity(config: IdentityTraining, result: IdentityResult) -> None:
    _print_dropped(result.report.dropped)
    print(f"The adapter, after {result.training.steps} steps, is in {result.adapter}")


def _print_animatenet(config: AnimateTraining, result: AnimateResult) -> None:
    _print_dropped(result.dropped)
    files = ", ".join(f"{name}: {path}" for name, path in result.files.items())
    print(f"After {result.training.steps} steps: {files}")


def _print_keypoints(config: KeypointTraining, result: KeypointResult) -> None:
    print(f"The renderer, after {result.training.steps} steps, is in {result.renderer}")


def _print_sync(config: SyncTraining, result: SyncResult) -> None:
    _print_dropped(result.dropped)
    score = result.score
    of = "clips held out" if config.held_out else "the clips trained on"
    print(f"Right and wrong speech are told apart in {score.accuracy:.1%} of windows of {of}; chance is 50%.")
    print(f"Mean cosine {score.right:.2f} of right, {score.wrong:.2f} of wrong ones.")
    print(f"The lip-sync network, after {result.training.steps} steps, is in {result.network}")


def _print_audio2exp(config: Audio2ExpTraining, result: Audio2ExpResult) -> None:
    _print_dropped(result.dropped)
    print(f"Audio2Exp, after {result.training.steps} steps, is in {result.audio2exp}")


def _print_landmarks(config: LandmarkTraining, result: LandmarkResult) -> None:
    _print_dropped(result.dropped)
    score, of = result.score, "clips held out" if config.held_out else "the clips trained on"
    print(
        f"Of {of}, lips and jaw are off by {score.l1:.4f} of the crop's side, their velocities by {score.velocity:.4f};"
    )
    print(f"the mean of a clip's other faces is off by {score.resting_l1:.4f}.")
    print(f"The landmark generator, after {result.training.steps} steps, is in {result.network}")


def _print_lips(config: LipTraining, result: LipResult) -> None:
    _print_dropped(result.dropped)
    score, of = result.score, "clips held out" if config.held_out else "the clips trained on"
    print(
        f"Of {of}, the hidden half is painted with {score.psnr_db:.2f} dB, the mouth with {score.mouth_psnr_db:.2f} dB;"
    )
    print(f"the references' mean in its place has {score.mean_psnr_db:.2f} dB.")
    print(f"The lip renderer, after {result.training.steps} steps, is in {result.lips}")


def _print_closures(config: ClosureTraining, result: ClosureResult) -> None:
    trained = f"after {config.trainer.steps} steps on {result.clips} made and {result.recordings} recorded clips"
    print(f"The closure network, {trained}, is in {result.closures}; --engine takes it")


def _print_style(config: StyleTraining | StyleAttentionTraining, result: StyleResult | StyleAttentionResult) -> None:
    if config.stage == "attention":
        _print_dropped(result.dropped)
        trained = f"after {result.training.steps} steps on {result.trained_on}"
        print(f"The style attention, {trained}, is in {result.attention}")
        print(f"It looks at styles of the space {result.space}.")
        return
    if config.stage in ("single", "multi"):
        _print_dropped(result.dropped)
        print(f"The networks, after {result.training.steps} steps, are in {config.out}: {', '.join(result.files)}")
        return
    if config.stage == "discriminant":
        counted = (
            f"{result.num_augmented} clips of augmented speakers and {result.num_real} real ones of {result.num_people}"
        )
        print(f"From {counted} people. Of augmented speakers that it has not seen, {result.accuracy:.1%} of the clips")
        print(
            f"are nearest to their own speaker (strength {result.strength:.2f}). The extractor is in {result.extractor}"
        )
        return
    heading = ("style from", "strength before", "after", "accuracy before", "after", "σ before", "after")
    rows = [_style_row(name, result.before[name], result.after[name]) for name in result.after]
    print_table("how well styles are told apart, on clips that training did not see", [heading, *rows])
    chance = 1 / result.after["both"].num_styles
    print(f"Chance is {chance:.1%}. The extractor, after {result.training.steps} steps, is in {result.extractor}")


def _style_row(name: str, untrained: StyleScore, trained: StyleScore) -> tuple[str, ...]:
    pairs = ((untrained.strength, trained.strength, ".2f"), (untrained.accuracy, trained.accuracy, ".1%"))
    pairs = (*pairs, (untrained.deviation, trained.deviation, ".2f"))
    return (name, *(f"{number:{form}}" for *numbers, form in pairs for number in numbers))


def _train_mouth(args: argparse.Namespace) -> None:
    import tempfile

    from ..training.mouth.recipe import Recipe, make_mouth
    from ..training.mouth.stage import MouthTraining

    training = MouthTraining(seed=args.seed)
    if args.steps is not None:
        training = dataclasses.replace(training, steps=args.steps)
    with ExitStack() as stack:
        folder = args.corpus or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portraittalk_corpus_")))
        with _Stages() as stages:
            scores = make_mouth(args.out, folder, Recipe(args.hours, training=training), stages)
    print_table("on speakers that were not heard in training", [_HEADING, *map(_score_row, scores)])
    print(f"The network is in {args.out}")


def _train_mouth_recipe(path: Path) -> None:
    from ..training.mouth.config import load_mouth_config
    from ..training.mouth.recipe import make_mouth

    config = load_mouth_config(path)
    check_output(config.out, (), SUFFIXES)
    with _Stages() as stages:
        scores = make_mouth(config.out, config.corpus, config, stages)
    print_table("on speakers that were not heard in training", [_HEADING, *map(_score_row, scores)])
    print(f"The network is in {config.out}")


def _adapt_mouth(args: argparse.Namespace) -> None:
    from ..training.mouth.recipe import adapt_to_speaker
    from ..training.mouth.speaker import SpeakerFit

    fit = SpeakerFit(seed=args.seed)
    if args.steps is not None:
        fit = dataclasses.replace(fit, steps=args.steps)
    with _Stages() as stages:
        gains = adapt_to_speaker(args.videos, args.out, args.base, fit, stages)
    rows = [(gain.name, f"{gain.seconds:.1f} s", f"{gain.before:.3f}", f"{gain.after:.3f}") for gain in gains]
    seconds = sum(gain.seconds for gain in gains)
    base_r, new_r = (sum(getattr(g, k) * g.seconds for g in gains) / seconds for k in ("before", "after"))
    heading = ("held back", "length", "lip r before", "after")
    print_table("lip correlation, best lag within ±2 frames, on parts not fitted to", [heading, *rows])
    print(
        f"All held-back parts: r {base_r:.3f} before, {new_r:.3f} after. The network, fitted to all, is in {args.out}"
    )
    if new_r <= base_r:
        print("There is no gain: the speaker's mouth is not seen well, or sound and picture are not in step.")


_HEADING = (
    "speaker",
    "clips",
    "opening r",
    "jaw r",
    "width r",
    "rounding r",
    "/p b m/ closed",
    "/f v/ tucked",
    "silence closed",
)


def _score_row(score: HeldOutScore) -> tuple[str, ...]:
    rs = (f"{r:.3f}" for r in (score.opening, score.jaw, score.width, score.rounding))
    return (
        score.voice,
        str(score.clips),
        *rs,
        f"{score.bilabials:.1%}",
        f"{score.labiodentals:.1%}",
        f"{score.silence:.1%}",
    )


class _Stages:
    """Progress bars of consecutive training stages."""

    def __enter__(self) -> _Stages:
        self._bar, self._stage = ExitStack(), ""
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._bar.close()
            self._on_progress, self._stage = self._bar.enter_context(progress_bar(stage)), stage
        self._on_progress(done, total)


COMMAND = Command(
    "train",
    "train a network: speech to mouth, a face or its motion into SD1.5, a keypoint renderer and its speech",
    EXAMPLES,
    add_train,
    train,
)
