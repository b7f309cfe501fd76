"""Long clips, which are rendered while they are still being heard."""

from fractions import Fraction

import made_voice
import pytest
import torch

from portraittalk_core.engines.builtin import mouth
from portraittalk_core.engines.builtin.engine import iterate_plans, plan_motion
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.speech import voice_activity as activity
from portraittalk_core.types import MOUTH_PARAMETERS, Speech, joined_plans

SECONDS = 70
OPTIONS = MotionOptions(fps=Fraction(25), breath=0, eye_motion=0)


@pytest.fixture(scope="module")
def speech() -> Speech:
    """Syllables with pauses of many lengths, longer than a digest."""
    sound = made_voice.syllables(10).repeat(SECONDS // 10)
    sound[-48_000:] = 0
    for start_s in (11, 23, 37.5, 52):
        sound[int(start_s * 16_000) : int((start_s * 1.06) * 16_000)] = 0
    return Speech(sound)


def curves(plan) -> torch.Tensor:
    return torch.stack([getattr(plan.mouth, name) for name in MOUTH_PARAMETERS], 1)


@pytest.fixture(scope="module")
def in_pieces(astronaut, speech):
    """Plans of a long clip, and how much of it had been heard, 0..1, when each came."""
    heard, plans = [0.0], []
    for plan in iterate_plans(
        speech, astronaut.landmarks, OPTIONS, on_progress=lambda done, of: heard.append(done / of)
    ):
        plans.append((plan, heard[-1]))
    return plans


def test_the_first_frames_come_long_before_the_clip_has_been_heard(in_pieces):
    assert in_pieces[0][1] < 0.75  # of 70 s: half a minute and what the averages look ahead
    assert [share for _, share in in_pieces] == sorted(share for _, share in in_pieces)
    assert sum(len(plan) for plan, _ in in_pieces) == SECONDS * 25


def test_a_clip_heard_as_it_goes_moves_as_one_heard_whole(astronaut, speech, in_pieces, monkeypatch):
    """With what is measured of the whole clip in the place of its digest's, nothing differs."""
    with monkeypatch.context() as patched:
        patched.setattr(mouth, "DIGESTED", 10**6)
        whole = plan_motion(speech, astronaut.landmarks, OPTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(mouth, "digest_of", lambda clip: clip)
        streamed = plan_motion(speech, astronaut.landmarks, OPTIONS)
    torch.testing.assert_close(curves(streamed), curves(whole), rtol=0, atol=1e-5)
    for name in ("blink", "brow"):
        torch.testing.assert_close(getattr(streamed, name), getattr(whole, name), rtol=0, atol=1e-4)
    torch.testing.assert_close(streamed.head.angles_deg, whole.head.angles_deg, rtol=0, atol=1e-4)
    # and the digest is a fair sample
    digested = joined_plans([plan for plan, _ in in_pieces])
    assert float((curves(digested) - curves(whole)).abs().mean()) < 0.02


def test_a_long_clip_whose_digest_is_silent_is_judged_by_all_of_it(astronaut):
    sound = torch.zeros(200 * 16_000)
    pause = slice(int(3.5 * 16_000), int(6.5 * 16_000))  # between the digest's first and second piece
    sound[pause] = made_voice.syllables(3)
    assert float(mouth.digest_of(Speech(sound)).waveform.abs().max()) == 0
    opening = curves(plan_motion(Speech(sound), astronaut.landmarks, OPTIONS))[:, 0]
    assert float(opening[88:162].max()) > 0.3 and float(opening[200:].max()) < 1e-3


def test_a_digest_is_spread_evenly():
    ramp = Speech(torch.arange(1_600_000) / 1_600_000)
    pieces = mouth.digest_of(ramp).waveform.view(mouth.DIGESTED, -1)
    starts = pieces[:, 0]
    assert starts[0] == 0 and pieces[-1, -1] == ramp.waveform[-1]
    torch.testing.assert_close(starts.diff(), torch.full((23,), float(starts[-1]) / 23), rtol=0, atol=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_phrases_do_not_depend_on_where_probabilities_are_cut(seed):
    random = torch.Generator().manual_seed(seed)
    probability = torch.rand(400, generator=random) * torch.rand(400 // 16, generator=random).repeat_interleave(16)
    for least in (activity.MIN_CERTAIN, activity.NOTE_WINDOWS):
        stream, sizes = activity.PhraseStream(least), [*torch.randint(1, 40, (30,), generator=random).tolist(), 400]
        parts, start = [], 0
        for size in sizes:
            parts.append(stream.push(probability[start : start + size]))
            start += size
        answered = torch.cat([*parts, stream.push(None)])
        # closed by hand: a window is within a phrase if at most eight windows without a sign of a voice are around it
        signs = (probability > activity.DOUBTFUL).nonzero().flatten().tolist()
        inside = torch.zeros(400, dtype=torch.bool)
        inside[signs] = True
        for before, after in zip(signs[:-1], signs[1:], strict=True):
            if after - before - 1 <= activity.BRIDGED:
                inside[before:after] = True
        expected, begin = torch.zeros(400), 0
        for at in range(401):
            if at == 400 or not inside[at]:
                if int((probability[begin:at] > activity.CERTAIN).sum()) >= least:
                    expected[begin:at] = 1
                begin = at + 1
        assert torch.equal(answered, expected)
