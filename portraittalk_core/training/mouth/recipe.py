"""Recipe of a mouth network: corpus, training, evaluation on held-out speakers, weight file with metadata."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...checks import check_choice, check_range
from ...engines.builtin.mouth_model import load_mouth, save_mouth
from ...errors import InputError, MissingDependency
from .held_out import HeldOutScore, held_out_voices, judge_voice
from .kokoro import HELD_OUT_SPEAKER
from .real_clips import real_clips
from .speaker import (
    HeldBack,
    SpeakerClip,
    SpeakerFit,
    check_length,
    clip_of_video,
    fit_speaker,
    held_back_gain,
    video_files,
)
from .speech_corpus import HELD_OUT, SHARES, CorpusClip, load_corpus, make_corpus, voiceless_clips
from .stage import MouthTraining, fit_voice, train_mouth

log = logging.getLogger(__name__)

VOICED, VOICELESS = 600, 400  # clips of speech, and of music or noise, that tell a voice from none
BEGINNINGS = ("random", "builtin")  # random weights, or those in the box, which are then trained on
LEAST_HOURS = 0.02  # of speech in all
StageProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Recipe:
    """Settings of the built-in mouth network's training."""

    hours: float = 10.0  # of speech by Debian's synthesisers
    neural_hours: float = 0.0  # of speech by a neural one
    videos: Path | None = None  # folder of real people speaking, a second teacher whose weight is training.real
    variations: int = 3  # of each video's sound besides itself: other throats, rooms and rates
    begin: str = "random"  # weights to begin with, one of BEGINNINGS
    training: MouthTraining = dataclasses.field(default_factory=MouthTraining)

    def __post_init__(self) -> None:
        check_range(self.hours, 0, 500, "hours")
        check_range(self.neural_hours, 0, 500, "neural_hours")
        check_range(self.variations, 0, 100, "variations")
        check_choice(self.begin, BEGINNINGS, "begin")
        if self.hours + self.neural_hours < LEAST_HOURS:
            total = self.hours + self.neural_hours
            raise InputError(f"hours and neural_hours add up to {total:g}; at least {LEAST_HOURS} are needed.")
        if (self.videos is None) != (self.training.real == 0):
            raise InputError(
                "videos and training.real go together: give both, a folder of videos and the weight (0.1) of what they "
                "teach, or neither."
            )


def make_mouth(out: Path, corpus: Path, recipe: Recipe, on_progress: StageProgress | None = None) -> list[HeldOutScore]:
    """Train the built-in mouth network on synthesised speech, and on videos where the recipe names some.

    Args:
        out: weight file to write.
        corpus: folder for the synthesised speech and the tracked faces; what is there is used again.
        recipe: how much of what.
        on_progress: called with what is being done, steps done and steps in all; may raise to stop.

    Returns:
        Scores of the network on held-out speakers.

    Raises:
        MissingDependency: a synthesiser is not installed.
        InputError: no video can be learnt from.
    """
    notify = on_progress or (lambda *_: None)
    seed = recipe.training.seed
    shards = []
    for hours, neural in ((recipe.hours, False), (recipe.neural_hours, True)):
        if hours:
            shards += make_corpus(corpus, hours, seed, lambda d, n: notify("speaking", d, n), neural)
    clips = load_corpus(shards)
    real: list[SpeakerClip] = []
    if recipe.videos is not None:
        real = real_clips(recipe.videos, corpus, recipe.variations, seed, lambda d, n: notify("watching", d, n))
    base = load_mouth() if recipe.begin == "builtin" else None
    net = train_mouth(clips, recipe.training, lambda done, total: notify("training", done, total), base=base, real=real)
    silent = voiceless_clips(VOICELESS, seed)
    fit_voice(net, [*clips[:: max(1, len(clips) // VOICED)], *silent])
    card = _card(clips, real, recipe)
    save_mouth(net, out, card)
    scores = _scores(out, notify)
    save_mouth(net, out, card | {"held_out_scores": [dataclasses.asdict(score) for score in scores]})
    return scores


def _card(clips: Sequence[CorpusClip], real: Sequence[SpeakerClip], recipe: Recipe) -> dict[str, object]:
    """What the weight file says of its training; no path of this machine."""
    hours = sum(len(clip.mel) for clip in clips) / 100 / 3600
    settings = dataclasses.asdict(recipe)
    videos = settings.pop("videos")
    return {
        "data": f"{hours:.1f} h of synthesised speech, {len(clips)} clips of {len({c.voice for c in clips})} voices",
        "videos": f"{len(real) // (recipe.variations + 1)} in {videos.name}" if videos else "none",
        "synthesisers": SHARES,
        "held_out": (*HELD_OUT, HELD_OUT_SPEAKER),
        **settings,
    }


def _scores(network: Path, notify: StageProgress) -> list[HeldOutScore]:
    scores = []
    voices = held_out_voices()
    for done, voice in enumerate(voices, 1):
        try:
            scores.append(judge_voice(voice, network=network))
        except MissingDependency as error:
            log.warning("%s was not judged: %s", voice.name, error)
        notify("judging", done, len(voices))
    return scores


def adapt_to_speaker(
    folder: Path, out: Path, base: Path | None, fit: SpeakerFit, on_progress: StageProgress | None = None
) -> list[HeldBack]:
    """Adapt the mouth network to the speaker of some videos.

    Args:
        folder: with videos of one speaker, a minute or more in all.
        out: weight file to write.
        base: network to begin with; None is the one in the box.
        fit: how.
        on_progress: as for `make_mouth`.

    Returns:
        Lip correlation before and after, on parts held back in turn; the file is fitted to all of them.

    Raises:
        InputError: no video, no face, or too little of it.
    """
    notify = on_progress or (lambda *_: None)
    clips = _read_clips(video_files(folder), notify)
    check_length(clips)
    net = load_mouth(base)
    gains = held_back_gain(net, clips, fit, lambda done, total: notify("checking", done, total))
    fitted = fit_speaker(net, clips, fit, lambda done, total: notify("fitting", done, total))
    seconds = sum(gain.seconds for gain in gains)
    card = {
        "fitted_to": f"{len(clips)} videos",
        "lip_r_before": sum(gain.before * gain.seconds for gain in gains) / seconds,
        "lip_r_after": sum(gain.after * gain.seconds for gain in gains) / seconds,
        **dataclasses.asdict(fit),
    }
    save_mouth(fitted, out, card)
    return gains


def _read_clips(videos: Sequence[Path], notify: StageProgress) -> list[SpeakerClip]:
    """Read speech and tracked mouths of videos; unusable ones are dropped with a warning."""
    from ...face.mesh.landmarks import open_mesh, track_faces
    from ...media.audio import load_speech
    from ...media.video_read import probe_video, read_pictures

    clips = []
    with open_mesh() as mesh:
        for number, video in enumerate(videos):

            def on_frames(done: int, total: int, number: int = number) -> None:
                notify("watching", number * 1000 + round(1000 * done / max(total, 1)), 1000 * len(videos))

            try:
                fps = probe_video(video).fps
                track = track_faces(read_pictures(video, fps, on_progress=on_frames), fps, mesh, source=video.name)
                clips.append(clip_of_video(load_speech(video), track, video.name))
            except InputError as error:
                log.warning("%s is left out: %s", video.name, error)
    if not clips:
        raise InputError(f"none of the {len(videos)} videos can be learnt from; they need a face and speech.")
    return clips
