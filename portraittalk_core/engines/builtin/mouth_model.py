"""Loading and inference of the mouth and closure networks: over clips of any length, and streaming."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ...checks import parse_whole
from ...errors import InputError
from ...media.tensor_file import save_tensors
from ...media.text_files import parse_json
from ...speech.mel import BLOCK, FFT_SIZE, HOP, MEL_RATE_HZ, NUM_MELS, log_mel
from ...threads import one_torch_thread
from ...types import SPEECH_RATE_HZ, Speech
from ...weights.load import load_strict, read_metadata, read_tensors
from .closure_net import ClosureNet, with_closures
from .mouth_net import (
    AHEAD_FRAMES,
    BEHIND_FRAMES,
    LOOK_AHEAD_FRAMES,
    OUTPUTS,
    STRIDE,
    MelStatistics,
    MouthNet,
    measure_mel,
    vocal_tracts,
)

DEFAULT = Path(__file__).with_name("mouth.safetensors")
CLOSURES = Path(__file__).with_name("closures.safetensors")
KIND, CLOSURE_KIND = "portraittalk mouth network", "portraittalk closure network"
PRESSED = (0.15, 0.5)  # the mouth network's press at which lips begin to meet, and meet: half a closure is none
MAX_WIDTH = 4096  # channels; ours has 96
CHUNK = 4 * BLOCK  # mel frames of one forward pass, besides their context


def save_mouth(net: MouthNet, path: Path, card: dict[str, object]) -> None:
    """Write a network, with the closure network that it has, and its model card, in half precision."""
    config = {"width": net.width, "outputs": OUTPUTS}
    _save(net, path, KIND, config if net.closures is None else config | {"closures": net.closures.width}, card)


def save_closures(net: ClosureNet, path: Path, card: dict[str, object]) -> None:
    """Write a closure network and its model card, in half precision."""
    _save(net, path, CLOSURE_KIND, {"width": net.width}, card)


def _save(net: nn.Module, path: Path, kind: str, config: dict[str, object], card: dict[str, object]) -> None:
    metadata = {"kind": kind, "config": json.dumps(config), "card": json.dumps(card, ensure_ascii=False)}
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in net.state_dict().items()}
    save_tensors(tensors, path, metadata)


def load_mouth(path: Path | None = None) -> MouthNet:
    """The built-in network, or one of a user.

    Args:
        path: a file of `portraittalk train mouth`; or of `portraittalk train closures`, which goes with the built-in
            network unless it holds one; None is the built-in network.

    Raises:
        MissingDependency: no such file.
        InputError: a file of another kind.
    """
    path = Path(path or DEFAULT)
    status = path.stat() if path.is_file() else None
    return _load(path, status and (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=4)
def _load(path: Path, _version: tuple[int, int] | None) -> MouthNet:
    tensors = read_tensors(path)
    metadata = read_metadata(path)
    kind, name = metadata.get("kind"), path.name
    if kind not in (KIND, CLOSURE_KIND):
        raise InputError(
            f"{name} is no mouth network and no closure network; give a file that `portraittalk train mouth` or "
            "`portraittalk train closures` wrote."
        )
    config = parse_json(metadata.get("config", ""), f"the configuration in {name}", "train the network again")
    config = config if isinstance(config, dict) else {}
    width = parse_whole(config.get("width"), f"the width in {name}", 1, MAX_WIDTH)
    if kind == CLOSURE_KIND:
        net = copy.deepcopy(load_mouth())
        net.closures = load_strict(ClosureNet(width), tensors, name)
        return net
    closures = None
    if "closures" in config:
        closures = ClosureNet(parse_whole(config["closures"], f"the closures' width in {name}", 1, MAX_WIDTH))
    return load_strict(MouthNet(width, closures), tensors, name)


@lru_cache(maxsize=1)
def load_closures() -> ClosureNet:
    """The built-in closure network."""
    return load_mouth(CLOSURES).closures


def run_mouth(net: MouthNet, mel_blocks: Iterable[Tensor], statistics: MelStatistics) -> Tensor:
    """Outputs of a network for a whole clip: the blocks of `iterate_mouth`, joined."""
    return torch.cat(list(iterate_mouth(net, mel_blocks, statistics)))


def iterate_mouth(net: MouthNet, mel_blocks: Iterable[Tensor], statistics: MelStatistics) -> Iterator[Tensor]:
    """Outputs of a network for a clip; the same in blocks as at once.

    Args:
        net: the network.
        mel_blocks: (≤ M, 80) decibels each, 100 frames a second.
        statistics: of the clip.

    Yields:
        (n, 8) at 50 Hz, together ceil(M / 2), value j at 20 ms · j; columns as OUTPUTS.
    """
    frames = torch.empty(0, NUM_MELS)
    num_done = 0  # of `frames` whose output has been made
    for block in mel_blocks:
        frames = torch.cat([frames, statistics.normalise(block)])
        if len(frames) - num_done < CHUNK + AHEAD_FRAMES:
            continue
        until = (len(frames) - AHEAD_FRAMES) // STRIDE * STRIDE
        yield _outputs(net, frames)[num_done // STRIDE : until // STRIDE]
        cut = max(0, until - BEHIND_FRAMES) // STRIDE * STRIDE
        frames, num_done = frames[cut:], until - cut
    yield _outputs(net, frames)[num_done // STRIDE :]


def _outputs(net: MouthNet, frames: Tensor) -> Tensor:
    with one_torch_thread(), torch.inference_mode():
        return _closed(net, net(vocal_tracts(frames)).mean(0), frames)


def _closed(net: MouthNet, outputs: Tensor, frames: Tensor) -> Tensor:
    """(T, 8) outputs of a network with the closures of (≤ 2 T, 80) frames."""
    closed, tucked = (net.closures or load_closures()).closing(frames[None])
    return with_closures(outputs, closed[0], tucked[0], PRESSED)


_EDGE = -(-FFT_SIZE // 2 // HOP)  # frames of a piece whose window would begin before it


class LiveMouth:
    """Streaming inference of the mouth network: every output is final and at most `latency_s` late.

    The clip's statistics are those of the last 20 seconds; within the first second they are rough.
    """

    latency_s = LOOK_AHEAD_FRAMES / MEL_RATE_HZ + FFT_SIZE / 2 / SPEECH_RATE_HZ + STRIDE / MEL_RATE_HZ
    _REMEMBERED, _REMEASURED = 20 * MEL_RATE_HZ, MEL_RATE_HZ // 2

    def __init__(self, net: MouthNet | None = None) -> None:
        self.net = net or load_mouth()
        self._sound = torch.zeros(_EDGE * HOP)  # begins _EDGE frames before the next one; nothing before the clip
        self._mel = torch.empty(0, NUM_MELS)
        self._answered = 0  # frames of `_mel` whose answer has been given
        self._span = (0, 0)  # those that the last answer stands for
        self._statistics: MelStatistics | None = None
        self._since_measured = 0

    def push(self, waveform: Tensor) -> Tensor:
        """Process the next samples of a clip.

        Args:
            waveform: (N,) the next samples at 16 kHz, any number.

        Returns:
            (K, 8) the next values at 50 Hz; none if too little sound has arrived.
        """
        self._span = (0, 0)
        self._forget()
        self._sound = torch.cat([self._sound, waveform])
        count = (len(self._sound) - FFT_SIZE // 2) // HOP - _EDGE + 1
        if count <= 0:
            return torch.empty(0, len(OUTPUTS))
        fresh = log_mel(Speech(self._sound))[_EDGE : _EDGE + count]
        self._sound = self._sound[count * HOP :]
        self._mel = torch.cat([self._mel, fresh])
        self._remember(len(fresh))
        ready = (len(self._mel) - LOOK_AHEAD_FRAMES) // STRIDE * STRIDE
        if ready <= self._answered or self._statistics is None:
            return torch.empty(0, len(OUTPUTS))
        start = max(0, self._answered - BEHIND_FRAMES) // STRIDE * STRIDE
        with one_torch_thread(), torch.inference_mode():
            frames = self._statistics.normalise(self._mel[start:])
            outputs = _closed(self.net, self.net.live(vocal_tracts(frames)).mean(0), frames)
        answer = outputs[(self._answered - start) // STRIDE : (ready - start) // STRIDE]
        self._span, self._answered = (self._answered, ready), ready
        return answer

    def mel_history(self) -> tuple[Tensor, slice]:
        """The sound that the last values rest on.

        Returns:
            (M, 80) log-mel frames in decibels, 100 a second, of the last 20 seconds and of what has been heard beyond;
            and which of them the values that `push` returned last stand for.
        """
        return self._mel, slice(*self._span)

    def _remember(self, fresh: int) -> None:
        self._since_measured += fresh
        if self._statistics is None or self._since_measured >= self._REMEASURED:
            self._statistics, self._since_measured = measure_mel(self._mel[-self._REMEMBERED :]), 0

    def _forget(self) -> None:
        spare = min(self._answered - BEHIND_FRAMES, len(self._mel) - self._REMEMBERED) // STRIDE * STRIDE
        if spare > 0:
            self._mel, self._answered = self._mel[spare:], self._answered - spare
