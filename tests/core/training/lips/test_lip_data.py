import dataclasses

import pytest
import torch
from toy_puppet import FPS, PREPARED_FRAMES, motion, puppet_clip, write_prepared

from portraittalk_core.errors import InputError
from portraittalk_core.face.lip_points import LIP_POINTS
from portraittalk_core.face.sketch import draw_sketch
from portraittalk_core.renderers.lip.contract import LipCropRule
from portraittalk_core.renderers.lip.crop import LipBoxes
from portraittalk_core.renderers.lip.listening import mel_rows
from portraittalk_core.training.data.video_clips import read_videos
from portraittalk_core.training.lips.clips import read_lip_clips
from portraittalk_core.training.lips.data import LipWindows, as_pictures
from portraittalk_core.training.lips.mouth_opening import LOWER, UPPER
from portraittalk_core.types import SPEECH_RATE_HZ, Speech

SIDE = 32
RULE = LipCropRule(LIP_POINTS, 0.0, square=False, size=SIDE, pad_share=0.1)
NUM_SAMPLES = PREPARED_FRAMES * SPEECH_RATE_HZ // 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    waves = {"a": torch.randn(NUM_SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1}
    return write_prepared(tmp_path_factory.mktemp("clips"), ["a", "b"], waves)


@pytest.fixture(scope="module")
def clip(folder, tmp_path_factory):
    (kept,), dropped = read_lip_clips(folder, read_videos(folder, 1).videos, RULE, tmp_path_factory.mktemp("kept"))
    assert dropped == (("b", "it has no sound, which this training needs"),)
    return kept


def test_clip_holds_the_crops_and_the_sound_that_the_renderer_sees(folder, clip):
    video = read_videos(folder, 1, ["a"]).videos[0]
    boxes = LipBoxes(video.track, RULE)
    for frame in (0, 17):
        picture = ((video.read(frame) + 1) * 127.5).round().byte().permute(1, 2, 0)
        expected = boxes[frame].take(picture, SIDE)
        assert (as_pictures(clip.crops([frame])[0]) - expected).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal(clip.points[frame], boxes.points01(frame, video.track.points[frame, list(LIP_POINTS)]))
    from safetensors.torch import load_file

    speech = Speech(load_file(folder / "a" / "speech.safetensors")["waveform"])
    for frame in (0, 3, 29):
        assert torch.allclose(clip.heard(frame), mel_rows(speech, [frame], FPS)[0], atol=1e-5)


def test_room_around_the_face_is_a_share_of_it_at_every_size(clip):
    """Twice as large a picture has a box of twice the size."""
    small, large = (LipBoxes(puppet_clip(0, 3, size).track, RULE)[1].size_px for size in (100, 200))
    assert all(abs(b - 2 * a) <= 2 for a, b in zip(small, large, strict=True))
    none = LipBoxes(puppet_clip(0, 3, 200).track, dataclasses.replace(RULE, pad_share=0.0))[1].size_px
    longest = max(none)
    assert all(abs(b - a - 0.2 * longest) <= 2 for a, b in zip(none, large, strict=True))


def test_window_shows_a_frame_its_sketches_and_other_frames_of_the_clip(clip):
    windows = LipWindows([clip], SIDE, num_faces=3, num_lips=4)
    assert len(windows) == PREPARED_FRAMES - 4
    batch = windows.at([(0, 10, 5)], seed=2)
    assert torch.equal(batch.pictures[0], clip.crops([10])[0])
    drawn = draw_sketch(clip.points[8:13], SIDE, clip.boxes_px[8:13])[:, 0]
    assert torch.equal(batch.sketches[0], drawn)
    assert torch.equal(batch.mel[0], clip.heard(10))
    everything = clip.crops(range(PREPARED_FRAMES))
    for face in batch.faces[0]:
        (at,) = [n for n, crop in enumerate(everything) if torch.equal(crop, face)]
        assert abs(at - 10) > 2
    assert batch.lips.shape == (1, 4, 3, SIDE, SIDE)
    mask = batch.mouths[0]
    mouth_row, mouth_column = (clip.points[10, 91:].mean(0) * SIDE).long().flip(0).tolist()
    assert mask[mouth_row, mouth_column] == 1
    assert mask[: SIDE // 4].sum() == 0
    seen = batch.lips[0].amax((0, 1))
    assert seen.any() and not seen[: SIDE // 4].any()  # black but for the lips


def test_faces_and_lips_come_from_the_frames_that_may_show_them(clip):
    at_rest = torch.arange(PREPARED_FRAMES) % 10 < 2
    calm = dataclasses.replace(clip, face_frames=at_rest)
    windows, everything = LipWindows([calm], SIDE, 5, 12), clip.crops(range(PREPARED_FRAMES))
    batch = windows.at([(0, 15, 5)], seed=2)
    for face in batch.faces[0]:
        (at,) = [n for n, crop in enumerate(everything) if torch.equal(crop, face)]
        assert at_rest[at] and abs(at - 15) > 2
    lips = {n for n, crop in enumerate(everything) for x in batch.lips[0] if torch.equal(crop * (x > 0), x)}
    assert not at_rest[sorted(lips)].all()
    assert windows.fingerprint() != LipWindows([clip], SIDE, 5, 12).fingerprint()
    few = dataclasses.replace(clip, face_frames=torch.arange(PREPARED_FRAMES) == 4)
    assert len(LipWindows([few], SIDE)) == len(LipWindows([clip], SIDE)) - 5  # none around the only one


def test_sketches_are_40_ms_apart_at_every_rate(clip):
    """At 50 frames a second two frames lie between, and references stay farther away."""
    fast = dataclasses.replace(clip, fps=2 * FPS)
    windows = LipWindows([fast], SIDE, num_faces=8)
    assert len(windows) == PREPARED_FRAMES - 8
    batch = windows.at([(0, 12, 5)], seed=2)
    drawn = draw_sketch(clip.points[8:17:2], SIDE, clip.boxes_px[8:17:2])[:, 0]
    assert torch.equal(batch.sketches[0], drawn)
    everything = clip.crops(range(PREPARED_FRAMES))
    for face in batch.faces[0]:
        assert min(abs(n - 12) for n, crop in enumerate(everything) if torch.equal(crop, face)) > 4


def test_batch_depends_on_its_number_alone_and_frames_come_once_an_epoch(clip):
    first, second = (LipWindows([clip], SIDE) for _ in range(2))
    first.batch(0, 4, 3)
    for a, b in zip(dataclasses.astuple(first.batch(2, 4, 3)), dataclasses.astuple(second.batch(2, 4, 3)), strict=True):
        assert torch.equal(a, b)
    shown = torch.cat([second.batch(number, 13, 3).pictures for number in range(2)])
    assert len({picture.numpy().tobytes() for picture in shown}) == len(second)


def test_batches_vary_in_their_numbers_of_references(clip):
    windows = LipWindows([clip], SIDE, num_faces=3, num_lips=2, varied=True)
    counts = {tuple(x.shape[1] for x in (b.faces, b.lips)) for b in (windows.batch(n, 1, 0) for n in range(40))}
    assert counts == {(faces, lips) for faces in (1, 2, 3) for lips in (1, 2)}


def test_augmented_window_is_mirrored_as_a_whole(clip):
    plain = LipWindows([clip], SIDE).at([(0, 10, n) for n in range(8)], 0)
    changed = LipWindows([clip], SIDE, augment=True).at([(0, 10, n) for n in range(8)], 0)
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(plain.sketches, changed.sketches, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(plain.sketches, changed.sketches, strict=True)]
    assert any(flipped) and any(same) and all(a or b for a, b in zip(flipped, same, strict=True))
    for at, is_flipped in enumerate(flipped):
        mask = changed.mouths[at].flip(-1) if is_flipped else changed.mouths[at]
        assert torch.equal(mask, plain.mouths[at])
        for own, other in ((plain.points[at], changed.points[at]), (plain.lip_points[at], changed.lip_points[at])):
            x = 1 - other[..., 0] if is_flipped else other[..., 0]
            assert torch.allclose(x, own[..., 0], atol=1e-6) and torch.equal(other[..., 1], own[..., 1])
    assert not torch.equal(plain.pictures, changed.pictures)


def test_windows_whose_mouths_are_opened_differently(clip):
    """All sketches of a window and its landmarks alike; references and pictures as they are."""
    opened = (clip.points[:, LOWER] - clip.points[:, UPPER]).norm(dim=1)
    windows = [(0, 2 + int(opened[2:-2].argmax()), number) for number in range(8)]
    plain = LipWindows([clip], SIDE).at(windows, 0)
    made = LipWindows([clip], SIDE, opening_noise=0.5)
    noisy = made.at(windows, 0)
    gaps = [(batch.points[:, LOWER] - batch.points[:, UPPER]).norm(dim=1) for batch in (plain, noisy)]
    factors = gaps[1] / gaps[0]
    assert 0.5 <= factors.min() < 0.8 and 1.2 < factors.max() <= 1.5
    for at, factor in enumerate(factors):
        assert abs(factor - 1) < 0.2 or not torch.equal(plain.sketches[at, 2], noisy.sketches[at, 2])
    for name in ("pictures", "faces", "face_sketches", "lips", "lip_sketches", "lip_points", "mouths"):
        assert torch.equal(getattr(plain, name), getattr(noisy, name)), name
    assert torch.equal(noisy.sketches, made.at(windows, 0).sketches)
    assert made.fingerprint() != LipWindows([clip], SIDE).fingerprint()


def test_clips_without_a_window_or_without_sound_are_refused(folder, clip, tmp_path):
    short = dataclasses.replace(clip, shown=torch.arange(PREPARED_FRAMES) < 4)
    with pytest.raises(InputError, match="none of the 1 clips shows the face in 5 frames"):
        LipWindows([short], SIDE)
    alone = dataclasses.replace(clip, shown=torch.arange(PREPARED_FRAMES) < 5, usable=torch.arange(PREPARED_FRAMES) < 5)
    with pytest.raises(InputError, match="in another one"):
        LipWindows([alone], SIDE)
    silent = read_videos(folder, 1, ["b"]).videos
    with pytest.raises(InputError, match=r"none of the 1 prepared videos can be used\. b: it has no sound"):
        read_lip_clips(folder, silent, RULE, tmp_path)
    (kept,), _ = read_lip_clips(folder, silent, RULE, tmp_path, needs_sound=False)
    assert not kept.has_sound and motion(PREPARED_FRAMES, 1).shape[0] == len(kept.points)
