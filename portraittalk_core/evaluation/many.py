"""Evaluation of many samples with cached results; a failed sample does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .. import __version__
from ..cache_key import cache_key, file_digest
from ..errors import MissingDependency, OutputError, PortraitTalkError
from ..face.mesh.backends import MeshBackend
from ..media.files import atomic_write, explain_write_errors
from ..media.text_files import read_text
from ..metrics.packages import installed_packages
from ..metrics.registry import measured_metrics
from ..progress import Progress
from .evaluate import evaluate
from .identity import file_reference
from .networks import Networks
from .options import EvaluationOptions
from .result import EvaluationResult
from .samples import Sample

log = logging.getLogger(__name__)

VERSION = 4  # of results, part of the cache key: counted up when a metric changes, so that old ones are measured anew
MAX_ROW_BYTES = 2**26  # of a kept result: an hour's curves have 10 MB
ROWS = "rows"  # folder of finished results within the output folder
STEPS = 1000  # of progress, for each sample


@dataclass(frozen=True)
class EvaluationTools:
    """Networks and back ends that are opened once for all samples."""

    mesh: MeshBackend
    encoder: object | None = None  # an open `FaceEncoder`; None: dlib's descriptor
    networks: Networks = field(default_factory=Networks)
    fingerprint: Mapping[str, object] = field(default_factory=dict)  # what else the numbers depend on, for the key


def evaluate_many(
    samples: Sequence[Sample],
    options: EvaluationOptions,
    tools: EvaluationTools,
    folder: Path | None = None,
    on_progress: Progress | None = None,
    on_result: Callable[[EvaluationResult, bool], None] | None = None,
) -> list[EvaluationResult]:
    """Evaluate every sample.

    Args:
        samples: pairs, or videos without a target.
        options: of all of them.
        tools: what is open.
        folder: finished results are kept here and not measured again as long as the files, the options, the metrics
            and this program's version stay the same; None keeps nothing.
        on_progress: called with thousandths of samples done and in all; may raise to stop.
        on_result: called with every result, and whether it had been kept from before.

    Returns:
        One result a sample; those that could not be measured say why.

    Raises:
        MissingDependency: a package that all of them need is absent.
        OutputError: results cannot be kept.
    """
    results = []
    for number, sample in enumerate(samples):
        key = None if folder is None or sample.problem else sample_key(sample, options, tools)
        result = _cached_result(folder, key, sample) if key else None
        fresh = result is None
        if result is None:
            result = _evaluated(sample, options, tools, _part_of(on_progress, number, len(samples)))
            if key and not result.error:
                _cache_result(result, folder, key)
        results.append(result)
        if on_progress:
            on_progress((number + 1) * STEPS, len(samples) * STEPS)
        if on_result:
            on_result(result, not fresh)
    return results


def sample_key(sample: Sample, options: EvaluationOptions, tools: EvaluationTools) -> str | None:
    """Cache key of 32 hex digits: files (by content), options, metrics, back end and version; None without one."""
    try:
        files = [
            None if path is None else file_digest(path) for path in (sample.generated, sample.target, sample.portrait)
        ]
    except OSError:
        return None
    metrics = list(measured_metrics(sample.target is None, options.metrics))
    parts = [__version__, VERSION, files, asdict(options), tools.mesh.name, tools.networks.files]
    parts += [dict(tools.fingerprint), metrics, sorted(installed_packages())]
    return cache_key(parts)[:32]


def _cached_result(folder: Path, key: str, sample: Sample) -> EvaluationResult | None:
    path = folder / ROWS / f"{key}.json"
    try:
        if not path.exists():
            return None
        result = EvaluationResult.from_json(read_text(path, "the result", "it is left alone", MAX_ROW_BYTES))
    except (OSError, ValueError) as error:
        log.warning("the result kept in %s cannot be used and is measured again (%s).", path, error)
        return None
    target = None if sample.target is None else sample.target.name
    return replace(result, name=sample.name, generated=sample.generated.name, target=target)


def _cache_result(result: EvaluationResult, folder: Path, key: str) -> None:
    path = folder / ROWS / f"{key}.json"
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_text(result.to_json(), encoding="utf-8", errors="replace")  # of names that are no text


def _evaluated(
    sample: Sample, options: EvaluationOptions, tools: EvaluationTools, on_progress: Progress | None
) -> EvaluationResult:
    failed = EvaluationResult(sample.name, sample.generated.name, None if sample.target is None else sample.target.name)
    if sample.problem:
        return replace(failed, error=sample.problem)
    try:
        return evaluate(
            sample.generated,
            sample.target,
            options,
            mesh=tools.mesh,
            identity=file_reference(tools.encoder, sample.portrait, tools.mesh),
            networks=tools.networks,
            name=sample.name,
            on_progress=on_progress,
        )
    except (MissingDependency, OutputError):
        raise
    except PortraitTalkError as error:
        return replace(failed, error=str(error))
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        log.debug("%s could not be evaluated", sample.name, exc_info=True)
        return replace(failed, error=f"{type(error).__name__}: {error}")


def _part_of(on_progress: Progress | None, number: int, count: int) -> Progress | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress(number * STEPS + STEPS * done // max(total, 1), count * STEPS)
