"""Setup of an evaluation, and its meters for each kind of input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..face.mesh.backends import MeshBackend
from ..metrics.meter import FACE_CROPS, MetricContext
from ..metrics.packages import installed_packages
from ..metrics.registry import PORTRAIT, SPEECH, TARGET, Metric
from .clip import EvaluationClip
from .identity import IdentityReference
from .meters import MeterSet
from .networks import Networks
from .options import EvaluationOptions

NO_PICTURES = "only landmarks were given, no pictures"


@dataclass(frozen=True)
class Setup:
    """Options, metrics and networks of an evaluation."""

    options: EvaluationOptions
    metrics: Mapping[str, Metric]  # to be measured
    mesh: MeshBackend | None
    identity: IdentityReference
    networks: Networks
    paired: bool  # whether there is a target

    @property
    def available(self) -> frozenset[str]:
        """Which of `registry.NEEDS` are available; the meters check for sound."""
        target = {TARGET} if self.paired else set()
        return installed_packages() | self.identity.available | self.networks.roles | {SPEECH} | target

    def meters(self, inputs: str, context: MetricContext, clip: EvaluationClip, of_target: bool = False) -> MeterSet:
        """Open the meters of one kind of input.

        Args:
            inputs: of `meter.INPUTS`.
            context: what they may use; the face encoder is added.
            clip: the video they are of.
            of_target: whether that is the target, which no portrait is of.
        """
        metrics = [m for m in self.metrics.values() if m.inputs == inputs and not (of_target and PORTRAIT in m.needs)]
        reference = {"encode_face": self.identity.encode, "portrait": self.identity.portrait}
        context = replace(context, **reference, waveform=clip.waveform)
        return MeterSet(metrics, context, self.networks, self.available)

    @property
    def crops_faces(self) -> bool:
        """Whether a metric uses face crops, which takes another pass."""
        return any(m.inputs == FACE_CROPS and not m.missing(self.available) for m in self.metrics.values())
