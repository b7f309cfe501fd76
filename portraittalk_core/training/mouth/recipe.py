"""The whole way to a mouth network: corpus, training, judgement on held-out speakers, weight file with its card."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...checks import check_range
from ...engines.builtin.mouth_model import load_mouth, save_mouth
from ...errors import InputError, MissingDependency
from .held_out import HeldOutScore, held_out_voices, judge_voice
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
from .speech_corpus import HELD_OUT, SHARES, load_corpus, make_corpus, voiceless_clips
from .stage import MouthTraining, fit_voice, train_mouth

log = logging.getLogger(__name__)

VOICED, VOICELESS = 600, 400  # clips of speech, and of music or noise, that tell a voice from none
StageProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Recipe:
    """What the network in the box is made of; another seed gives another network within noise."""

    hours: float = 10.0  # of synthesised speech
    training: MouthTraining = dataclasses.field(default_factory=MouthTraining)


def make_mouth(out: Path, corpus: Path, recipe: Recipe, on_progress: StageProgress | None = None) -> list[HeldOutScore]:
    """Make the network in the box from nothing but synthesisers.

    Args:
        out: weight file to write.
        corpus: folder for the synthesised speech; what is there is used again.
        recipe: how much of what.
        on_progress: called with what is being done, steps done and steps in all; may raise to stop.

    Returns:
        How the network does on speakers it has not heard.

    Raises:
        MissingDependency: a synthesiser is not installed.
    """
    tell = on_progress or (lambda *_: None)
    check_range(recipe.training.steps, 1, 1_000_000, "steps")
    shards = make_corpus(corpus, recipe.hours, recipe.training.seed, lambda d, n: tell("speaking", d, n))
    clips = load_corpus(shards)
    hours = sum(len(clip.mel) for clip in clips) / 100 / 3600
    net = train_mouth(clips, recipe.training, lambda done, total: tell("training", done, total))
    silent = voiceless_clips(VOICELESS, recipe.training.seed)
    fit_voice(net, [*clips[:: max(1, len(clips) // VOICED)], *silent])
    card = {
        "data": f"{hours:.1f} h of synthesised speech, {len(clips)} clips of {len({c.voice for c in clips})} voices",
        "synthesisers": SHARES,
        "held_out": HELD_OUT,
        **dataclasses.asdict(recipe),
    }
    save_mouth(net, out, card)
    scores = _judged(out, tell)
    save_mouth(net, out, card | {"held_out_scores": [dataclasses.asdict(score) for score in scores]})
    return scores


def _judged(network: Path, tell: StageProgress) -> list[HeldOutScore]:
    scores = []
    voices = held_out_voices()
    for done, voice in enumerate(voices, 1):
        try:
            scores.append(judge_voice(voice, network=network))
        except MissingDependency as error:
            log.warning("%s was not judged: %s", voice.name, error)
        tell("judging", done, len(voices))
    return scores


def adapt_to_speaker(
    folder: Path, out: Path, base: Path | None, fit: SpeakerFit, on_progress: StageProgress | None = None
) -> list[HeldBack]:
    """Fit the network to the speaker of some videos.

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
    tell = on_progress or (lambda *_: None)
    clips = _watch(video_files(folder), tell)
    check_length(clips)
    net = load_mouth(base)
    gains = held_back_gain(net, clips, fit, lambda done, total: tell("checking", done, total))
    fitted = fit_speaker(net, clips, fit, lambda done, total: tell("fitting", done, total))
    seconds = sum(gain.seconds for gain in gains)
    card = {
        "fitted_to": f"{len(clips)} videos",
        "lip_r_before": sum(gain.before * gain.seconds for gain in gains) / seconds,
        "lip_r_after": sum(gain.after * gain.seconds for gain in gains) / seconds,
        **dataclasses.asdict(fit),
    }
    save_mouth(fitted, out, card)
    return gains


def _watch(videos: Sequence[Path], tell: StageProgress) -> list[SpeakerClip]:
    """The videos' speech and mouths; one that cannot be used is left out with a word about it."""
    from ...face.mesh.landmarks import open_mesh, track_faces
    from ...media.audio import load_speech
    from ...media.video import probe_video, read_pictures

    clips = []
    with open_mesh() as mesh:
        for number, video in enumerate(videos):

            def seen(done: int, total: int, number: int = number) -> None:
                tell("watching", number * 1000 + round(1000 * done / max(total, 1)), 1000 * len(videos))

            try:
                fps = probe_video(video).fps
                track = track_faces(read_pictures(video, fps, on_progress=seen), fps, mesh, source=video.name)
                clips.append(clip_of_video(load_speech(video), track, video.name))
            except InputError as error:
                log.warning("%s is left out: %s", video.name, error)
    if not clips:
        raise InputError(f"none of the {len(videos)} videos can be learnt from; they need a face and speech.")
    return clips
