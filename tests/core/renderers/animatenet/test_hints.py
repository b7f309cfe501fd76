import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.hints import track_hints
from portraittalk_core.renderers.animatenet.landmark_control import draw_condition


@pytest.fixture
def track(astronaut, make_plan):
    from portraittalk_core.motion.rig import make_rig, plan_landmarks

    plan = make_plan(opening=[0.0, 0.5, 1.0])
    return plan_landmarks(plan, 0, 3, make_rig(plan.reference))


def test_frames_come_as_asked_for(track):
    drawn = track_hints(track)([2, 0], 512, 512)
    assert drawn.shape == (2, 3, 512, 512) and drawn.dtype == torch.float32
    for row, frame in zip(drawn, (2, 0), strict=True):
        assert torch.equal(row, draw_condition(track, frame, 512, 512).permute(2, 0, 1) / 255)
    assert not torch.equal(drawn[0], drawn[1])


def test_a_frame_asked_for_at_every_step_is_drawn_once(track, monkeypatch):
    drawn = []
    draw = lambda *given: drawn.append(given[1:4]) or draw_condition(*given)  # noqa: E731
    monkeypatch.setattr("portraittalk_core.renderers.animatenet.hints.draw_condition", draw)
    hints = track_hints(track)
    first, _, again = hints([0, 2], 128, 128), hints([0], 192, 192), hints([2, 0], 128, 128)
    assert drawn == [(0, 128, 128), (2, 128, 128), (0, 192, 192)]
    assert torch.equal(first, again.flip(0))


def test_frames_behind_the_end_show_the_last(track):
    hints = track_hints(track)
    assert torch.equal(hints([9], 128, 128), hints([2], 128, 128))


def test_a_face_too_small_to_draw_is_told_once(track, caplog):
    hints = track_hints(track)
    hints([0], 128, 128), hints([1], 128, 128)
    assert [r.message for r in caplog.records if "less than 64 pixels" in r.message] == [caplog.records[0].message]


def test_another_shape_is_refused(track):
    with pytest.raises(InputError, match="a picture of 512×512, the frames are 512×256"):
        track_hints(track)([0], 256, 512)
    with pytest.raises(InputError, match="style"):
        track_hints(track, "crayon")
