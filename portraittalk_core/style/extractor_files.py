"""Sizes of a style extractor from its file's metadata, and the renaming of StyleTalk's style encoder.

Source: this project's own layout, `docs/design/styles.md` 7.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from ..errors import InputError

BUILT_IN = Path(__file__).parent / "builtin" / "extractor.safetensors"  # part of the package
LAYOUT, VERSION = "style_extractor", "1"  # as the metadata says it
SPREAD, STYLETALK_SHAPE = "spread", (256, 64)  # a tensor in addition to the network's; shape of StyleTalk's first layer
_ADVICE = "Use a file that `portraittalk train style` has made in its extractor stage."
_STYLETALK = re.compile(r"(?:^|\.)style_encoder\.(.+)$")
_RENAMED = (  # StyleTalk's name → ours
    (re.compile(r"^increase_embed_dim\."), "expression.enter."),
    (re.compile(r"^encoder\.layers\."), "expression.layers."),
    (re.compile(r"^aggregate_method\.W\."), "pool.logits."),
)
_COMPUTED = re.compile(r"^pos_embed\.pos_table$")  # the same for every file


@dataclass(frozen=True)
class ExtractorSizes:
    """Input features and layer sizes of a style extractor."""

    audio: str = "log-mel"  # kinds of features, see style.features
    expression: str = "landmarks"
    audio_width: int = 80  # numbers of one audio feature
    expression_width: int = 23
    width: int = 256  # of the style, and of everything inside
    num_layers: int = 3  # of each branch
    num_heads: int = 8
    feed_forward: int = 1024
    dropout: float = 0.1
    num_positions: int = 256  # frames that are looked at together, at most

    def __post_init__(self) -> None:
        sizes = ("audio_width", "expression_width", "width", "num_layers", "num_heads", "feed_forward", "num_positions")
        wrong = [f"{name} {getattr(self, name)!r}" for name in sizes if not _is_size(getattr(self, name))]
        wrong += [] if type(self.dropout) in (int, float) and 0 <= self.dropout < 1 else [f"dropout {self.dropout!r}"]
        if wrong:
            raise InputError(f"a style extractor cannot have {', '.join(wrong)}.")
        if self.width % self.num_heads or self.width % 2:
            raise InputError(f"{self.num_heads} heads do not share {self.width} channels evenly.")

    def to_json(self) -> str:
        """JSON text for a file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= 65_536


def check_extractor(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> None:
    """Check that a file is a style extractor's.

    Args:
        tensors: of the file.
        metadata: of the file; empty where it has none.
        name: of the file, for messages.

    Raises:
        InputError: no style extractor, or one of another version.
    """
    if metadata.get("kind") == "StylePrior":
        raise InputError(f"{name} is no style extractor but a style; give it where a style is asked for.")
    if any(_STYLETALK.search(key) for key in tensors):
        raise InputError(f"{name} is StyleTalk's; only training can start from it. {_ADVICE}")
    if metadata.get("layout") != LAYOUT:
        some = ", ".join(list(tensors)[:3])
        raise InputError(f"{name} is no style extractor (it holds {some}, …). {_ADVICE}")
    if metadata.get("version") != VERSION:
        raise InputError(
            f"{name} is a style extractor of version {metadata.get('version')}; this release reads version {VERSION}. "
            f"{_ADVICE}"
        )
    if SPREAD not in tensors:
        raise InputError(f"{name} lacks {SPREAD}, how far styles lie apart. {_ADVICE}")


def read_extractor_sizes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> ExtractorSizes:
    """Read the sizes of a style extractor's transformers; arguments as of `check_extractor`.

    Raises:
        InputError: as of `check_extractor`, or without its sizes.
    """
    check_extractor(tensors, metadata, name)
    try:
        return ExtractorSizes(**json.loads(metadata["sizes"]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{name} does not tell its sizes ({error}). {_ADVICE}") from error


def styletalk_tensors(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """StyleTalk's style encoder under the names of a style extractor's expression branch and pooling.

    Args:
        tensors: of a StyleTalk checkpoint.
        name: of the file, for messages.

    Raises:
        InputError: it holds no such encoder, or one that is not over 64 coefficients.
    """
    encoder: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        if not (match := _STYLETALK.search(key)) or _COMPUTED.match(match[1]):
            continue
        renamed = next((p.sub(new, match[1]) for p, new in _RENAMED if p.match(match[1])), None)
        if renamed is None:
            unknown.append(key)
        else:
            encoder[renamed] = tensor.float()
    if not encoder or unknown:
        examples = ", ".join((unknown or list(tensors))[:3])
        raise InputError(
            f"{name} holds no style encoder of StyleTalk (but {examples}, …); give its checkpoint, or none."
        )
    first = encoder.get("expression.enter.weight")
    if first is None or tuple(first.shape) != STYLETALK_SHAPE:
        shape = None if first is None else tuple(first.shape)
        raise InputError(f"{name}: StyleTalk's first layer must have the shape {STYLETALK_SHAPE}, not {shape}.")
    return encoder
