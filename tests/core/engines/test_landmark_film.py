"""The landmark generator on a film, against the public inference written out by hand."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.engines.landmark_generator.engine import LandmarkGenerator
from portraittalk_core.engines.landmark_generator.film import FilmedSpeaker, _steady, spoken_amounts
from portraittalk_core.engines.landmark_generator.network import LANDMARK_SIZES, LandmarkNet
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.face.lip_points import CONTENT_POINTS, LIP_POINTS, POSE_POINTS
from portraittalk_core.motion.dub import dub_track
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.smoothing import one_euro_smoothing
from portraittalk_core.speech.wav2lip_mel import wav2lip_mel
from portraittalk_core.types import LandmarkTrack, Speech

FPS, WIDTH, HEIGHT, COUNT = Fraction(25), 640, 480, 36
UNTOUCHED = MotionOptions(smoothing=0.0, silence_gate_db=-80.0)


@pytest.fixture(scope="module")
def net() -> LandmarkNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = LandmarkNet(LANDMARK_SIZES["tiny"]).eval().requires_grad_(False)
        network.mouse_keypoint_map.bias += 0.5
        network.jaw_keypoint_map.bias += 0.5
    return network.double()


@pytest.fixture(scope="module")
def film() -> LandmarkTrack:
    """A head that turns, sways and comes near, with a mouth that opens, partly beyond the picture's left edge."""
    generator, t = torch.Generator().manual_seed(1), torch.arange(COUNT)[:, None].float()
    points = (canonical_face() * 100).repeat(COUNT, 1, 1)
    points[:, 17, 1] += 20 * torch.rand(COUNT, generator=generator)
    turn = rotation_matrix(torch.cat([4 * torch.sin(t), 15 * torch.sin(t / 5), 5 * torch.cos(t / 3)], 1))
    way = torch.cat([170 - 3 * t, 230 + 9 * torch.sin(t / 2), 0 * t], 1)[:, None]
    return LandmarkTrack.from_px(points @ turn.transpose(1, 2) * (1 + 0.01 * t[:, None]) + way, WIDTH, HEIGHT, FPS)


@pytest.fixture(scope="module")
def speech() -> Speech:
    """Bursts of noise, the last 0.3 s silent."""
    time = torch.arange(int(16000 * COUNT / 25)) / 16000
    loud = torch.randn(len(time), generator=torch.Generator().manual_seed(2)) * (0.55 + 0.45 * torch.sin(30 * time))
    return Speech(0.2 * loud * (time < COUNT / 25 - 0.3))


def unit(film: LandmarkTrack, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(131, 2) points in their crop, and the crop's corner and size: float64, as the public script has them."""
    points = film.points[frame, list(LIP_POINTS), :2].double().numpy()
    ends = np.array([WIDTH, HEIGHT])
    low = (np.maximum(points.min(0) - 25 / ends, 0) * ends).astype(int)
    high = (np.minimum(points.max(0) + 25 / ends, 1) * ends).astype(int)
    return (points * ends - low) / (high - low), low, high - low


def windows_by_hand(net: LandmarkNet, film: LandmarkTrack, speech: Speech) -> torch.Tensor:
    """(T, 5, 57, 2) of each frame's crop: the public inference, one window at a time."""
    mel = wav2lip_mel(Speech(torch.nn.functional.pad(speech.waveform, (0, 8000))))
    points, weight = film.points.double().numpy(), next(net.parameters())
    opening = np.hypot(*(points[:, 0, :2] - points[:, 17, :2]).T)
    ranked = sorted(range(len(film)), key=lambda t: opening[t])
    chosen = [ranked[int(place)] for place in torch.linspace(0, len(film) - 1, steps=15)]

    def seen(frames, part) -> torch.Tensor:
        return torch.stack([torch.from_numpy(unit(film, t)[0][part]).float() for t in frames]).to(weight)

    references = net.encode_reference(seen(chosen, slice(None)))[None]
    made = []
    for t in range(len(film)):
        window = [min(max(p, 0), len(film) - 1) for p in range(t - 2, t + 3)]
        columns = [int(max(0, p - 2) * 80.0 / 25) for p in range(t - 2, t + 3)]
        sound = net.encode_sound(torch.stack([mel[:, at : at + 16] for at in columns]).to(weight))
        made.append(net(sound[None], net.encode_pose(seen(window, slice(0, 74)))[None], references)[0])
    return torch.stack(made)


def by_hand(net: LandmarkNet, film: LandmarkTrack, speech: Speech) -> torch.Tensor:
    """(T, 57, 2) pixels: what the public inference shows of its windows."""
    made = windows_by_hand(net, film, speech)[:, 2].numpy()
    crops = [unit(film, t)[1:] for t in range(len(film))]
    return torch.stack(
        [torch.from_numpy(content * size + corner) for content, (corner, size) in zip(made, crops, strict=True)]
    )


def test_film_matches_the_public_inference_by_hand(net, film, speech):
    expected = by_hand(net, film, speech)
    speaker = FilmedSpeaker(net, film, 25.0)
    raw = torch.cat([windows[:, 2] for _, windows in speaker.spoken(speech)])
    assert (speaker.crops.to_px(raw) - expected).abs().max() < 1e-6
    assert (expected - expected[:1]).abs().max() > 20
    engine = LandmarkGenerator(net)
    track = dub_track(film, speech, UNTOUCHED, engine)
    spoken = spoken_amounts(speaker, speech, UNTOUCHED) == 1
    assert 20 < int(spoken.sum()) < COUNT - 2
    differs = (track.points_px[:, list(CONTENT_POINTS), :2] - expected).abs().amax((1, 2))
    assert differs[spoken].max() < 1e-3  # float32 of a track
    assert differs[~spoken].max() > 0.1  # nobody speaks: the mouth goes over to that of silence


def test_every_window_is_its_own_prediction(net, film, speech):
    """What a renderer of the public weights is given: five frames predicted together, not five middle ones."""
    speaker = FilmedSpeaker(net, film, 25.0)
    windows = torch.cat([made for _, made in speaker.spoken(speech)])
    assert windows.shape == (COUNT, 5, 57, 2)
    assert (windows[10, 3] - windows[11, 2]).abs().max() > 1e-3


def test_single_precision_is_the_public_inference_to_the_last_bit(film, speech):
    """Other batches than the public code's windows of five would round otherwise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        single = LandmarkNet(LANDMARK_SIZES["small"]).eval().requires_grad_(False)
    some = film.slice(0, 12)
    made = torch.cat([made for _, made in FilmedSpeaker(single, some, 25.0).spoken(speech)])
    assert (made - windows_by_hand(single, some, speech)).abs().max() <= 1e-4 / 1000  # of a crop of 1000 pixels


def test_windows_repeat_the_ends_of_the_film_and_of_its_scenes(net, film):
    scenes = torch.tensor([3] * 10 + [1] * 2 + [3] * (COUNT - 12))  # of a film that plays again
    at = torch.tensor([0, 1, 5, 9, 10, 11, 12, COUNT - 1])
    end = COUNT - 1
    expected = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [3, 4, 5, 6, 7], [7, 8, 9, 9, 9], [10, 10, 10, 11, 11],
                [10, 10, 11, 11, 11], [12, 12, 12, 13, 14], [end - 2, end - 1, end, end, end]]  # fmt: skip
    assert FilmedSpeaker(net, film, 25.0, scenes).windows(at).tolist() == expected


def test_all_but_the_lower_face_is_the_films_to_the_last_bit(net, film, speech):
    made = dub_track(film, speech, UNTOUCHED, LandmarkGenerator(net))
    still = [*POSE_POINTS, *topo.RIGID, *topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS]
    assert torch.equal(made.points[:, still], film.points[:, still])
    assert torch.equal(made.points[..., 2], film.points[..., 2])
    moved = (made.points_px - film.points_px).norm(dim=2)
    assert moved[:, list(CONTENT_POINTS)].median() > 5
    assert moved[:, [18, 200, 199]].median() > 2  # skin of the chin follows


def test_frames_without_the_face_are_no_references_and_stay(net, film, speech):
    hidden = torch.zeros(COUNT, dtype=torch.bool)
    hidden[5:9] = True
    wide = film.points.clone()
    wide[hidden, 17, 1] += 0.5  # the widest mouths, where nobody was seen
    engine = LandmarkGenerator(net)
    one = replace(film, valid=~hidden)
    other = replace(one, points=wide)
    shut, torn = (dub_track(each, speech, UNTOUCHED, engine).points for each in (one, other))
    assert torch.equal(shut[hidden], film.points[hidden])
    assert torch.equal(shut[20:], torn[20:])


def test_a_film_of_twice_the_rate_says_the_same_between(net, film, speech):
    """Every frame twice: what is said lies between what the frames at 25 Hz say, linear in time, in their crops."""
    twice = replace(film, fps=Fraction(50), points=film.points.repeat_interleave(2, 0),
                    valid=film.valid.repeat_interleave(2))  # fmt: skip
    speaker = FilmedSpeaker(net, film, 25.0)
    units = torch.cat([windows[:, 2] for _, windows in speaker.spoken(speech)]).numpy()
    made = torch.cat([span.points_px for span in LandmarkGenerator(net).film_spans(speech, twice, UNTOUCHED)])
    for t in range(0, 40, 3):  # frame t of 50 a second lies at t / 2 − 1 / 4 of 25
        at = max(0.0, t / 2 - 0.25)
        share = at - int(at)
        expected = (1 - share) * units[int(at)] + share * units[int(at) + 1]
        _, corner, size = unit(film, t // 2)
        differs = np.abs(made[t, list(CONTENT_POINTS), :2].numpy() - (expected * size + corner))
        assert differs.max() < 1e-3, t


def test_gain_leads_from_the_mouth_of_silence_to_the_speechs(net, film, speech):
    engine = LandmarkGenerator(net)
    none, half, whole = (
        dub_track(film, speech, replace(UNTOUCHED, mouth_gain=gain), engine).points_px for gain in (0.0, 0.5, 1.0)
    )
    silent = by_hand(net, film, Speech(torch.zeros(len(speech.waveform))))
    content = list(CONTENT_POINTS)
    assert (none[:, content, :2] - silent).abs().max() < 1e-3
    assert torch.allclose(half, (none + whole) / 2, atol=1e-3)
    assert (none - whole).abs().max() > 1


def test_smoothing_calms_the_mouth_and_not_the_head(net, film):
    """A mouth that rests on a moving head, and a trembling one: the first stays where it is."""
    rest = film.points_px[:1] - film.points_px[:1].mean(1, keepdim=True)
    t = torch.arange(COUNT)[:, None].float()
    turn = rotation_matrix(torch.cat([9 * torch.sin(t), 15 * torch.sin(t / 2), 5 * torch.cos(t)], 1))
    moving = (
        rest @ turn.transpose(1, 2) + torch.cat([300 + 20 * torch.sin(t), 240 + 9 * torch.cos(t), 0 * t], 1)[:, None]
    )
    track = LandmarkTrack.from_px(moving, WIDTH, HEIGHT, FPS)
    speaker, content = FilmedSpeaker(net, track, 25.0), moving[:, list(CONTENT_POINTS), :2].double()
    assert (_steady(content, speaker, 1.0) - content).abs().max() < 0.01
    assert (one_euro_smoothing(content.flatten(1) / 50, FPS, 1.0) * 50 - content.flatten(1)).abs().max() > 1
    trembling = content + torch.randn(content.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    calm = _steady(trembling, speaker, 1.0)
    assert (calm - content).square().mean() < 0.6 * (trembling - content).square().mean()


def test_progress_counts_the_films_frames(net, film, speech):
    told = []
    list(LandmarkGenerator(net).film_spans(speech, film, None, None, lambda *now: told.append(now)))
    assert told == [(16, COUNT), (32, COUNT), (COUNT, COUNT)]
