"""Augmented speakers: real motion of a face whose style is changed at random, as another recording would show it.

A style keeps how it changes motion in all clips of its speaker: how far each part moves and what moves with it, how
fast, how smoothly, how the head sways, how often the eyes blink. A recording changes each clip anew: smoothing, frame
rate, noise of landmarks, errors of size and of the head's turn; what is learnt is not to depend on it.

Shapes: N frames at 25 Hz, M = 23 numbers of `style.discriminant.motion_of`: 20 expressions in tenths of the
inter-ocular distance, and pitch, yaw and roll in tens of degrees.
Source: `docs/design/styles.md` 5; ranges are this project's choice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...face.canonical import canonical_face
from ...style.discriminant import NUM_EXPRESSIONS, motion_of, smoothing
from ...style.features import EXPRESSION_NAMES, RATE_HZ, expression_features
from ...types import LandmarkTrack

MOUTH, BROWS, EYES, CHEEKS = slice(0, 10), slice(10, 15), slice(15, 17), slice(17, 20)  # of the expressions
PARTS = (MOUTH, BROWS, EYES, CHEEKS)
JAW = EXPRESSION_NAMES.index("jaw down")
RECORDED_FPS = (20, 24, 25, 30, 50)
LANDMARK_NOISE = 0.006  # of the inter-ocular distance, a landmark's, at most
BLINK_DEPTH, BLINK_SIGMA_S = 0.5, 0.064  # tenths of the inter-ocular distance
HEAD_SIZES = (0.15, 0.18, 0.12)  # tens of degrees of pitch, yaw and roll, in the middle of all styles
HEAD_HZ, BROW_HZ, MOOD_HZ = 0.6, 0.7, 0.4
NUM_WAVES = 4  # in a movement that is no speech


@dataclass(frozen=True)
class AugmentedStyle:
    """A way of speaking: a person whose motion it takes, and changes to it."""

    person: int
    mixing: np.ndarray  # (20, 20) of standardised expressions
    bend: np.ndarray  # (20,) how much further a movement goes to one side than to the other
    rate: float  # of speech
    sigma: float  # frames, of smoothing
    part_sigmas: np.ndarray  # (4,) … of each part of the face
    head_size: np.ndarray  # (3,)
    head_hz: np.ndarray  # (3,)
    head_mixing: np.ndarray  # (3, 3)
    head_of_jaw: np.ndarray  # (3,) how far the head moves with the jaw
    face_of_head: np.ndarray  # (3, 20) how expressions follow the head
    brows: np.ndarray  # (5,) size of their own movement
    brow_hz: float
    mood: np.ndarray  # (20,) size of a slow change of expression
    blinks_hz: float


def draw_style(rng: np.random.Generator, shares: Sequence[float]) -> AugmentedStyle:
    """A style drawn at random.

    Args:
        rng: of all that is drawn.
        shares: of the people whose motion it may take.
    """
    count = NUM_EXPRESSIONS
    gains = np.exp(rng.normal(0, 0.35, count) + rng.normal(0, 0.25))
    for part, middle, spread in ((BROWS, 0.5, 0.5), (EYES, 0.0, 0.3), (CHEEKS, 0.5, 0.4)):
        gains[part] *= np.exp(rng.normal(middle, spread))
    mixing = rng.uniform(0, 0.5) * rng.normal(0, 0.25, (count, count)) * (rng.random((count, count)) < 0.5)
    weights = np.where(np.arange(count) < MOUTH.stop, 0.25, 0.125)
    return AugmentedStyle(
        person=int(rng.choice(len(shares), p=shares)),
        mixing=np.diag(gains) + mixing,
        bend=rng.normal(0, 0.06, count),
        rate=math.exp(rng.normal(0, 0.18)),
        sigma=max(0.0, rng.normal(0.4, 0.7)),
        part_sigmas=np.maximum(0, rng.normal(0.2, 0.5, len(PARTS))),
        head_size=np.array(HEAD_SIZES) * np.exp(rng.normal(0, 0.6, 3)),
        head_hz=HEAD_HZ * np.exp(rng.normal(0, 0.4, 3)),
        head_mixing=np.eye(3) + rng.normal(0, 0.3, (3, 3)),
        head_of_jaw=rng.normal(0, 0.03, 3),
        face_of_head=rng.normal(0, 0.15, (3, count)) * rng.random(),
        brows=abs(rng.normal(0, 0.12)) * rng.normal([1, 1, 0.8, 0.8, 0.1], 0.3),
        brow_hz=BROW_HZ * math.exp(rng.normal(0, 0.4)),
        mood=abs(rng.normal(0, 0.15)) * rng.normal(0, 1, count) * weights,
        blinks_hz=rng.uniform(0, 40) / 60,
    )


def styled(motion: np.ndarray, style: AugmentedStyle, scale: np.ndarray, num_frames: int, rng: np.random.Generator):
    """(N, M) a clip in a style, from a person's motion.

    Args:
        motion: (T, M) of the person; shorter than N · rate is spoken more slowly.
        style: of the clip.
        scale: (20,) what expressions are standardised by.
        num_frames: N.
        rng: of the part that is taken, and of what is not speech.
    """
    step = min(style.rate, (len(motion) - 1.001) / num_frames)
    start = rng.random() * (len(motion) - 1.001 - step * num_frames)
    expression = sampled(motion, start + step * np.arange(num_frames))[:, :NUM_EXPRESSIONS] / scale
    expression = expression @ style.mixing.T
    squares = np.square(expression)
    expression = _smooth(expression + style.bend * (squares - squares.mean(0)), style.sigma)
    for part, sigma in zip(PARTS, style.part_sigmas, strict=True):
        expression[:, part] = _smooth(expression[:, part], sigma)
    sway = np.stack([_waves(rng, num_frames, hz) for hz in style.head_hz], 1) * math.exp(rng.normal(0, 0.25))
    head = sway * style.head_size @ style.head_mixing.T + expression[:, JAW : JAW + 1] * style.head_of_jaw
    face = expression * scale + head @ style.face_of_head
    face[:, BROWS] += _waves(rng, num_frames, style.brow_hz)[:, None] * style.brows * math.exp(rng.normal(0, 0.3))
    face += _waves(rng, num_frames, MOOD_HZ)[:, None] * style.mood
    face[:, EYES] -= BLINK_DEPTH * _blinks(rng, num_frames, style.blinks_hz)[:, None]
    return np.concatenate([face, head], 1)


def recorded(motion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, M) a motion (N, M) as a recording and a detector of landmarks would show it."""
    count = len(motion)
    curves = _smooth(motion - np.median(motion, 0), rng.uniform(0, 1.2))
    ratio = RECORDED_FPS[rng.integers(len(RECORDED_FPS))] / RATE_HZ
    if ratio != 1:
        frames = sampled(curves, (np.arange(int(count * ratio)) + rng.random()) / ratio)
        curves = sampled(frames, np.arange(count) * ratio)
    face, head = curves[:, :NUM_EXPRESSIONS], curves[:, NUM_EXPRESSIONS:]
    leak = rng.normal(0, 0.08, (3, NUM_EXPRESSIONS)) * rng.random()  # of the turn of the head into the expression
    face = face * math.exp(rng.normal(0, 0.06)) + head @ leak
    levels = rng.random() * landmark_noise() * np.exp(rng.normal(0, 0.3, motion.shape[1]))
    return np.concatenate([face, head], 1) + levels * _noise(rng, motion.shape, rng.uniform(0, 0.9))


def sampled(motion: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(K, M) motion (T, M) at times (K,) in frames, by linear interpolation; the ends are held."""
    at = np.clip(at, 0, len(motion) - 1.001)
    low = at.astype(int)
    part = (at - low)[:, None]
    return (1 - part) * motion[low] + part * motion[low + 1]


@functools.cache
def landmark_noise() -> np.ndarray:
    """(M,) deviation of a still face's motion where each landmark has a deviation of LANDMARK_NOISE."""
    points = canonical_face()
    points = torch.cat([points, points[:1].expand(478 - len(points), -1)]).expand(200, -1, -1)
    noise = LANDMARK_NOISE * torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    track = LandmarkTrack.from_px(100 * (points + noise) + torch.tensor([256.0, 256, 0]), 512, 512, RATE_HZ)
    return motion_of(expression_features(track).values[None])[0].std(0).numpy()


@functools.lru_cache(maxsize=256)
def _matrix(count: int, sigma: float) -> np.ndarray:
    return smoothing(count, sigma).double().numpy()


def _smooth(curves: np.ndarray, sigma: float) -> np.ndarray:
    sigma = round(5 * sigma) / 5  # so that few matrices are made
    return _matrix(len(curves), sigma) @ curves if sigma > 0.2 else curves.copy()


def _waves(rng: np.random.Generator, count: int, hz: float) -> np.ndarray:
    """(N,) movement of deviation 1 about a frequency."""
    rates = hz * np.exp(rng.normal(0, 0.35, NUM_WAVES))
    phases = rates * np.arange(count)[:, None] / RATE_HZ + rng.random(NUM_WAVES)
    return np.sin(2 * np.pi * phases).sum(1) * math.sqrt(2 / NUM_WAVES)


def _blinks(rng: np.random.Generator, count: int, hz: float) -> np.ndarray:
    """(N,) how far the eyes are closed, 0..1."""
    middles = count * rng.random(rng.poisson(hz * count / RATE_HZ))
    frames = (np.arange(count)[:, None] - middles) / (BLINK_SIGMA_S * RATE_HZ)
    return np.minimum(np.exp(-0.5 * np.square(frames)).sum(1), 1.0)


def _noise(rng: np.random.Generator, shape: tuple[int, int], memory: float) -> np.ndarray:
    """First-order autoregressive noise of deviation 1."""
    noise = rng.normal(size=shape)
    for frame in range(1, len(noise)):
        noise[frame] = memory * noise[frame - 1] + math.sqrt(1 - memory**2) * noise[frame]
    return noise
