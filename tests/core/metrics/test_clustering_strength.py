import math

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.clustering_strength import (
    clustering_strength,
    nearest_centroid_accuracy,
    pairwise_clustering_strength,
)

LINE, SIDES = torch.tensor([[0.0], [2.0], [10.0], [12.0]]), torch.tensor([3, 3, 5, 5])


def test_strength_of_two_pairs_on_a_line():
    assert clustering_strength(LINE, SIDES) == 10
    assert pairwise_clustering_strength(LINE, SIDES) == 5


def test_strength_is_infinite_where_nothing_scatters():
    assert clustering_strength(torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([0, 0, 1])) == math.inf


def test_strength_matches_scipy():
    from scipy.spatial.distance import cdist, pdist

    points, labels = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    centroids = np.stack([points[labels == k].mean(0) for k in range(3)])
    within = np.mean([np.linalg.norm(p - centroids[k]) for p, k in zip(points, labels, strict=True)])
    found = clustering_strength(torch.from_numpy(points), torch.from_numpy(labels))
    assert found == pytest.approx(pdist(centroids).mean() / within)
    apart, same = cdist(points, points), labels[:, None] == labels[None]
    inside = apart[same & ~np.eye(30, dtype=bool)].mean()
    found = pairwise_clustering_strength(torch.from_numpy(points), torch.from_numpy(labels))
    assert found == pytest.approx(apart[~same].mean() / inside)


def test_accuracy_counts_clips_nearest_to_their_own():
    points = torch.tensor([[0.0], [1.0], [9.0], [10.0], [11.0], [12.0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])  # centroids 10/3 and 11: the third clip lies with the others
    assert nearest_centroid_accuracy(points, labels) == pytest.approx(5 / 6)


def test_leaving_one_out_matches_a_plain_loop():
    points, labels = np.random.default_rng(3).normal(size=(24, 20)), np.arange(24) % 6  # no structure at all
    hits = []
    for i in range(24):
        others = np.arange(24) != i
        centroids = np.stack([points[others & (labels == k)].mean(0) for k in range(6)])
        hits.append(np.linalg.norm(centroids - points[i], axis=1).argmin() == labels[i])
    given = torch.from_numpy(points), torch.from_numpy(labels)
    honest, flattered = nearest_centroid_accuracy(*given, leave_one_out=True), nearest_centroid_accuracy(*given)
    assert honest == pytest.approx(np.mean(hits))
    assert flattered > 0.7
    assert honest < 0.4


def test_accuracy_by_known_clips():
    points, labels = torch.tensor([[0.4], [7.0], [11.0]]), torch.tensor([3, 3, 5])
    assert nearest_centroid_accuracy(points, labels, (LINE, SIDES)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clustering_strength(LINE, torch.zeros(4)), "of 1 styles"),
        (lambda: clustering_strength(LINE * float("nan"), SIDES), "NaN"),
        (lambda: pairwise_clustering_strength(LINE[:2], torch.tensor([0, 1])), "no style has two clips"),
        (lambda: nearest_centroid_accuracy(LINE[:3], SIDES[:3], leave_one_out=True), "1 styles have one clip only"),
        (lambda: nearest_centroid_accuracy(LINE, SIDES, (LINE, SIDES), True), "leave out one"),
        (lambda: nearest_centroid_accuracy(LINE, SIDES + 1, (LINE, SIDES)), "not among the known"),
    ],
)
def test_rejects_what_cannot_be_told_apart(call, message):
    with pytest.raises(InputError, match=message):
        call()
