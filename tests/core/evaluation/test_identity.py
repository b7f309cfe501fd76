"""Identity by dlib's descriptor, which needs no file: one's own face, another's, none."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from six_people import faces_px, group, one_of_six

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.evaluation.clip import EvaluationClip
from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.evaluation.identity import encoder_reference, portrait_reference
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.report.text import table_text
from portraittalk_core.evaluation.score_report import ScoreReport
from portraittalk_core.evaluation.source import PictureSource
from portraittalk_core.face.identity.descriptor import SAME_PERSON, describe, distance
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.face.mesh.backends import open_mesh

SIDE = 224
GREY = torch.full((160, 160, 3), 90, dtype=torch.uint8)
ASKED = ("identity", "identity_distance", "identity_to_target", "identity_to_target_distance")


@pytest.fixture(scope="module")
def mesh():
    with open_mesh("torch") as opened:
        yield opened


def clip(picture: torch.Tensor) -> EvaluationClip:
    """One frame, a second long."""
    height, width = picture.shape[:2]
    return EvaluationClip(PictureSource.of_frames("clip", 1, (width, height), Fraction(1), lambda _number: picture))


@pytest.mark.slow
def test_six_people_are_six_people():
    found = describe(group(), faces_px())
    assert float(torch.pdist(found).min()) > SAME_PERSON
    again = torch.cat([describe(group().flip(1), mirrored(faces_px())), describe(darker(group()), faces_px())])
    assert (distance(again, found.repeat(2, 1)) < SAME_PERSON).all()


def darker(picture: torch.Tensor) -> torch.Tensor:
    return (picture * 0.6).to(torch.uint8)


def mirrored(points: torch.Tensor) -> torch.Tensor:
    """Landmarks of the mirrored picture, only those that the descriptor looks at."""
    turned = points.clone()
    turned[..., 0] = group().shape[1] - 1 - turned[..., 0]
    turned[:, [263, 362, 33, 133]] = turned[:, [33, 133, 263, 362]]
    return turned


@pytest.mark.slow
def test_a_report_has_identity_without_any_file_and_names_the_network(mesh):
    anna, bert = one_of_six(0, SIDE), one_of_six(1, SIDE)
    reference = portrait_reference(encoder_reference(None, mesh), anna, "anna.png")
    only = EvaluationOptions(metrics=ASKED)
    rows = [evaluate(clip(made), clip(anna), only, mesh=mesh, identity=reference) for made in (darker(anna), bert)]
    for row, same in zip(rows, (True, False), strict=True):
        assert (row.values["identity_distance"] < SAME_PERSON) == same
        assert (row.values["identity_to_target_distance"] < SAME_PERSON) == same
        assert row.counts["face_encoder"] == "dlib's face descriptor"
        assert "dlib's face descriptor" in table_text(ScoreReport([row], {}))
    assert rows[0].values["identity"] > rows[1].values["identity"]
    # the length of dlib's numbers is not 1: the cosine is another number than the distance
    found = describe(group(), faces_px()[:2]).double()
    cosine = float(torch.cosine_similarity(found[0], found[1], dim=0))
    assert rows[1].values["identity"] == pytest.approx(cosine, abs=0.05)


def test_a_portrait_without_a_face_is_noted_and_the_rest_is_measured(mesh):
    reference = portrait_reference(encoder_reference(None, mesh), GREY, "wall.png")
    anna = one_of_six(0, SIDE)
    row = evaluate(clip(anna), clip(anna), EvaluationOptions(metrics=ASKED), mesh=mesh, identity=reference)
    assert row.missing["identity"] == "not available: needs the portrait"
    assert any("wall.png shows no face" in note for note in row.notes)
    assert row.values["identity_to_target_distance"] == 0
    with pytest.raises(NoFaceError):
        reference.encode(GREY)


def test_a_descriptor_is_no_embedding_for_identitynet(mesh):
    with pytest.raises(InputError, match="512 numbers .ArcFace.*not 128.*dlib"):
        FaceEmbedding(encoder_reference(None, mesh).encode(one_of_six(0, SIDE))[None])
