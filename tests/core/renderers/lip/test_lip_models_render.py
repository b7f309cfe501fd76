"""The three lip models with random weights behind the renderer: whole films, what they hear, what they keep."""

from __future__ import annotations

import pytest
import torch
from stub_lips import puppet_film, puppet_moves, spoken

from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.lip import reading
from portraittalk_core.renderers.lip.options import LipPaintOptions
from portraittalk_core.renderers.lip.random_files import random_lip_model
from portraittalk_core.renderers.lip.renderer import LipRenderer
from portraittalk_core.types import Speech

FRAMES = 4


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return puppet_film(tmp_path_factory.mktemp("film") / "film.mp4", puppet_moves(FRAMES))


def voice(seed: int) -> Speech:
    loud = 0.3 + 0.2 * torch.sin(torch.arange(4000) * 0.002)
    return Speech(torch.randn(4000, generator=torch.Generator().manual_seed(seed)) * loud)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lips", "warped lips", "iplap", "musetalk"])
def test_a_film_is_painted_where_the_mouth_is_and_by_what_is_heard(film, name, monkeypatch):
    monkeypatch.undo()  # of the references that stand-ins are content with
    if name == "musetalk":
        pytest.importorskip("diffusers")
    warps = {"nearest_lips": 1, "lip_guide": True, "lip_warp": True} if name == "warped lips" else {}
    model = random_lip_model(name.rpartition(" ")[2], seed=1, **warps)
    read = []
    known = reading.references_of
    monkeypatch.setattr(reading, "references_of", lambda *given: read.append(given) or known(*given))
    options = LipPaintOptions(references=3, lip_references=2, batch_size=3, voice_gate=0.0, sharpen=0.0, blend="lower")
    made = [
        torch.stack(list(LipRenderer(model, options).render(RenderJob.of_track(film, spoken(film), voice(seed)))))
        for seed in (1, 1, 2)
    ]
    assert len(read) == (0 if name == "musetalk" else 3)  # once a film
    filmed = torch.stack(list(film.pictures()))
    assert made[0].shape == filmed.shape and torch.equal(made[0], made[1])
    changed = (made[0].int() - filmed.int()).abs().amax(-1)
    for index, points in enumerate(film.track.points_px[:, :, :2].long()):
        (x, y), (eye_x, eye_y) = points[14].tolist(), points[33].tolist()
        assert changed[index, y, x] > 8 and changed[index, eye_y, eye_x] == 0
    assert (made[0].int() - made[2].int()).abs().max() > 0
