"""PortraitTalk's three training stages one after another, each with the files of the one before.

IdentityNet first, then AnimateNet without temporal attention, then the entire framework. Source: PortraitTalk,
"Implementation Details".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...progress import Progress
from ..animatenet.stage import AnimateResult, train_animate
from ..identitynet.stage import IdentityResult, train_identity
from .config import RecipeTraining

OnStage = Callable[[str, int, int], None]  # name of the stage, its steps done and in all


@dataclass(frozen=True)
class RecipeResult:
    """Results of the stages, and the files to paint with."""

    identity: IdentityResult
    spatial: AnimateResult
    joint: AnimateResult
    files: Mapping[str, Path]  # identity_adapter, controlnet, animatenet, motion_module, and checkpoint if it learnt


def train_recipe(config: RecipeTraining, on_stage: OnStage | None = None) -> RecipeResult:
    """Train all stages, resuming where an earlier run stopped.

    A stage that is finished only writes its files once more.

    Args:
        config: of all stages.
        on_stage: called after every step; may raise to stop.

    Raises:
        InputError: data or a weight file cannot be used, or a folder holds another run.
        MissingDependency: diffusers, accelerate or face models are absent.
        OutputError: a folder cannot be written.
    """
    notify = on_stage or (lambda *_: None)

    def of(stage: str) -> Progress:
        return lambda done, total: notify(stage, done, total)

    identity = train_identity(config.identity, of("identity"))
    base = identity.checkpoint or config.identity.checkpoint
    spatial = train_animate(
        dataclasses.replace(config.spatial, checkpoint=base, identity=identity.adapter), of("spatial")
    )
    spatial_files = {"controlnet": spatial.files["controlnet"], "animate_net": spatial.files["animate_net"]}
    joint = train_animate(
        dataclasses.replace(config.joint, checkpoint=base, identity=identity.adapter, **spatial_files), of("joint")
    )
    files = {
        "checkpoint": joint.files.get("checkpoint", base),
        "identity_adapter": joint.files.get("identity", identity.adapter),
        "controlnet": joint.files["controlnet"],
        "animatenet": joint.files["animate_net"],
        "motion_module": joint.files["motion"],
    }
    return RecipeResult(identity, spatial, joint, files)
