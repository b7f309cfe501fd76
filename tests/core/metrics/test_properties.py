"""What every metric that claims to see a fault has to do as the fault grows: get worse, step by step."""

import numpy as np
import pytest
import torch

from portraittalk_core.metrics.adfd import adfd
from portraittalk_core.metrics.clustering_strength import clustering_strength, nearest_centroid_accuracy
from portraittalk_core.metrics.identity_similarity import identity_similarity
from portraittalk_core.metrics.landmark_distance import KINDS, VARIANTS, lmd, lmd_variant
from portraittalk_core.metrics.lip_sync import lip_correlation

COUNT, SIDE = 120, 512
RANDOM = np.random.default_rng(0)
REST = RANDOM.uniform(150, 350, size=(1, 478, 2))
# every point swings at its own slow pace: a face that a delay of a few frames puts elsewhere
PHASE, PACE = RANDOM.uniform(0, 6.28, size=(478, 2)), RANDOM.uniform(0.08, 0.12, size=(478, 2))
NOISE = RANDOM.normal(size=(COUNT, 478, 2))
LEVELS, DELAYS = (0.0, 0.5, 2.0, 6.0), (0, 1, 3, 6)


def face(late: int = 0, noise: float = 0.0, bigger: float = 1.0) -> torch.Tensor:
    times = (np.arange(COUNT) - late)[:, None, None]
    swing = 12 * np.sin(PHASE + PACE * times)
    return torch.from_numpy(256 + bigger * (REST + swing - 256) + noise * NOISE)


def worse(values: list[float]) -> bool:
    return values == sorted(set(values))


FAULTS = {
    "noise": [face(noise=level) for level in LEVELS],
    "delay": [face(late=frames) for frames in DELAYS],
    "size": [face(bigger=factor) for factor in (1.0, 1.01, 1.05, 1.2)],
}
SCORES = {
    "adfd": lambda made: 1 - adfd(made, face(), (SIDE, SIDE)).score,
    **{kind: lambda made, kind=kind: float(lmd(made, face(), kind).mean()) for kind in KINDS},
    **{name: lambda made, name=name: float(lmd_variant(name, made, face(), SIDE).mean()) for name in VARIANTS},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCORES)
def test_landmark_metrics_see_growing_faults(name, fault):
    found = [SCORES[name](made) for made in FAULTS[fault]]
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert worse(found)


@pytest.mark.parametrize("fault", ["noise", "delay"])
def test_mouth_correlation_sees_growing_faults(fault):
    curves = [made[:, 14, 1] - made[:, 13, 1] for made in FAULTS[fault]]
    seen = torch.ones(COUNT, dtype=torch.bool)
    found = [1 - lip_correlation(curve, curves[0], seen, max_lag=0).r_zero for curve in curves]
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert worse(found)


def test_identity_similarity_sees_another_face_mixed_in():
    own, other = torch.from_numpy(RANDOM.normal(size=(2, 1, 512)))
    assert worse([1 - float(identity_similarity(own + share * other, own)) for share in (0.1, 0.3, 1.0, 3.0)])


def test_clustering_sees_styles_scatter():
    labels, noise = torch.arange(60) % 3, torch.from_numpy(RANDOM.normal(size=(60, 4)))
    centres = 10 * torch.eye(4, dtype=torch.float64)[labels]
    assert worse([-clustering_strength(centres + level * noise, labels) for level in (0.1, 1.0, 4.0)])
    accuracy = [
        nearest_centroid_accuracy(centres + level * noise, labels, leave_one_out=True) for level in (0.1, 8, 60)
    ]
    assert accuracy[0] == 1 > accuracy[1] > accuracy[2]
